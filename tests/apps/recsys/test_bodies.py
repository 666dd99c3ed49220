"""MMoE, PLE and HoME, against themselves written out, and what they keep apart."""

from functools import partial

import pytest
import torch
from collegium import routers
from torch import Tensor, nn

from apps.recsys.bodies import PLE, Body, HoME, MMoE, SharedBottom, join

GROUPS = [["click", "view"], ["like", "share"]]
TASKS = ["click", "view", "like", "share"]
D, H = 6, 5
BODIES = {
    "shared": partial(SharedBottom, hidden=4, out=H),
    "mmoe": partial(MMoE, experts=3, hidden=4, out=H),
    "cgc": partial(PLE, depth=1, hidden=4, out=H),
    "ple": partial(PLE, depth=2, hidden=4, out=H),
    "home": partial(HoME, meta=1, meta_shared=2, group=1, shared=1, hidden=4, out=H, rank=2),
}


def built(name: str, seed: int = 0) -> Body:
    torch.manual_seed(seed)
    return BODIES[name](D, GROUPS).double()


@pytest.mark.parametrize("name", BODIES)
def test_every_task_gets_a_row(name: str) -> None:
    body = built(name)
    assert body.tasks == TASKS
    assert body(torch.randn(7, D).double()).shape == (7, 4, H)


def test_mmoe_is_as_its_paper_writes_it() -> None:
    body, x = built("mmoe"), torch.randn(7, D).double()
    layer = body.layers[0]
    up, down = layer.experts.block.up, layer.experts.block.down
    said = torch.stack([torch.relu(torch.relu(x @ up[e]) @ down[e]) for e in range(3)], 1)
    for task in range(4):
        share = (x @ layer.router.gates[task].gate.weight.T).softmax(1)
        torch.testing.assert_close(body(x)[:, task], (share[..., None] * said).sum(1))


def gradient_of(body: Body, task: int, x: Tensor) -> set[str]:
    """Experts that one task's row moves, by name and level."""
    body.zero_grad()
    body(x)[:, task].square().sum().backward()
    moved = set()
    for level, layer in zip(body.levels, body.layers, strict=True):
        stacked = [p for p in layer.experts.parameters() if p.grad is not None]
        for e, name in enumerate(level.experts):
            if any(p.grad[e].any() for p in stacked):
                moved.add(f"{body.levels.index(level)} {name}")
    return moved


def test_a_task_of_ple_leaves_the_experts_of_others_at_the_top_alone() -> None:
    x = torch.randn(30, D).double()
    assert {name for name in gradient_of(built("ple"), 2, x) if name.startswith("1")} == {
        "1 like 0",
        "1 shared 0",
        "1 shared 1",
    }


def test_a_task_of_home_moves_its_own_its_groups_and_common_experts_on_both_levels() -> None:
    x = torch.randn(30, D).double()
    assert gradient_of(built("home"), 2, x) == {
        "0 group 1: 0",
        "0 shared 0",
        "0 shared 1",
        "1 like 0",
        "1 group 1: 0",
        "1 shared 0",
    }


def test_a_task_of_home_hears_nothing_that_another_group_makes() -> None:
    body, x = built("home").eval(), torch.randn(9, D).double()
    before = body(x)
    with torch.no_grad():  # the first group's expert below says something else
        body.layers[0].experts.block.shift[0] += 1.0
    after = body(x)
    assert torch.equal(before[:, 2:], after[:, 2:])
    assert not torch.allclose(before[:, :2], after[:, :2])


def test_the_common_row_stands_beside_each_group_and_alone() -> None:
    rows = torch.tensor([[[1.0], [2.0], [9.0]]])
    assert join(rows).tolist() == [[[1.0, 9.0], [2.0, 9.0], [0.0, 9.0]]]


def test_experts_of_home_speak_at_one_scale_and_those_of_ple_do_not() -> None:
    """Collapse: of a skewed input with features of unlike size."""
    torch.manual_seed(0)
    x = torch.rand(500, D).double() * torch.tensor([0.1, 1, 10, 0.1, 1, 10]).double()
    spread = {}
    for name in ("ple", "home"):
        body = built(name)
        block = body.layers[0].experts
        inner = block.block.block if name == "home" else block.block
        with torch.no_grad():
            inner.down *= torch.logspace(-1, 1, len(inner.down))[:, None, None].double()
        said = block(x.repeat(len(inner.down), 1), 500).detach().view(len(inner.down), -1).std(1)
        spread[name] = float(said.max() / said.min())
    assert spread["home"] < 2 < 10 < spread["ple"]


def test_gates_may_choose() -> None:
    body = MMoE(D, GROUPS, experts=4, hidden=4, out=H, router=partial(routers.TopK, k=1))
    assert body(torch.randn(3, D)).shape == (3, 4, H)


def test_a_router_of_several_outputs_is_refused() -> None:
    with pytest.raises(ValueError, match="MultiGate"):
        MMoE(D, GROUPS, router=routers.MultiGate)


def test_a_body_is_made_as_large_as_another_without_a_draw() -> None:
    from apps.recsys.comparison.networks import of_size

    home = partial(HoME, hidden=16, out=8)
    size = sum(p.numel() for p in home(40, GROUPS).parameters())
    for make in (partial(SharedBottom, out=8), partial(PLE, out=8), partial(MMoE, experts=6, out=8)):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        body: nn.Module = of_size(make, home, 40, GROUPS)
        found = sum(p.numel() for p in body.parameters())
        assert abs(found - size) < 0.06 * size
        torch.set_rng_state(before)
        again = of_size(make, home, 40, GROUPS)
        assert all(map(torch.equal, body.parameters(), again.parameters()))
