"""Profiles and trials: what is accepted, and the sentence for what is not."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import pytest

from apps.common.compare.plan import data_sha256
from apps.common.compare.profile import Profile, read_profile
from apps.common.compare.trials import check_trials
from apps.common.errors import UserError

GOOD = "profiles: {quick: {data: [a, b], arms: [routed, x], seeds: 5, budget: {steps: 10}}}"


@dataclass
class Choosing:
    trials: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    settings: dict[str, Any] = field(default_factory=dict)


def _rates(number: int) -> Choosing:
    return Choosing([{"rate": rate} for rate in range(number)])


def test_a_profile_is_read(tmp_path):
    path = tmp_path / "compare.yaml"
    path.write_text(GOOD)
    assert read_profile(path, "quick") == Profile(["a", "b"], ["routed", "x"], 5, {"steps": 10})
    path.write_text(GOOD.replace(", budget: {steps: 10}", ""))
    assert read_profile(path, "quick").budget == {}
    path.write_text(GOOD.replace("seeds: 5", "seeds: 5, tried: [z]"))
    assert read_profile(path, "quick").tried == ["z"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("profiles: [", "no readable profile quick"),
        ("other: 1", "no readable profile quick"),
        ("profiles: {quick: 3}", "no readable profile quick"),
        (GOOD.replace("quick", "full"), "no readable profile quick"),
        (GOOD.replace("seeds: 5", "seeds: 5, sedes: 3"), "the keys data, arms, seeds, budget and no others"),
        (GOOD.replace("seeds: 5, ", ""), "the keys data, arms, seeds, budget and no others"),
        (GOOD.replace("[a, b]", "[]"), "make `data` a list of names"),
        (GOOD.replace("[a, b]", "[a, a]"), "make `data` a list of names"),
        (GOOD.replace("[a, b]", "a"), "make `data` a list of names"),
        (GOOD.replace("seeds: 5", "seeds: 5, tried: x"), "make `tried` a list of names"),
        (GOOD.replace("seeds: 5", "seeds: 5, tried: [x]"), "x is in `arms` and in `tried`"),
        (GOOD.replace("[routed, x]", "[1]"), "make `arms` a list of names"),
        (GOOD.replace("routed", "y"), "make `arms` the arm routed and those"),
        (GOOD.replace("routed, x", "routed"), "make `arms` the arm routed and those"),
        (GOOD.replace("seeds: 5", "seeds: 0"), "`seeds` a whole number"),
        (GOOD.replace("seeds: 5", "seeds: yes"), "`seeds` a whole number"),
        (GOOD.replace("{steps: 10}", "3"), "make `budget` a mapping"),
        (GOOD.replace("{steps: 10}", "{day: 2020-01-01}"), "make `budget` a mapping"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused_with_its_file(tmp_path, text, sentence):
    path = tmp_path / "compare.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"compare.yaml.*{sentence}"):
        read_profile(path, "quick")


def test_a_missing_configuration_is_named(tmp_path):
    with pytest.raises(UserError, match=r"compare\.yaml does not exist"):
        read_profile(tmp_path / "compare.yaml", "quick")


def test_arms_with_equal_numbers_of_trials_and_arms_without_a_choice_pass():
    check_trials(
        {"routed": _rates(3), "dense_active": _rates(3), "ridge": _rates(3), "mean": Choosing()}, "here"
    )
    check_trials({"routed": Choosing(), "dense_active": Choosing(), "mean": Choosing()}, "here")


@pytest.mark.parametrize("number", [1, 2, 4])
def test_an_unequal_number_of_trials_is_refused(number):
    with pytest.raises(UserError, match=rf"here: ridge has {number} validation trials where routed has 3"):
        check_trials({"routed": _rates(3), "mean": Choosing(), "ridge": _rates(number)}, "here")


@pytest.mark.parametrize("control", ["dense_active", "dense_total", "random_router"])
def test_a_control_chooses_as_often_as_the_routed_arm(control):
    with pytest.raises(UserError, match=f"{control} has 1 validation trials where routed has 3"):
        check_trials({"routed": _rates(3), control: Choosing()}, "here")


def test_a_routed_arm_with_nothing_to_choose_faces_no_arm_that_chooses():
    with pytest.raises(UserError, match="ridge has 3 validation trials where routed has 1"):
        check_trials({"routed": Choosing(), "ridge": _rates(3)}, "here")


@pytest.mark.parametrize("trials", [[], [{"rate": 1}, {"rate": 1}]])
def test_no_trial_and_a_trial_given_twice_are_refused(trials):
    with pytest.raises(UserError, match="give routed at least one trial, and no trial twice"):
        check_trials({"routed": Choosing(trials)}, "here")


@pytest.mark.parametrize(
    "arm",
    [Choosing([{"make": object()}]), Choosing([{"rate": float("inf")}]), Choosing(settings={"make": print})],
)
def test_trials_and_settings_are_plain_values(arm):
    with pytest.raises(UserError, match="make the trials and settings of routed of numbers"):
        check_trials({"routed": arm}, "here")


def test_data_of_the_catalogue_are_checked_before_anything_runs(toy):
    source = toy.folder / "toy" / "compare.py"
    source.write_text(source.read_text().replace("[name]", ".get(name)"))
    content = b"1,2,3\n"
    folder = toy.root / "data" / "toy"
    folder.mkdir(parents=True)
    (folder / "cards.csv").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    entry = {"file": "cards.csv", "url": "http://127.0.0.1:9/cards.csv", "sha256": digest}
    lines = [
        f"  {key}: {value}" for key, value in {**entry, "licence": "x", "citation": "x", "split": "x"}.items()
    ]
    (folder / "catalogue.yaml").write_text("\n".join(["cards:", *lines, "  note: x", ""]))
    assert data_sha256("toy", "cards") == digest
    assert data_sha256("toy", "coins") == "c0" * 32
    (folder / "cards.csv").write_bytes(b"4,5,6\n")
    with pytest.raises(UserError, match=r"cards\.csv"):
        data_sha256("toy", "cards")
