"""From a ``ProjectionProblem`` to the quadratic programme that solvers know, and from their multipliers back to prices.

    minimise    1/2 x^T diag(hess) x + q^T x
    subject to  lower <= C x <= upper,   lbx <= x <= ubx,        q = (-centre, cost)

x = (u, extra): u are the scores times sqrt(weight), so that hess is 1 there and the programme is a plain projection of the
centre; extra are the auxiliary variables. In *cell space* (no box, weights constant in a cell, no dense rows) u has one entry
a cell, the cell's mean score times sqrt(sum of its weights): the projection moves all samples of a cell by the same amount.
Otherwise u has one entry a sample, and C has an entry for each sample that a row touches.

    hard row          lower <= f <= upper                                                       one row
    quadratic row     lower <= f - s <= upper,  cost gamma/2 s^2, s free                        one row
    priced row        f - s <= upper,  f + s >= lower,  cost rho s, s >= 0 (budget: one s)      two rows
    hard range        0 <= f_j - t <= width, t free                                             K rows
    soft range        f_j - t >= 0,  f_j - t - s <= width, s >= 0                               2K rows
    ratio range       f_j - t <= 0,  f_j - ratio t >= -width (soft: + s), t free                2K rows
    class probabilities   sum over classes of a sample = 1                                      one row a sample, last
    range as pairs    -width <= f_a - f_b <= width (soft: two rows with s)                      for solvers that need hess > 0
                      ratio f_a - f_b <= width (soft: - s), over all ordered pairs, where the ratio is below 1

Every row is divided by its norm in u, and extras are measured in the unit of their rows: at n samples a row's norm is about
1/sqrt(n) and its price about sqrt(n), which no solver's stopping test survives unscaled.

Multipliers: hess x + q + C^T lam + (box) = 0, so lam > 0 where the upper limit binds, as for prices (``fairopt.contract.problem``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt_backends.functionals import Functionals, functionals
from fairopt_backends.modules import load


@dataclass(frozen=True, eq=False)
class Numbers:
    """The numbers of a lowered problem, float64 tensors, differentiable to the limits they came from.

    lower, upper (M,) of the rows, -inf / inf where open;  cost, hess (E,) of the auxiliary variables;  lbx, ubx (U + E,).
    """

    lower: Tensor
    upper: Tensor
    cost: Tensor
    hess: Tensor
    lbx: Tensor
    ubx: Tensor

    def divided(self, unit: float) -> Numbers:
        """The numbers of the same programme in x / unit (its multipliers are then lam / unit)."""
        return Numbers(self.lower / unit, self.upper / unit, self.cost / unit, self.hess, self.lbx / unit, self.ubx / unit)


@dataclass(frozen=True, eq=False)
class Lowered:
    """The structure: everything but the centre and the ``Numbers``.

    size            U, the entries of u;  extras E;  M rows
    row, col, val   the entries of C, sorted by row
    lbx, ubx        (U + E,)
    equal           (M,) rows with lower == upper
    functionals     the map between scores and u
    back            row of the problem, row of C, factor: prices[row] += factor * lam[row of C]
    limit_*         how limits become numbers, see ``numbers``
    sums            (S,) what the last rows are equal to: those that say that the probabilities of a sample sum to 1
    """

    functionals: Functionals
    extras: int
    rows: int
    row: IntArray
    col: IntArray
    val: Array
    lbx: Array
    ubx: Array
    equal: BoolArray
    back: tuple[IntArray, IntArray, Array]
    limit_lower: tuple[IntArray, IntArray, Array]
    limit_upper: tuple[IntArray, IntArray, Array]
    limit_cost: tuple[IntArray, IntArray, Array]
    limit_hess: tuple[IntArray, IntArray, Array]
    sums: Array

    @property
    def size(self) -> int:
        return self.functionals.size

    @property
    def variables(self) -> int:
        return self.size + self.extras

    def numbers(self, limits: Limits) -> Numbers:
        """lower = map of (lower, upper, width, offset), a sparse linear map whose open rows are left at -inf / inf; cost likewise."""
        flat = torch.cat([limits.lower, limits.upper, limits.width, limits.offset])
        sums, rows = torch.from_numpy(self.sums), self.rows - self.sums.size
        return Numbers(
            torch.cat([_apply(self.limit_lower, flat, rows, -np.inf), sums]),
            torch.cat([_apply(self.limit_upper, flat, rows, np.inf), sums]),
            _apply(self.limit_cost, limits.softness_weight, self.extras, 0.0),
            _apply(self.limit_hess, limits.softness_weight, self.extras, 0.0),
            torch.from_numpy(self.lbx),
            torch.from_numpy(self.ubx),
        )

    def prices(self, multipliers: Array, m: int) -> Array:
        """(M,) multipliers of the rows of C -> (m,) prices."""
        target, source, factor = self.back
        return _sums(target, factor * multipliers[source], m)

    def times(self, x: Array) -> Array:
        """C x (M,)."""
        return _sums(self.row, self.val * x[self.col], self.rows)

    def times_transposed(self, lam: Array) -> Array:
        """C^T lam (U + E,)."""
        return _sums(self.col, self.val * lam[self.row], self.variables)

    def dense(self) -> Array:
        """C as (M, U + E)."""
        matrix = np.zeros((self.rows, self.variables))
        np.add.at(matrix, (self.row, self.col), self.val)
        return matrix

    @cached_property
    def sparse(self) -> Any:
        """C as a scipy CSR matrix (M, U + E)."""
        return load("scipy.sparse").csr_matrix((self.val, (self.row, self.col)), shape=(self.rows, self.variables))

    @cached_property
    def key(self) -> bytes:
        """A hash of the composition: equal for problems that differ in the centre and in finite numbers of their limits alone."""
        digest = hashlib.blake2b(digest_size=16)
        # the bounds themselves are numbers, not composition, but that they are equal
        finite = (np.isfinite(self.lbx), np.isfinite(self.ubx), self.lbx == self.ubx)
        maps = (self.sums, *self.limit_lower, *self.limit_upper, *self.limit_cost, *self.limit_hess)
        for part in (self.row, self.col, self.val, self.equal, *finite, *maps):
            digest.update(str((part.dtype, part.shape)).encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update(str((self.size, self.extras, self.rows)).encode())
        return digest.digest()


def _sums(at: IntArray, values: Array, size: int) -> Array:
    """(size,): the sum of the values at each position."""
    return np.asarray(np.bincount(at, weights=values, minlength=size), dtype=np.float64)


def _apply(entries: tuple[IntArray, IntArray, Array], flat: Tensor, size: int, empty: float) -> Tensor:
    """(size,): sum of factor * flat[source] by target; ``empty`` where a target has no entry."""
    target, source, factor = (torch.from_numpy(part) for part in entries)
    values = flat.index_select(0, source) * factor
    total = torch.zeros(size, dtype=torch.float64, device="cpu").index_add(0, target, values)
    touched = torch.zeros(size, dtype=torch.bool, device="cpu")
    touched[target] = True
    return torch.where(touched, total, torch.full_like(total, empty))


class _Builder:
    """Collects rows, auxiliary variables and the maps; ``_lower_*`` below fill it."""

    def __init__(self, problem: ProjectionProblem, rows: Functionals) -> None:
        self.problem = problem
        self.functionals = rows
        self.entries: list[tuple[IntArray, IntArray, Array]] = []
        self.rows = 0
        self.extra_lb: list[float] = []
        self.back: list[tuple[int, int, float]] = []
        self.maps: dict[str, list[tuple[int, int, float]]] = {k: [] for k in ("lower", "upper", "cost", "hess")}
        self.equal: list[bool] = []
        self.sums: list[float] = []
        linear, ranges = problem.linear, problem.ranges
        self.at_upper, self.at_width, self.at_offset = linear, 2 * linear, 2 * linear + ranges  # positions in ``flat``

    def extra(self, lower: float) -> int:
        """A new auxiliary variable; its number among the extras."""
        self.extra_lb.append(lower)
        return len(self.extra_lb) - 1

    def add(
        self,
        parts: list[tuple[int, float]],
        extras: list[tuple[int, float]],
        lower: list[tuple[int, float]],
        upper: list[tuple[int, float]],
        *,
        scale: float | None = None,
    ) -> None:
        """One row sum_k factor_k f_k + sum_e factor_e x_e between two linear forms in ``flat`` (empty: open).

        The offsets of the functionals f_k are moved to the limits here; ``scale`` overrides the row's own.
        """
        r = self.rows
        col, val = self.functionals.combine(parts)
        scale = row_scale(val) if scale is None else scale
        extra_col = np.array([self.functionals.size + e for e, _ in extras], dtype=np.int64)
        cols = np.concatenate([col, extra_col])
        vals = np.concatenate([val * scale, np.array([f for _, f in extras], dtype=np.float64)])
        self.entries.append((np.full(cols.size, r, dtype=np.int64), cols, vals))
        self.back += [(k, r, factor * scale) for k, factor in parts]
        offsets = [(self.at_offset + k, -factor) for k, factor in parts]
        for name, form in (("lower", lower), ("upper", upper)):
            if form:
                self.maps[name] += [(r, source, factor * scale) for source, factor in form + offsets]
        self.equal.append(bool(lower) and bool(upper) and self._value(lower) == self._value(upper))
        self.rows += 1

    def add_sums(self, classes: int) -> None:
        """The rows that say that the probabilities of a sample sum to 1: after all others."""
        n = self.problem.n // classes
        at = np.arange(n)[:, None] + n * np.arange(classes)  # (n, classes)
        for columns in at:
            val = 1.0 / self.functionals.root[columns]
            scale = row_scale(val)
            self.entries.append((np.full(classes, self.rows, dtype=np.int64), columns, val * scale))
            self.sums.append(scale)
            self.equal.append(True)
            self.rows += 1

    def _value(self, form: list[tuple[int, float]]) -> float:
        p = self.problem
        flat = np.concatenate([p.lower, p.upper, p.width])
        return float(sum(factor * flat[source] for source, factor in form))

    def scale_of(self, parts: list[tuple[int, float]]) -> float:
        return row_scale(self.functionals.combine(parts)[1])

    def finish(self) -> Lowered:
        f = self.functionals
        none = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))
        row, col, val = (np.concatenate(parts) for parts in zip(none, *self.entries, strict=True))
        extras = len(self.extra_lb)
        return Lowered(
            functionals=f,
            extras=extras,
            rows=self.rows,
            row=row,
            col=col,
            val=val,
            lbx=np.concatenate([f.lb, np.array(self.extra_lb)]),
            ubx=np.concatenate([f.ub, np.full(extras, np.inf)]),
            equal=np.array(self.equal, dtype=np.bool_),
            back=_arrays(self.back),
            limit_lower=_arrays(self.maps["lower"]),
            limit_upper=_arrays(self.maps["upper"]),
            limit_cost=_arrays(self.maps["cost"]),
            limit_hess=_arrays(self.maps["hess"]),
            sums=np.array(self.sums, dtype=np.float64),
        )


def _arrays(entries: list[tuple[int, int, float]]) -> tuple[IntArray, IntArray, Array]:
    target = np.array([e[0] for e in entries], dtype=np.int64)
    source = np.array([e[1] for e in entries], dtype=np.int64)
    return target, source, np.array([e[2] for e in entries], dtype=np.float64)


def row_scale(val: Array) -> float:
    """1 / norm of a row's entries; 1 for an empty row."""
    norm = float(np.sqrt(np.dot(val, val)))
    return 1.0 / norm if norm > 0 else 1.0


def lower(problem: ProjectionProblem, *, pairs: bool = False) -> Lowered:
    """The programme of ``problem``, in cell space where that is exact. ``pairs``: ranges as pairs, no variable t."""
    b = _Builder(problem, functionals(problem))
    slack_of_block = _budget_slacks(b)
    for k in range(problem.linear):
        _lower_linear(b, k, slack_of_block)
    for r in range(problem.ranges):
        _lower_range(b, r, slack_of_block, pairs=pairs)
    if problem.classes > 1:
        b.add_sums(problem.classes)
    return b.finish()


def _budget_slacks(b: _Builder) -> dict[int, tuple[int, float]]:
    """One shared slack a budget block: block -> (extra, scale). cost = rho / scale; rho is the first member's weight."""
    members: dict[int, list[int]] = {}
    for k, softness in enumerate(b.problem.softness):
        if softness.kind == "budget":
            members.setdefault(softness.block, []).append(k)
    slacks = {}
    for block, constraints in members.items():
        scale = float(np.mean([_constraint_scale(b, k) for k in constraints]))
        s = b.extra(0.0)
        b.maps["cost"].append((s, constraints[0], 1.0 / scale))
        slacks[block] = (s, scale)
    return slacks


def _constraint_scale(b: _Builder, k: int) -> float:
    """The unit in which the slack of constraint k is measured."""
    p = b.problem
    if k < p.linear:
        return b.scale_of([(k, 1.0)])
    rows = p.range_slices[k - p.linear]
    return float(np.mean([b.scale_of([(j, 1.0)]) for j in range(rows.start, rows.stop)]))


def _slack(b: _Builder, k: int, slack_of_block: dict[int, tuple[int, float]], *, free: bool = False) -> tuple[int, float]:
    """The slack of constraint k: (extra, unit). A new one, or its block's."""
    softness = b.problem.softness[k]
    if softness.kind == "budget":
        return slack_of_block[softness.block]
    scale = _constraint_scale(b, k)
    s = b.extra(-np.inf if free else 0.0)
    if softness.kind == "quadratic":
        b.maps["hess"].append((s, k, 1.0 / scale**2))
    else:
        b.maps["cost"].append((s, k, 1.0 / scale))
    return s, scale


def _lower_linear(b: _Builder, k: int, slack_of_block: dict[int, tuple[int, float]]) -> None:
    p = b.problem
    below = [(k, 1.0)] if np.isfinite(p.lower[k]) else []
    above = [(b.at_upper + k, 1.0)] if np.isfinite(p.upper[k]) else []
    if not below and not above:
        return
    kind = p.softness[k].kind
    parts = [(k, 1.0)]
    if kind == "hard":
        b.add(parts, [], below, above)
        return
    s, unit = _slack(b, k, slack_of_block, free=kind == "quadratic")
    ratio = b.scale_of(parts) / unit  # the slack in the row's own unit
    if kind == "quadratic":
        b.add(parts, [(s, -ratio)], below, above)
        return
    if above:
        b.add(parts, [(s, -ratio)], [], above)
    if below:
        b.add(parts, [(s, ratio)], below, [])


def _lower_range(b: _Builder, r: int, slack_of_block: dict[int, tuple[int, float]], *, pairs: bool) -> None:
    p = b.problem
    k = p.linear + r
    rows = range(p.range_slices[r].start, p.range_slices[r].stop)
    width = b.at_width + r
    ratio = float(p.ratio[r])
    if (len(rows) < 2 and ratio == 1.0) or not np.isfinite(p.width[r]):
        return
    soft = p.softness[k].kind != "hard"
    slack = _slack(b, k, slack_of_block) if soft else None
    zero = [(width, 0.0)]
    if ratio < 1.0:
        _lower_ratio(b, rows, (width, ratio, _constraint_scale(b, k)), slack, pairs=pairs)
        return
    if pairs:
        for i, a in enumerate(rows):
            for c in rows[i + 1 :]:
                _lower_pair(b, a, c, width, slack)
        return
    t, t_unit = b.extra(-np.inf), _constraint_scale(b, k)
    for j in rows:
        parts = [(j, 1.0)]
        scale = b.scale_of(parts)
        if slack is None:
            b.add(parts, [(t, -scale / t_unit)], zero, [(width, 1.0)])
            continue
        b.add(parts, [(t, -scale / t_unit)], zero, [])
        b.add(parts, [(t, -scale / t_unit), (slack[0], -scale / slack[1])], [], [(width, 1.0)])


def _lower_ratio(b: _Builder, rows: range, numbers: tuple[int, float, float], slack: tuple[int, float] | None, *, pairs: bool) -> None:
    """ratio * max - min <= width, hard or with a slack; ``numbers``: the width's place, the ratio, the unit of the rows."""
    width, ratio, unit = numbers
    if pairs:
        for a, c in permutations(rows, 2) if len(rows) > 1 else [(rows[0], rows[0])]:
            parts = [(a, ratio), (c, -1.0)] if a != c else [(a, ratio - 1.0)]
            b.add(parts, [] if slack is None else [(slack[0], -b.scale_of(parts) / slack[1])], [], [(width, 1.0)])
        return
    t = b.extra(-np.inf) if ratio else -1
    for j in rows:
        scale = b.scale_of([(j, 1.0)])
        below = [(t, -ratio * scale / unit)] if ratio else []
        if ratio:
            b.add([(j, 1.0)], [(t, -scale / unit)], [], [(width, 0.0)])
        b.add([(j, 1.0)], below if slack is None else [*below, (slack[0], scale / slack[1])], [(width, -1.0)], [])


def _lower_pair(b: _Builder, a: int, c: int, width: int, slack: tuple[int, float] | None) -> None:
    """abs(f_a - f_c) <= width, hard or with a slack."""
    parts = [(a, 1.0), (c, -1.0)]
    if slack is None:
        b.add(parts, [], [(width, -1.0)], [(width, 1.0)])
        return
    ratio = b.scale_of(parts) / slack[1]
    b.add(parts, [(slack[0], -ratio)], [], [(width, 1.0)])
    b.add(parts, [(slack[0], ratio)], [(width, -1.0)], [])
