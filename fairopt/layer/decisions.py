"""``decide``: 0/1 decisions from fair probabilities, whose sum in each group differs from the sum of the probabilities by less than 1.

Systematic rounding (claim Q2): walk through a group with the running sum c of its probabilities and one uniform start u; say 1 where
floor(c + u) steps up.
Each sample's own probability is unchanged, and every prefix of a group is off by less than 1. So the gap of decision rates is less
than the gap of
mean probabilities + 1/n_0 + 1/n_1.

Two attributes at once: the table of cell sums is rounded up or down so that every cell, row and column is off by less than 1
(dependent rounding on a
bipartite graph), then each cell is rounded systematically given its total. Three attributes: impossible in general (claim Q2 has the
example).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fairopt.basics.arrays import IntArray
from fairopt.basics.columns import numbers, read_features
from fairopt.basics.containers import is_frame
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.notions.groups import Missing, encode

_UNIT = 1 << 62  # probabilities are whole multiples of 2^-62 here, so sums mod 1 are exact
Generator = torch.Generator | np.random.Generator
UInt = npt.NDArray[np.uint64]


def decide(probabilities: Any, *, sensitive_features: Any, generator: Generator, missing_group: Missing = "error") -> Any:
    """(n,) decisions 0 or 1: an int64 tensor for tensors, a numpy array otherwise; (n, 1) where that came.

    probabilities (n,) in [0, 1]; sensitive_features: one or two attributes with n values (a mapping or frame, or the values of one);
    generator: torch or numpy; missing_group: "error", or "own": samples whose value is missing are a group.

    Raises InputError for values outside [0, 1], UnsupportedError for three or more attributes.

    Examples:
        >>> generator = np.random.default_rng(0)
        >>> fo.decide(np.array([0.5, 0.5, 0.25, 0.75]), sensitive_features=["f", "f", "m", "m"], generator=generator)
        array([1, 0, 0, 1])
    """
    scores = numbers(probabilities, None, "probabilities")
    p = scores.detach().cpu().double().numpy()  # (n,)
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise InputError("probabilities: expected numbers in [0, 1]")
    codes = _codes(sensitive_features, len(p), missing_group)
    if len(codes) > 2:
        raise UnsupportedError(
            f"decide: {len(codes)} attributes; beyond two, rounding that keeps every group's sum is impossible in general"
        )
    uniform = _uniforms(generator)
    out = _one(p, codes[0], uniform) if len(codes) == 1 else _two(p, codes[0], codes[1], uniform)
    if isinstance(probabilities, Tensor):
        return torch.from_numpy(out).reshape(probabilities.shape).to(probabilities.device)
    return out.reshape(probabilities.shape) if isinstance(probabilities, np.ndarray) else out


def _one(p: npt.NDArray[np.float64], code: npt.NDArray[np.int64], uniform: Any) -> npt.NDArray[np.int64]:
    out = np.zeros(len(p), dtype=np.int64)
    for g in range(int(code.max(initial=-1)) + 1):
        where = np.flatnonzero(code == g)
        out[where] = systematic(p[where], int(uniform() * _UNIT))
    return out


def systematic(p: npt.NDArray[np.float64], start: int) -> npt.NDArray[np.int64]:
    """(n,) decisions with the start ``start`` in [0, 2^62): sample i is 1 where floor(start + running sum) steps up at it."""
    units = _units(p)
    mask = np.uint64(_UNIT - 1)
    before = (np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(units[:-1], dtype=np.uint64)]) + np.uint64(start)) & mask
    return (before + units >= np.uint64(_UNIT)).astype(np.int64)


def _units(p: npt.NDArray[np.float64]) -> UInt:
    """p in units of 2^-62; exact for p >= 2^-10 and within 2^-63 below."""
    return np.rint(p * float(_UNIT)).astype(np.uint64)


def _two(p: npt.NDArray[np.float64], first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], uniform: Any) -> npt.NDArray[np.int64]:
    rows, columns = int(first.max(initial=-1)) + 1, int(second.max(initial=-1)) + 1
    cell = first * columns + second
    totals = [0] * (rows * columns)  # exact sums in units
    for c, u in zip(cell.tolist(), _units(p).tolist(), strict=True):
        totals[c] += u
    rounded = round_table([[t % _UNIT for t in totals[r * columns : (r + 1) * columns]] for r in range(rows)], uniform)
    out = np.zeros(len(p), dtype=np.int64)
    for r in range(rows):
        for k in range(columns):
            where = np.flatnonzero(cell == r * columns + k)
            part = totals[r * columns + k] % _UNIT
            # the start is uniform given whether the cell's total is rounded up, so it is uniform altogether
            start = int(uniform() * (_UNIT - part)) if not rounded[r][k] else _UNIT - part + int(uniform() * part)
            out[where] = systematic(p[where], min(start, _UNIT - 1))
    return out


def round_table(table: list[list[int]], uniform: Any) -> list[list[int]]:
    """Dependent rounding of a table of fractions (in units of 2^-62): 0 or 1 in each cell, with its fraction as probability, and every
    row and
    column sum off by less than 1.

    While fractional cells are left: follow them along a path or cycle that turns at every row and column; move an amount alternately
    up and down
    along it until a cell becomes 0 or 1, with the direction drawn so that no expectation moves.
    """
    x = [list(row) for row in table]
    while True:
        loose = [(r, k) for r, row in enumerate(x) for k, v in enumerate(row) if 0 < v < _UNIT]
        if not loose:
            return [[v // _UNIT for v in row] for row in x]
        path = _walk(loose)
        up, down = path[::2], path[1::2]
        a = min([_UNIT - x[r][k] for r, k in up] + [x[r][k] for r, k in down])
        b = min([x[r][k] for r, k in up] + [_UNIT - x[r][k] for r, k in down])
        move = a if uniform() * (a + b) < b else -b
        for r, k in up:
            x[r][k] += move
        for r, k in down:
            x[r][k] -= move


def _walk(loose: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """A cycle of fractional cells, or else a path that cannot be made longer at either end, turning between rows and columns."""
    by: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for r, k in loose:
        by.setdefault(("r", r), []).append((r, k))
        by.setdefault(("c", k), []).append((r, k))
    single = [node for node, cells in by.items() if len(cells) == 1]
    node = single[0] if single else next(iter(by))
    path: list[tuple[int, int]] = []
    visited = {node: 0}
    while True:
        onward = [cell for cell in by[node] if not path or cell != path[-1]]
        if not onward:
            return path
        r, k = onward[0]
        path.append((r, k))
        node = ("c", k) if node[0] == "r" else ("r", r)
        if node in visited:
            return path[visited[node] :]
        visited[node] = len(path)


def _uniforms(generator: Generator) -> Any:
    if isinstance(generator, torch.Generator):
        return lambda: float(torch.rand((), generator=generator, dtype=torch.float64, device=generator.device))
    if isinstance(generator, np.random.Generator):
        return lambda: float(generator.random())
    raise InputError(f"generator: expected a torch.Generator or numpy.random.Generator, got {type(generator).__name__}")


def _codes(given: Any, n: int, missing: Missing) -> list[IntArray]:
    """Codes (n,) of each attribute's values."""
    if missing not in ("error", "own"):
        raise InputError(f"missing_group: got {missing!r}, expected 'error' or 'own'")
    if isinstance(given, (list, tuple, Tensor, np.ndarray)) and not is_frame(given):
        given = {"groups": given}
    named = read_features(given, ("groups",))
    out = []
    for name, column in named.items():
        codes, _ = encode(column, name=name, missing=missing)
        if len(codes) != n:
            raise InputError(f"sensitive_features[{name!r}] has {len(codes)} values for {n} probabilities")
        out.append(codes)
    return out
