from pathlib import Path


def predict(out: Path, rows: int = 2) -> None:
    """Write what was given.

    Args:
        out: where to.
        rows: how many.
    """
    out.write_text(f"{type(out).__name__} {rows}")
