"""L13-L17: what of L1-L5, L8, L9 and L12 holds where "nearest" is a Bregman distance, and what does not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

import fairopt as fo
from fairopt.basics.arrays import Array
from fairopt.contract.backend import Status
from fairopt.contract.problem import ProjectionProblem, Softness
from fairopt.testing.claims.prices import softened
from fairopt.testing.claims.subject import Case, Layer, constraint_prices, distances, excess, row_values
from fairopt.testing.exact import violation_exact
from fairopt.testing.optimality import written_out
from proofs_checks.broken_layers import NotRepaired, PricesTold, SofterBy, StepOff, ToleranceDoubled, WiderBy
from proofs_checks.claim import Claim, Generator, Measurement, worst

SETTING = """
D(y, z) = sum_i w_i (phi(y_i) - phi(z_i) - phi'(z_i) (y_i - z_i)), w > 0, phi strictly convex and smooth inside its interval with an
infinite slope at the finite ends (Legendre). `distance="kl"`: phi' = logit on (0, 1); `"kl_positive"`: phi' = log on (0, inf); the
squared distance is phi' = y on the line, without a box. theta = phi'. H_y = diag(w phi''(y)). Scores z inside the interval, the rows of
``ProjectionProblem``.
"""
L13 = (
    SETTING
    + """
(L1) If some y inside the interval meets the rows, `min D(y, z)` over those that do has exactly one solution; it lies inside the interval:
no score is clipped. Equivalent: `sum w (theta(y) - theta(z)) (v - y) >= 0` for every v that meets the rows, and `D(v, z) >= D(v, y) +
D(y, z)`; all z' with theta(z') = theta(y) + s (theta(z) - theta(y)), s >= 0, have the solution y. (L2) Feasibility is that of the open
interval: L2's witnesses stand for z inside. *False* for z at an end: such a score stays, so (0, 0) against (1, 1) is infeasible at every
tolerance below 1, though the squared distance answers it.
"""
)
L13_PROOF = """
D(., z) is strictly convex and its level sets are compact, so there is one minimiser on the closed set. On the segment from a minimiser
with some y_i at an end towards an interior point of the set the slope of D is -infinity at the start: it was no minimiser. The inequality
is first-order optimality, as grad D(., z) = w (theta(y) - theta(z)); it is the three-point form, because D(v, z) - D(v, y) - D(y, z) =
sum w (theta(y) - theta(z)) (v - y). Along the ray the left factor is scaled by s. D(y, 0) is infinite unless y = 0.
"""
L14 = (
    SETTING
    + """
(L3) For one batch, hard or soft: `sum w (y - y') (theta(y) - theta(y')) <= sum w (y - y') (theta(z) - theta(z'))`, that is `D(y, y') +
D(y', y) <= <theta(z) - theta(z'), y - y'>_w`. (L4) Where the active rows do not change, `M = H_y^{1/2} (dy/dz) H_z^{-1} H_y^{1/2}` is the
orthogonal projector on the face: M M = M = M^T, A_act dy/dz = 0, trace M = n - rank A_act. (L5) `||H_y^{1/2} H_z^{-1} J^T g|| <=
||H_y^{-1/2} g||`; soft rows too. *False*: that the layer is non-expansive in a fixed norm of scores (z = (d, 1 - d), one each, eps = 0:
both end at 1/2, and doubling d moves them by .08: .08/d times as far), or of log-odds (.45 and .008, eps = .4: a factor above 1.3).
"""
)
L14_PROOF = """
(L3) w (theta(z) - theta(y)) is a subgradient at y of the convex term (0 or infinite for hard rows), the same at y': subgradients are
monotone. (L4) On the face theta(y) = theta(z) - W^-1 A_act^T p and A_act y is constant: H_y dy = H_z dz - A_act^T dp, A_act dy = 0. With
B = A_act H_y^{-1/2}: H_y^{1/2} dy = (I - B^T (B B^T)^+ B) H_y^{-1/2} H_z dz. Soft rows: (B B^T + Gamma^-1)^-1 in the middle, eigenvalues
in [0, 1]. (L5) J^T = H_z H_y^{-1/2} M H_y^{-1/2}. Counterexamples: two samples with the row y_0 - y_1 active have d theta(y) = (h_0, h_1)
(d theta_0 + d theta_1)/(h_0 + h_1), whose factor tends to sqrt 2 as h_1/h_0 grows.
"""
L15 = (
    SETTING
    + """
(L8) theta(y) = theta(z) - W^-1 A^T p with prices p, one a row: sigmoid(logit z - A^T p / w), z exp(-A^T p / w). p is the shadow price:
with V the least D, `dV/d upper_k = -p_k^+`, `dV/d lower_k = +p_k^-`, for a range `dV/d width = -(sum of its positive prices)`, wherever
p_k is the same in all multipliers. The dual is smooth: its gradient A y(p) - limit has the derivative -A H_y^{-1} A^T.
"""
)
L15_PROOF = """
The Lagrangian separates; each term is minimal where theta(y_i) = theta(z_i) - (A^T p)_i / w_i, which lies inside the interval for every
finite p. Strong duality: a point inside the interval meets the rows, which are affine. V is the maximum over p of functions that are
affine in the limits, so p is a subgradient up to sign, the derivative where it is unique. Differentiate theta(y(p)).
"""
L16 = (
    SETTING
    + """
(L9) p* a multiplier of the hard problem, V its cost. (Cap) rho >= max |p*_k| gives the hard solution exactly; for any rho `rho * (total
violation) <= V - cost(rho)`. (Quadratic) `||violation||_2 <= ||p*||_2 / gamma`, one row: 0 <= violation <= |p*|/gamma; and `D(y_gamma,
y*) + D(y*, y_gamma) <= ||p*||^2 / (4 gamma)`. For probabilities phi'' >= 4, so `||y_gamma - y*||_W <= ||p*|| / (4 sqrt gamma)`, half of
L9's. *False* for positive values: L9's `||y_gamma - y*||_W <= ||p*|| / (2 sqrt gamma)` (two amounts of 10,000 and 40,000).
"""
)
L16_PROOF = """
Caps and the first two bounds: L9's proof uses the concavity of the dual alone. `<theta(y_gamma) - theta(y*), y_gamma - y*>_w = <p* -
p_gamma, A y_gamma - A y*> <= <p* - p_gamma, p_gamma>/gamma` by complementarity, at most |p*|^2/(4 gamma). phi''(y) = 1/(y (1 - y)) >= 4
on (0, 1); it is 1/y for positive values, as small as y is large.
"""
L17 = (
    SETTING
    + """
(L12) CERTIFIED means the same: every hard row and bound holds in rational arithmetic for the numbers returned. (Distance) One attribute
of disjoint groups with equal weights inside a group: `||y(eps) - y(eps')||_inf <= max_g n_g |eps - eps'|`, L12's constant, so an answer
that was tightened by T ulps lies within `T max n_g + 1/2` of the nearest. Reached where one sample of a group carries its curvature.
*False*: that an answer stays inside (0, 1): at tolerance 0 the sum of a group is made whole in ulps of 1, and scores below that may come
to lie at 0.
"""
)
L17_PROOF = """
The cheapest way to move the mean of g to m costs C_g(m), strictly convex, with C_g'' = n_g^2 / sum_i 1/(w_i phi''(y_i)). The window's
lower edge t solves sum over groups below of C_g'(t) + sum over groups above of C_g'(t + eps) = 0, so both edges move at rates in [0, 1]
as eps falls (implicit differentiation: the rates are shares of positive sums). Sample i of an edge group moves at n_g (1/(w_i phi''_i)) /
sum_j 1/(w_j phi''_j) times its edge, at most n_g.
"""


def theta(y: Array, distance: str) -> Array:
    return np.asarray(np.log(y) - np.log1p(-y) if distance == "kl" else np.log(y))


def curvature(y: Array, distance: str) -> Array:
    return np.asarray(1 / (y * (1 - y)) if distance == "kl" else 1 / y)


def inverse(t: Array, distance: str) -> Array:
    return np.asarray(1 / (1 + np.exp(-t)) if distance == "kl" else np.exp(t))


def divergence(y: Array, z: Array, w: Array, distance: str) -> float:
    d = y * np.log(y / z) + ((1 - y) * np.log((1 - y) / (1 - z)) if distance == "kl" else z - y)
    return float((w * d).sum())


@dataclass
class EntropyPricesOff(Layer):
    """Prices too large by ``size``, and the scores that they give."""

    size: float = 0.1

    def __post_init__(self) -> None:
        super().__init__()

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        _, p = super().project(scores, problem)
        p = (1 + self.size) * p
        return from_prices(Case(scores, problem), p), p


@dataclass
class EntropyWeightsOff(Layer):
    """Weights to the power 1 - ``size``."""

    size: float = 0.1

    def __post_init__(self) -> None:
        super().__init__()

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        weights = None if problem.weights is None else problem.weights ** (1 - self.size)
        return super().project(scores, replace(problem, weights=weights))


class Squared(Layer):
    """The squared distance in the place of the divergence."""

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        return super().project(scores, replace(problem, distance="squared"))

    def vjp(self, scores: Tensor, problem: ProjectionProblem, g: Array) -> Array:
        return super().vjp(scores, replace(problem, distance="squared"), g)


def from_prices(case: Case, p: Array) -> Array:
    d, distance = written_out(case.problem), case.problem.distance
    return inverse(theta(case.z, distance) - (d.a.T @ p) / d.w, distance)


def draw(rng: Generator, max_n: int = 16) -> Case:
    """One attribute of 2 to 4 groups, or two overlapping ones; half with weights; probabilities or amounts, a few of them tiny."""
    n, groups = int(rng.integers(6, max_n + 1)), int(rng.integers(2, 5))
    codes = np.concatenate([np.arange(groups), rng.integers(0, groups, n - groups)])
    other = rng.permutation(np.arange(n) % 2)
    eps = float(rng.choice([0.01, 0.05, 0.2]))
    kl = bool(rng.integers(2))
    z = inverse(rng.normal(0, 1.5, n) + rng.normal(0, 1.5, groups)[codes], "kl" if kl else "kl_positive")
    notion: fo.Notion = fo.DemographicParity("a", tolerance=eps)
    if rng.integers(2):
        notion = notion & fo.DemographicParity("b", tolerance=eps)
    how: dict[str, Any] = {"bounds": (0.0, 1.0)} if kl else {}
    weights = torch.from_numpy(np.exp(rng.uniform(-1, 1, n))) if rng.integers(2) else None
    prepared = fo.compile(
        notion,
        sensitive_features={"a": codes.tolist(), "b": other.tolist()},
        weights=weights,
        distance="kl" if kl else "kl_positive",
        **how,
    )
    assert isinstance(prepared, fo.Prepared)
    return Case(torch.from_numpy(z), prepared.problem)


def check_nearest(rng: Generator, layer: Layer) -> Measurement:
    """The inequality and the three-point form at feasible points, the ray, the inside; a score at an end refuses what squares answer."""
    case = draw(rng)
    problem, z, w, distance = case.problem, case.z, case.w, case.problem.distance
    y, _ = layer.project(case.scores, problem)
    size = float(np.abs(y).max())
    found = [
        Measurement(max(0.0, excess(problem, y)), 0.0, 1e-9 * size, note="rows"),
        Measurement(0.0, float(y.min()) if distance != "kl" else float(min(y.min(), 1 - y.max())), note="inside"),
    ]
    others = [
        Layer().project(torch.from_numpy(inverse(theta(z, distance) + rng.normal(size=z.size), distance)), problem)[0] for _ in range(2)
    ]
    slope = w * (theta(y, distance) - theta(z, distance))
    for v in [*others, np.full(z.size, float(z.mean())), (others[0] + others[1]) / 2]:
        room = 1e-7 * (float(np.abs(slope) @ np.abs(v - y)) + size)
        found.append(Measurement(-float(slope @ (v - y)), 0.0, room, note="inequality"))
        pythagoras = divergence(v, y, w, distance) + divergence(y, z, w, distance)
        found.append(Measurement(pythagoras, divergence(v, z, w, distance), room, note="three points"))
    s = float(rng.uniform(0.2, 1.5))
    along = inverse(theta(y, distance) + s * (theta(z, distance) - theta(y, distance)), distance)
    found.append(Measurement(float(np.abs(layer.project(torch.from_numpy(along), problem)[0] - y).max()), 0.0, 1e-7 * size, note="ray"))
    return worst(*found, _at_the_ends(rng) if rng.uniform() < 0.05 else Measurement(0.0, 0.0))


def _at_the_ends(rng: Generator) -> Measurement:
    """Two scores at 0 against two at 1."""
    z = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    notion = fo.DemographicParity("a", tolerance=float(rng.uniform(0, 0.99)))
    how: Any = {"sensitive_features": {"a": [0, 0, 1, 1]}, "bounds": (0.0, 1.0)}
    fo.project(z, notion, **how)
    try:
        fo.project(z, notion, distance="kl", **how)
    except fo.InfeasibleError:
        return Measurement(0.0, 0.0)
    return Measurement(1.0, 0.0, note="scores at the ends were not refused")


def check_derivative(rng: Generator, layer: Layer) -> Measurement:
    """Two points of one problem, hard and soft; the projector and its face; the length of pulled gradients; both counterexamples."""
    case = draw(rng, 12)
    problem, z, w, distance = case.problem, case.z, case.w, case.problem.distance
    y, p = layer.project(case.scores, problem)
    soft = softened(problem, Softness("quadratic", 10.0 ** float(rng.uniform(0, 3)))) if rng.integers(2) else problem
    other = inverse(theta(z, distance) + 10.0 ** float(rng.uniform(-2, 0)) * rng.normal(size=z.size), distance)
    here, there = layer.project(case.scores, soft)[0], layer.project(torch.from_numpy(other), soft)[0]
    left = float((w * (here - there) * (theta(here, distance) - theta(there, distance))).sum())
    right = float((w * (here - there) * (theta(z, distance) - theta(other, distance))).sum())
    found = [Measurement(left, right, 1e-7 * (1 + abs(right)), note="firm")]
    n = problem.n
    j = np.stack([layer.vjp(case.scores, problem, np.eye(n)[i]) for i in range(n)])
    at_y, at_z = w * curvature(y, distance), w * curvature(z, distance)
    m = np.sqrt(at_y)[:, None] * j / at_z[None, :] * np.sqrt(at_y)[None, :]
    active = _active(case, y, p)
    if active is not None:
        rank = int(np.linalg.matrix_rank(active / np.sqrt(at_y), tol=1e-8)) if len(active) else 0
        found += [
            Measurement(float(np.abs(m @ m - m).max()), 0.0, 1e-5, note="M M = M"),
            Measurement(float(np.abs(m - m.T).max()), 0.0, 1e-5, note="M = M^T"),
            Measurement(abs(float(np.trace(m)) - (n - rank)), 0.0, 1e-5, note="trace"),
            Measurement(float(np.abs(active @ (j / at_z * np.sqrt(at_y))).max(initial=0.0)), 0.0, 1e-5, note="A_act J = 0"),
        ]
    g = rng.normal(size=n)
    pulled = layer.vjp(case.scores, soft, g)
    at_here = w * curvature(here, distance)
    length = float(np.linalg.norm(g / np.sqrt(at_here)))
    found.append(Measurement(float(np.linalg.norm(np.sqrt(at_here) / at_z * pulled)), length, 1e-6 * length, note="pulled gradient"))
    return worst(*found, _expansive())


def _active(case: Case, y: Array, p: Array) -> Array | None:
    """(q, n) what is held: linear rows at a limit, differences of the members at a range's top, at its low end, and of both; None near a
    kink."""
    problem, a = case.problem, written_out(case.problem).a
    f, held = row_values(problem, y), []
    for k in range(problem.linear):
        room = min(float(problem.upper[k] - f[k]), float(f[k] - problem.lower[k]))
        if (room < 1e-9) != (abs(p[k]) > 1e-4) or 1e-9 <= room < 1e-6:
            return None
        if room < 1e-9:
            held.append(a[k])
    for part, width in zip(problem.range_slices, problem.width, strict=True):
        values, prices = f[part], p[part]
        if np.abs(prices).max(initial=0.0) == 0.0 and np.ptp(values) < width - 1e-6:
            continue
        top, low = np.abs(values - values.max()) < 1e-9, np.abs(values - values.min()) < 1e-9
        close = (np.abs(values - values.max()) < 1e-4) & ~top | (np.abs(values - values.min()) < 1e-4) & ~low
        if close.any() or (np.abs(prices[top | low]) < 1e-4).any() or np.ptp(values) < width - 1e-9:
            return None
        rows = a[part]
        held += [rows[k] - rows[np.flatnonzero(top)[0]] for k in np.flatnonzero(top)[1:]]
        held += [rows[k] - rows[np.flatnonzero(low)[0]] for k in np.flatnonzero(low)[1:]]
        held.append(rows[np.flatnonzero(top)[0]] - rows[np.flatnonzero(low)[0]])
    return np.array(held).reshape(len(held), problem.n)


def _pair(z: tuple[float, float], eps: float) -> Array:
    how: Any = {"sensitive_features": {"a": [0, 1]}, "bounds": (0.0, 1.0), "distance": "kl"}
    sent: Tensor = fo.project(torch.tensor(z, dtype=torch.float64), fo.DemographicParity("a", tolerance=eps), **how)
    return np.asarray(sent.numpy())


def _expansive() -> Measurement:
    d, h = 1e-6, 1e-5
    far = float(np.abs(_pair((2 * d, 1 - d), 0.0) - _pair((d, 1 - d), 0.0)).max())
    base = theta(np.array([0.45, 0.008]), "kl")
    ends = [inverse(base + s * h, "kl") for s in (1.0, -1.0)]
    moved = [theta(_pair((float(e[0]), float(e[1])), 0.4), "kl") for e in ends]
    factor = float(np.linalg.norm(moved[0] - moved[1])) / (2 * h * np.sqrt(2))
    return worst(Measurement(0.08 / d, far / d, note="expansive in scores"), Measurement(1.3, factor, note="expansive in log-odds"))


def check_shadow(rng: Generator, layer: Layer) -> Measurement:
    """y from its prices; the derivative of the least divergence to each limit and width, by central differences."""
    case = draw(rng)
    problem, w, distance = case.problem, case.w, case.problem.distance
    y, p = layer.project(case.scores, problem)
    found = [Measurement(float(np.abs(from_prices(case, p) - y).max()), 0.0, 1e-7 * float(y.max()), note="y from prices")]
    if _active(case, y, p) is None:
        return found[0]
    for k, price in enumerate(constraint_prices(problem, p).tolist()):
        h = 1e-5
        ends = []
        for s in (1.0, -1.0):
            ends.append(divergence(layer.project(case.scores, _wider(problem, k, s * h))[0], case.z, w, distance))
        found.append(Measurement(abs((ends[0] - ends[1]) / (2 * h) + abs(price)), 0.0, 1e-3 * abs(price) + 1e-4, note="shadow price"))
    return worst(*found)


def _wider(problem: ProjectionProblem, k: int, h: float) -> ProjectionProblem:
    """The limits of constraint k moved outward by h; of a linear one both, of which one carries a price at most."""
    if k < problem.linear:
        lower, upper = problem.lower.copy(), problem.upper.copy()
        lower[k] -= h
        upper[k] += h
        return replace(problem, lower=lower, upper=upper)
    width = problem.width.copy()
    width[k - problem.linear] += h
    return replace(problem, width=width)


def check_soft(rng: Generator, layer: Layer) -> Measurement:
    """Caps above and below the prices; both bounds of quadratic softness, and that of the norm for probabilities; it fails for amounts."""
    case = draw(rng)
    problem, w, distance = case.problem, case.w, case.problem.distance
    y, p = layer.project(case.scores, problem)
    prices = constraint_prices(problem, p)
    largest, length = float(np.abs(prices).max(initial=0.0)), float(np.linalg.norm(prices))
    if largest <= 1e-9:
        return _amounts(layer)
    size = float(y.max())
    cost = divergence(y, case.z, w, distance)
    room = 1e-7 * (size + cost)
    capped, _ = layer.project(case.scores, softened(problem, Softness("priced", 1.01 * largest)))
    rho = largest * float(rng.uniform(0.05, 0.95))
    low, _ = layer.project(case.scores, softened(problem, Softness("priced", rho)))
    total = sum(max(0.0, v) for v in distances(problem, row_values(problem, low)))
    gamma = length / size * 10.0 ** float(rng.uniform(-2, 4))
    soft, _ = layer.project(case.scores, softened(problem, Softness("quadratic", gamma)))
    v = np.array([max(0.0, x) for x in distances(problem, row_values(problem, soft))])
    both = float((w * (soft - y) * (theta(soft, distance) - theta(y, distance))).sum())
    found = [
        Measurement(float(np.abs(capped - y).max()), 0.0, 1e-7 * size, note="cap above the prices"),
        Measurement(rho * total, cost - divergence(low, case.z, w, distance), room * (1 + rho), note="cap below the prices"),
        Measurement(float(np.linalg.norm(v)), length / gamma, 1e-9 * size, note="quadratic: violation"),
        Measurement(both, length**2 / (4 * gamma), room, note="quadratic: divergence"),
    ]
    if distance == "kl":
        norm = float(np.sqrt((w * (soft - y) ** 2).sum()))
        found.append(Measurement(norm, length / (4 * np.sqrt(gamma)), room, note="quadratic: norm"))
    return worst(*found, _amounts(layer))


def _amounts(layer: Layer) -> Measurement:
    """10,000 against 40,000 at tolerance 0: farther from the hard answer than L9's bound."""
    prepared = fo.compile(fo.DemographicParity("a", tolerance=0.0), sensitive_features={"a": [0, 1]}, distance="kl_positive")
    z = torch.tensor([1e4, 4e4], dtype=torch.float64)
    assert isinstance(prepared, fo.Prepared)
    y, p = Layer().project(z, prepared.problem)
    gamma = 1e-4
    soft, _ = Layer().project(z, softened(prepared.problem, Softness("quadratic", gamma)))
    length = float(np.linalg.norm(constraint_prices(prepared.problem, p)))
    return Measurement(length / (2 * np.sqrt(gamma)), float(np.linalg.norm(soft - y)), note="L9's norm bound fails for amounts")


def tight_soft(layer: Layer) -> Measurement:
    """One row, gamma huge: the violation is p / gamma."""
    found = [check_soft(np.random.default_rng(k), layer) for k in range(30)]
    return max(found, key=lambda m: (not m.holds, m.ratio))


def edge(layer: Layer, z: Array, codes: Array, eps: float, step: float) -> Measurement:
    """How far a tolerance that is smaller by ``step`` moves a score, over max n_g times the step."""
    ends = []
    for e in (eps, eps - step):
        notion = fo.DemographicParity("a", tolerance=e)
        prepared = fo.compile(notion, sensitive_features={"a": codes.tolist()}, bounds=(0.0, 1.0), distance="kl")
        assert isinstance(prepared, fo.Prepared)
        truth = Layer() if e == eps else layer
        ends.append(truth.project(torch.from_numpy(z), prepared.problem)[0])
    return Measurement(float(np.abs(ends[0] - ends[1]).max()), float(np.bincount(codes).max()) * step, 1e-10, note="the tolerance's reach")


def check_rounding(rng: Generator, layer: Layer) -> Measurement:
    """CERTIFIED in rational arithmetic, float32 and float64, tolerance 0 too; what a smaller tolerance moves."""
    case = draw(rng, 40)
    dtype = (torch.float32, torch.float64)[int(rng.integers(2))]
    problem = case.problem
    if rng.integers(2):
        eps = float(rng.choice([0.0, 1e-9, 1e-3]))
        limits = np.full_like(problem.upper, eps)
        problem = replace(problem, lower=-limits, upper=limits, width=np.full_like(problem.width, eps))
    solution = layer.solution(case.scores.to(dtype), problem)
    broken = violation_exact(problem, solution.scores)
    most = max(
        [v for v in broken.constraints if v is not None] + ([broken.bounds] if broken.bounds is not None else []), default=Fraction(0)
    )
    exact = Measurement(float(max(most, Fraction(0))) if solution.status is Status.CERTIFIED else 0.0, 0.0, note="certified")
    n, groups = int(rng.integers(4, 30)), int(rng.integers(2, 4))
    codes = np.concatenate([np.arange(groups), rng.integers(0, groups, n - groups)])
    z = inverse(rng.normal(0, 2, n) + 2.0 * codes, "kl")
    return worst(exact, edge(layer, z, codes, float(rng.choice([0.05, 0.2])), 1e-3), _comes_to_0())


def _comes_to_0() -> Measurement:
    """A score of 2e-12 whose nearest is positive and that comes back as 0, CERTIFIED, as its group's sum is made whole in ulps."""
    z = torch.tensor([1.43824e-05, 2.19482e-12, 5.75865e-11, 0.111099, 6.8866e-12], dtype=torch.float32)
    how: Any = {"sensitive_features": {"a": [0, 1, 0, 1, 0]}, "bounds": (0.0, 1.0), "distance": "kl"}
    found = fo.project(z, fo.DemographicParity("a", tolerance=0.0), return_solution=True, **how)
    inside = found.status is not fo.Status.CERTIFIED or bool((found.scores > 0).all())
    return Measurement(float(inside), 0.0, note="a tiny score stays positive at tolerance 0")


def tight_edge(layer: Layer) -> Measurement:
    """A group of five with one score that can move, against five that cannot."""
    z = np.r_[0.6, np.full(4, 1e-12), np.full(5, 1e-12)]
    return edge(layer, z, np.repeat([0, 1], 5), 0.05, 1e-3)


DEVIATIONS: dict[str, Any] = {"prices too large": EntropyPricesOff, "weights to the power 1 - size": EntropyWeightsOff}
CLAIMS = (
    Claim(
        "L13",
        "Bregman distances: the nearest scores exist, are one, and lie inside",
        "theorem",
        "ours",
        L13,
        L13_PROOF,
        check_nearest,
        Layer(),
        {"the squared distance": Squared(), "half of the prices": EntropyPricesOff(-0.5)},
        deviations=DEVIATIONS,
        open="Class probabilities: the sum of a sample's row is one more linear row, with phi' = log, so L13 to L16 hold on the simplex "
        "by the same proofs; the checks are for one score a sample.",
    ),
    Claim(
        "L14",
        "Bregman distances: non-expansive in what, and the derivative",
        "theorem",
        "ours",
        L14,
        L14_PROOF,
        check_derivative,
        Layer(),
        {"the squared distance": Squared(), "half of the price step": StepOff(-0.5)},
        deviations={**DEVIATIONS, "price step of the gradient too long": StepOff},
    ),
    Claim(
        "L15",
        "Bregman distances: scores from prices, and shadow prices",
        "theorem",
        "ours",
        L15,
        L15_PROOF,
        check_shadow,
        Layer(),
        {"the squared distance": Squared(), "prices halved": PricesTold(0.5)},
        deviations={**DEVIATIONS, "prices told too small": PricesTold},
    ),
    Claim(
        "L16",
        "Bregman distances: softness",
        "bound",
        "ours",
        L16,
        L16_PROOF,
        check_soft,
        Layer(),
        {"softness a third": SofterBy(2 / 3), "the squared distance": Squared()},
        tight=tight_soft,
        deviations={"softness too weak": SofterBy, "prices told too small": PricesTold},
    ),
    Claim(
        "L17",
        "Bregman distances: certified rounding",
        "bound",
        "ours",
        L17,
        L17_PROOF,
        check_rounding,
        Layer(),
        {"not repaired": NotRepaired(), "tolerance doubled": ToleranceDoubled()},
        tight=tight_edge,
        deviations={"tolerance smaller": lambda size: WiderBy(-size)},
        open="The constant for several attributes, as in L12.",
    ),
)
