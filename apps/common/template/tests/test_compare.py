"""Every arm of the comparison."""

import pytest
import yaml

from apps.common.compare.arms import check_outcome
from apps.common.discovery import project_root
from apps.common.template.compare import arms

PROFILES = yaml.safe_load((project_root() / "configs/template/compare.yaml").read_text())["profiles"]


@pytest.mark.parametrize("name", PROFILES["full"]["arms"])
def test_every_arm_gives_an_outcome_that_holds(name: str) -> None:
    arm = arms({**PROFILES["quick"]["budget"], "epochs": 1})[name]
    outcome = arm.fit("generated", dict(arm.trials[0]), 0).test()
    check_outcome(outcome)
    assert {value[1] for value in outcome.values} == {"accuracy", "log_loss"}
