"""What can be said of a window up to each of its tokens, in numbers.

Legend: B windows, N tokens, P points a token, L = N * P, K lags.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

DESCRIPTIVE = 6  # mean, deviation, least, greatest, median, trend


def statistics(values: Tensor, observed: Tensor, lags: int) -> Tensor:
    """Describe the points up to the end of each token: none of them looks ahead.

    In this order: mean, deviation, least, greatest and median value (the lower one of two in the middle);
    trend, the least-squares slope as a change a token; the ``lags`` strongest peaks of the autocorrelation,
    strongest first, as log(1 + lag), then their correlations. Zeros where nothing was observed, and for peaks
    that are not there.

    SMETimes' prompt tells mean, deviation and change; the others are in that of Time-LLM (Jin et al. 2024),
    but for its five lags of greatest correlation, which of a smooth series are just the first ones.

    Args:
        values: (B, N, P), zeros at missing points.
        observed: (B, N, P) bool.
        lags: K.

    Returns:
        (B, N, 6 + 2 K).
    """
    N, P = values.shape[1:]
    x = values.flatten(1)[:, None]
    time = torch.arange(N * P, device=x.device, dtype=x.dtype)
    until = time < P * torch.arange(1, N + 1, device=x.device)[:, None]
    given = until & observed.flatten(1)[:, None]
    count = given.sum(-1, keepdim=True).clamp(min=1)
    mean = (x * given).sum(-1, keepdim=True) / count
    centred = (x - mean) * given
    variance = centred.square().sum(-1, keepdim=True) / count
    late = (time - (time * given).sum(-1, keepdim=True) / count) * given
    slope = (late * centred).sum(-1, keepdim=True) / late.square().sum(-1, keepdim=True).clamp(min=1e-6)
    found = [
        mean,
        variance.sqrt(),
        x.masked_fill(~given, torch.inf).amin(-1, keepdim=True),
        x.masked_fill(~given, -torch.inf).amax(-1, keepdim=True),
        x.masked_fill(~given, torch.nan).nanmedian(-1, keepdim=True).values,
        slope * P,
        *autocorrelation_peaks(centred, lags),
    ]
    return torch.cat(found, -1).masked_fill(~given.any(-1, keepdim=True), 0.0)


def autocorrelation_peaks(centred: Tensor, lags: int) -> tuple[Tensor, Tensor]:
    """log(1 + lag) and correlation of the strongest positive peaks, (..., K) each; zeros where too few.

    The correlation at a lag is the sum of products that far apart over the sum of squares: far lags, with few
    products, count for less.

    Args:
        centred: (..., L) without its mean, zeros at missing points.
        lags: K.
    """
    length = centred.shape[-1]
    power = torch.fft.rfft(centred, 2 * length).abs().square()
    products = torch.fft.irfft(power, 2 * length)[..., :length]
    squares = products[..., :1]
    correlation = torch.where(squares > 1e-6, products / squares.clamp(min=1e-6), 0.0)
    inner = correlation[..., 1:-1]
    peak = (inner > correlation[..., :-2]) & (inner >= correlation[..., 2:]) & (inner > 1e-3)
    strength = F.pad(inner.where(peak, 0.0), (0, lags))  # a window may have fewer points than lags
    strongest, index = strength.topk(lags, -1)
    return torch.log1p(index + 1.0).to(strongest).where(strongest > 0, 0.0), strongest
