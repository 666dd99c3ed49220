"""The first words of the command line; finding apps; writing files whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from apps.common import commands
from apps.common.discovery import app_module, app_names, check_app, configs, has_module, summary
from apps.common.errors import UserError
from apps.common.files import replacing, write_text
from apps.common.main import main

ROOT = Path(__file__).parents[3]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for args in ([], ["help"], ["--help"]):
        assert main(args) == 0
        told = capsys.readouterr().out
        words = ("fit", "validate", "test", "evaluate", "predict", "compare", "data", "new-app", "results")
        assert all(word in told for word in words)


def test_list_tells_apps_and_configurations(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "moons: A toy app: a few points, a small mixture, seconds to train."
    assert second.split() == ["default", "A", "few", "points,", "a", "small", "mixture."]


def test_listing_loads_nothing_heavy(toys: Path) -> None:
    program = (
        "import sys; from apps.common.main import main; main(['list']); main(['help']); "
        "sys.exit(bool({'torch', 'lightning', 'pandas', 'matplotlib', 'jsonargparse'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["moon", "fit"], "there is no app or command named 'moon': did you mean moons?"),
        (["xyz"], "there is no app or command named 'xyz': choose one of: moons."),
        (["moons"], "moons wants a command: choose fit, validate,"),
        (["moons", "fly"], "'fly' is no command of moons: choose fit, validate,"),
        (["moons", "evaluate"], "evaluate.py does not exist: moons has no evaluate."),
        (["moons", "predict", "--many", "3"], "command line: unknown key 'many': remove it."),
        (["moons", "predict", "--rows", "x"], "command line: rows is 'x': give a whole number."),
        (["moons", "predict"], "command line: out is missing: give it a value."),
        (["moons", "predict", "--out", "a.csv", "--row", "3"], "unknown key 'row': did you mean 'rows'?"),
        (["moons", "data"], "catalogue.yaml does not exist: moons has no public data sets."),
    ],
)
def test_a_wrong_command_is_one_sentence(
    args: list[str], sentence: str, toys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert sentence in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


@pytest.mark.parametrize(
    ("ranks", "told"), [({}, 1), ({"LOCAL_RANK": "1"}, 0), ({"RANK": "0", "LOCAL_RANK": "1"}, 1)]
)
def test_of_many_processes_the_first_tells_a_mistake(
    ranks: dict[str, str], told: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, rank in ranks.items():
        monkeypatch.setenv(name, rank)
    assert main(["new-app"]) == 2
    assert capsys.readouterr().err.count("error: new-app wants one name") == told


def test_a_function_of_an_app_gets_typed_options(toys: Path, tmp_path: Path) -> None:
    out = tmp_path / "told.txt"
    assert main(["moons", "predict", "--out", str(out), "--rows", "3"]) == 0
    assert out.read_text() == "PosixPath 3"


def test_the_process_exits_with_the_code(toys: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "apps", "xyz"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: there is no app or command named 'xyz': choose one of: moons.\n"


def test_apps_are_found_by_their_folder(toys: Path) -> None:
    assert app_names() == ["moons"]
    assert check_app("moons") == "moons"
    assert [path.name for path in configs("moons")] == ["default.yaml"]
    assert summary("moons").startswith("A toy app")
    assert app_module("moons", "data").__name__ == "toys.moons.data"
    assert (has_module("moons", "task"), has_module("moons", "report")) == (True, False)


def test_the_shared_parts_name_no_app() -> None:
    found = app_names()
    for path in (ROOT / "apps" / "common").rglob("*.py"):
        text = path.read_text()
        assert not [app for app in found if f"apps.{app}" in text or f"apps/{app}/" in text], path


def test_an_app_that_is_not_there_is_refused(toys: Path) -> None:
    with pytest.raises(UserError, match="did you mean moons"):
        app_module("moon", "data")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("configs/a/default.yaml", "default"),
        ("runs/a/large/3/config.yaml", "large"),
        ("config.yaml", "config"),
    ],
)
def test_a_run_is_named_after_its_configuration(file: str, name: str) -> None:
    assert commands.config_name(Path(file)) == name


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "one")
    with pytest.raises(TypeError), replacing(path) as temporary:
        temporary.write_text(2)  # type: ignore[arg-type]
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]
