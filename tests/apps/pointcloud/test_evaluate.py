"""What is told of experts, and whose classes a prediction may have."""

import numpy as np
import pytest
import torch
from collegium import inspection, routers

from apps.common.errors import UserError
from apps.pointcloud.evaluate import of_known
from apps.pointcloud.predict import _classes


def test_cells_without_a_label_tell_nothing_of_experts() -> None:
    torch.manual_seed(0)
    router = routers.TopK(6, 4, k=2)
    x, label = torch.randn(50, 6), torch.randint(-1, 3, (50,))
    known = label >= 0
    some = inspection.mutual_information(of_known(router(x), known), label[known])
    assert some == pytest.approx(inspection.mutual_information(router(x[known]), label[known]))


def test_classes_are_those_of_a_domain_that_must_be_named_where_norms_are_told_it() -> None:
    state = {"classes": ["a", "b", "c"], "domains": {"one": ["a", "b"], "other": ["b", "c"]}}
    number, classes = _classes(state, "other", True)  # type: ignore[arg-type]
    assert number == 1
    assert classes.tolist() == [[False, True, True]] * 2
    assert np.array_equal(_classes(state, None, False)[1], np.ones((2, 3), dtype=bool))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="told the domain: say --domain, one of one, other"):
        _classes(state, None, True)  # type: ignore[arg-type]
