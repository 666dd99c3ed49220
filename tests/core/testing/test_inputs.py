"""What the checks are made of."""

import torch
from collegium import experts, routers
from collegium.experts import Experts
from collegium.routers import Router
from collegium.testing import exported, random_context


def test_exported_finds_concrete_classes_alone() -> None:
    found = set(exported(routers, Router))
    assert found >= {"TopK", "Switch", "TopP", "ExpertChoice", "Hash", "Random", "AllExperts"}
    assert not {"Router", "Gate"} & found
    found = set(exported(experts, Experts))
    assert found >= {"MLP", "ExpertList", "ExpertGroups", "Zero", "Copy", "Constant"}
    assert not {"Experts", "Shared"} & found


def test_random_context_holds_what_is_asked_for() -> None:
    context = random_context(("mask", "label", "time"), (2, 3))
    assert context.mask.dtype == torch.bool
    assert context.label.dtype == torch.int64
    assert context.time.is_floating_point()
    assert {t.shape for t in (context.mask, context.label, context.time)} == {(2, 3)}
    assert context.segment is None
