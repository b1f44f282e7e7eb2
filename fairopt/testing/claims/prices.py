"""Claims L8 and L9 of any backend: prices give the scores and the derivative of the cost; what softening them does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.contract.problem import ProjectionProblem, Softness
from fairopt.testing.active import piece_at
from fairopt.testing.claims.formulas import soft_violation
from fairopt.testing.claims.measurement import Measurement, worst
from fairopt.testing.claims.projection import ROOM
from fairopt.testing.claims.subject import Case, Generator, Layer, clipped, constraint_prices, distances, norm, row_values, scale_of
from fairopt.testing.optimality import written_out


def cost(case: Case, y: Array) -> float:
    """1/2 ||y - z||_W^2."""
    return 0.5 * norm(y - case.z, case.w) ** 2


def check_prices(rng: Generator, layer: Layer) -> Measurement:
    """L8: y = clip(z - W^-1 A^T p, lb, ub), and dV/d(upper) = -p^+, dV/d(lower) = +p^-, dV/d(width) = -(price of the range)."""
    case = layer.case(rng, max_n=16, strict=True, avoid=("huge", "tiny", "far", "duplicate", "redundant", "scaled_rows"))
    problem = case.problem
    y, p = layer.project(case.scores, problem)
    scale = scale_of(case, y)
    form = Measurement(float(np.abs(clipped(case, p) - y).max()) / scale, ROOM * layer.accuracy, note="y from prices")
    k = int(rng.integers(len(problem.softness)))
    if (problem.linear > k and problem.lower[k] == problem.upper[k]) or (
        k >= problem.linear and problem.width[k - problem.linear] == 0 and problem.ratio[k - problem.linear] == 1
    ):
        return form  # both sides move at once: one derivative only from one side
    if not _unique_prices(case, y, p):
        return form  # several multipliers: one-sided derivatives
    rows = [k] if k < problem.linear else list(range(problem.m))[problem.range_slices[k - problem.linear]]
    reach = float(problem.rows.absolute_sum[rows].max())
    h = 1e-5 * scale * reach
    price = float(constraint_prices(problem, p)[k])
    numeric = (cost(case, layer.project(case.scores, _wider(problem, k, h, price))[0])
               - cost(case, layer.project(case.scores, _wider(problem, k, -h, price))[0])) / (2 * h)  # fmt: skip
    size = abs(price) + scale * float(case.w.max()) / reach
    return worst(form, Measurement(abs(numeric + abs(price)) / size, 1e-4 + layer.accuracy / 1e-5, note="derivative of the cost"))


def _unique_prices(case: Case, y: Array, p: Array) -> bool:
    """Whether the active rows have full rank on the free samples."""
    piece = piece_at(case.problem, case.z, y, p)
    c = (piece.columns.T @ written_out(case.problem).a)[:, piece.free]
    if c.shape[0] == 0:
        return True
    length = np.linalg.norm(c, axis=1)
    return bool((length > 0).all()) and int(np.linalg.matrix_rank(c / length[:, None], tol=1e-6)) == c.shape[0]


def _wider(problem: ProjectionProblem, k: int, h: float, price: float) -> ProjectionProblem:
    """The limit that the price of constraint k points at, moved outward by h."""
    lower, upper, width = problem.lower.copy(), problem.upper.copy(), problem.width.copy()
    if k >= problem.linear:
        width[k - problem.linear] += h
    elif price >= 0:
        upper[k] += h
    else:
        lower[k] -= h
    return replace(problem, lower=lower, upper=upper, width=width)


def softened(problem: ProjectionProblem, kind: Softness) -> ProjectionProblem:
    """The same problem with every constraint softened alike."""
    return replace(problem, softness=tuple(kind for _ in problem.softness))


def check_softness(rng: Generator, layer: Layer) -> Measurement:
    """L9: a cap above the prices changes nothing; below, rho * violation <= V_hard - cost; quadratic: both bounds by ||p*||."""
    case = layer.case(rng, max_n=16, avoid=("huge", "tiny", "far", "wild_weights"))
    problem = case.problem
    y, p = layer.project(case.scores, problem)
    prices = constraint_prices(problem, p)
    largest, length = float(np.abs(prices).max(initial=0.0)), float(np.linalg.norm(prices))
    scale = scale_of(case, y)
    room = ROOM * layer.accuracy * scale
    if largest <= 1e-9:
        return Measurement(0.0, room, note="nothing binds")
    capped, _ = layer.project(case.scores, softened(problem, Softness("priced", 1.01 * largest)))
    exact = Measurement(float(np.abs(capped - y).max()), room, note="cap above the prices")
    rho = largest * float(rng.uniform(0.05, 0.95))
    low, _ = layer.project(case.scores, softened(problem, Softness("priced", rho)))
    total = sum(max(0.0, v) for v in distances(problem, row_values(problem, low)))
    below = Measurement(rho * total, cost(case, y) - cost(case, low), room * (1 + rho + scale), note="cap below the prices")
    gamma = length / scale * 10.0 ** float(rng.uniform(-2.0, 3.0))
    soft, _ = layer.project(case.scores, softened(problem, Softness("quadratic", gamma)))
    v = np.array([max(0.0, x) for x in distances(problem, row_values(problem, soft))])
    violation = Measurement(float(np.linalg.norm(v)), length / gamma, room, note="quadratic: violation")
    moved = Measurement(norm(soft - y, case.w), length / (2.0 * np.sqrt(gamma)), room * case.problem.n, note="quadratic: distance")
    return worst(exact, below, violation, moved)


def check_one_row(rng: Generator, layer: Layer) -> Measurement:
    """L9, one row: 0 <= violation <= price / gamma, and the violation is ``formulas.soft_violation``."""
    from fairopt.testing.claims.closed import two_groups

    case = two_groups(rng)
    y, p = layer.project(case.scores, case.problem)
    price = float(np.abs(constraint_prices(case.problem, p)).max(initial=0.0))
    gamma = 10.0 ** float(rng.uniform(-2.0, 4.0))
    soft, _ = layer.project(case.scores, softened(case.problem, Softness("quadratic", gamma)))
    v = max(0.0, *distances(case.problem, row_values(case.problem, soft)))
    rows, room = written_out(case.problem), ROOM * layer.accuracy * scale_of(case, y)
    raw = max(0.0, *distances(case.problem, row_values(case.problem, case.z)))
    direction = rows.a[0] if case.problem.linear else rows.a[0] - rows.a[1]
    formula = soft_violation(raw, gamma, float((direction * direction / case.w).sum()))
    return worst(Measurement(v, price / gamma, room), Measurement(abs(v - formula), 0.0, room, note="equals the formula"))
