"""Where the centroids of Moirai-MoE come from."""

from pathlib import Path

import pytest
import torch
from collegium import gates, record, routers

from apps.common.controls import Control, DenseFFN, MixtureFFN
from apps.common.errors import UserError
from apps.timeseries.networks import MoiraiMoE
from apps.timeseries.networks.dense_twin import centres, dense_twin, inputs
from apps.timeseries.windows import Windows
from tests.apps.timeseries.networks.moirai import direct, nearest, out, sampled, series, small, windows


def test_tokens_go_to_the_nearest_centroids():
    net, (values, observed) = small(), windows()
    seen: list[torch.Tensor] = []
    layer = net.layers[0].feed_forward
    layer.router.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with record(net) as routings:
        out(net, values, observed)
    distance = torch.cdist(seen[0], layer.router.gate.centroids)
    (routing,) = routings["blocks.0.feed_forward"]
    chosen = routing.selected()
    expected = torch.zeros_like(chosen).scatter(1, distance.topk(2, largest=False).indices, True)
    assert torch.equal(chosen, expected)


def test_planted_clusters_are_found():
    generator = torch.Generator().manual_seed(0)
    planted = 10 * torch.randn(5, 8, generator=generator)
    tokens = planted.repeat(60, 1) + 0.1 * torch.randn(300, 8, generator=generator)
    found = centres(tokens, 5, seed=0)
    assert torch.cdist(planted, found).min(1).values.max() < 0.1
    assert sorted(torch.cdist(planted, found).argmin(1).tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="3 tokens cannot have 5 centroids"):
        centres(tokens[:3], 5, seed=0)


def test_centroids_are_clusters_of_what_enters_the_blocks_of_the_dense_twin(monkeypatch):
    """The twin's tokens are moved to two places a layer: there the centroids must be."""
    net, data = small(feed_forward=lambda dim: nearest_of(dim, 2), twin_steps=3), series()
    places = [torch.full((16,), 3.0), torch.full((16,), -8.0)]

    def planted(twin: MoiraiMoE, windows: Windows) -> list[torch.Tensor]:
        assert all(isinstance(block.feed_forward, DenseFFN) for block in twin.layers)
        return [
            torch.cat([x * 0 + place, x * 0 - place])
            for x, place in zip(inputs(twin, windows), places, strict=True)
        ]

    monkeypatch.setattr("apps.timeseries.networks.dense_twin.inputs", planted)
    net.prepare(data, data)
    for block, place in zip(net.layers, places, strict=True):
        found = block.feed_forward.router.gate.centroids
        expected = torch.stack([place.abs(), -place.abs()])
        torch.testing.assert_close(found[found[:, 0].argsort(descending=True)], expected)


def nearest_of(dim: int, number: int) -> MixtureFFN:
    def router(dim: int, num_experts: int) -> routers.Router:
        return routers.TopK(dim, num_experts, k=1, gate=gates.Centroid)

    return MixtureFFN(dim, number, router=router)


def centroids(net: MoiraiMoE) -> list[torch.Tensor]:
    return [block.feed_forward.router.gate.centroids.clone() for block in net.layers]


def test_preparing_is_a_function_of_the_seed_and_touches_the_centroids_alone():
    data = series()
    found = {}
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        net = small(twin_steps=5, seed=seed, dropout=0.2)
        before = {key: value.clone() for key, value in net.state_dict().items()}
        torch.manual_seed(len(name))
        state = torch.get_rng_state()
        net.prepare(data, data)
        assert torch.equal(state, torch.get_rng_state())
        changed = [key for key, value in net.state_dict().items() if not torch.equal(value, before[key])]
        assert changed == [f"blocks.{i}.feed_forward.router.gate.centroids" for i in (0, 1)]
        found[name] = torch.stack(centroids(net))
    assert torch.equal(found["one"], found["again"])
    assert not torch.equal(found["one"], found["other"])


def nearest_pair(dim: int) -> MixtureFFN:
    return nearest_of(dim, 2)


@pytest.mark.parametrize("block", [nearest_pair, Control("dense_active", nearest_pair)])
def test_a_warm_start_takes_all_of_the_twin_but_its_blocks(tmp_path: Path, block):
    twin = small(feed_forward=lambda dim: DenseFFN(dim, hidden=24))
    for parameter in twin.parameters():
        parameter.data.add_(0.05)
    given = checkpoint(twin, tmp_path / "dense.ckpt")
    net, data = small(feed_forward=block, dense_twin=given, warm_start=True), series()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    net.prepare(data, data)
    for name, value in net.state_dict().items():
        if ".feed_forward." not in name:
            assert torch.equal(value, twin.state_dict()[name])
        else:
            assert torch.equal(value, before[name]) == (not name.endswith("centroids"))


def test_centroids_that_are_not_to_be_placed_stay_as_drawn_also_with_a_warm_start():
    net, data = small(placed=False, warm_start=True, twin_steps=2), series()
    before, embed = [c.clone() for c in centroids(net)], net.embed.out.weight.clone()
    net.prepare(data, data)
    assert all(torch.equal(a, b) for a, b in zip(before, centroids(net), strict=True))
    assert not torch.equal(net.embed.out.weight, embed)


def test_each_centroid_is_about_the_mean_of_the_twins_tokens_near_it(monkeypatch):
    seen: list[torch.Tensor] = []

    def watched(twin: MoiraiMoE, windows: Windows) -> list[torch.Tensor]:
        seen.extend(inputs(twin, windows))
        return seen

    monkeypatch.setattr("apps.timeseries.networks.dense_twin.inputs", watched)
    net, data = small(twin_steps=5), series()
    net.prepare(data, data)
    for tokens, own in zip(seen, centroids(net), strict=True):
        torch.testing.assert_close(tokens.square().mean(), torch.tensor(1.0), atol=0.1, rtol=0)
        nearest_one = torch.cdist(tokens, own).argmin(1)
        means = torch.stack([tokens[nearest_one == e].mean(0) for e in range(4)])
        spread = (tokens - tokens.mean(0)).norm(dim=1).mean()
        assert (means - own).norm(dim=1).max() < 0.2 * spread


def test_without_a_centroid_gate_no_twin_is_trained(capsys):
    for feed_forward in (DenseFFN, Control("random_router"), Control("dense_total", nearest)):
        small(feed_forward=feed_forward).prepare(series(), series())
    assert capsys.readouterr().out == ""


def checkpoint(net: MoiraiMoE, path: Path) -> Path:
    state = {f"network.{name}": value for name, value in net.state_dict().items()}
    torch.save({"state_dict": state, "collegium": {"app": "timeseries"}}, path)
    return path


def test_the_dense_twin_may_be_a_checkpoint(tmp_path: Path, capsys):
    twin = small(feed_forward=lambda dim: DenseFFN(dim, hidden=24))
    for parameter in twin.parameters():
        parameter.data.add_(0.05)
    file, data = checkpoint(twin, tmp_path / "dense.ckpt"), series()
    net = small(dense_twin=file)
    net.prepare(data, data)
    assert capsys.readouterr().out == ""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dense_twin(net, hidden=24)  # draws as many numbers as preparing did
        expected = [centres(tokens, 4, 0) for tokens in inputs(twin, data)]
    for found, centre in zip(centroids(net), expected, strict=True):
        torch.testing.assert_close(found, centre)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path):
    file, data = checkpoint(small(head=direct), tmp_path / "other.ckpt"), series()
    with pytest.raises(UserError, match=r"other\.ckpt is no dense twin of this network"):
        small(dense_twin=file).prepare(data, data)
    with pytest.raises(UserError, match="does not exist"):
        small(dense_twin=tmp_path / "none.ckpt").prepare(data, data)


def test_a_state_brings_its_centroids_along():
    data, (values, observed) = series(), windows()
    net = small(twin_steps=2)
    net.prepare(data, data)
    torch.manual_seed(9)
    other = MoiraiMoE(dim=16, depth=2, heads=2, patch=4, feed_forward=nearest, head=sampled).eval()
    other.load_state_dict(net.state_dict())
    assert torch.equal(net.forecast(values, observed, 12), other.forecast(values, observed, 12))
