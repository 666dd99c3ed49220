"""Trees as bytes, and back without running anything that the bytes may ask for."""

import io
import pickle
from typing import Any

import torch
from torch import Tensor

from apps.common.errors import UserError

ALLOWED = {
    "builtins": ("dict", "float", "int", "set"),
    "collections": ("defaultdict",),
    "random": ("Random",),
    "river._river_rust.drift": ("AdaptiveWindowing",),
    "river.drift.adwin": ("ADWIN",),
    "river.proba.gaussian": ("Gaussian",),
    "river.stats.mean": ("Mean",),
    "river.stats.var": ("Var",),
    "river.tree.hoeffding_tree_classifier": ("HoeffdingTreeClassifier",),
    "river.tree.nodes.branch": ("NominalMultiwayBranch", "NumericBinaryBranch"),
    "river.tree.nodes.htc_nodes": ("LeafMajorityClass", "LeafNaiveBayes", "LeafNaiveBayesAdaptive"),
    "river.tree.nodes.leaf": ("HTLeaf",),
    "river.tree.splitter.gaussian_splitter": ("GaussianSplitter",),
    "river.tree.splitter.nominal_splitter_classif": ("NominalSplitterClassif",),
}
"""Module -> the classes that saved trees and their drift detectors consist of."""


class _Trees(pickle.Unpickler):
    """Reads nothing but the classes above: a pickle can name any function of any module to be called."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in ALLOWED.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


def to_bytes(trees: Any) -> Tensor:
    """Pickle trees into a tensor (N,) uint8, which a checkpoint can hold."""
    return torch.frombuffer(bytearray(pickle.dumps(trees, protocol=5)), dtype=torch.uint8)


def from_bytes(content: Tensor) -> Any:
    """Return the trees. Raises `UserError` where the bytes are no trees, or ask for anything else."""
    try:
        return _Trees(io.BytesIO(content.cpu().numpy().tobytes())).load()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # among them the panics of river's compiled parts
        raise UserError(
            f"the trees of this checkpoint cannot be read ({error}): they are damaged, or hold more than "
            "trees; take another checkpoint, and trust none that you were not given by its maker."
        ) from error
