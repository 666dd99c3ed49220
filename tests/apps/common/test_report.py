"""Reports are one file that needs nothing else."""

import base64
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from apps.common.main import main
from apps.common.plots import COLORS, curves, expert_load, panels
from apps.common.report import Section, write_report
from apps.common.run_report import learning_section
from tests.apps.common.helpers import checkpoint

OUTSIDE = re.compile(r"""(?:src|href)=(?!"(?:data:|#))|https?:|url\(|@import|<link|<script""")


class Page(HTMLParser):
    """Tags and text of a page; fails on tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def drawing() -> Figure:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2, 4])
    return figure


def write(tmp_path: Path, *sections: Section) -> str:
    path = tmp_path / "deep" / "report.html"
    write_report(path, "Title", sections, "told below")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    return path.read_text()


def test_a_report_needs_nothing_but_itself(tmp_path: Path) -> None:
    text = write(tmp_path, Section("A", "one\n\ntwo", [drawing(), drawing()], [{"x": 1}]), Section("B"))
    assert not OUTSIDE.search(text)
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", text)
    assert len(pictures) == 2
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    page = Page(text)
    assert page.tags.count("p") == 3
    assert {"Title", "A", "B", "one", "two", "below"} <= set(page.words)


def test_text_is_never_taken_for_markup(tmp_path: Path) -> None:
    text = write(tmp_path, Section("<b>x</b>", "<script>alert(1)</script>", [], [{"<i>": "<u>"}]))
    assert not {"b", "script", "i", "u"} & set(Page(text).tags)


def test_what_stands_between_backticks_is_code(tmp_path: Path) -> None:
    text = write(tmp_path, Section("A", "run `make <b>` twice\n\na lone ` stays"))
    assert "<p>run <code>make &lt;b&gt;</code> twice</p>" in text
    assert "<p>a lone ` stays</p>" in text


def test_numbers_are_readable(tmp_path: Path) -> None:
    rows = [{"name": "a", "n": 1234567, "x": 0.000123456, "yes": True, "none": None}]
    words = Page(write(tmp_path, Section("T", table=rows))).words
    assert {"1,234,567", "0.0001235", "True"} <= set(words)
    assert "None" not in words


def test_an_interrupted_report_leaves_the_old_one(tmp_path: Path) -> None:
    before = write(tmp_path, Section("A"))
    with pytest.raises(AttributeError):
        write(tmp_path, Section("A", figures=["not a figure"]))  # type: ignore[list-item]
    assert (tmp_path / "deep" / "report.html").read_text() == before
    assert len(list((tmp_path / "deep").iterdir())) == 1


ROWS = [
    {"step": "0", "epoch": "0", "train/loss": "3.0", "balance/load_balance": "1.5", "val/loss": ""},
    {"step": "1", "epoch": "0", "train/loss": "2.0", "balance/load_balance": "1.2", "val/loss": "4.0"},
]


def test_training_and_validation_share_a_panel() -> None:
    section = learning_section(ROWS)
    assert section is not None
    loss, terms = section.figures[0].axes
    assert (loss.get_title(loc="left"), terms.get_title(loc="left")) == ("loss", "balance")
    lines = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert lines == {"train": [[1, 3.0], [2, 2.0]], "val": [[2, 4.0]]}


def test_a_validation_loss_that_is_a_metric_is_drawn_once() -> None:
    section = learning_section([row | {"val/mse": row["val/loss"]} for row in ROWS])
    assert section is not None
    drawn = {a.get_title(loc="left"): [line.get_label() for line in a.lines] for a in section.figures[0].axes}
    assert drawn == {"loss in training": ["train"], "mse in validation": ["val"], "balance": ["load_balance"]}


def test_without_figures_there_is_no_section() -> None:
    assert learning_section([]) is None


def test_layers_of_different_width_are_drawn_together() -> None:
    figure = expert_load({"a": [0.5, 0.5], "b": [0.25] * 4})
    shown = figure.axes[0].images[0].get_array()
    assert shown.shape == (2, 4)
    assert shown[1].tolist() == [1, 1, 1, 1]
    assert [text.get_text() for text in figure.axes[0].texts] == ["50", "50", *["25"] * 4]
    assert not expert_load({"a": [1 / 64] * 64}).axes[0].texts


def test_panels_are_as_many_as_asked_for() -> None:
    figure, grid = panels(4)
    assert len(grid) == len(figure.axes) == 4
    assert len(curves({"a": {"x": ([1], [2])}}).axes) == 1
    assert len(set(COLORS)) == 8


def test_every_training_ends_with_a_report(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["moons", "fit", "--trainer.max_epochs", "2"]) == 0
    path = toys / "moons" / "default" / "1" / "report.html"
    assert f"Report: {path}" in capsys.readouterr().out
    page = Page(path.read_text())
    assert {"moons:", "Learning", "Experts", "seed", "model.network.router.k"} <= set(page.words)
    assert {"Steadiness", "FLOPs"} <= set(page.words)
    table = page.words[page.words.index("setting") :]
    told = dict(pairwise(table))
    assert told["trainer.max_epochs"] == "2"
    assert told["commit"] == checkpoint(path.parent)["collegium"]["commit"]
    assert "`" not in path.read_text()
    assert page.tags.count("img") == 6
    assert not OUTSIDE.search(path.read_text())
