"""Applications of the core, one folder each; `python -m apps list` names them."""
