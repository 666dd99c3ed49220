"""What is told of a history, by hand."""

import numpy as np

from apps.drift.evaluate import tell, tell_gaps


def test_an_expert_is_told_of_since_it_joined() -> None:
    label = np.array([0, 1, 0, 1, 1, 0])
    said = np.stack([label, 1 - label], 1)
    said[4:, 1] = label[4:]
    table = {"label": label, "predicted": label, "said": said, "group": np.array([0, 1] * 3)}
    rows = {row["slice"]: row for row in tell(table, {"first": 0, "late": 4, "later": 6}, [])}
    assert [rows[name]["rows"] for name in ("all", "expert first", "expert late")] == [6, 6, 2]
    assert rows["expert late"]["accuracy"] == 1.0
    assert "expert later" not in rows
    gaps = {row["slice"]: row for row in tell_gaps(table, {"first": 0, "late": 4, "later": 6}, [])}
    assert list(gaps) == ["all", "expert first", "expert late"]
    assert gaps["expert late"]["rows"] == 2
    assert gaps["expert late"]["parity"] == 1.0
