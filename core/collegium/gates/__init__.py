"""How well a token and an expert fit: a gate is a module ``tokens (T, D), context, previous -> (T, E)``."""

from collegium.gates.affinity import Attended, Similar
from collegium.gates.base import Gate, Linear
from collegium.gates.centroid import Centroid
from collegium.gates.conditioned import Conditioned
from collegium.gates.cosine import Cosine
from collegium.gates.residual import Residual

__all__ = ["Attended", "Centroid", "Conditioned", "Cosine", "Gate", "Linear", "Residual", "Similar"]
