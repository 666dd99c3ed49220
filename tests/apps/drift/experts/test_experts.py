"""What every expert on a stream keeps to, and each against a plain loop."""

from functools import partial

import numpy as np
import pytest
import torch
from collegium.experts import OnlineExperts, teach
from collegium.routing import Routing
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from apps.drift.experts import Bayes, Neighbours, Perceptrons, Recent, Trees

D, C = 4, 3
BLOCKS = {
    "neighbours": partial(Neighbours, memories=(30, 7), k=3),
    "bayes": partial(Bayes, memories=(20, 0)),
    "recent": partial(Recent, memories=(1, 10)),
    "trees": partial(Trees, num_trees=2),
    "diverse trees": partial(Trees, num_trees=2, subspace=0.5, rate=6.0, detect=True, grace_period=10),
}


def rows(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Labels that hang on the features, and change their rule half-way."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, D, generator=generator)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    y[count // 2 :] = 2 - y[count // 2 :]
    return x, y


def made(name: str) -> OnlineExperts:
    """A block that knows the scale of the rows; else it would be that of the first ones to come."""
    torch.manual_seed(0)
    block = BLOCKS[name](D, C)
    if isinstance(block, Neighbours):
        block.scale.update(rows(60)[0])
    return block


def taught(block: OnlineExperts, x: Tensor, y: Tensor, size: int) -> Tensor:
    """Answers (T, E, C) when rows come `size` at a time."""
    said = []
    for first in range(0, len(x), size):
        part = slice(first, first + size)
        routing = Routing.dense(torch.ones(len(x[part]), block.num_experts))
        said.append(routing.stack(teach(block, x[part], y[part], routing)))
    return torch.cat(said)


@pytest.mark.parametrize("name", list(BLOCKS))
def test_answers_hang_on_earlier_rows_alone_and_not_on_how_many_come_at_once(name: str) -> None:
    x, y = rows(60)
    together, alone = (taught(made(name), x, y, size) for size in (17, 1))
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    other = y.clone()
    other[40:] = (other[40:] + 1) % C
    torch.testing.assert_close(taught(made(name), x, other, 17)[:41], together[:41])
    assert not torch.allclose(taught(made(name), x, other, 17)[41:], together[41:])


@pytest.mark.parametrize("name", list(BLOCKS))
def test_answers_are_probabilities(name: str) -> None:
    x, y = rows(40)
    block = BLOCKS[name](D, C)
    before = block(x[:4], 2)
    torch.testing.assert_close(before.sum(1), torch.ones(4))
    said = taught(block, x, y, 16)
    torch.testing.assert_close(said.sum(2), torch.ones(40, block.num_experts))
    assert said.min() >= 0


@pytest.mark.parametrize("name", ["neighbours", "bayes", "trees", "diverse trees"])
def test_a_row_of_no_weight_is_answered_and_teaches_nothing(name: str) -> None:
    x, y = rows(40)
    plain, other = made(name), made(name)
    taught(plain, x[:30], y[:30], 30)
    taught(other, x[:30], y[:30], 30)
    routing = Routing.dense(torch.zeros(10, other.num_experts))
    said = routing.stack(teach(other, x[30:], y[30:], routing))
    assert said.shape == (10, other.num_experts, C)
    torch.testing.assert_close(other(x[:6], 3), plain(x[:6], 3), rtol=0.05, atol=0.02)


@pytest.mark.parametrize("name", list(BLOCKS))
def test_what_was_learned_survives_a_checkpoint(name: str) -> None:
    x, y = rows(60)
    block, copy = BLOCKS[name](D, C), BLOCKS[name](D, C)
    taught(block, x[:40], y[:40], 8)
    copy.load_state_dict(block.state_dict())
    torch.testing.assert_close(taught(copy, x[40:], y[40:], 8), taught(block, x[40:], y[40:], 8))


def test_neighbours_vote_as_those_of_sklearn() -> None:
    x, y = rows(50)
    block = Neighbours(D, C, memories=(20,), k=3)
    block.scale.update(x)
    said = taught(block, x, y, 50)[:, 0]
    scaled = block.scale(x).double().numpy()
    for row in (10, 25, 49):
        held = slice(max(0, row - 20), row)
        model = KNeighborsClassifier(3, weights=lambda d: 1 / (d + 1e-3)).fit(scaled[held], y[held].numpy())
        wanted = np.zeros(C)
        wanted[model.classes_] = model.predict_proba(scaled[row : row + 1])[0]
        np.testing.assert_allclose(said[row].numpy(), wanted, atol=1e-4)


@pytest.mark.parametrize("memory", [0, 15])
def test_bayes_is_gaussian_naive_bayes_of_faded_rows(memory: int) -> None:
    x, y = rows(40)
    said = taught(Bayes(D, C, memories=(memory,)), x, y, 13)[:, 0]
    decay = 1 - 1 / memory if memory else 1.0
    for row in (20, 39):
        values, labels = x[:row].double().numpy(), y[:row].numpy()
        fade = decay ** np.arange(row - 1, -1, -1)
        whole = np.average((values - np.average(values, 0, fade)) ** 2, 0, fade)
        scores = np.full(C, -np.inf)
        for c in set(labels.tolist()):
            own, weight = values[labels == c], fade[labels == c]
            mean = np.average(own, 0, weight)
            variance = np.average((own - mean) ** 2, 0, weight) + 1e-3 * whole
            square = (x[row].double().numpy() - mean) ** 2 / variance
            scores[c] = np.log(weight.sum() + 1e-3) - 0.5 * (square + np.log(variance)).sum()
        wanted = np.exp(scores - scores.max())
        np.testing.assert_allclose(said[row].numpy(), wanted / wanted.sum(), atol=1e-5)


def test_recent_labels_fade() -> None:
    x, y = torch.zeros(4, D), torch.tensor([0, 1, 1, 2])
    said = taught(Recent(D, C, memories=(1, 2)), x, y, 3)
    torch.testing.assert_close(said[1:, 0], torch.eye(C)[[0, 1, 1]], atol=1e-6, rtol=0)
    torch.testing.assert_close(said[3, 1], torch.tensor([0.25, 1.5, 0.0]) / 1.75, atol=1e-6, rtol=0)


def test_a_drift_reseeds_a_tree() -> None:
    x, y = rows(3000)
    calm, watchful = Trees(D, C, num_trees=1), Trees(D, C, num_trees=1, detect=True)
    first = [block.trees[0] for block in (calm, watchful)]
    hits = [(taught(block, x, y, 100)[:, 0].argmax(1) == y).float() for block in (calm, watchful)]
    assert calm.trees[0] is first[0]
    assert watchful.trees[0] is not first[1]
    assert hits[1][1800:].mean() > hits[0][1800:].mean() + 0.05


def test_another_seed_of_torch_draws_other_trees_and_the_same_one_the_same() -> None:
    x, y = rows(300)
    said = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        said.append(taught(BLOCKS["diverse trees"](D, C), x, y, 50))
    assert torch.equal(said[0], said[1])
    assert not torch.allclose(said[0], said[2])


def test_diverse_trees_see_unlike_features_and_rows() -> None:
    trees = Trees(8, C, num_trees=6, subspace=0.5, rate=6.0)
    assert all(len(columns) == 4 for columns, _ in trees.trees)
    assert len({tuple(columns) for columns, _ in trees.trees}) > 1
    counts = [np.array(trees._counts(e, torch.ones(4000))) for e in range(2)]
    assert abs(counts[0].mean() - 6) < 0.2
    assert abs(counts[0].var() - 6) < 0.6
    assert abs(np.corrcoef(*counts)[0, 1]) < 0.05


def test_perceptrons_learn_by_gradient() -> None:
    torch.manual_seed(0)
    x, y = rows(400)
    block = Perceptrons(D, C, hidden=(16, 0))
    for expert in block.experts:
        expert.scale.update(x)
    said = block(x.repeat(2, 1), 400)
    torch.testing.assert_close(said.sum(1), torch.ones(800))
    optimizer = torch.optim.Adam(block.parameters(), 0.05)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.nll_loss(block(x[:200].repeat(2, 1), 200).log(), y[:200].repeat(2)).backward()
        optimizer.step()
    hits = (block(x[:200].repeat(2, 1), 200).argmax(1) == y[:200].repeat(2)).float()
    assert hits[:200].mean() > 0.95
    assert hits[200:].mean() > 0.7
