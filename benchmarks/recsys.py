"""Speed and memory of the rankers and recommenders of the comparison: `make bench APP=recsys`.

All run in one process on one thread, in turn and each round in another order, on the same simulated log; what
counts is CPU time, the least of all rounds. Peak memory is that of one training step, each in a process of
its own.
"""

import logging
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor

from apps.common.compare.places import config_file, results_folder
from apps.common.compare.profile import Profile, read_profile
from apps.common.compare.results import write_results
from apps.common.compare.schema import Results, Row
from apps.common.discovery import project_root
from apps.recsys.compare import arms
from apps.recsys.comparison import networks, next_item
from apps.recsys.comparison.networks import Network
from apps.recsys.comparison.sequences import Sequential
from apps.recsys.impressions import Batch
from apps.recsys.model import Ranker
from apps.recsys.recommender import Recommender
from apps.recsys.sequences import Walk
from apps.recsys.source import SIMULATED
from apps.recsys.task import cross_entropy
from benchmarks.beside import of_metrics
from benchmarks.memory import in_own_process, peak_of
from benchmarks.results import Page, results, row
from benchmarks.timing import least

RESULTS = results_folder() / "recommenders.json"
PROFILES = ("full", "sequences", "generative")
PEERS = {"full": "rechub_mmoe", "sequences": "sasrec", "generative": "sasrec"}
SAME = ("random_router", "no_contrast", "no_masking", "sasrec_masked", "aligned")
"""The network of `routed`, trained in another manner."""
MANY = {"full": 1024, "sequences": 128, "generative": 128}
"""Rows, or users, of a batch."""
METRICS = {"train_per_second": True, "answers_per_second": True, "latency_ms": False}
"""Whether higher is better."""
TITLES = {
    "train_per_second": "training, {what}/s",
    "answers_per_second": "answers, {what}/s",
    "latency_ms": "a single one, ms",
}
WHAT = {"full": "rows", "sequences": "users", "generative": "users"}
Net = Ranker | Recommender


def main(rounds: int = 5) -> None:
    """Measure; write docs/results/recommenders.json and the tables of apps/recsys/README.md.

    Args:
        rounds: How often each network learns and answers; the least time counts.
    """
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    rows = [each for name in PROFILES for each in _measure(name, rounds)]
    write_results(RESULTS, results("recommenders", "make bench APP=recsys", rows, {"rounds": rounds}))
    PAGE.refresh()


def contenders(profile: Profile) -> dict[str, Callable[[], Net]]:
    """What builds each network of a profile that is one of its own."""
    every = arms(profile.budget)
    return {
        name: arm.make
        for name in profile.arms
        if name not in SAME and isinstance(arm := every[name], Network | Sequential)
    }


def calls(name: str, arm: str) -> dict[str, Callable[[], object]]:
    """What is timed of one network of a profile: a training step, a large batch and a single row or user."""
    profile = read_profile(config_file("recsys"), name)
    network = built(contenders(profile)[arm], profile)
    train, many, one = batches(profile, MANY[name])
    optimiser = torch.optim.AdamW(network.parameters())
    return {
        "train_per_second": partial(step, network, optimiser, train),
        "answers_per_second": partial(answer, network, many),
        "latency_ms": partial(answer, network, one),
    }


def built(make: Callable[[], Net], profile: Profile) -> Net:
    """A network for the simulated log, as it is drawn."""
    torch.manual_seed(0)
    data, network = module(profile), make()
    sizes, items = data.encoder.sizes, len(data.catalogue)
    if isinstance(network, Recommender):
        network.build(sizes, items, data.history)
        assert data.contents is not None
        network.study(data.walks("train").walk, data.contents)
    else:
        network.build(sizes, items, list(data.schema.groups.values()))
    return network


def batches(profile: Profile, many: int) -> tuple[Batch | Walk, Batch | Walk, Batch | Walk]:
    """A batch of training, one to be answered, and a single one of these."""
    data = module(profile)
    if data.next_item:
        walks, asked = data.walks("train"), data.walks("validation")
        return (
            walks.__getitems__(range(many)),
            asked.__getitems__(range(many)),
            asked.__getitems__([0]),
        )
    rows = data.part("train")
    return rows.__getitems__(range(many)), rows.__getitems__(range(many)), rows.__getitems__([0])


def module(profile: Profile) -> Any:
    """The simulated log as the profile reads a set."""
    next_one = profile.budget.get("protocol") == "next_item"
    return (next_item if next_one else networks).data_for(SIMULATED, profile.budget)


def step(network: Net, optimiser: torch.optim.Optimizer, data: Any) -> None:
    """One step of training."""
    network.train()
    optimiser.zero_grad()
    if isinstance(network, Recommender):
        loss = network.loss(data)
    else:
        loss = cross_entropy(network(data), data.labels).mean()
    torch.autograd.backward(loss)
    optimiser.step()


@torch.no_grad()
def answer(network: Net, data: Any) -> Tensor:
    """Scores of rows, or of all items for users."""
    network.eval()
    scores: Tensor = network.scores(data) if isinstance(network, Recommender) else network(data)
    return scores


def step_megabytes(name: str, arm: str) -> float:
    """Peak memory of the first training step, the optimiser's state included.

    A later one would hide in what the process has kept of the one before.
    """
    return peak_of(calls(name, arm)["train_per_second"])


def _measure(name: str, rounds: int) -> list[Row]:
    names = list(contenders(read_profile(config_file("recsys"), name)))
    timed = {arm: calls(name, arm) for arm in names}
    seconds = least(timed, rounds)
    rows = []
    for arm in names:
        megabytes = in_own_process(step_megabytes, name, arm)
        values = {
            "train_per_second": MANY[name] / seconds[arm]["train_per_second"],
            "answers_per_second": MANY[name] / seconds[arm]["answers_per_second"],
            "latency_ms": 1000 * seconds[arm]["latency_ms"],
        }
        rows += [
            row(name, arm, metric, value, higher_is_better=METRICS[metric], peak_memory_mb=megabytes)
            for metric, value in values.items()
        ]
    return rows


def tables(measured: Results) -> str:
    """A table a profile: each figure, and in brackets its ratio to that of its peer."""
    found = []
    for name in PROFILES:
        rows = [each for each in measured["rows"] if each["data"] == name]
        if rows:
            titles = {metric: title.format(what=WHAT[name]) for metric, title in TITLES.items()}
            told = of_metrics(
                {**measured, "rows": rows}, titles, "peak of a step, MB", PEERS[name], "network"
            )
            found.append(f"Of profile `{name}`:\n\n{told}")
    return "\n\n".join(found)


PAGE = Page(project_root() / "apps" / "recsys" / "README.md", "bench:recsys", RESULTS, tables)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
