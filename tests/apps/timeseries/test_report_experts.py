"""Labels of tokens in the report."""

import pytest
import torch

from apps.timeseries.data import Data
from apps.timeseries.report_experts import one_a_series, token_labels
from apps.timeseries.windows import Groups


@pytest.mark.parametrize(("context", "patch"), [(48, 24), (100, 24), (50, 50)])
@pytest.mark.parametrize("last", [False, True])
def test_a_token_has_the_hour_of_its_last_point(context: int, patch: int, last: bool) -> None:
    data = Data(rows=800, context=context, horizon=8)
    data.setup()
    windows = data.windows("validation")
    rows = Groups(windows).sample(40)
    tokens = 1 if last else -(-context // patch)
    hour, _ = token_labels(rows, windows, tokens, patch, data)["hour of day"]
    told = hour.view(len(rows), tokens)
    start = windows.start[rows]
    for token in range(tokens):
        end = start + context - 1 - patch * (tokens - 1 - token)
        assert torch.equal(told[:, token], torch.tensor([data.tables[0].index[int(e)].hour for e in end]))


def test_labels_of_a_window_hold_for_all_its_tokens() -> None:
    data = Data(rows=800, context=48, horizon=8)
    data.setup()
    windows = data.windows("validation")
    rows = torch.arange(0, len(windows), 50)
    labels = token_labels(rows, windows, 4, 12, data)
    assert list(labels) == ["series", "strongest period", "regime", "hour of day"]
    for name in ("series", "strongest period", "regime"):
        label, names = labels[name]
        assert bool((label.view(-1, 4) == label.view(-1, 4)[:, :1]).all())
        assert int(label.max()) < len(names)
    assert torch.equal(labels["series"][0].view(-1, 4)[:, 0], windows.channel[rows])


def test_one_window_of_each_series_is_shown() -> None:
    data = Data(rows=800, context=48, horizon=8)
    data.setup()
    windows = data.windows("validation")
    rows = Groups(windows).sample(200)
    chosen = one_a_series(rows, windows, 3)
    channels = windows.channel[rows[chosen]].tolist()
    assert len(set(channels)) == 3
    assert channels[0] == 0
    assert channels[-1] == len(data.names) - 1
