"""NormAct: the experts of HoME."""

import pytest
import torch
from collegium import MoE
from collegium.experts import MLP, NormAct
from collegium.routers import AllExperts, TopK
from torch import Tensor, nn

D, E, OUT = 4, 3, 5


def block(**options: object) -> NormAct:
    torch.manual_seed(0)
    made = NormAct(MLP(D, E, hidden=6, out_dim=OUT), OUT, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in (made.scale, made.shift):
            if parameter is not None:
                parameter.normal_()
    return made.double()


@pytest.mark.parametrize("counts", [torch.tensor([4, 7, 3]), 5])
def test_training_is_batch_norm_of_each_expert_alone(counts: Tensor | int) -> None:
    """Values, gradients and running statistics are those of torch's batch norm on each expert's rows."""
    made = block()
    rows = counts.tolist() if isinstance(counts, Tensor) else [counts] * E
    x = torch.randn(sum(rows), D).double().requires_grad_()
    plain, norms = [], []
    for e, part in enumerate(made.block(x, counts).split(rows)):
        norm = nn.BatchNorm1d(OUT).double()
        norm.weight.data, norm.bias.data = made.scale[e].detach(), made.shift[e].detach()
        norms.append(norm)
        plain.append(norm(part) * torch.sigmoid(norm(part)) if e else nn.functional.silu(norm(part)))
    weight = torch.randn(sum(rows), OUT).double()
    (wanted,) = torch.autograd.grad((torch.cat(plain) * weight).sum(), x)
    y = made(x, counts)
    torch.testing.assert_close(y, torch.cat(plain))
    torch.testing.assert_close(torch.autograd.grad((y * weight).sum(), x)[0], wanted)
    torch.testing.assert_close(made.mean[0], norms[0].running_mean)
    torch.testing.assert_close(made.variance[0], norms[0].running_var)


def test_an_expert_with_one_row_or_none_is_normalised_by_what_ran_before() -> None:
    made = block()
    made(torch.randn(30, D).double(), 10)
    kept = made.mean.clone()
    x, counts = torch.randn(6, D).double(), torch.tensor([5, 1, 0])
    y = made(x, counts)
    assert torch.equal(made.mean[1:], kept[1:])
    assert not torch.equal(made.mean[0], kept[0])
    torch.testing.assert_close(y[5], made.eval()(x, counts)[5])


def test_all_experts_speak_at_one_scale_in_training() -> None:
    made = NormAct(MLP(D, E, hidden=6, out_dim=OUT), OUT)
    with torch.no_grad():
        made.block.down *= torch.tensor([0.1, 1.0, 100.0])[:, None, None]
    with torch.no_grad():
        said = made(torch.randn(4000, D), torch.tensor([1000, 1000, 2000])).split([1000, 1000, 2000])
    for one in said:
        assert 0.4 < one.std() < 0.7  # SiLU of a standard normal has a deviation of 0.56


def test_relu_experts_fall_silent_where_normalised_ones_do_not() -> None:
    """The first disease that HoME treats: on a skewed input most outputs of ReLU experts are zero."""
    torch.manual_seed(3)
    base = MLP(D, E, hidden=6, out_dim=OUT)
    with torch.no_grad():
        base.down.neg_() if base.down.sum() > 0 else base.down
        base.down -= 0.5
    x = torch.rand(300, D) * 5
    silent = NormAct(base, OUT, norm=False, act="relu")(x, 100)
    speaking = NormAct(base, OUT)(x, 100)
    assert (silent == 0).float().mean() > 0.5
    assert (speaking.abs() < 1e-6).float().mean() < 0.05


def test_a_layer_with_it_learns_under_sparse_and_dense_routing() -> None:
    for router in (TopK(D, E, k=1), AllExperts(D, E)):
        layer = MoE(router, NormAct(MLP(D, E, hidden=6, out_dim=OUT), OUT))
        layer(torch.randn(40, D)).square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("options", [{"act": "tanh"}, {"width": 0}])
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="NormAct wants"):
        NormAct(MLP(D, E, hidden=6), **{"width": D, **options})  # type: ignore[arg-type]
