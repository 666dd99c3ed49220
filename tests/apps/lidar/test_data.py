"""The data module refuses what cannot be simulated or read."""

import pytest
import torch

from apps.common.errors import UserError
from apps.lidar.data import Data
from apps.lidar.networks import Convolutional, Recurrent
from apps.lidar.scenes import Ranges
from apps.lidar.task import Task
from apps.lidar.transport import WhiteMonteCarlo


def test_monte_carlo_light_is_refused_below_its_tables() -> None:
    deep = Ranges(depth=(1.0, 14.0))
    with pytest.raises(UserError, match=r"up to 21 transport lengths deep .* known up to 15\.75"):
        Data("monte_carlo", ranges=deep)
    assert Data("diffusion", ranges=deep).rig.reach("diffusion") == float("inf")
    white = Data("monte_carlo").rig.transport("monte_carlo")
    assert isinstance(white, WhiteMonteCarlo)
    far = torch.tensor([15.0], dtype=torch.float64)
    with pytest.raises(ValueError, match="where the tables end"):
        white(far, far / 10, far / 1000, white.clock.omega)


def test_the_surface_is_that_of_both_kinds_of_light() -> None:
    """Light stays longer where tissue reflects it from inside."""
    for light in ("diffusion", "monte_carlo"):
        late = {}
        for surface in ("matched", "mismatched"):
            data = Data(light, scenes=1, held_out=64, surface=surface)
            shape = data.part("validation").light
            late[surface] = (shape @ data.clock.centres.float()) / shape.sum(1)
        assert (late["mismatched"] > late["matched"]).double().mean() > 0.9


@pytest.mark.parametrize("make", [Convolutional, Recurrent])
def test_networks_of_other_bins_are_refused(make: type[torch.nn.Module]) -> None:
    class Trained:
        datamodule = Data(bins=128)

    task = Task(make(bins=256), balance={})
    task._trainer = Trained()  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"reads 256 bins and data\.bins is 128"):
        task.setup("fit")
    with pytest.raises(ValueError, match="bins"):
        make(bins=100)
