"""A classifier of rows with mixture-of-experts layers.

Legend: B rows, F features, D width, C classes.
"""

from collections.abc import Callable

from collegium import check_causal, check_needs
from collegium.routers import share_cells
from torch import Tensor, nn

from apps.common.controls import MixtureFFN, feed_forward


class Classifier(nn.Module):
    """Linear in, residual feed-forward blocks, linear out.

    Args:
        features: F.
        classes: C.
        dim: D.
        depth: feed-forward blocks.
        feed_forward: D -> one block; called once a block, so that each has its own router.

    Raises:
        ValueError: a router that needs to know more of a row than its features, or that looks at other rows.
    """

    def __init__(
        self,
        features: int = 8,
        classes: int = 2,
        dim: int = 32,
        depth: int = 2,
        feed_forward: Callable[[int], nn.Module] = MixtureFFN,
    ) -> None:
        super().__init__()
        self.features = features
        self.classes = classes
        self.enter = nn.Linear(features, dim)
        self.norms = nn.ModuleList(nn.RMSNorm(dim) for _ in range(depth))
        self.blocks = nn.ModuleList(feed_forward(dim) for _ in range(depth))
        self.leave = nn.Linear(dim, classes)
        check_needs(self, ())
        check_causal(self)
        share_cells(self)

    def forward(self, x: Tensor) -> Tensor:
        """Rows (B, F) to logits (B, C)."""
        x, routing = self.enter(x), None
        for norm, block in zip(self.norms, self.blocks, strict=True):
            update, routing = feed_forward(block, norm(x), previous=routing)
            x = x + update
        logits: Tensor = self.leave(x)
        return logits
