"""The references that everything else is tested against are tested here, by other means: duality, differences, brute-force Fractions."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError
from fairopt.contract.problem import HARD, ProjectionProblem, Softness
from fairopt.testing.active import crossover
from fairopt.testing.draws import MUTATIONS, SOFT, Draw, draw, drawn_problems, infeasible, wild
from fairopt.testing.exact import cell_sums_exact, dot_exact, row_values_exact, violation_exact
from fairopt.testing.optimality import residuals, written_out
from fairopt.testing.oracle import ACCEPTED, accepted_oracle, solve_reference
from fairopt.testing.sensitivity import exact_jacobian, generic
from fairopt.testing.structures import STRUCTURES


def _primal(problem: ProjectionProblem, z: Array, y: Array) -> float:
    """The objective, from its definition; hard rows are left to ``violation_exact``."""
    a, w = problem.rows.matrix().numpy(), np.ones(problem.n) if problem.weights is None else problem.weights.numpy()
    f = a @ y + problem.rows.offset
    distances = np.maximum(0.0, np.maximum(problem.lower - f[: problem.linear], f[: problem.linear] - problem.upper)).tolist()
    distances += [max(0.0, np.ptp(f[block]) - width) for block, width in zip(problem.range_slices, problem.width, strict=True)]
    total = 0.5 * float(w @ (y - z) ** 2)
    largest: dict[int, float] = {}
    rho: dict[int, float] = {}
    for d, s in zip(distances, problem.softness, strict=True):
        if s.kind == "priced":
            total += s.weight * d
        elif s.kind == "quadratic":
            total += 0.5 * s.weight * d * d
        elif s.kind == "budget":
            largest[s.block], rho[s.block] = max(largest.get(s.block, 0.0), d), s.weight
    return total + sum(rho[b] * d for b, d in largest.items())


def _dual(problem: ProjectionProblem, z: Array, p: Array) -> float:
    """The dual function at p (claim L8 and the table of DESIGN 1): never above the objective, equal to it at the solution."""
    a, w = problem.rows.matrix().numpy(), np.ones(problem.n) if problem.weights is None else problem.weights.numpy()
    lb, ub = (np.broadcast_to(b.numpy() if isinstance(b, torch.Tensor) else b, z.shape) for b in (problem.lb, problem.ub))
    y = np.clip(z - (a.T @ p) / w, lb, ub)
    total = 0.5 * float(w @ (y - z) ** 2) + float(p @ (a @ y + problem.rows.offset))
    with np.errstate(invalid="ignore"):
        support = np.where(p[: problem.linear] > 0, p[: problem.linear] * problem.upper, p[: problem.linear] * problem.lower)
    support = np.where(p[: problem.linear] == 0, 0.0, support)
    spent = np.maximum(p[: problem.linear], 0.0) - np.minimum(p[: problem.linear], 0.0)
    shares: list[float] = spent.tolist() + [float(np.maximum(p[block], 0.0).sum()) for block in problem.range_slices]
    total -= float(support.sum()) + float(np.dot(shares[problem.linear :], problem.width))
    for u, s in zip(shares, problem.softness, strict=True):
        total -= 0.5 * u * u / s.weight if s.kind == "quadratic" else 0.0
    return total


@settings(max_examples=150, deadline=None)
@given(drawn_problems(max_n=60))
def test_duality_gap_of_the_oracle_is_zero(d: Draw) -> None:
    reference = accepted_oracle(d)
    if reference is None:
        return
    z = d.scores.numpy()
    primal, dual = _primal(d.problem, z, reference.y), _dual(d.problem, z, reference.prices)
    scale = primal + abs(dual) + float(np.abs(z).max()) ** 2
    assert abs(primal - dual) <= 1e-11 * scale
    # and the prices are allowed: caps, and ranges that sum to zero
    worst = violation_exact(d.problem, torch.from_numpy(reference.y))
    for k, (v, s) in enumerate(zip(worst.constraints, d.problem.softness, strict=True)):
        if s.kind == "hard" and v is not None:
            row = k if k < d.problem.linear else d.problem.range_slices[k - d.problem.linear].start
            reach = float(d.problem.rows.absolute_sum[row]) * float(np.abs(reference.y).max()) + abs(float(d.problem.rows.offset[row]))
            assert float(v) <= 4e-12 * max(reach, 1e-3 * float(d.problem.rows.absolute_sum[row]) * d.scale)


def test_the_oracle_accepts_nearly_all_draws() -> None:
    found = [accepted_oracle(d) is not None for d in wild(400, seed=1)]
    assert np.mean(found) > 0.99


def spending(problem: ProjectionProblem, prices: Array) -> list[float]:
    """(L + R,) the price of each constraint: of a range, the sum of its positive ones."""
    return np.abs(prices[: problem.linear]).tolist() + [float(np.maximum(prices[block], 0.0).sum()) for block in problem.range_slices]


def test_the_draws_reach_every_state() -> None:
    """Clamped samples, binding and slack rows, prices at their cap and below, absent and present ranges: none is rare."""
    names = (
        "clamped",
        "binding",
        "slack",
        "capped",
        "below cap",
        "range binds",
        "one member",
        "n = 2",
        "dense",
        "quadratic",
        "spent",
        "spare",
    )
    seen = dict.fromkeys(names, 0)
    for d in wild(300, seed=2, max_n=60):
        reference = accepted_oracle(d)
        if reference is None:
            continue
        problem, p = d.problem, np.abs(reference.prices)
        lb, ub = (b.numpy() if isinstance(b, torch.Tensor) else b for b in (problem.lb, problem.ub))
        seen["clamped"] += bool(((reference.y == lb) | (reference.y == ub)).any())
        seen["binding"] += bool((p > 1e-9).any())
        seen["slack"] += bool((p[: problem.linear] <= 1e-9).any())
        for k in range(problem.linear):
            if problem.softness[k].kind == "priced" and p[k] > 0:
                seen["capped" if p[k] >= problem.softness[k].weight * (1 - 1e-9) else "below cap"] += 1
        for k, (cost, s) in enumerate(zip(spending(problem, reference.prices), problem.softness, strict=True)):
            seen["quadratic"] += s.kind == "quadratic" and cost > 0
            if s.kind == "budget" and cost > 0 and not any(t.block == s.block for t in problem.softness[:k]):
                together = sum(c for c, t in zip(spending(problem, reference.prices), problem.softness, strict=True) if t.block == s.block)
                seen["spent" if together >= s.weight * (1 - 1e-9) else "spare"] += 1
        seen["range binds"] += any(p[block].max() > 1e-9 for block in problem.range_slices)
        seen["one member"] += bool((problem.rows.mask_counts == 1).any())
        seen["n = 2"] += problem.n == 2
        seen["dense"] += problem.rows.dense is not None
    assert min(seen.values()) >= 5, seen


@pytest.mark.parametrize("change", ["y", "price", "sign", "box", "missing"])
def test_wrong_solutions_are_not_accepted(change: str) -> None:
    told, tried = 0, 0
    for d in wild(60, seed=3, max_n=40):
        reference = generic(d)
        if reference is None or np.abs(reference.prices).max() < 1e-6:
            continue
        tried += 1
        y, p = reference.y.copy(), reference.prices.copy()
        if change == "y":
            y[int(np.argmax(np.abs(y)))] += 1e-10 * np.abs(d.scores.numpy()).max()
        elif change == "price":
            p *= 1.0 + 1e-9
        elif change == "sign":
            p = -p
        elif change == "box":
            y = y - 1e-9 * np.abs(y).max()
        else:
            p[int(np.argmax(np.abs(p)))] = 0.0
        told += residuals(d.problem, d.scores.numpy(), y, p).worst > ACCEPTED
    assert tried >= 20
    assert told >= 0.95 * tried


def variants(problem: ProjectionProblem, scale: float) -> list[ProjectionProblem]:
    """The same rows under other softness: each kind throughout, and each weight a third and three times."""
    size = problem.n * scale
    kinds = (HARD, Softness("priced", 0.03 * size), Softness("budget", 0.03 * size, 0), Softness("quadratic", float(problem.n)))
    found = [replace(problem, softness=tuple(softness for _ in problem.softness)) for softness in kinds]
    for factor in (1.0 / 3.0, 3.0):
        found.append(replace(problem, softness=tuple(replace(s, weight=s.weight * factor) for s in problem.softness)))
    return found


def test_the_solution_of_one_softness_is_not_accepted_for_another() -> None:
    """Any answer that is accepted is the answer: a variant's solution passes only where the scores agree."""
    wrong: dict[tuple[str, str], int] = {}
    for d in wild(60, seed=6, max_n=24, avoid=("infeasible", *SOFT, "scaled_rows", "huge", "tiny")):
        z = d.scores.numpy()
        solved = []
        for problem in variants(d.problem, d.scale):
            try:
                reference = solve_reference(z, problem)
            except BackendError:
                continue
            if reference.accepted:
                solved.append((problem, reference))
        for problem, own in solved:
            for other_problem, other in solved:
                if np.abs(own.y - other.y).max() > 1e-6 * max(1.0, np.abs(z).max()):
                    kinds = (problem.softness[0].kind, other_problem.softness[0].kind)
                    wrong[kinds] = wrong.get(kinds, 0) + 1
                    assert residuals(problem, z, other.y, other.prices).worst > 1e-9, (d, kinds)
    assert len(wrong) >= 12, wrong


def test_wrong_prices_with_their_own_scores_are_not_accepted() -> None:
    """y = clip(z - A'p / w) at wrong prices p: stationarity holds, so the conditions on the rows alone must tell."""
    told = 0
    for d in wild(150, seed=7, max_n=24, avoid=("infeasible", "huge", "tiny", "wild_weights")):
        reference = generic(d)
        if reference is None:
            continue
        z, dense, rng = d.scores.numpy(), written_out(d.problem), np.random.default_rng(d.seed)
        for change in range(4):
            p = reference.prices.copy()
            k = int(rng.integers(p.shape[0]))
            if change == 0:
                p[k] *= rng.uniform(0.5, 2.0)
            elif change == 1:
                p[k] = 0.0
            elif change == 2:
                p *= 1.0 + 0.1 * rng.normal()
            else:
                p += 0.1 * rng.normal() * max(np.abs(p).max(), 0.1)
            y = np.clip(z - (dense.a.T @ p) / dense.w, dense.lb, dense.ub)
            if np.abs(y - reference.y).max() > 1e-6 * max(1.0, np.abs(z).max()):
                told += 1
                assert residuals(d.problem, z, y, p).worst > 1e-9, (d, change)
    assert told >= 100


def test_the_crossover_mends_six_lost_digits() -> None:
    """From the reference moved by 1e-7: the same piece, solved again, to full accuracy, in every softness."""
    mended: dict[str, int] = {}
    for d in wild(300, seed=8, max_n=40, avoid=("infeasible", "wild_weights", "scaled_rows")):
        reference = generic(d)
        if reference is None:
            continue
        z, rng = d.scores.numpy(), np.random.default_rng(d.seed)
        y = reference.y + 1e-7 * np.abs(z).max() * rng.normal(size=z.shape)
        prices = reference.prices * (1.0 + 1e-7 * rng.normal(size=reference.prices.shape))
        y, prices = crossover(d.problem, z, y, prices, 1e-5)
        assert np.abs(y - reference.y).max() <= 1e-11 * np.abs(z).max(), d
        assert residuals(d.problem, z, y, prices).worst <= 1e-11, d
        for cost, s in zip(spending(d.problem, prices), d.problem.softness, strict=True):
            mended[s.kind] = mended.get(s.kind, 0) + (cost > 0)
    assert min(mended.get(kind, 0) for kind in ("hard", "priced", "budget", "quadratic")) >= 8, mended


def test_exact_jacobian_is_the_derivative_of_the_oracle() -> None:
    compared = 0
    for d in wild(120, seed=4, max_n=24):
        reference = generic(d)
        if reference is None:
            continue
        compared += 1
        jacobian, z = exact_jacobian(d, reference), d.scores.numpy()
        step = 1e-5 * float(np.abs(z).max())
        direction = np.random.default_rng(d.seed).uniform(-1.0, 1.0, d.problem.n)
        ahead, behind = (solve_reference(z + sign * step * direction, d.problem).y for sign in (1.0, -1.0))
        assert np.abs((ahead - behind) / (2.0 * step) - jacobian @ direction).max() <= 1e-7, d
    assert compared >= 50


def test_draws_are_deterministic_and_mutations_are_independent() -> None:
    for structure in STRUCTURES:
        a, b = (draw(structure, 11, ["box", "weights"]) for _ in range(2))
        assert torch.equal(a.scores, b.scores)
        assert np.array_equal(a.problem.rows.scales, b.problem.rows.scales)
        plain = draw(structure, 11)
        assert torch.equal(plain.scores, a.scores), "a box must not change the scores"
        assert np.array_equal(plain.problem.rows.scales, a.problem.rows.scales)


def test_every_structure_meets_every_mutation() -> None:
    for structure in STRUCTURES:
        for mutation in MUTATIONS:
            problem = draw(structure, 3, [mutation], max_n=30).problem
            assert problem.m >= 1
            assert (problem.rows.counts > 0).all()
            assert len(problem.softness) == len(problem.constraint_labels) == problem.linear + problem.ranges
            assert int(problem.range_starts[0]) == problem.linear
            assert int(problem.range_starts[-1]) == problem.m == len(problem.labels)


def test_feasible_draws_have_a_witness_and_infeasible_ones_have_no_solution() -> None:
    linprog = pytest.importorskip("scipy.optimize").linprog
    for d in [*wild(60, seed=5, max_n=24, avoid=("infeasible", "priced", "budget", "quadratic", "mixed_softness")), *infeasible(60)]:
        problem, a = d.problem, d.problem.rows.matrix().numpy()
        g, h = [], []
        for k in range(problem.linear):
            g += [a[k], -a[k]]
            h += [problem.upper[k] - problem.rows.offset[k], problem.rows.offset[k] - problem.lower[k]]
        for block, width in zip(problem.range_slices, problem.width, strict=True):
            for i in range(block.start, block.stop):
                for j in range(block.start, block.stop):
                    if i != j:
                        g.append(a[i] - a[j])
                        h.append(width - problem.rows.offset[i] + problem.rows.offset[j])
        size = np.maximum(np.abs(np.array(g)).sum(axis=1), 1e-300)
        lb, ub = (np.broadcast_to(b.numpy() if isinstance(b, torch.Tensor) else b, (problem.n,)) for b in (problem.lb, problem.ub))
        finite = np.isfinite(h)
        found = linprog(
            np.zeros(problem.n), np.array(g)[finite] / size[finite, None] * d.scale, np.array(h)[finite] / size[finite],
            bounds=np.stack([lb, ub], axis=1) / d.scale,
        )  # fmt: skip
        assert (found.status == 0) == (d.witness is not None), (d, found.message)


def _range(rows: list[Fraction], problem: ProjectionProblem, r: int) -> Fraction:
    """By how much a range is beyond its width: ratio * max - min - width."""
    return Fraction(float(problem.ratio[r])) * max(rows) - min(rows) - Fraction(float(problem.width[r]))


@settings(max_examples=60, deadline=None)
@given(drawn_problems(max_n=20), st.sampled_from(["float64", "float32", "bfloat16", "float16"]))
def test_exact_rows_agree_with_fractions_written_out(d: Draw, dtype: str) -> None:
    problem, rows = d.problem, d.problem.rows
    y = d.scores.to(getattr(torch, dtype))
    assume(bool(torch.isfinite(y).all()))
    numbers = [Fraction(v) for v in y.double().tolist()]
    members = [[i for i in range(problem.n) if rows.masks[j, rows.cell[i]]] for j in range(rows.masks.shape[0])]

    def mean(values: list[Fraction], mask: int) -> Fraction:
        return sum((values[i] for i in members[mask]), Fraction(0)) / len(members[mask])

    exact = row_values_exact(problem, y)
    for k in range(problem.m):
        total = sum((Fraction(float(rows.scales[k, j])) * mean(numbers, j) for j in range(len(members)) if rows.scales[k, j]), Fraction(0))
        for row, scale, mask, value in rows.offset_terms:
            if row == k:
                total += Fraction(scale) * (mean([Fraction(v) for v in rows.values[value].tolist()], mask) if value >= 0 else 1)
        if rows.dense is not None:
            for weights, row in zip(rows.dense.tolist(), rows.dense_rows.tolist(), strict=True):
                if row == k:
                    total += sum((Fraction(c) * v for c, v in zip(weights, numbers, strict=True)), Fraction(0))
        assert exact[k] == total
    checked = violation_exact(problem, y)
    for k in range(problem.linear):
        sides = [s for s in (problem.upper[k], -problem.lower[k]) if np.isfinite(s)]
        signs = [1 if s == problem.upper[k] else -1 for s in sides] if np.isfinite(problem.upper[k]) else [-1]
        expected = max(sign * exact[k] - Fraction(float(s)) for sign, s in zip(signs, sides, strict=True))
        if problem.upper[k] != -problem.lower[k]:
            assert checked.constraints[k] == expected
        else:
            assert checked.constraints[k] == abs(exact[k]) - Fraction(float(problem.upper[k]))
    for r, block in enumerate(problem.range_slices):
        assert checked.constraints[problem.linear + r] == _range(exact[block], problem, r)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 300))
def test_integer_sums_are_exact(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n) * np.exp(rng.uniform(-40.0, 40.0, n))
    b = rng.normal(size=n) * rng.choice([1e-300, 1.0, 1e300], n)
    a[rng.uniform(size=n) < 0.1] = 0.0
    cell = rng.integers(0, 5, n)
    expected = [sum((Fraction(v) for v in a[cell == c].tolist()), Fraction(0)) for c in range(5)]
    assert cell_sums_exact(a, cell, 5) == expected
    assert dot_exact(a, b) == sum((Fraction(x) * Fraction(v) for x, v in zip(a.tolist(), b.tolist(), strict=True)), Fraction(0))


def test_exact_bounds_see_one_unit_in_the_last_place() -> None:
    d = draw("range", 1, ["box"], n=6)
    y = torch.full((6,), 0.5, dtype=torch.float64)
    assert violation_exact(d.problem, y).bounds == Fraction(-1, 2)
    y[3] = float(np.nextafter(1.0, 2.0))
    assert violation_exact(d.problem, y).bounds == Fraction(1, 2**52)
    y[3], y[2] = 1.0, -5e-324
    assert violation_exact(d.problem, y).bounds == Fraction(5e-324)
