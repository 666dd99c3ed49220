"""Cells are known by their configuration, and come back from disk as they were."""

from dataclasses import replace

import numpy as np
import pytest

from apps.common.compare.arms import Arm, Cost, Outcome, Value
from apps.common.compare.cache import Cache
from apps.common.compare.cells import Cell, Finished
from apps.common.compare.ledger import Ledger, openings_in, summarise
from apps.common.compare.worker import run_cell

CELL = Cell("toy", "coins", "c0", "routed", {"depth": 2}, {"rate": 0.1}, 3, {"steps": 10}, final=True)
CHANGES = [
    {"app": "other"},
    {"data": "dice"},
    {"data_sha256": "c1"},
    {"arm": "dense_active"},
    {"settings": {"depth": 3}},
    {"trial": {"rate": 0.2}},
    {"seed": 4},
    {"budget": {"steps": 11}},
    {"final": False},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_every_part_of_a_configuration_changes_the_key(change):
    assert replace(CELL, **change).key != CELL.key


def test_folds_are_of_the_trials_of_their_own_set():
    trial = replace(CELL, final=False)
    folded = {"steps": 10, "folds": {"coins": 3}}
    assert replace(trial, budget=folded).key != trial.key
    assert replace(CELL, budget=folded).key == CELL.key
    assert replace(trial, budget={"steps": 10, "folds": {"dice": 3}}).key == trial.key


def test_the_worker_scores_a_trial_and_fits_what_is_final(monkeypatch):
    class Told:
        validation = 2.0

        def test(self):
            return Outcome([Value("all", "loss", 1.0, False)])

    class Twice(Arm):
        def fit(self, data, trial, seed):
            return Told()

        def score(self, data, trial, seed):
            return 7.0

    class Notes:
        opened = 0

        def open_test(self, cell):
            self.opened += 1

    monkeypatch.setattr("apps.common.compare.worker.load_arms", lambda app, budget: {"routed": Twice()})
    notes = Notes()
    trial = run_cell(replace(CELL, final=False), notes, "code")
    assert (trial.validation, trial.outcome, notes.opened) == (7.0, None, 0)
    final = run_cell(CELL, notes, "code")
    assert (final.validation, final.outcome.values[0].value, notes.opened) == (2.0, 1.0, 1)


def test_the_order_of_settings_does_not_change_the_key():
    one, other = {"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}
    assert replace(CELL, trial=one).key == replace(CELL, trial=other).key


def test_the_configuration_is_shared_by_all_seeds_and_by_nothing_else():
    same = [replace(CELL, **change).configuration == CELL.configuration for change in CHANGES]
    assert [next(iter(change)) for change, equal in zip(CHANGES, same, strict=True) if equal] == [
        "seed",
        "final",
    ]


def test_a_finished_cell_comes_back_from_disk_as_it_was(tmp_path):
    units = np.array([0.1, 1 / 3, 1e-300])
    outcome = Outcome(
        [("all", "miss", np.float64(1 / 3), False)],
        {("all", "miss"): units},
        Cost(active_params=np.int64(3), active_flops=2.5),
        {("all", "miss"): np.array([1, 2, 3])},
    )
    cache = Cache(tmp_path / "cells")
    assert cache.load(CELL) is None
    cache.store(CELL, Finished(0.1, outcome, "abc", 1.5))
    found = cache.load(CELL)
    assert found is not None
    assert found.outcome is not None
    assert (found.validation, found.code, found.cpu_seconds) == (0.1, "abc", 1.5)
    assert found.outcome.values == [Value("all", "miss", 1 / 3, False)]
    assert found.outcome.units["all", "miss"].tolist() == [0.1, 0.333333333, 1e-300]  # nine digits
    assert found.outcome.weights["all", "miss"].tolist() == [1, 2, 3]
    assert found.outcome.cost == Cost(active_params=3, active_flops=2.5)
    assert cache.load(replace(CELL, seed=4)) is None


def test_a_damaged_file_is_a_cell_that_has_not_been_run(tmp_path):
    cache = Cache(tmp_path)
    cache.store(CELL, Finished(None, None, "abc", 1.5))
    assert cache.load(CELL) == Finished(None, None, "abc", 1.5)
    cache.path(CELL).write_text(cache.path(CELL).read_text()[:50])
    assert cache.load(CELL) is None


def test_the_ledger_counts_each_configuration_and_outlives_its_file(tmp_path):
    ledger = Ledger(tmp_path / "deep" / "ledger.jsonl")
    assert ledger.openings() == set()
    old = replace(CELL, budget={"steps": 5})
    for cell in (old, CELL, replace(CELL, seed=4)):
        ledger.open_test(cell)
    tested = summarise(ledger.openings(), current={CELL.configuration})
    assert [(entry["configuration"], entry["current"], entry["times"]) for entry in tested] == [
        (old.configuration, False, 1),
        (CELL.configuration, True, 2),
    ]
    assert [opening["seed"] for opening in tested[1]["openings"]] == [3, 4]
    assert tested[1]["last"] == tested[1]["openings"][-1]["at"]
    assert openings_in(tested) == ledger.openings()
