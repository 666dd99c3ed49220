"""Entropy of smooth selectors."""

import math
from typing import Any

import pytest
import torch
from collegium import Context, balance
from collegium.routers import Comet, DSelectK, TopK


@pytest.mark.parametrize("cls", [DSelectK, Comet])
def test_it_is_the_mean_entropy_and_falls_to_zero_with_saturated_gates(cls: type[Any]) -> None:
    router, x = cls(5, 8, k=2), torch.randn(12, 5)
    selectors = router(x).extras["selectors"].double()
    wanted = torch.special.entr(selectors).sum(-1).mean()
    torch.testing.assert_close(balance.selector_entropy(router(x)).double(), wanted)
    assert float(wanted.detach()) > 0.5 * math.log(8)
    with torch.no_grad():
        for name, parameter in router.named_parameters():
            if name.startswith(("bits", "nodes")):
                parameter.mul_(1e6)
    assert float(balance.selector_entropy(router(x)).detach()) < 0.05
    assert router(x).experts_per_token().max() <= 2


def test_masked_tokens_have_no_share() -> None:
    router, x = DSelectK(5, 8), torch.randn(6, 5)
    mask = torch.arange(6) < 4
    found = balance.selector_entropy(router(x, Context(mask=mask)))
    torch.testing.assert_close(found, balance.selector_entropy(router(x[:4])))


def test_a_router_without_selectors_is_refused() -> None:
    with pytest.raises(ValueError, match="for routers with selectors"):
        balance.selector_entropy(TopK(5, 4)(torch.randn(3, 5)))
