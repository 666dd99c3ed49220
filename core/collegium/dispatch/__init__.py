"""How tokens get to their experts and back."""

from collegium.dispatch.dense import run_dense
from collegium.dispatch.grouped import grouped_mlp
from collegium.dispatch.rows import combine_rows, gather_rows
from collegium.dispatch.slots import run_slots

__all__ = ["combine_rows", "gather_rows", "grouped_mlp", "run_dense", "run_slots"]
