"""Sums that do not depend on the order of their terms, nor on who added which: numbers cut into parts on common grids.

A number x of at most ``size`` is cut into x = q1 + q2 (+ ...) + rest, each part a multiple of its grid's step. The steps are chosen so that
up to ``count`` such parts add up without any rounding in float64: the sum of each part is exact, in whatever order, on whatever device, by
whatever reduction between processes. What is left out is below 2^-60 of ``size`` for each number, less than a plain sum loses.

Source: the idea of reproducible summation with bins fixed beforehand (Demmel and Nguyen, "Parallel reproducible summation", 2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array

BITS = 60  # of ``size`` that the parts hold together
MOST = 1 << 44  # terms of one sum


@dataclass(frozen=True)
class Bins:
    """For each part the number c for which (x + c) - c rounds x to the part's grid."""

    anchors: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.anchors)

    def cut(self, x: Tensor) -> Tensor:
        """(parts, n) of x (n,) float64, finite, of at most the bins' ``size``."""
        parts = torch.empty((len(self.anchors), *x.shape), dtype=torch.float64, device=x.device)
        for part, anchor in zip(parts, self.anchors, strict=True):
            torch.sub(x + anchor, anchor, out=part)
            x = x - part
        return parts

    @staticmethod
    def total(sums: Array) -> Array:
        """The sums (...) of numbers from those of their parts (parts, ...), rounded in one fixed order, smallest first."""
        total = np.zeros(sums.shape[1:])
        for part in sums[::-1]:
            total = total + part
        return total


def bins_for(size: float, count: int) -> Bins:
    """Bins for sums of up to ``count`` numbers of absolute value at most ``size``, both known beforehand.

    A part's multiples of the step 2^s are at most 2^e, so that 2^b of them add up below 2^(e + b + 1) = 2^(s + 53): exact.
    """
    if not 0 <= count <= MOST:
        raise ValueError(f"count: got {count}, expected at most {MOST}")
    b = max(2, math.ceil(math.log2(max(count, 1) + 1)))
    e = math.frexp(size)[1] if 0.0 < size < math.inf else 0
    least, anchors = e - BITS, []
    while e > least:
        anchors.append(1.5 * 2.0 ** (e + b))  # 1.5 * 2^52 steps of 2^(e + b - 52)
        e -= 53 - b
    return Bins(tuple(anchors))
