"""What scores may be: of which type, dtype and shape, and finite. Every door of ``solve`` asks here."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fairopt.basics.errors import InputError
from fairopt.solve.transforms import refuse_transforms

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_scores(scores: Tensor, n: int) -> Tensor:
    """``scores`` as (n,). InputError for a wrong type, dtype or shape, an empty batch, NaN or infinity."""
    flat = check_shape(scores, n)
    if not math.isfinite(float(flat.detach().sum())):  # the sum of finite ones may overflow: one look at each then
        check_finite(flat)
    return flat


def check_shape(scores: Tensor, n: int) -> Tensor:
    """``scores`` as (n,). InputError for a wrong type, dtype or shape, or an empty batch."""
    if not isinstance(scores, Tensor):
        raise InputError(f"scores: got {type(scores).__name__}, expected a torch tensor of shape ({n},)")
    refuse_transforms(scores)
    if scores.dtype not in DTYPES:
        raise InputError(f"scores: got dtype {scores.dtype}, expected a float dtype (float64, float32, bfloat16 or float16)")
    shape = scores.shape
    if len(shape) == 1:
        flat = scores
    elif len(shape) == 2 and shape[1] == 1:
        flat = scores.reshape(-1)
    else:
        raise InputError(f"scores: got shape {tuple(shape)}, expected ({n},) or ({n}, 1)")
    if shape[0] != n:
        raise InputError(f"scores: got {shape[0]} scores, expected {n}, one per sample of the batch")
    if n == 0:
        raise InputError("scores: got an empty batch, expected at least one sample")
    return flat


def check_finite(flat: Tensor) -> float:
    """The largest absolute score. InputError naming the first score that is NaN or infinite."""
    low, high = (float(v) for v in torch.aminmax(flat.detach()))
    if not (low > -float("inf") and high < float("inf")):  # also False for NaN
        bad = int(torch.nonzero(~torch.isfinite(flat.detach()))[0])
        raise InputError(f"scores: got {float(flat.detach()[bad])} at position {bad}, expected finite numbers")
    return max(abs(low), abs(high))
