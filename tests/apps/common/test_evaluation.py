"""The files of a metrics script hold what was measured, as JSON that every reader takes."""

import json
from pathlib import Path

import pytest

from apps.common.console import print_rows
from apps.common.errors import UserError
from apps.common.evaluation import Measured, write_evaluation
from apps.common.files import check_out
from apps.common.report import Section
from apps.common.runs import Run


def test_figures_are_written_with_six_digits_and_none_that_json_lacks(tmp_path: Path) -> None:
    rows = [{"slice": "all", "rows": 3, "error": 1.23456789e-7, "rank": float("nan")}]
    tables = [Measured("rows", "Metrics", "Of all.", rows), Measured("gaps", "Gaps", "", [{"slice": "all"}])]
    run = Run(tmp_path / "default" / "1", "foo")
    write_evaluation(
        run, "test", tables, [Section("Picture", "Seen.")], "test rows", other="else", light="red"
    )
    folder = run.path / "evaluation" / "else" / "test"
    assert json.loads((folder / "metrics.json").read_text()) == {
        "split": "test",
        "light": "red",
        "rows": [{"slice": "all", "rows": 3, "error": 1.23457e-7, "rank": None}],
        "gaps": [{"slice": "all"}],
    }
    page = (folder / "report.html").read_text()
    assert page.index("Metrics") < page.index("Gaps") < page.index("Picture")


def test_a_printed_table_cuts_nothing_off_and_shows_a_dash_where_nothing_is_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [f"a_long_name_of_a_metric_{n}" for n in range(9)]
    print_rows([dict.fromkeys(names, 0.25) | {names[2]: None, names[3]: float("nan")}], "a title")
    told = capsys.readouterr().out
    head, cells = (line for line in told.splitlines() if names[0] in line or "0.2500" in line)
    assert all(name in head for name in names)
    assert cells.count("0.2500") == 7
    assert cells.count(" - ") == 2


def test_predictions_never_replace_their_input(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    check_out(tmp_path / "b.npz", file, (".csv", ".npz"))
    with pytest.raises(UserError, match="is the input"):
        check_out(tmp_path / "x" / ".." / "a.npz", file, (".csv", ".npz"))
    with pytest.raises(UserError, match=r"ends in \.csv or \.npz"):
        check_out(tmp_path / "b.txt", file, (".csv", ".npz"))
