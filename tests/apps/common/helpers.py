"""Looks into the runs of the toy app, and a server to download from."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from apps.common.main import main
from apps.common.task import MoETask

TOY = Path(__file__).parent / "toy"


def checkpoint(run: Path, name: str = "last") -> dict[str, Any]:
    """Return a checkpoint of a run."""
    content: dict[str, Any] = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


def differing_weights(run: Path, other: Path, name: str = "last") -> list[str]:
    """Return the names of the weights of two runs that are not the same to the bit."""
    one, two = (checkpoint(path, name)["state_dict"] for path in (run, other))
    return [
        key for key in {*one, *two} if key not in one or key not in two or not torch.equal(one[key], two[key])
    ]


@contextmanager
def broken_off(task: type[MoETask], step: int) -> Iterator[None]:
    """Interrupt, as by Ctrl-C, every training of a task before its step of that number."""
    whole = task.training_step

    def interrupted(self: MoETask, *arguments: Any) -> Any:
        if self.global_step == step:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, "training_step", interrupted)
        yield


def whole_and_broken(
    app: str, task: type[MoETask], options: Sequence[str], step: int, folder: Path
) -> tuple[Path, Path]:
    """The folders of two runs of one configuration: one that was never interrupted, and one that was, before
    its step of that number, and then went on."""
    fit = [app, "fit", *options, "--last_checkpoint.every_n_steps", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLEGIUM_RUNS", str(folder / "whole"))
        assert main(fit) == 0
        patch.setenv("COLLEGIUM_RUNS", str(folder / "broken"))
        with broken_off(task, step):
            assert main(fit) == 130
        assert main([app, "fit", *options[:2], "--resume"]) == 0
    whole, broken = (next((folder / name / app).glob("*/1")) for name in ("whole", "broken"))
    assert checkpoint(whole)["global_step"] > step
    return whole, broken


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a word, and counts its answers."""

    answers = 0

    def do_GET(self) -> None:
        Quiet.answers += 1
        super().do_GET()

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine; yield the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        Quiet.answers = 0
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
