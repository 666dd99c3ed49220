"""A log whose tasks are related as far as one likes: the generator of the MMoE paper, with users and items.

Source: Ma et al. 2018, "Modeling Task Relationships in Multi-task Learning with Multi-gate
Mixture-of-Experts", section 3.2: weights of two tasks at an angle of cosine `correlation`, and labels that
hang on the weighted sum of a row linearly and through sines. There labels are numbers; here they are whether
such a number is among the highest, a row has a user, an item and a time, users are shown items of one kind
after another, and tasks come in groups.
"""

import numpy as np
import pandas as pd

SINES = 4
KINDS, STAY = 10, 0.8
"""Kinds of items, and the chance that a user is shown one of the same kind as before."""
SHARE = {"watch": 0.4, "interact": 0.1}
"""Groups of tasks, and how many rows have label 1 in each."""


def simulate(
    rows: int = 20_000,
    correlation: float = 0.5,
    tasks: int = 2,
    users: int = 400,
    items: int = 300,
    dim: int = 8,
    seed: int = 0,
) -> pd.DataFrame:
    """Impressions: user_id, item_id, time, x0, x1, ..., the label of every task, and a tag of each item.

    Args:
        rows: N.
        correlation: cosine of the angle between the weights of two groups; tasks of one group are at half
            that angle.
        tasks: in each of the two groups, watch and interact.
        users, items: how many there are. Half of a row's numbers tell how its user and its item fit, half are
            the item's.
        dim: D, numbers of a user, and of an item.
        seed: another seed is another log.
    """
    random = np.random.default_rng(seed)
    of_user, of_item = random.normal(size=(users, dim)), random.normal(size=(items, dim))
    activity, fame = 1 / np.arange(1, users + 1) ** 0.5, 1 / np.arange(1, items + 1) ** 0.7
    user = random.choice(users, rows, p=activity / activity.sum())
    item = _shown(user, fame / fame.sum(), random)
    x = np.concatenate([of_user[user] * np.roll(of_item[item], 1, axis=1), of_item[item]], 1)
    x = (x + 0.3 * random.normal(size=x.shape)) / np.sqrt(2 * dim)
    table = pd.DataFrame({"user_id": user, "item_id": item, "time": np.arange(rows)})
    table["tag"] = [
        f"t{side} t{2 + kind}" for side, kind in zip((of_item[item, 0] > 0) * 1, item % 4, strict=True)
    ]
    for place in range(x.shape[1]):
        table[f"x{place}"] = x[:, place].round(4)
    for name, label in _labels(x, correlation, tasks, random).items():
        table[name] = label
    return table


def _shown(user: np.ndarray, fame: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(N,) items: of the kind that the user was shown last, with a chance of `STAY`, or of any; by fame."""
    kind = np.arange(len(fame)) % KINDS
    within = np.stack([np.where(kind == one, fame, 0) for one in range(KINDS)])
    within = (within / within.sum(1, keepdims=True)).cumsum(1)
    last = random.integers(0, KINDS, int(user.max(initial=0)) + 1)
    stays, draws = random.random(len(user)) < STAY, random.random(len(user))
    anew = np.searchsorted(fame.cumsum(), draws * fame.sum() * (1 - 1e-12), side="right")
    found = np.empty(len(user), dtype=np.int64)
    for row, who in enumerate(user.tolist()):
        table = within[last[who]]
        found[row] = (
            np.searchsorted(table, draws[row] * table[-1] * (1 - 1e-12), side="right")
            if stays[row]
            else anew[row]
        )
        last[who] = kind[found[row]]
    return found


def _labels(
    x: np.ndarray, correlation: float, tasks: int, random: np.random.Generator
) -> dict[str, np.ndarray]:
    """Group_number -> (N,) of 0 and 1."""
    first, second = np.linalg.qr(random.normal(size=(x.shape[1], 2)))[0].T
    angle = np.arccos(correlation)
    rates, phases = random.normal(scale=3, size=SINES), random.uniform(0, 2 * np.pi, SINES)
    found = {}
    for group, (name, share) in enumerate(SHARE.items()):
        for task in range(tasks):
            turn = angle * (group + task / (2 * max(tasks - 1, 1)))
            sums = 3 * x @ (np.cos(turn) * first + np.sin(turn) * second)
            score = sums + np.sin(np.outer(sums, rates) + phases).sum(1)
            score += 0.5 * random.logistic(size=len(x))
            found[f"{name}_{task}"] = (score > np.quantile(score, 1 - share / (1 + task))).astype(int)
    return found
