"""Arms of the comparison, and what they achieved."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from collegium.layer import moe_layers

from apps.common.compare.arms import check_outcome
from apps.common.compare.places import config_file
from apps.common.errors import UserError
from apps.pointcloud import sheet
from apps.pointcloud.cloud import Cloud
from apps.pointcloud.compare import Trees, arms
from apps.pointcloud.comparison.networks import by_domain, network
from apps.pointcloud.comparison.outcome import counts_of_units, pieces_of
from apps.pointcloud.comparison.sets import set_of, sha256_of
from apps.pointcloud.data import Data
from apps.pointcloud.forest import Forest, geometry
from apps.pointcloud.model import Points
from apps.pointcloud.sheet import MEANS, PARTS, Domain, Part, Sheet, scans
from apps.pointcloud.task import Task
from apps.pointcloud.told import Told, tell

PROFILES: dict[str, Any] = yaml.safe_load(Path(config_file("pointcloud")).read_text())["profiles"]
BUDGET = {**PROFILES["quick"]["budget"], "crops": 6, "points": 512, "epochs": 1}
FIRST = {part: place for place, part in enumerate(PARTS)}
"""The one scan of each part, by its number."""
BUDGET["trials"] = {**BUDGET["trials"], "geometric_forest": [{"trees": 5, "leaf": 5}]}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "SIMULATED", {"train": 1, "validation": 1, "test": 1})


@pytest.mark.parametrize("name", list(arms(BUDGET)))
def test_every_arm_gives_an_outcome_that_holds(name: str) -> None:
    arm = arms(BUDGET)[name]
    fitted = arm.fit("simulated", dict(arm.trials[0]), 0)
    assert 0 < fitted.validation < 1
    found = fitted.test()
    check_outcome(found)
    values = {(value[0], value[1]): value[2] for value in found.values}
    domains = ["rooms", "streets", "towns"]
    assert values["all", "miou"] == pytest.approx(np.mean([values[domain, "miou"] for domain in domains]))
    assert values["all", "points_per_second"] > 0


@pytest.mark.parametrize("name", ["routed", "geometric_forest"])
def test_an_unseen_domain_is_measured_by_what_classes_mean(name: str) -> None:
    arm = arms(BUDGET)[name]
    found = arm.fit("unseen_towns", dict(arm.trials[0]), 0).test()
    check_outcome(found)
    assert {value[0] for value in found.values} == {"towns", "all"}


def test_a_network_is_not_trained_on_the_domain_that_it_has_not_seen() -> None:
    found = set_of("unseen_towns", BUDGET)
    assert [domain.name for domain in found.train.sheet.domains] == ["rooms", "streets"]
    assert [domain.name for domain in found.test.sheet.domains] == ["towns"]
    assert np.array_equal(found.classes[0], found.train.classes.any(0))
    names = np.array(found.train.sheet.classes)
    assert not {"ground", "water"} & set(names[found.classes[0]])


def test_skewed_sets_have_fewer_crops_of_each_next_domain() -> None:
    assert set_of("simulated_skewed", BUDGET).train.shares.tolist() == [1, 0.25, 0.0625]


def test_sets_have_hashes_of_their_own() -> None:
    names = ["simulated", "unseen_rooms", "unseen_towns"]
    assert len({sha256_of(name) for name in names}) == 3
    assert sha256_of("simulated") == sha256_of("simulated")


@pytest.mark.parametrize("part", PARTS)
def test_the_hash_of_a_set_hangs_on_every_scan(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sha256_of("unseen_rooms")

    def others(sheet: Sheet, domain: Domain, wanted: Part) -> Iterator[tuple[str, Cloud]]:
        for name, cloud in scans(sheet, domain, wanted):
            first = wanted == part and domain.name == "towns" and name == f"towns {FIRST[part]}"
            assert cloud.intensity is not None or domain.name == "rooms"
            yield name, replace(cloud, intensity=1 - cloud.intensity) if first else cloud  # type: ignore[operator]

    monkeypatch.setattr("apps.pointcloud.comparison.sets.scans", others)
    assert sha256_of("unseen_rooms") != before


def test_the_hash_of_a_set_hangs_on_what_classes_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sha256_of("unseen_rooms")
    monkeypatch.setitem(MEANS, "vegetation", ("vegetation",))
    assert sha256_of("unseen_rooms") != before


def test_one_network_a_domain_takes_as_many_steps_on_as_many_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: dict[str, list[tuple[int, int, int]]] = {}

    def count(name: str) -> Callable[..., float]:
        def fit(task: Task, data: Data, epochs: int, seed: int) -> float:
            sizes = [len(batch.points.domain) for batch in data.train_dataloader()]
            steps.setdefault(name, []).append((len(sizes), sum(sizes), epochs))
            task.network.build(data.features, len(data.sheet.classes), len(data.sheet.domains))
            return 0.0

        return fit

    for name in ("dense_active", "one_per_domain"):
        monkeypatch.setattr("apps.pointcloud.comparison.networks.fit_best", count(name))
        arms(BUDGET)[name].fit("simulated", {"learning_rate": 1e-3}, 0)
    [(joint, crops, epochs)] = steps["dense_active"]
    assert steps["one_per_domain"] == 3 * [(joint, crops // 3, epochs)]


def test_crops_that_cannot_be_shared_out_are_refused() -> None:
    with pytest.raises(UserError, match=r"crops 10 and batch_size 3 must be multiples of 3, the domains"):
        arms({**BUDGET, "crops": 10, "batch_size": 3})["one_per_domain"].fit(
            "simulated", {"learning_rate": 1}, 0
        )


def test_units_are_pieces_that_hold_every_known_point_once() -> None:
    found = set_of("simulated", BUDGET)
    scans = found.test.part("test")
    for scan in scans:
        rows = np.concatenate(pieces_of(scan, 8))
        assert np.array_equal(np.sort(rows), np.arange(len(scan.truth)))
    told = Told(scans, [np.maximum(scan.truth, 0) for scan in scans], 1.0)
    counts = counts_of_units(told, found)
    assert set(counts) == {0, 1, 2}
    for scan in scans:
        assert sum(each.sum() for each in counts[scan.domain]) == (scan.truth >= 0).sum()
        assert 16 <= len(counts[scan.domain]) <= 32


def test_arms_are_dense_where_they_should_be() -> None:
    for name in ("routed", "balanced", "dense_active", "dense_total", "random_router", "domain_norm"):
        made = network(BUDGET, name)
        made.build(15, 4, 2)
        routed = name in ("routed", "balanced", "random_router")
        assert bool(moe_layers(made)) == routed
        frozen = [
            not p.requires_grad for layer in moe_layers(made).values() for p in layer.router.parameters()
        ]
        assert frozen == [name == "random_router"] * len(frozen)
        assert bool(frozen) == routed


def test_other_mixtures_are_tried_beside_that_of_the_budget() -> None:
    budget = PROFILES["full"]["budget"]
    made = {name: network(budget, name) for name in budget["networks"]}
    for each in made.values():
        each.build(15, 4, 2)
    found = {
        name: {(layer.router.num_experts, layer.router.k) for layer in moe_layers(each).values()}
        for name, each in made.items()
    }
    assert found == {
        "two_of_four": {(4, 2)},
        "more_experts": {(8, 2)},
        "one_of_four": {(4, 1)},
        "feed_too": {(4, 2)},
        "one_and_shared": {(4, 1)},
    }
    assert len(moe_layers(made["feed_too"])) == 2 * len(moe_layers(made["two_of_four"]))
    keys = [str(arms(budget)[name].settings) for name in made]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", [None, "one_and_shared", "more_experts"])
def test_the_routed_arm_and_its_controls_are_the_mixture_that_the_budget_names(name: str | None) -> None:
    budget = {**PROFILES["full"]["budget"], "routed": name}
    if name is None:
        del budget["routed"]
    own = budget["networks"].get(name, {}).get("mixture", {})
    like = {**budget, "mixture": {**budget["mixture"], **own}, "networks": {}, "routed": None}
    for arm in ("routed", "dense_active", "dense_total", "random_router", "domain_norm"):
        made, wanted = network(budget, arm), network(budget if arm == "domain_norm" else like, arm)
        for each in (made, wanted):
            each.build(15, 4, 2)
        assert [p.shape for p in made.parameters()] == [p.shape for p in wanted.parameters()]
    same = arms(budget)["routed"].same_as("joint", {"learning_rate": 1.0})
    assert same == (None if name is None else (name, {"learning_rate": 1.0}))
    assert all(arms(budget)[arm].same_as("joint", {}) is None for arm in ("dense_active", "more_experts"))


def test_a_forest_tells_classes_that_may_be() -> None:
    found = set_of("simulated", BUDGET)
    scan = found.train.part("train")[0]
    forest = Forest(trees=10, seed=0).fit([scan])
    classes = found.train.classes[0]
    told = forest.predict(geometry(scan), classes)
    assert (told == scan.label).mean() > 0.9
    classes[scan.label[0]] = False
    assert scan.label[0] not in set(forest.predict(geometry(scan), classes))


def test_each_domain_is_told_by_its_own_network() -> None:
    asked: list[int] = []

    def of(number: int) -> Callable[[Points], torch.Tensor]:
        def ask(points: Points) -> torch.Tensor:
            asked.append(number)
            assert points.domain.tolist() == [0]  # the first one of its own sheet
            return torch.zeros(len(points.cell), points.classes.shape[1])

        return ask

    data = set_of("simulated", BUDGET).test
    scans = data.part("test")
    tell(partial(by_domain, [of(number) for number in range(3)]), scans, data.classes, 10**6)
    assert asked == [scan.domain for scan in scans]
    assert set(asked) == {0, 1, 2}


def test_trees_are_grown_for_each_domain() -> None:
    fitted = Trees(BUDGET).fit("simulated", {"trees": 3, "leaf": 5}, 0)
    assert len(fitted.forests) == 3  # type: ignore[attr-defined]
