"""Who sees whom in MMoE, PLE and HoME."""

import pytest

from apps.recsys.levels import Level, home, mmoe, ple

TASKS = ["click", "view", "like"]


def seen(level: Level) -> dict[str, set[str]]:
    """Gate -> experts."""
    return {
        gate: {name for name, there in zip(level.experts, line, strict=True) if there}
        for gate, line in zip(level.gates, level.visible, strict=True)
    }


def test_mmoe_sees_everything() -> None:
    (level,) = mmoe(TASKS, 4)
    assert all(len(experts) == 4 for experts in seen(level).values())
    assert set(level.gates) == set(TASKS)


def test_cgc_is_ple_of_one_level() -> None:
    (level,) = ple(TASKS, own=2, shared=1, levels=1)
    assert seen(level) == {task: {f"{task} 0", f"{task} 1", "shared 0"} for task in TASKS}


def test_ple_has_a_common_gate_below_the_top_whose_row_common_experts_read() -> None:
    first, second, top = ple(TASKS, own=1, shared=1, levels=3)
    assert seen(first)["shared"] == {"click 0", "view 0", "like 0", "shared 0"}
    assert seen(second) == seen(first)
    assert "shared" not in seen(top)
    assert (first.height, second.height, top.height) == (1, 4, 4)
    assert top.read == [0, 1, 2, 3]
    assert second.look == [0, 1, 2, 3]


def test_home_is_a_hierarchy() -> None:
    below, top = home([["click", "view"], ["like"]], meta=1, meta_shared=2, own=1, group=1, shared=1)
    assert seen(below) == {
        "group 0": {"group 0: 0", "shared 0", "shared 1"},
        "group 1": {"group 1: 0", "shared 0", "shared 1"},
        "shared": {"shared 0", "shared 1"},
    }
    assert seen(top) == {
        "click": {"click 0", "group 0: 0", "shared 0"},
        "view": {"view 0", "group 0: 0", "shared 0"},
        "like": {"like 0", "group 1: 0", "shared 0"},
    }
    assert dict(zip(top.experts, top.read, strict=True)) == {
        "click 0": 0,
        "view 0": 0,
        "like 0": 1,
        "group 0: 0": 0,
        "group 1: 0": 1,
        "shared 0": 2,
    }
    assert top.look == [0, 0, 1]


@pytest.mark.parametrize("level", [0, 1])
def test_what_a_gate_of_home_also_weighs_by_itself_is_its_own(level: int) -> None:
    found = home([["click", "view"], ["like"]], meta=2, meta_shared=2, own=2, group=1, shared=1)[level]
    for gate, line in zip(found.gates, found.own or [], strict=True):
        own = {name for name, there in zip(found.experts, line, strict=True) if there}
        assert len(own) == 2
        assert all(name.startswith(gate) for name in own)
