"""check_routing catches fields that do not agree."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from collegium import Routing
from collegium.testing import check_routing

PROBS = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
INDEX = torch.tensor([[0, 1], [2, 0]])
SOUND = Routing.from_topk(INDEX, torch.rand(2, 2), 3, probs=PROBS, logits=PROBS.log())

BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"token": torch.tensor([0, 1, 0, 2])}, "token must lie in"),
    ({"token": torch.tensor([0.0, 1, 0, 1])}, "token must be"),
    ({"token": torch.tensor([0, 0, 0, 1])}, "same expert twice"),
    ({"token": torch.tensor([1, 0, 0, 1])}, "tokens of an expert must ascend"),
    ({"expert": torch.tensor([0, 0, 1, 3])}, "expert must lie in"),
    ({"expert": torch.tensor([0, 0, 2, 1])}, "expert must ascend"),
    ({"weight": torch.ones(3)}, "weight must be"),
    ({"weight": torch.tensor([1, 1, torch.nan, 1])}, "weight must be finite"),
    ({"mask": torch.tensor([True, False])}, "masked token must have no assignment"),
    ({"mask": torch.tensor([1, 1])}, "mask must be"),
    ({"counts": torch.tensor([2, 1, 0])}, "counts must be the number"),
    ({"counts": 2}, "counts must be the number"),
    ({"counts": torch.tensor([2.0, 1.0, 1.0])}, "counts must be"),
    ({"demand": torch.tensor([3, 1, 1])}, "demand must count"),
    ({"demand": torch.tensor([2, 1])}, "demand must be"),
    ({"position": torch.tensor([[0, 1], [2, 3]])}, "token's own rows"),
    ({"position": torch.tensor([[0, 2], [0, 2]])}, "each row once"),
    ({"position": torch.tensor([[0], [1]])}, "position must be"),
    ({"probs": PROBS / 2}, "sum to 1"),
    ({"probs": PROBS.bfloat16()}, "float32 or wider"),
    ({"logits": PROBS[:, :2]}, "logits must be"),
]


def test_a_sound_routing_passes() -> None:
    check_routing(SOUND)


@pytest.mark.parametrize(("fields", "words"), BROKEN, ids=[words for _, words in BROKEN])
def test_what_does_not_fit_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_routing(replace(SOUND, **fields))
