"""The loops over samples whose sums come in parts, the same in any order (``fairopt.basics.binned_sums``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fairopt.solve.passes.jit import compiled


@compiled
def binned_sums(x: Any, cell: Any, anchors: Any, sums: Any) -> None:
    """Adds the parts of x (n,) on the grids of ``anchors`` (parts,) to sums (parts, C): see ``fairopt.basics.binned_sums``."""
    for i in range(x.shape[0]):
        rest, c = np.float64(x[i]), cell[i]
        for k in range(anchors.shape[0]):
            part = (rest + anchors[k]) - anchors[k]
            sums[k, c] += part
            rest -= part


@compiled
def binned_clipped_sums(
    z: Any, cell: Any, shift: Any, low: float, high: float, inverse: Any, anchors: Any, light: Any, sums: Any, free: Any
) -> None:  # fmt: skip
    """``weighted_sums`` in parts: sums (parts, C) on the grids of ``anchors``, free (parts, C) on those of ``light``. inverse (n,) 1 / w,
    or (0,): all 1.
    """
    alike = inverse.shape[0] == 0
    for i in range(z.shape[0]):
        c = cell[i]
        mass = 1.0 if alike else inverse[i]
        far = shift[c] * mass
        v = np.float64(z[i]) - far
        rest = min(max(v, low), high)
        for k in range(anchors.shape[0]):
            part = (rest + anchors[k]) - anchors[k]
            sums[k, c] += part
            rest -= part
        if (v > low) & (v < high):
            if alike:
                free[0, c] += 1.0
            else:
                for k in range(light.shape[0]):
                    part = (mass + light[k]) - light[k]
                    free[k, c] += part
                    mass -= part
