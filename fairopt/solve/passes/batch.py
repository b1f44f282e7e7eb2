"""Rows of a batch one after the other, in one compiled call: what Python would spend on a call for each is more than a short row takes."""

from __future__ import annotations

from typing import Any

from fairopt.solve.passes.jit import compiled
from fairopt.solve.passes.project import differentiate, project


@compiled
def project_rows(
    address: int, z: Any, bits: Any, ends: Any, ends_bits: Any, cell: Any, whole: Any, real: Any, lb: Any, ub: Any, inverse: Any,
    part: Any, y: Any, code: Any, answer: Any,
) -> int:  # fmt: skip
    """``project`` for each row of z (B, n) with y (B, n), code (B, n) or (1, n) where it is not written, answer (B, size). Returns how many
    were certified: the first that is not ends it."""
    for k in range(z.shape[0]):
        own = code[min(k, code.shape[0] - 1)]
        if not project(address, z[k], bits[k], ends, ends_bits, cell, whole, real, lb, ub, inverse, part, y[k], own, answer[k]):
            return k
    return int(z.shape[0])


@compiled
def differentiate_rows(
    address: int, v: Any, code: Any, whole: Any, real: Any, inverse: Any, answer: Any, out: Any, forward: bool
) -> int:  # fmt: skip
    """``differentiate`` for each row of v (B, n). Returns for how many it was done."""
    for k in range(v.shape[0]):
        if not differentiate(address, v[k], code[min(k, code.shape[0] - 1)], whole, real, inverse, answer[k], out[k], forward):
            return k
    return int(v.shape[0])
