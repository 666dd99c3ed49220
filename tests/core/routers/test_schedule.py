"""Schedule: a share that is a tensor, and an end that is a flag."""

import io

import pytest
import torch
from collegium.routers import Comet, DenseToSparse
from collegium.routers.schedule import Schedule


@pytest.mark.parametrize(
    ("end", "progress", "over"), [(1.0, 0.999, False), (1.0, 1.0, True), (0.3, 0.3, True)]
)
def test_it_ends_at_its_end_and_so_does_its_copy(end: float, progress: float, over: bool) -> None:
    schedule, copy = Schedule(end), Schedule(end)
    schedule.move(progress)
    file = io.BytesIO()
    torch.save(schedule.state_dict(), file)
    file.seek(0)
    copy.load_state_dict(torch.load(file))
    assert schedule.over == copy.over == over
    assert float(copy.progress) == pytest.approx(progress)


def test_a_schedule_of_nothing_is_over() -> None:
    assert Schedule(0.0).over


@pytest.mark.parametrize("router", [DenseToSparse(6, 4), Comet(6, 4, search=0.5)])
def test_a_router_that_was_annealed_decides_alike_once_loaded(router: DenseToSparse | Comet) -> None:
    other = type(router)(6, 4, **({"search": 0.5} if isinstance(router, Comet) else {}))
    router.anneal(1.0)
    other.load_state_dict(router.state_dict())
    x = torch.randn(20, 6)
    found, wanted = (model.eval()(x).dense_weight() for model in (other, router))
    assert torch.equal(found, wanted)
