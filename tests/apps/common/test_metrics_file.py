"""metrics.csv grows row by row, and goes on after a restart as if nothing had happened."""

from pathlib import Path

import pytest

from apps.common.metrics_file import MetricsFile, read_rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.csv"


def log(file: MetricsFile, step: int, **metrics: float) -> None:
    file.log_metrics(metrics, step)
    file.save()


def test_rows_are_on_disk_at_once_and_columns_come_when_they_appear(path: Path) -> None:
    file = MetricsFile(path)
    log(file, 1, a=0.5)
    assert path.read_text().split() == ["step,a", "1,0.5"]
    log(file, 2, b=3.0)
    log(file, 3, a=1.5, b=4.0)
    assert path.read_text().split() == ["step,a,b", "1,0.5,", "2,,3.0", "3,1.5,4.0"]


def test_saving_without_rows_writes_nothing(path: Path) -> None:
    MetricsFile(path).save()
    assert not path.exists()


@pytest.mark.parametrize("cut", [0, 1, 5])
def test_a_restart_drops_newer_rows_and_half_a_row(path: Path, cut: int) -> None:
    whole, killed = MetricsFile(path), MetricsFile(path.with_name("killed.csv"))
    rows = [(step, {"a": step / 3}) for step in range(6)]
    rows[4][1]["late"] = 1.0
    for step, metrics in rows:
        log(whole, step, **metrics)
        log(killed, step, **metrics)
    if cut:
        killed.path.write_bytes(killed.path.read_bytes()[:-cut])
    resumed = MetricsFile(killed.path)
    resumed.keep_before(3)
    assert killed.path.read_text().split()[0] == "step,a"
    for step, metrics in rows[3:]:
        log(resumed, step, **metrics)
    assert killed.path.read_text() == path.read_text()


def test_rows_of_one_step_are_all_kept(path: Path) -> None:
    file = MetricsFile(path)
    log(file, 1, a=1.0)
    log(file, 1, b=2.0)
    file.keep_before(2)
    assert [(row["a"], row["b"]) for row in read_rows(path)] == [("1.0", ""), ("", "2.0")]


def test_going_on_from_nothing(path: Path) -> None:
    file = MetricsFile(path)
    file.keep_before(0)
    log(file, 1, a=1.0)
    assert path.read_text().split() == ["step,a", "1,1.0"]


def test_a_step_cut_short_is_not_taken_for_an_earlier_one(path: Path) -> None:
    path.write_bytes(b"step,a\r\n9,1.0\r\n12")
    assert [row["step"] for row in read_rows(path)] == ["9"]
