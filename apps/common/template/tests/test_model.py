"""The network."""

import pytest
import torch
from collegium import routers

from apps.common.controls import MixtureFFN
from apps.common.template.model import Classifier


def test_a_row_is_classified_alike_in_any_batch() -> None:
    torch.manual_seed(0)
    network = Classifier().eval()
    x = torch.randn(20, 8)
    torch.testing.assert_close(network(x)[3:5], network(x[3:5]), rtol=1e-4, atol=1e-5)


def test_a_router_that_looks_at_other_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="ExpertChoice"):
        Classifier(feed_forward=lambda dim: MixtureFFN(dim, router=routers.ExpertChoice))
