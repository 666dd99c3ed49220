"""Agreement of two passes through random experts."""

from torch import Tensor


def consistency(logits: Tensor, others: Tensor) -> Tensor:
    """(KL(p | q) + KL(q | p)) / 2, a mean over predictions (Zuo et al. 2022, THOR, eq. 4).

    p and q are what a model with random experts predicts in two passes for the same input; zero where they
    agree, as where all experts are equal. In training add it to the losses of both passes.

    Args:
        logits, others: (..., classes) scores of the two passes.
    """
    p, q = logits.log_softmax(-1), others.log_softmax(-1)
    # KL(p | q) + KL(q | p) = sum (p - q) (log p - log q)
    return ((p.exp() - q.exp()) * (p - q)).sum(-1).mean() / 2
