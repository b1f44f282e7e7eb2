"""Sizes as exponents of two: what a number, a tensor or a row is as large as, and multiplication by powers of two without a lost digit."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.sparse import absolute
from fairopt.contract.rows import Rows

NOTHING = -(1 << 20)  # the exponent of 0


def exponents_of(values: Array) -> IntArray:
    """e with 2^(e - 1) <= |value| < 2^e; NOTHING for 0, 1025 and more for infinity."""
    exponents = np.frexp(values)[1].astype(np.int64)
    exponents = np.where(np.isfinite(values), exponents, 1100)
    return np.where(values == 0, NOTHING, exponents)


def exponent_of(value: float) -> int:
    return int(exponents_of(np.array(value)))


def ldexp(values: Array | float, exponents: IntArray | int) -> Array:
    """values * 2^exponents; overflow is infinite, underflow 0."""
    with np.errstate(all="ignore"):
        return np.asarray(np.ldexp(values, np.clip(exponents, -5000, 5000)))


def times(t: Tensor, exponents: IntArray | int) -> Tensor:
    """t * 2^exponents in its dtype, in steps that float64 holds: rounded once, and differentiable."""
    e = np.clip(exponents, -3000, 3000)
    wide = t.to(torch.float64)
    for _ in range(4):
        part = np.clip(e, -1000, 1000)
        e = e - part
        if np.any(part):
            wide = wide * torch.from_numpy(np.asarray(np.ldexp(1.0, part))).to(wide.device)
    return wide.to(t.dtype)


def row_exponents(rows: Rows) -> IntArray:
    """(m,) exponent of the sum of |coefficients| of each row, to a few units; NOTHING for rows without any."""
    size = exponents_of(absolute(rows.scales).max(1, initial=0.0))
    if rows.dense is not None:
        dense = exponents_of(rows.dense.abs().mean(1).numpy())  # a mean overflows where the sum does: then by the largest
        largest = exponents_of(rows.dense.abs().amax(1).numpy())
        dense = np.where((dense == NOTHING) | (dense > 1024), largest, dense)
        dense = np.where(dense == NOTHING, NOTHING, dense + int(rows.n).bit_length())
        size[rows.dense_rows] = np.maximum(size[rows.dense_rows], dense)
    return size


def as_numpy(v: float | Tensor | Array) -> Array:
    return v.numpy() if isinstance(v, Tensor) else np.asarray(v, dtype=np.float64)
