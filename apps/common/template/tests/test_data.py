"""Rows of a file or of the generator."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from apps.common.errors import UserError
from apps.common.frames import read_frame
from apps.common.template.data import Data
from apps.common.template.simulate import simulate
from apps.common.template.tables import read_numbers


def test_one_linear_rule_cannot_fit_the_generated_table() -> None:
    table = simulate(2000, seed=1)
    x = torch.tensor(table.drop(columns="label").to_numpy())
    y = torch.tensor((table["label"] == "yes").to_numpy() * 2.0 - 1)
    guess = torch.cat([x, torch.ones(len(x), 1)], 1)
    right = (guess @ torch.linalg.lstsq(guess, y[:, None], driver="gels").solution)[:, 0] * y > 0
    assert right.double().mean() < 0.8


def test_parts_are_disjoint_and_cover_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    table = simulate(101)
    table.to_csv(path, index=False)
    data = Data(path=path)
    data.setup()
    parts = [data.part("train"), data.part("validation"), data.part("test")]
    x = torch.cat([x for x, _ in parts]) * data.std + data.mean
    torch.testing.assert_close(
        x.sort(dim=0).values, read_numbers(table, data.features, "").sort(dim=0).values, rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(parts[0][0].mean(0), torch.zeros(8), rtol=0, atol=1e-5)


def test_a_restored_data_module_reads_rows_alike() -> None:
    data = Data(rows=100)
    data.setup()
    restored = Data.from_state(data.state_dict())
    table = simulate(10, seed=3)
    torch.testing.assert_close(data.read_rows(table, "a"), restored.read_rows(table, "a"))


@pytest.mark.parametrize(
    ("content", "mend"),
    [
        ("", "header"),
        ("x0,label\n", "no rows"),
        ("x0,kind\n1,a\n2,b\n", "--data.label"),
        ("x0,label\n1,a\nlow,b\n", "row 2"),
        ("x0,label\n1,a\n2,\n", "blank"),
        ("x0,label\n1,a\n", "too few"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path: Path, content: str, mend: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=mend) as caught:
        Data(path=path).setup()
    assert str(path) in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        read_frame(tmp_path / "none.csv")


def test_columns_are_found_by_name() -> None:
    table = pd.DataFrame({"b": [1.0], "a": [2.0]})
    assert read_numbers(table, ["a", "b"], "t").tolist() == [[2.0, 1.0]]
