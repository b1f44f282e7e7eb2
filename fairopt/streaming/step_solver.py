"""The optimisation problems of one step, solved in the space of group shifts: every score moves by its groups' shifts, then is clipped.

    y_i = clip(z_i - sum_f s_{f, g_f(i)}, lb, ub),     s_g = (price of group g) / N_g

- ``answer_one``      one sample, any number of families: the root of an increasing function of y
- ``answer_two``      one sample, two groups, one family: closed form
- ``answer_springs``  a batch, one family, quadratic potential (Theorems B and C)
- ``answer_hard``     a batch, one family, hard limits (``Cumulative``, and the paper's rule from b_tau samples on)
- ``answer_budget``   a batch, one family, price on max - min (the paper's rule)
- ``answer_coupled``  a batch, several families, quadratic potential (Theorem D)

A *touch* is the part of a batch that counts in one component.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairopt.basics.errors import InfeasibleError
from fairopt.streaming.ledger import Component
from fairopt.streaming.residuals import increasing_root, range_base, range_residuals, residual
from fairopt.streaming.shift_curve import Response

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Metric = list[float]  # c_g of every group of a component, 0 where absent
_INFINITY = float("inf")


@dataclass(frozen=True, eq=False)
class Touch:
    """The samples ``where`` (k,) of a batch count in ``component``, in its groups ``codes`` (k,); ``targets`` (k,) for residuals."""

    component: Component
    where: IntArray
    codes: IntArray
    targets: FloatArray | None = None

    def counts_after(self) -> list[float]:
        """(K,) N_g with this batch."""
        arrivals = np.bincount(self.codes, minlength=len(self.component.counts))
        return [c + float(a) for c, a in zip(self.component.counts, arrivals, strict=True)]

    def bases(self) -> list[float]:
        """(K,) S_g before the batch, less the batch's targets where means are of residuals."""
        heads = self.component.heads
        if self.targets is None:
            return list(heads)
        taken = np.bincount(self.codes, weights=self.targets, minlength=len(heads))
        return [h - float(t) for h, t in zip(heads, taken, strict=True)]


def residuals_of(component: Component, means: Sequence[float], metric: Sequence[float]) -> list[float]:
    """r of the means of some groups of the component (all its present ones), in the given metric."""
    family = component.family
    if family.kind == "range":
        return range_residuals(means, metric, family.upper) if len(means) > 1 else [0.0] * len(means)
    return [residual(m, family.lower, family.upper) for m in means]


def answer_two(z: float, count: float, base: float, other: float, gamma: float, eps: float, lb: float, ub: float) -> tuple[float, float]:
    """(y, price): argmin 1/2 (y - z)^2 + gamma/2 (|D(y)| - eps)_+^2 with D = (base + y)/count - other. Theorem B for one sample.

    With e = D(z) beyond eps by v:  z - y = (gamma / count) v / (1 + gamma / count^2), then into the box. Price = gamma * (v left).
    """
    e = (base + z) / count - other
    v = e - eps if e > eps else e + eps if e < -eps else 0.0
    if v == 0.0:
        return z, 0.0
    pull = gamma / count
    y = z - pull * v / (1.0 + pull / count)
    y = lb if y < lb else ub if y > ub else y
    return y, gamma * abs(v - (z - y) / count)


@dataclass(frozen=True)
class Place:
    """One sample's place: group ``code`` of ``component``, with its ``target`` (0 unless means are of residuals) and the metric c."""

    component: Component
    code: int
    target: float
    metric: Metric


def answer_one(z: float, places: Sequence[Place], lb: float, ub: float) -> float:
    """The root of ``y - z + sum over places of (c_g / N_g) r_g(y)``; exact up to rounding, z itself where nothing pulls."""
    springs = []
    for place in places:
        component = place.component
        counts = component.counts
        present = [g for g, c in enumerate(counts) if c > 0.0 or g == place.code]
        means = [component.mean(g) if counts[g] > 0.0 else 0.0 for g in present]
        metric = [place.metric[g] for g in present]
        count = counts[place.code] + 1.0
        base = component.heads[place.code] - place.target
        springs.append((component, means, metric, present.index(place.code), count, base, place.metric[place.code] / count))

    def force(y: float) -> float:
        total = y - z
        for component, means, metric, position, count, base, stiffness in springs:
            means[position] = (base + y) / count
            total += stiffness * residuals_of(component, means, metric)[position]
        return total

    at_z = force(z)
    if at_z == 0.0:
        return z
    if at_z > 0.0:
        return increasing_root(force, lb, z, force(lb), at_z, ub - lb)
    return increasing_root(force, z, ub, at_z, force(ub), ub - lb)


def responses(z: FloatArray, touch: Touch, lb: float, ub: float) -> tuple[dict[int, Response], dict[int, float]]:
    """The curves of the groups in the batch, and the means of the present groups that are not in it."""
    after, bases = touch.counts_after(), touch.bases()
    curves = {}
    for g in np.unique(touch.codes).tolist():
        curves[g] = Response(z[touch.where[touch.codes == g]], lb, ub, bases[g], after[g])
    component = touch.component
    fixed = {g: component.mean(g) for g in component.present if g not in curves}
    return curves, fixed


def answer_springs(z: FloatArray, touch: Touch, metric: Metric, lb: float, ub: float) -> dict[int, float]:
    """Shifts {group: s} of one family's quadratic potential. For a range: the outer root of ``sum_g c_g r_g(t)`` in t."""
    family = touch.component.family
    curves, fixed = responses(z, touch, lb, ub)
    stiffness = {g: metric[g] / c.count for g, c in curves.items()}
    if family.kind == "anchored":
        return {g: c.spring(stiffness[g], family.lower, family.upper) for g, c in curves.items()}
    eps = family.upper
    start = [c.mean(0.0) for c in curves.values()] + list(fixed.values())
    if len(start) < 2 or max(start) - min(start) <= eps:
        return dict.fromkeys(curves, 0.0)

    def imbalance(t: float) -> float:  # increasing in t
        total = 0.0
        for g, mean in fixed.items():
            total -= metric[g] * residual(mean, t, t + eps)
        for g, curve in curves.items():
            total -= curve.spring(stiffness[g], t, t + eps) * curve.count
        return total

    low, high = min(start) - eps, max(start)
    t = increasing_root(imbalance, low, high, imbalance(low), imbalance(high), ub - lb)
    return {g: c.spring(stiffness[g], t, t + eps) for g, c in curves.items()}


def answer_hard(z: FloatArray, touch: Touch, lb: float, ub: float) -> dict[int, float]:
    """Shifts of the nearest scores with all means inside the limits. InfeasibleError where no scores in the box are."""
    component = touch.component
    family = component.family
    curves, fixed = responses(z, touch, lb, ub)
    if family.kind == "anchored":
        return {g: _toward(c, family.lower, family.upper, component.label) for g, c in curves.items()}
    eps = family.upper
    start = [c.mean(0.0) for c in curves.values()] + list(fixed.values())
    if len(start) < 2 or max(start) - min(start) <= eps:
        return dict.fromkeys(curves, 0.0)
    spans = [c.span for c in curves.values()] + [(m, m) for m in fixed.values()]
    low, high = max(s[0] for s in spans) - eps, min(s[1] for s in spans)
    if low > high + 1e-12 * (ub - lb):
        raise InfeasibleError(f"no scores in the box keep {component.label} within {eps} after this step", (component.label,))
    if low >= high:
        t = 0.5 * (low + high)
    else:

        def imbalance(t: float) -> float:  # minus the sum of the prices: increasing in t
            return -sum(c.count * _toward(c, t, t + eps, "") for c in curves.values())

        t = increasing_root(imbalance, low, high, imbalance(low), imbalance(high), ub - lb)
    return {g: _toward(c, t, t + eps, "") for g, c in curves.items()}


def _toward(curve: Response, lower: float, upper: float, label: str) -> float:
    """The shift that brings the mean into [lower, upper]."""
    mean = curve.mean(0.0)
    if lower <= mean <= upper:
        return 0.0
    aim = upper if mean > upper else lower
    reach = curve.span
    slack = 1e-12 * curve.width
    if label and not reach[0] - slack <= aim <= reach[1] + slack:
        raise InfeasibleError(f"no scores in the box bring {label} within its limits after this step", (label,))
    return curve.shift_to(aim)


def answer_budget(z: FloatArray, touch: Touch, rho: float, lb: float, ub: float) -> dict[int, float]:
    """Shifts of ``argmin 1/2 ||y - z||^2 + rho (max - min of the batch's group means)``: the paper's rule, rho = price n / 2.

    The top group(s) come down to a level u where their prices sum to rho, the bottom ones up to a level l likewise; where u < l the
    price suffices to close the gap, and all means meet at a common level.
    """
    curves, _ = responses(z, touch, lb, ub)
    start = [c.mean(0.0) for c in curves.values()]
    if len(start) < 2 or rho <= 0.0 or max(start) == min(start):
        return dict.fromkeys(curves, 0.0)
    low, high = min(start), max(start)

    def above(u: float) -> float:  # rho - total price of coming down to u: increasing in u
        return rho - sum(c.count * _toward(c, -_INFINITY, u, "") for c in curves.values())

    def below(level: float) -> float:  # total price of going up to the level, less rho: increasing
        return -sum(c.count * _toward(c, level, _INFINITY, "") for c in curves.values()) - rho

    u = increasing_root(above, low, high, above(low), above(high), ub - lb)
    level = increasing_root(below, low, high, below(low), below(high), ub - lb)
    if u > level:
        return {g: _toward(c, level, u, "") for g, c in curves.items()}

    def imbalance(t: float) -> float:
        return -sum(c.count * _toward(c, t, t, "") for c in curves.values())

    t = increasing_root(imbalance, low, high, imbalance(low), imbalance(high), ub - lb)
    return {g: _toward(c, t, t, "") for g, c in curves.items()}


def apply_shifts(z: FloatArray, touch: Touch, shifts: dict[int, float]) -> FloatArray:
    """(n,) z minus the group's shift at the touched samples; not clipped."""
    table = np.zeros(len(touch.component.counts))
    for g, s in shifts.items():
        table[g] = s
    out = z.copy()
    out[touch.where] -= table[touch.codes]
    return out


def answer_coupled(z: FloatArray, touches: Sequence[Touch], metrics: Sequence[Metric], lb: float, ub: float, *, tol: float = 1e-11,
                   limit: int = 500) -> list[dict[int, float]]:  # fmt: skip
    """Shifts of several families' potentials together, one dict a touch.

    theta_{f,g} = (c_g / N_g) r_g(M(theta)) is solved by semismooth Newton steps that at least halve the best residual so far; where one
    does not, a sweep of exact block solves (one family at a time, the others' shifts held), which climbs the strongly concave dual.
    """
    system = _System(z, touches, metrics, lb, ub)
    theta = np.zeros(system.size)
    gap, error = system.residual(theta)
    best = error
    goal = tol * (ub - lb)
    for _ in range(limit):
        if error <= goal:
            break
        trial = theta + system.newton(theta, gap)
        trial_gap, trial_error = system.residual(trial)
        if not trial_error <= 0.5 * best:
            trial = system.sweep(theta)
            trial_gap, trial_error = system.residual(trial)
        theta, gap, error = trial, trial_gap, trial_error
        best = min(best, error)
    return system.split(theta)


class _System:
    """The fixed-point system of ``answer_coupled``: unknown theta (size,), one entry a group of each touched component."""

    def __init__(self, z: FloatArray, touches: Sequence[Touch], metrics: Sequence[Metric], lb: float, ub: float) -> None:
        self.z, self.touches, self.metrics, self.lb, self.ub = z, touches, metrics, lb, ub
        sizes = [len(t.component.counts) for t in touches]
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        self.size = int(self.starts[-1])
        self.counts = np.concatenate([t.counts_after() for t in touches])
        self.bases = np.concatenate([t.bases() for t in touches])
        self.c = np.concatenate(metrics)
        safe = np.where(self.counts > 0, self.counts, 1.0)
        self.safe = safe
        arrived = np.concatenate([np.bincount(t.codes, minlength=n) > 0 for t, n in zip(touches, sizes, strict=True)])
        self.stiffness = np.where(arrived, self.c / safe, 0.0)  # groups that are not in the batch have no shift

    def scores(self, theta: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """y (n,) and which samples are free."""
        y = self.z.copy()
        for k, touch in enumerate(self.touches):
            y[touch.where] -= theta[self.starts[k] + touch.codes]
        free = (y > self.lb) & (y < self.ub)
        return np.clip(y, self.lb, self.ub), free

    def means(self, y: FloatArray) -> FloatArray:
        sums = self.bases.copy()
        for k, touch in enumerate(self.touches):
            sums[self.starts[k] : self.starts[k + 1]] += np.bincount(
                touch.codes, weights=y[touch.where], minlength=self.starts[k + 1] - self.starts[k]
            )
        return np.asarray(sums / self.safe)

    def residual(self, theta: FloatArray) -> tuple[FloatArray, float]:
        """theta - stiffness * r(M(theta)) (size,), and its largest entry over the groups that are in the batch."""
        y, _ = self.scores(theta)
        means = self.means(y)
        out = theta.copy()
        for k, touch in enumerate(self.touches):
            block = slice(self.starts[k], self.starts[k + 1])
            present = np.flatnonzero(self.counts[block] > 0)
            r = residuals_of(touch.component, means[block][present].tolist(), self.c[block][present].tolist())
            out[self.starts[k] + present] -= self.stiffness[block][present] * r
        return out, float(np.abs(out).max(initial=0.0))

    def newton(self, theta: FloatArray, gap: FloatArray) -> FloatArray:
        """The step delta of (I + stiffness R' K / N) delta = -gap; K = free samples shared by two groups, R' the slope of r in M."""
        y, free = self.scores(theta)
        means = self.means(y)
        member = np.zeros((self.size, len(self.z)))  # (size, n)
        for k, touch in enumerate(self.touches):
            member[self.starts[k] + touch.codes, touch.where] = 1.0
        shared = (member * free) @ member.T / self.safe[:, None]
        slope = np.zeros((self.size, self.size))
        for k, touch in enumerate(self.touches):
            start, stop = self.starts[k], self.starts[k + 1]
            present = start + np.flatnonzero(self.counts[start:stop] > 0)
            family = touch.component.family
            if family.kind == "anchored":
                active = present[(means[present] > family.upper) | (means[present] < family.lower)]
                slope[active, active] = 1.0
            elif len(present) > 1:
                t = range_base(means[present].tolist(), self.c[present].tolist(), family.upper)
                if means[present].max() - means[present].min() <= family.upper:
                    continue
                active = present[(means[present] > t + family.upper) | (means[present] < t)]
                slope[active, active] = 1.0
                slope[np.ix_(active, active)] -= self.c[active] / self.c[active].sum()
        matrix = np.eye(self.size) + self.stiffness[:, None] * (slope @ shared)
        return np.asarray(np.linalg.solve(matrix, -gap))

    def sweep(self, theta: FloatArray) -> FloatArray:
        """One exact block solve a family."""
        theta = theta.copy()
        for k, touch in enumerate(self.touches):
            others = theta.copy()
            others[self.starts[k] : self.starts[k + 1]] = 0.0
            shifted = self.z.copy()
            for j, other in enumerate(self.touches):
                shifted[other.where] -= others[self.starts[j] + other.codes]
            shifts = answer_springs(shifted, touch, self.metrics[k], self.lb, self.ub)
            theta[self.starts[k] : self.starts[k + 1]] = 0.0
            for g, s in shifts.items():
                theta[self.starts[k] + g] = s
        return theta

    def split(self, theta: FloatArray) -> list[dict[int, float]]:
        return [{int(g): float(theta[self.starts[k] + g]) for g in np.unique(t.codes)} for k, t in enumerate(self.touches)]
