"""From scans to crops and tiles: what is drawn, and what is left as it is."""

from collections import Counter

import numpy as np
import pytest
import torch

from apps.common.errors import UserError
from apps.pointcloud import sheet
from apps.pointcloud.around import around
from apps.pointcloud.cloud import cloud_of
from apps.pointcloud.crops import apportioned, augmented, batch
from apps.pointcloud.data import Data, Tiles
from apps.pointcloud.features import GIVEN, NAMES, Scan, features, scan_of
from apps.pointcloud.levels import Level
from apps.pointcloud.model import Points
from apps.pointcloud.tiles import chances, tiles

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "SIMULATED", {"train": 1, "validation": 1, "test": 1})


def scan(number: int = 3000, domain: int = 0) -> Scan:
    xyz = RANDOM.uniform(0, 20, (number, 3)) * [1, 0.5, 0.1]
    told = {"label": RANDOM.integers(-1, 3, number), "intensity": RANDOM.random(number).astype(np.float32)}
    return scan_of(cloud_of(xyz, "a scan", told), "some", domain)


def test_what_a_sensor_does_not_say_is_zero_and_said_to_be() -> None:
    xyz = RANDOM.random((50, 3))
    light = RANDOM.random(50).astype(np.float32)
    colour, echo = (
        RANDOM.integers(0, 256, (50, 3)).astype(np.uint8),
        np.tile([[2, 3]], (50, 1)).astype(np.uint8),
    )
    nothing = features(cloud_of(xyz, "a"), 0.1)
    assert (nothing[:, 10:] == 0).all()
    all_of_it = features(cloud_of(xyz, "a", {"intensity": light, "colour": colour, "echo": echo}), 0.1)
    assert np.array_equal(all_of_it[:, :10], nothing[:, :10])
    assert np.array_equal(all_of_it[:, 10], light)
    assert np.allclose(all_of_it[:, 12:15], colour / 255 - 0.5)
    assert np.allclose(all_of_it[:, 16:18], [2 / 3, np.log2(3)])
    assert (all_of_it[:, [11, 15, 18]] == 1).all()
    assert len(NAMES) == all_of_it.shape[1]


def test_a_scan_on_its_grid_knows_every_point() -> None:
    found = scan()
    assert len(found.truth) == 3000 > len(found)
    assert len(np.unique(found.cell, axis=0)) == len(found)
    assert np.array_equal(np.unique(found.of_point), np.arange(len(found)))


def test_a_crop_is_turned_scaled_and_told_less_of_but_keeps_its_shape() -> None:
    one, rows = scan(), np.arange(200)
    places = {tuple(row): number for number, row in enumerate(one.features[rows, :8].tolist())}
    for seed in range(10):
        crop = augmented(one, rows, np.random.default_rng(seed))
        kept = [places[tuple(row)] for row in crop.features[:, :8].tolist()]
        assert len(set(kept)) == len(kept) > 150
        assert np.array_equal(crop.label, one.label[kept])
        assert (crop.cell >= 0).all()
        own = np.linalg.norm(one.xyz[kept, None] - one.xyz[None, kept], axis=2)
        cells = np.linalg.norm(crop.cell[:, None] - crop.cell[None], axis=2) * one.side
        far = own > 8
        assert 0.85 < np.median(cells[far] / own[far]) < 1.15
    hidden = [
        (augmented(one, rows, np.random.default_rng(s)).features[:, GIVEN["intensity"]] == 0).all()
        for s in range(200)
    ]
    assert np.mean(hidden) == pytest.approx(0.2, abs=0.08)


def test_a_crop_has_one_point_of_each_cell() -> None:
    whole = scan(9000)
    random = np.random.default_rng(0)
    for _ in range(5):
        crop = augmented(whole, np.arange(len(whole)), random)
        assert len(crop.cell) == len(np.unique(crop.cell, axis=0)) < len(whole)


def test_gradients_of_a_crop_are_those_of_the_sum_written_out() -> None:
    crop = augmented(scan(2000), np.arange(900), np.random.default_rng(1))
    cell, cloud = torch.from_numpy(crop.cell), torch.zeros(len(crop.cell), dtype=torch.long)
    beside = Level(cell, cloud, 64).beside()
    x = torch.randn(len(cell), 4, dtype=torch.double, requires_grad=True)
    weight = torch.randn(27, 4, dtype=torch.double)
    slope = torch.randn(len(cell), 4, dtype=torch.double)
    padded = torch.cat([x, x.new_zeros(1, 4)])
    (wanted,) = torch.autograd.grad((padded[beside] * weight[:, None]).sum(0), x, slope)
    (found,) = torch.autograd.grad(around(x, weight, beside), x, slope)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("shares", [[1, 1, 1], [4, 2, 1], [1, 0, 3]])
def test_domains_have_their_shares_of_an_epoch(shares: list[int]) -> None:
    found = Counter(apportioned(np.array(shares, float), 96).tolist())
    for domain, share in enumerate(shares):
        assert abs(found[domain] - 96 * share / sum(shares)) <= 1


def test_batches_mix_domains_or_do_not() -> None:
    mixed, alone = (
        Data(crops=24, points=64, batch_size=6),
        Data(crops=24, points=64, batch_size=6, mixed=False),
    )
    found = []
    for data in (mixed, alone):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(0)
        batches = list(loader)
        assert len(batches) == 4
        assert sum(len(b.points.domain) for b in batches) == 24
        assert Counter(int(d) for b in batches for d in b.points.domain)[0] in (6, 8, 12)
        found.append([len(set(b.points.domain.tolist())) for b in batches])
    assert max(found[0]) > 1
    assert set(found[1]) == {1}


def test_an_epoch_is_the_same_again_and_the_next_one_another() -> None:
    data = Data(crops=6, points=64)

    def epoch(number: int) -> torch.Tensor:
        loader = data.train_dataloader()
        loader.sampler.set_epoch(number)
        return torch.cat([b.points.features for b in loader])

    assert torch.equal(epoch(0), epoch(0))
    assert not torch.equal(epoch(0), epoch(1))


def test_crops_are_cells_around_a_place_of_a_training_scan() -> None:
    data = Data(crops=6, points=128)
    for b in data.train_dataloader():
        sizes = torch.bincount(b.points.cloud)
        assert (sizes <= 128).all()
        assert (sizes > 64).all()
        for number, domain in enumerate(b.points.domain.tolist()):
            label = b.label[b.points.cloud == number]
            assert b.points.classes[number][label].all()
            assert torch.equal(b.points.classes[number], torch.from_numpy(data.classes[domain]))


@pytest.mark.parametrize("size", [50, 400, 5000])
def test_tiles_hold_every_point_once(size: int) -> None:
    xyz = scan().xyz
    found = list(tiles(xyz, size))
    assert max(len(rows) for rows in found) <= size
    assert np.array_equal(np.sort(np.concatenate(found)), np.arange(len(xyz)))


def test_chances_are_the_mean_of_the_tiles_that_see_a_cell() -> None:
    one, classes = scan(), np.array([[True, True, False]])
    seen = np.zeros(len(one))
    places = {tuple(row): number for number, row in enumerate(one.features.round(6).tolist())}

    def ask(points: object) -> torch.Tensor:
        rows = [places[tuple(row)] for row in points.features.numpy().round(6).tolist()]  # type: ignore[attr-defined]
        seen[rows] += 1
        scores = torch.zeros(len(rows), 3)
        scores[:, 0] = torch.from_numpy(seen[rows]).float()  # another word each time that a cell is seen
        return scores.masked_fill(~points.classes[0], -torch.inf)  # type: ignore[attr-defined]

    found = chances(ask, one, classes, 300)
    assert seen.min() >= 1
    assert seen.max() > 1
    for number in np.flatnonzero(seen == seen.max())[:20]:
        said = [torch.tensor([float(k), 0.0]).softmax(0)[0] for k in range(1, int(seen[number]) + 1)]
        assert found[number, 0] == pytest.approx(float(np.mean(said)), abs=1e-5)
    assert (found[:, 2] == 0).all()
    assert np.allclose(found.sum(1), 1, atol=1e-5)


def test_one_tile_says_what_the_network_says() -> None:
    one, classes = scan(300), np.ones((1, 3), dtype=bool)
    found = chances(lambda points: points.features[:, :3], one, classes, 5000)
    assert np.allclose(found, torch.from_numpy(one.features[:, :3]).softmax(1).numpy(), atol=1e-6)


def test_whoever_is_asked_about_a_scan_hears_its_domain() -> None:
    heard = []

    def ask(points: Points) -> torch.Tensor:
        heard.append(int(points.domain))
        return torch.zeros(len(points.cell), 3).masked_fill(~points.classes[0], -torch.inf)

    for domain in range(3):
        found = chances(ask, scan(500, domain), np.eye(3, dtype=bool), 200)
        assert (found.argmax(1) == domain).all()
    assert heard == sorted(heard)
    assert set(heard) == {0, 1, 2}


def test_a_point_far_off_leaves_the_others_as_they_are() -> None:
    xyz = RANDOM.uniform(0, 20, (2000, 3)) * [1, 0.5, 0.1] + [654_321, 6_861_234, 35]
    alone, beside = (cloud_of(points, "a scan") for points in (xyz, np.concatenate([xyz, np.zeros((1, 3))])))
    assert np.abs(beside.where()[:-1] - xyz).max() < 1e-4
    one, other = scan_of(alone, side=0.3), scan_of(beside, side=0.3)
    assert np.allclose(one.features[one.of_point], other.features[other.of_point[:-1]], atol=1e-3)
    sizes = []

    def ask(points: Points) -> torch.Tensor:
        sizes.append(len(points.cell))
        assert (points.cell >= 0).all()
        assert (points.cell < 2**16).all()
        return torch.zeros(len(points.cell), 3)

    chances(ask, other, np.ones((1, 3), dtype=bool), 100)
    assert max(sizes) <= 800


def test_tiles_to_look_at_are_of_every_domain() -> None:
    scans = [scan(domain=0), scan(domain=1), scan(domain=1)]
    batches = Tiles(scans, np.ones((2, 3), dtype=bool), 200).some(4)
    assert torch.bincount(batches.points.domain).tolist() == [4, 4]


def test_clouds_of_a_batch_stand_one_after_the_other() -> None:
    one, other = scan(300), scan(200, domain=1)
    crops = [augmented(s, np.arange(len(s)), np.random.default_rng(0)) for s in (one, other)]
    both = batch(crops, np.eye(2, 3, dtype=bool))
    assert torch.bincount(both.points.cloud).tolist() == [len(crop.cell) for crop in crops]
    assert both.points.classes.tolist() == [[True, False, False], [False, True, False]]
    assert both.label.tolist() == [*crops[0].label, *crops[1].label]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"points": 0}, "must be positive"),
        ({"side": -1.0}, "must be positive"),
        ({"domains": ["rooms", "moons"]}, "there is no domain 'moons': name some of rooms, streets, towns"),
        ({"shares": {"moons": 1}}, "data.shares: moons"),
        ({"shares": {"rooms": float("nan")}}, "data.shares: rooms: nan is no share"),
        ({"shares": {"rooms": 0, "streets": 0, "towns": 0}}, "every domain has a share of 0"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(options: dict[str, object], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        Data(**options)  # type: ignore[arg-type]
