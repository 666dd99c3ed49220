"""The ranker and its embeddings."""

from functools import partial

import pytest
import torch
from collegium import routers

from apps.recsys.bodies import HoME, SharedBottom
from apps.recsys.data import Data
from apps.recsys.impressions import Batch
from apps.recsys.model import Embedder, Ranker, Separate, mean_of
from apps.recsys.task import cross_entropy


@pytest.fixture(scope="module")
def data() -> Data:
    found = Data(rows=500, history=3)  # of the first label
    found.setup()
    return found


def built(network: Ranker, data: Data, **options: object) -> Ranker:
    torch.manual_seed(0)
    network.build(data.encoder.sizes, len(data.catalogue), list(data.schema.groups.values()), **options)  # type: ignore[arg-type]
    return network


def some(data: Data, rows: int = 40) -> Batch:
    return data.part("train").__getitems__(range(rows))


def test_a_row_is_scored_alike_in_any_batch(data: Data) -> None:
    network = built(Ranker(HoME, dim=4), data).eval()
    whole, few = network(some(data)), network(data.part("train").__getitems__([3, 4]))
    torch.testing.assert_close(whole[3:5], few, rtol=1e-4, atol=1e-5)


def test_features_are_embeddings_means_of_tags_and_history_and_numbers(data: Data) -> None:
    embedder = Embedder(data.encoder.sizes, len(data.catalogue), 4)
    batch = some(data, 300)
    x = embedder(batch.rows, batch.history)
    assert x.shape == (300, embedder.width)
    row = next(r for r in range(300) if (batch.history[r] > 0).sum() == 2)
    C = len(data.encoder.sizes.ids)
    past = embedder.items.weight[batch.history[row][batch.history[row] > 0]].mean(0)
    torch.testing.assert_close(x[row, (C + 1) * 4 : (C + 2) * 4], past)
    tags = batch.rows.tags[row, 0]
    tags = tags[tags > 0] + sum(data.encoder.sizes.ids)
    torch.testing.assert_close(x[row, C * 4 : (C + 1) * 4], embedder.table.weight[tags].mean(0))
    assert torch.equal(x[row, (C + 2) * 4 :], batch.rows.values[row])


def test_no_two_columns_share_an_id(data: Data) -> None:
    embedder = Embedder(data.encoder.sizes, 3, 2)
    with torch.no_grad():
        embedder.table.weight[:, 0] = torch.arange(len(embedder.table.weight))
    batch = data.part("train").batch
    ids = embedder.table(batch.rows.ids + embedder.starts)[..., 0]
    sets = [set(column.tolist()) for column in ids.T]
    assert sum(map(len, sets)) == len(set.union(*sets))


def test_means_are_over_what_is_there() -> None:
    vectors = torch.tensor([[[1.0], [3.0], [9.0]], [[5.0], [5.0], [5.0]]])
    there = torch.tensor([[True, True, False], [False, False, False]])
    assert mean_of(vectors, there).tolist() == [[2.0], [0.0]]


def test_scores_begin_at_the_share_of_positives(data: Data) -> None:
    network = built(Ranker(HoME, dim=4), data, prior=[0.4, 0.2, 0.1, 0.001]).eval()
    with torch.no_grad():
        network.towers.down.zero_()
    torch.testing.assert_close(network(some(data)).sigmoid()[0], torch.tensor([0.4, 0.2, 0.1, 0.001]))


def test_separate_rankers_share_nothing(data: Data) -> None:
    network = built(Separate(SharedBottom, dim=4), data)
    network(some(data))[:, 1].sum().backward()
    touched = [any(p.grad is not None and p.grad.any() for p in r.parameters()) for r in network.rankers]
    assert touched == [False, True, False, False]


def test_a_router_that_looks_at_other_rows_is_refused(data: Data) -> None:
    with pytest.raises(ValueError, match="ExpertChoice"):
        built(Ranker(partial(HoME, router=routers.ExpertChoice)), data)


def test_the_loss_is_of_known_labels_alone() -> None:
    scores = torch.tensor([[0.0, 2.0], [1.0, -1.0]], requires_grad=True)
    labels = torch.tensor([[1.0, torch.nan], [0.0, torch.nan]])
    loss = cross_entropy(scores, labels)
    wanted = (torch.log(torch.tensor(2.0)) + torch.nn.functional.softplus(torch.tensor(1.0))) / 2
    torch.testing.assert_close(loss, torch.stack([wanted, torch.tensor(0.0)]))
    loss.sum().backward()
    assert scores.grad is not None
    assert scores.grad[:, 1].tolist() == [0.0, 0.0]
