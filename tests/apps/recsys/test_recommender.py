"""Recommenders: what all of them promise, self-attention, and AW-MoE."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from collegium import Context, routers

from apps.recsys.aw_moe import AWMoE, Told, contrast
from apps.recsys.data import Data
from apps.recsys.onerec import OneRec
from apps.recsys.ranked import fame_of, measured, parts, ranked, ranks_of, unseen_only
from apps.recsys.recommender import Recommender, SelfAttention, known_only, next_item_loss
from apps.recsys.sequences import FIRST

NETWORKS: dict[str, Callable[[], Recommender]] = {
    "sasrec": partial(SelfAttention, dim=8, depth=1),
    "aw_moe": partial(AWMoE, dim=8, depth=1, experts=3, hidden=8, unit=4),
    "onerec": partial(OneRec, dim=8, depth=1, words=(6, 6), session=2, places=3),
}


@pytest.fixture(scope="module")
def data() -> Data:
    found = Data(rows=1200, protocol="next_item", history=6)
    found.setup()
    return found


def built(name: str, data: Data) -> Recommender:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    network.build(data.encoder.sizes, len(data.catalogue), data.history)
    assert data.contents is not None
    network.study(data.walks("train").walk, data.contents)
    return network.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_of_items_alone_and_the_same_in_any_batch(name: str, data: Data) -> None:
    network, walks = built(name, data), data.walks("validation")
    whole, one = network.scores(walks.__getitems__(range(9))), network.scores(walks.__getitems__([4]))
    assert whole.shape == (9, len(data.catalogue))
    assert (whole[:, :FIRST] == -torch.inf).all()
    torch.testing.assert_close(whole[4:5], one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_user_without_history_has_finite_scores(name: str, data: Data) -> None:
    walk = data.walks("validation").__getitems__([0])
    walk = walk._replace(items=torch.zeros_like(walk.items))
    scores = built(name, data).scores(walk)
    assert scores.isfinite().any()
    assert not scores.isnan().any()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_teaches_every_parameter(name: str, data: Data) -> None:
    network = built(name, data).train()
    if isinstance(network, AWMoE):
        torch.nn.init.normal_(network.mixture.experts.down)  # at first experts add nothing
    network.loss(data.walks("train").__getitems__(range(64))).backward()
    untouched = [
        n for n, p in network.named_parameters() if p.numel() and (p.grad is None or not p.grad.any())
    ]
    idle = ("embedder.table", "person")  # users of the generated log have no features
    assert [n for n in untouched if not n.startswith(idle)] == []


@pytest.mark.parametrize("name", ["sasrec", "aw_moe"])
def test_what_comes_later_changes_nothing_before(name: str, data: Data) -> None:
    network = built(name, data)
    history = torch.randint(FIRST, 50, (2, 6))
    other = history.clone()
    other[:, 4:] = 60
    read = network.mix if isinstance(network, AWMoE) else lambda h: (network._read(h),)
    torch.testing.assert_close(read(history)[0][:, :4], read(other)[0][:, :4])
    assert not torch.allclose(read(history)[0][:, 4:], read(other)[0][:, 4:])


def test_zeros_in_front_change_nothing(data: Data) -> None:
    network = built("sasrec", data)
    walk = data.walks("validation").__getitems__(range(30))
    short = next(i for i in range(30) if (walk.items[i] == 0).sum() >= 2)
    items = walk.items[short : short + 1]
    scores = network.scores(walk._replace(items=items))
    torch.testing.assert_close(scores, network.scores(walk._replace(items=items[:, 1:])))


def test_unseen_targets_are_left_out_of_the_loss() -> None:
    scores = torch.randn(3, 5)
    alone = next_item_loss(scores[:1], torch.tensor([3]))
    torch.testing.assert_close(next_item_loss(scores, torch.tensor([3, 0, 1])), alone)


def test_weights_that_are_told_are_taken() -> None:
    x = torch.randn(4, 7)
    routing = Told(7, 3)(x, Context())
    assert torch.equal(routing.dense_weight(), x[:, -3:])


def test_the_gate_is_the_mean_of_what_behaviours_say(data: Data) -> None:
    network = built("aw_moe", data)
    states, behaviours = torch.randn(1, 3, 8), torch.randn(1, 3, 8)
    there = torch.tensor([[False, True, True]])
    gate = network.gate(states, behaviours, there)
    wanted = []
    for j in (1, 2):
        both = network.of_both(states[0, 2] * behaviours[0, j])
        alone = network.of_state(states[0, 2]) + network.of_behaviour(behaviours[0, j])
        g = network.gate_unit(torch.relu(alone[:4]))
        a = network.activation_unit(torch.relu(alone[4:] + both))
        wanted.append(a * g)
    torch.testing.assert_close(gate[0, 2], (wanted[0] + wanted[1]) / 2)
    assert not gate[0, 0].any()


def test_the_gate_does_not_know_the_order_of_behaviours(data: Data) -> None:
    network = built("aw_moe", data)
    states, behaviours = torch.randn(1, 4, 8), torch.randn(1, 4, 8)
    there = torch.ones(1, 4, dtype=torch.bool)
    turned = behaviours[:, [2, 0, 1, 3]]
    torch.testing.assert_close(
        network.gate(states, behaviours, there)[:, 3], network.gate(states, turned, there)[:, 3]
    )


def test_as_it_is_drawn_aw_moe_is_the_self_attention_below(data: Data) -> None:
    network = built("aw_moe", data).eval()
    walk = data.walks("validation").__getitems__(range(8))
    wanted = SelfAttention.scores(network, walk)  # type: ignore[arg-type]
    torch.testing.assert_close(network.scores(walk), wanted)


@pytest.mark.parametrize("name", ["sasrec", "aw_moe"])
def test_masked_histories_are_told_from_what_is_left(name: str, data: Data) -> None:
    """The loss of masked histories is that of a walk whose masked items are no history and no target."""
    network, walk = built(name, data).eval(), data.walks("train").__getitems__(range(8))
    network.few, network.contrast = 1.0, 0.0
    torch.manual_seed(3)
    loss = network.loss(walk)
    torch.manual_seed(3)
    hidden = torch.rand(walk.items[:, 1:].shape) < 0.5
    hidden[:, -1] = False
    kept = torch.where(torch.nn.functional.pad(hidden, (0, 1)), 0, walk.items)
    network.few = 0.0
    states = network._read(kept[:, :-1])
    wanted = next_item_loss(states @ network.items.weight.T, walk.items[:, 1:].masked_fill(hidden, 0))
    torch.testing.assert_close(loss, wanted)


def test_the_contrast_of_gates_counts_by_its_weight(data: Data) -> None:
    network, walk = built("aw_moe", data), data.walks("train").__getitems__(range(40))
    assert isinstance(network, AWMoE)
    told = []
    for weight in (0.0, 0.1, 0.3):
        network.contrast = weight
        torch.manual_seed(1)  # of what is masked
        told.append(float(network.loss(walk).detach()))
    assert told[1] > told[0]
    assert told[2] - told[0] == pytest.approx(3 * (told[1] - told[0]), rel=1e-3)


def test_contrast_is_small_where_gates_are_nearest_to_their_own() -> None:
    one = torch.eye(3)
    assert contrast(one, one, 0.1) < 1e-3
    assert contrast(one, one.roll(1, 0), 0.1) > 5
    torch.testing.assert_close(
        contrast(torch.ones(4, 2), torch.ones(4, 2), 0.1), torch.log(torch.tensor(4.0))
    )


def test_other_routers_may_weigh_the_experts(data: Data) -> None:
    network = AWMoE(dim=8, depth=1, experts=4, router=routers.TopK)
    network.build(data.encoder.sizes, len(data.catalogue), data.history)
    assert network.loss(data.walks("train").__getitems__(range(8))).isfinite()
    refused = AWMoE(dim=8, depth=1, router=routers.ExpertChoice)
    with pytest.raises(ValueError, match="ExpertChoice"):
        refused.build(data.encoder.sizes, len(data.catalogue), data.history)


def test_ranks_are_among_what_was_not_seen_and_ties_count_half() -> None:
    from apps.recsys.sequences import Walk
    from tests.apps.recsys.test_sequences import NOTHING

    scores = torch.tensor(
        [[-torch.inf, -torch.inf, 0.9, 0.5, 0.5, 0.1], [-torch.inf, -torch.inf, 1, 2, -torch.inf, 0]]
    )
    items, seen = torch.tensor([[2, 3], [3, 4]]), torch.tensor([[2, 0], [3, 2]])
    walk = Walk(NOTHING, items, items.float(), seen)
    left = unseen_only(scores, walk)
    assert left[0].tolist() == [-torch.inf, -torch.inf, -torch.inf, 0.5, 0.5, pytest.approx(0.1)]
    assert ranks_of(left, walk.target).tolist() == [1.5, float("inf")]
    assert known_only(torch.zeros(1, 4)).tolist() == [[-torch.inf, -torch.inf, 0, 0]]


@pytest.mark.parametrize("length", [1, 3, 5, 50])
def test_every_item_of_training_is_counted_once_whatever_the_windows(length: int) -> None:
    data = Data(rows=1500, protocol="next_item", history=length)
    data.setup()
    frame = data.source.read().frame.drop_duplicates(["user_id", "item_id"])
    own = frame.groupby("user_id")
    size = own["item_id"].transform("size")
    train = frame[((own.cumcount(ascending=False) >= 2) & (size >= 4)) | (size == 2)]
    fame = fame_of(data.walks("train"), len(data.catalogue))
    # one item alone is no window: nothing is told from it
    for item, count in train["item_id"].value_counts().items():
        assert fame[data.catalogue.encode(pd.Series([item]))[0]] == count
    assert fame.sum() == len(train)


def test_scores_that_are_no_numbers_rank_nothing() -> None:
    scores = torch.tensor([[0.0, torch.nan, 1.0], [0.0, 1.0, 2.0]])
    assert ranks_of(scores, torch.tensor([2, 2])).tolist() == [torch.inf, 1.0]


def test_measures_are_of_users_and_of_parts_of_them(data: Data) -> None:
    walks = data.walks("validation")
    fame = fame_of(data.walks("train"), len(data.catalogue))
    found = ranked(
        lambda walk: known_only(torch.from_numpy(fame).double().expand(len(walk.items), -1)), walks, fame
    )
    rows = {name: measured(name, some) for name, some in parts(found)}
    assert rows["all"]["users"] == len(walks)
    assert rows["all"]["hr_10"] == pytest.approx(np.mean(found.rank <= 10))
    assert rows["item, many rows"]["hr_10"] > rows["item, few rows"]["hr_10"]
    assert 0 < rows["all"]["coverage_10"] < 0.5
    liked = walks.walk.liked[:, -1].numpy() == 1
    assert rows["all"]["hr_10_liked"] == pytest.approx(np.mean(found.rank[liked] <= 10))
    assert rows["all"]["hr_10_not"] == pytest.approx(np.mean(found.rank[~liked] <= 10))
    perfect = ranked(lambda walk: torch.nn.functional.one_hot(walk.target, len(fame)).double(), walks, fame)
    known = walks.walk.target >= FIRST
    assert (perfect.rank[known.numpy()] == 1).all()
