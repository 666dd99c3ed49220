"""Run folders are found, numbered and never shared; checkpoints are checked before they are used."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from apps.common.errors import UserError
from apps.common.runs import Run, find_run, load_checkpoint, new_run


def started(run: Path, moment: int) -> Path:
    """Give a run its configuration, as training does when it starts."""
    (run / "config.yaml").write_text("seed: 1")
    os.utime(run / "config.yaml", ns=(moment, moment))
    return run


def saved(path: Path, app: str = "foo") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": {"w": torch.ones(50)}, "collegium": {"app": app}}, path)
    return path


def test_runs_count_from_one_in_each_configuration(toys: Path) -> None:
    numbers = [new_run("foo", config).name for config in ("a", "a", "b")]
    assert numbers == ["1", "2", "1"]
    assert (toys / "foo" / "a" / "2").is_dir()


def test_numbers_go_on_after_a_gap(toys: Path) -> None:
    (toys / "foo" / "a" / "7").mkdir(parents=True)
    (toys / "foo" / "a" / "notes").mkdir()
    assert new_run("foo", "a").name == "8"


def test_runs_that_start_together_get_their_own_folders(toys: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: new_run("foo", "a"), range(24)))
    assert len(set(paths)) == 24


def test_the_newest_run_is_found(toys: Path) -> None:
    first = started(new_run("foo", "a"), moment=10)
    second = started(new_run("foo", "b"), moment=30)
    third = started(new_run("foo", "a"), moment=20)
    new_run("foo", "a")  # never started: it has no configuration
    assert find_run("foo").path == second
    assert find_run("foo", config="a").path == third
    assert find_run("foo", first) == Run(first, "foo")


def test_among_ten_runs_numbers_are_not_sorted_as_words(toys: Path) -> None:
    for _ in range(10):
        last = started(new_run("foo", "a"), moment=5)
    assert find_run("foo").path == last


@pytest.mark.parametrize(("config", "named"), [(None, "foo"), ("a", "foo/a")])
def test_no_run_is_one_sentence(toys: Path, config: str | None, named: str) -> None:
    with pytest.raises(UserError, match=rf"{toys / named} holds no run yet: .*make train APP=foo"):
        find_run("foo", config=config)


def test_a_folder_that_is_no_run_is_one_sentence(toys: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        find_run("foo", toys)


def test_best_falls_back_to_last(toys: Path) -> None:
    run = Run(new_run("foo", "a"), "foo")
    with pytest.raises(UserError, match="holds no checkpoint yet"):
        _ = run.best
    last = saved(run.checkpoints / "last.ckpt")
    assert run.best == run.last == last
    best = saved(run.checkpoints / "best.ckpt")
    assert run.best == best


def test_a_checkpoint_is_read_back(tmp_path: Path) -> None:
    content = load_checkpoint(saved(tmp_path / "a.ckpt"), "foo")
    assert torch.equal(content["state_dict"]["w"], torch.ones(50))


def test_the_newest_run_is_one_with_a_checkpoint_unless_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    done, begun = new_run("foo", "a"), new_run("foo", "a")
    for path in (done, begun):
        (path / "config.yaml").touch()
    (done / "checkpoints").mkdir()
    saved(done / "checkpoints" / "last.ckpt")
    assert find_run("foo").path == done
    assert find_run("foo", trained=False).path == begun


def test_a_missing_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.ckpt does not exist: give the path"):
        load_checkpoint(tmp_path / "a.ckpt", "foo")


@pytest.mark.parametrize("kept", [0, 1, 40, -1])
def test_a_truncated_checkpoint_is_one_sentence(tmp_path: Path, kept: int) -> None:
    path = saved(tmp_path / "a.ckpt")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"a\.ckpt is damaged or is not a checkpoint"):
        load_checkpoint(path, "foo")


def test_a_file_of_another_kind_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no checkpoint at all")
    with pytest.raises(UserError, match="damaged or is not a checkpoint"):
        load_checkpoint(path, "foo")
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="is not a checkpoint of this project"):
        load_checkpoint(path, "foo")


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"state_dict": {}, "trap": Trap()}, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="damaged or is not a checkpoint"):
        load_checkpoint(tmp_path / "a.ckpt", "foo")
    assert not (tmp_path / "sprung").exists()


def test_a_checkpoint_of_another_app_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.ckpt belongs to bar, not to foo"):
        load_checkpoint(saved(tmp_path / "a.ckpt", app="bar"), "foo")
    torch.save({"state_dict": {}}, tmp_path / "b.ckpt")
    with pytest.raises(UserError, match="belongs to another program"):
        load_checkpoint(tmp_path / "b.ckpt", "foo")
