"""Metrics by hand."""

import math

import torch

from apps.common.template.metrics import hits, log_loss


def test_metrics_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [math.log(4), 0.0]])
    label = torch.tensor([1, 1])
    assert hits(logits, label).tolist() == [1.0, 0.0]
    torch.testing.assert_close(log_loss(logits, label), torch.tensor([math.log(4 / 3), math.log(5)]))
