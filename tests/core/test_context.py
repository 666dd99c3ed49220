"""Context: flattening, and the sentences with which it refuses."""

import pytest
import torch
from collegium import Context


def test_flatten_merges_leading_dims_and_keeps_the_rest() -> None:
    context = Context(mask=torch.ones(2, 3, dtype=torch.bool), time=torch.arange(24.0).view(2, 3, 4))
    flat = context.flatten(torch.Size((2, 3)))
    assert flat.mask.shape == (6,)
    assert torch.equal(flat.time, torch.arange(24.0).view(6, 4))
    assert flat.shape == (2, 3)
    assert flat.label is None


def test_flatten_refuses_other_leading_dims() -> None:
    with pytest.raises(ValueError, match=r"context\.label has shape \(3, 2\).*leading dims \(2, 3\)"):
        Context(label=torch.zeros(3, 2)).flatten(torch.Size((2, 3)))


def test_require_names_the_absent_field_and_the_mend() -> None:
    context = Context(task=torch.zeros(2))
    context.require(("task",), "Someone")
    with pytest.raises(
        ValueError, match=r"Someone needs context\.label: call the layer with Context\(label="
    ):
        context.require(("task", "label"), "Someone")


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_a_mask_of_numbers_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="mask must be bool"):
        Context(mask=torch.ones(3, dtype=dtype))
