"""Trees come back; nothing else does."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from apps.common.errors import UserError
from apps.drift.experts import Trees
from apps.drift.experts.unpickle import from_bytes, to_bytes


class Hostile:
    """Asks for a command to be run when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_hostile_file_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    content = torch.frombuffer(bytearray(pickle.dumps(Hostile(mark))), dtype=torch.uint8)
    block = Trees(2, 2, num_trees=1)
    state = block.state_dict()
    state["_extra_state"] = content
    with pytest.raises(UserError, match="system"):
        block.load_state_dict(state)
    with pytest.raises(UserError, match="trust none"):
        from_bytes(content)
    assert not mark.exists()


@pytest.mark.parametrize("cut", [0, 10, -1])
def test_a_damaged_file_is_refused(cut: int) -> None:
    whole = to_bytes(Trees(2, 2, num_trees=1).trees)
    with pytest.raises(UserError, match="cannot be read"):
        from_bytes(whole[:cut])


def test_no_function_of_an_allowed_module_is_called() -> None:
    content = pickle.dumps(eval).replace(b"eval", b"exec")
    with pytest.raises(UserError, match=r"builtins\.exec"):
        from_bytes(torch.frombuffer(bytearray(content), dtype=torch.uint8))
