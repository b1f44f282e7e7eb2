"""The maps from shifted probabilities to rows that sum to 1, in numpy and in torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, BoolArray

TIE = 2.0**-52
"""Classes that are as near as this below the level of the others stay in, with probability 0. At the kink one-hot probabilities stand
exactly, and rounding would decide: with the classes in, a sample moves as it does where they gain."""


def softmax(z: Array, s: Array) -> Array:
    """(n, C) y proportional to z exp(-s); z (n, C) with a positive entry in each row."""
    with np.errstate(divide="ignore"):
        exponent = np.log(z) - s
    e = np.exp(exponent - exponent.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def nearest(v: Array) -> Array:
    """(n, C) the nearest points of the simplex: a level is taken off each row, and what falls below 0 is 0 (Held, Wolfe, Crowder 1974)."""
    n, C = v.shape
    falling = -np.sort(-v, axis=1)
    levels = (np.cumsum(falling, 1) - 1.0) / np.arange(1, C + 1)
    last = (falling > levels).sum(1) - 1
    y = np.maximum(v - levels[np.arange(n), np.maximum(last, 0)][:, None], 0.0)
    # the level once more, from the classes that are left: nothing of the cumulated sums' rounding stays
    kept = y > 0.0
    size = np.maximum(kept.sum(1), 1)
    level = (np.where(kept, v, 0.0).sum(1) - 1.0) / size
    return np.where(kept, np.maximum(v - level[:, None], 0.0), 0.0)


def support(v: Array) -> BoolArray:
    """(n, C) the classes that stay in at the nearest points of v (n, C)."""
    y = nearest(v)
    level = np.where(y > 0.0, v - y, -np.inf).max(1, keepdims=True)
    return np.asarray((y > 0.0) | (v > level - TIE))


def nearest_point(v: Tensor) -> Tensor:
    """``nearest`` of a tensor (n, C), differentiable to any order away from where classes fall to 0; it can be exported."""
    there = v.detach()
    falling = there.sort(1, descending=True).values
    levels = (falling.cumsum(1) - 1.0) / torch.arange(1, v.shape[1] + 1, dtype=v.dtype, device=v.device)
    last = (falling > levels).sum(1, keepdim=True) - 1
    kept = there > levels.gather(1, last.clamp(min=0)) - TIE
    level = (torch.where(kept, v, 0.0).sum(1, keepdim=True) - 1.0) / kept.sum(1, keepdim=True).clamp(min=1)
    return torch.where(kept, v - level, 0.0).clamp(min=0.0)


def shifted(z: Tensor, s: Tensor) -> Tensor:
    """``softmax`` of a tensor z (n, C), with the right derivatives also where z is 0."""
    top = (z.detach().log() - s.detach()).amax(1, keepdim=True)  # of the exponents: the largest factor is 1
    e = z * torch.exp((-s - top).clamp(max=700.0))
    return e / e.sum(1, keepdim=True)
