"""AllExperts: the mixture before sparsity."""

import torch
from collegium.routers import AllExperts


def test_every_expert_is_weighted_by_its_probability() -> None:
    router, x = AllExperts(3, 4), torch.randn(6, 3)
    routing = router(x)
    torch.testing.assert_close(routing.dense_weight(), (x @ router.gate.weight.T).softmax(-1))
    assert routing.counts == 6
    assert router.causal
