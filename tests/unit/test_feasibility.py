"""Feasibility: witnesses, exact test against an LP, minimal conflicts, and what to do about them. Source: claim L2."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairopt.basics.errors import InfeasibleError
from fairopt.compiler import compile_problem
from fairopt.contract.problem import HARD, ProjectionProblem
from fairopt.contract.rows import Rows
from fairopt.feasibility import conflict as conflict_of
from fairopt.feasibility import infeasibility
from fairopt.feasibility.decide import _least_squares
from fairopt.feasibility.least_violation import Region, _balance
from fairopt.notions import (
    Batch,
    DemographicParity,
    GroupMeanBound,
    ImpactRatio,
    MeanResidual,
    Notion,
    ResidualParity,
    ScoreCovariance,
    notion,
)

linprog = pytest.importorskip("scipy.optimize").linprog
T4 = np.array([0.0, 0.0, 1.0, 1.0])
G4 = {"g": [0, 0, 1, 1], "s": [0.0, 0.0, 1.0, 1.0], "three": [0, 1, 1, 2]}


@notion
def apart(batch: Batch, attribute: str, by: float) -> Any:
    a, b = batch.groups(attribute)
    yield batch.mean(a) - batch.mean(b) >= by


def conflict(made: Notion, **options: Any) -> tuple[str, ...]:
    with pytest.raises(InfeasibleError) as caught:
        compile_problem(made, **{"n": 4, "sensitive_features": G4, "targets": T4, **options})
    for label in caught.value.rows:
        assert label in str(caught.value)
    return caught.value.rows


def feasible(made: Notion, **options: Any) -> bool:
    return compile_problem(
        made, **{"n": 4, "sensitive_features": G4, "targets": T4, "on_infeasible": "passthrough", **options}
    ).problem.feasible


DP, MR, RP = DemographicParity("g", tolerance=0.05), MeanResidual("g", tolerance=0.05), ResidualParity("g", tolerance=0.05)


@pytest.mark.parametrize(
    ("made", "options", "rows"),
    [
        (DP & MR, {}, ("DemographicParity(g): 0 - 1", "MeanResidual(g): 0", "MeanResidual(g): 1")),
        (DP & RP, {}, ("DemographicParity(g): 0 - 1", "ResidualParity(g): 0 - 1")),
        (ImpactRatio("g") & MR, {}, ("MeanResidual(g): 0", "MeanResidual(g): 1", "ImpactRatio(g): 0 - 0.8*1")),
        (DP, {"bounds": ([0, 0, 0.6, 0.6], [0.2, 0.2, 1, 1])}, ("DemographicParity(g): 0 - 1",)),
        (apart("g", 0.5), {"bounds": (0, 0.4)}, ("apart(g): 0 - 1",)),
        (MR, {"bounds": (0.2, 0.5)}, ("MeanResidual(g): 1",)),  # either group alone is a conflict
        (ImpactRatio("g"), {"bounds": (-2.0, -0.1)}, None),
        (GroupMeanBound("g", upper=0.3) & GroupMeanBound("g", lower=0.4), {}, None),
        (GroupMeanBound("g", lower=0.6), {"bounds": (0.0, 0.5)}, None),
        (ScoreCovariance("s", tolerance=0.01) & MeanResidual("g", tolerance=0.1), {}, None),
        (ResidualParity("three", tolerance=0.05), {"bounds": (0.4, 0.6)}, ("ResidualParity(three)",)),
    ],
)
def test_the_notes_examples_conflict_minimally(made: Notion, options: dict[str, Any], rows: tuple[str, ...] | None) -> None:
    found = conflict(made, **options)
    if rows is not None:
        assert set(found) == set(rows) or len(rows) == len(found) == 1
    closest = compile_problem(made, **{"n": 4, "sensitive_features": G4, "targets": T4, "on_infeasible": "closest", **options}).problem
    assert not closest.feasible


@pytest.mark.parametrize(
    ("made", "options"),
    [
        (DP, {}),
        (DP & DemographicParity("g", tolerance=0.0, to="overall"), {"bounds": (0.3, 0.3)}),
        (MR & RP, {"bounds": (0.0, 1.0)}),
        (MeanResidual("g", tolerance=0.25), {"bounds": (0.2, 0.8)}),  # targets outside, means within reach
        (ImpactRatio("g"), {"bounds": (-1.0, 0.0)}),
        (ImpactRatio("g") & GroupMeanBound("g", lower=0.4), {"bounds": (0.0, 1.0)}),
        (apart("g", 0.4), {"bounds": (0, 0.4)}),
        (DP & MR.priced(1.0), {}),  # what is soft never conflicts
        (ScoreCovariance("s", tolerance=0.0), {"bounds": (0.0, 1.0)}),
        (DP, {"bounds": ([0, 0, 0.2, 0.2], [0.2, 0.2, 1, 1])}),
    ],
)
def test_what_is_feasible_is_left_alone(made: Notion, options: dict[str, Any]) -> None:
    assert feasible(made, **options)


def test_both_of_two_crossing_bounds_are_named() -> None:
    rows = conflict(GroupMeanBound("g", upper=0.3) & GroupMeanBound("g", lower=0.4))
    assert len(rows) == 2
    assert len({r.removesuffix(" #2") for r in rows}) == 1  # the same group twice


def test_closest_shares_the_violation() -> None:
    """0 <= u_0 <= 0.05, 0.95 <= u_1, |u_0 - u_1| <= 0.05: 0.85 too much, a third for each of the three."""
    options: dict[str, Any] = {"n": 4, "sensitive_features": G4, "targets": T4}
    problem = compile_problem(DP & MR, **options, on_infeasible="closest").problem
    assert problem.lower == pytest.approx([-1 / 3, -0.05, -1 / 3], abs=1e-9)
    assert problem.upper == pytest.approx([0.05, 1 / 3, 0.05], abs=1e-9)
    same = compile_problem(DP & MR, **options, on_infeasible="passthrough").problem
    assert same.upper.tolist() == [0.05] * 3
    assert not same.feasible


def test_closest_moves_learned_limits_too() -> None:
    tolerance = torch.nn.Parameter(torch.tensor(0.05, dtype=torch.float64))
    made = DemographicParity("g", tolerance=tolerance) & MR
    result = compile_problem(made, n=4, sensitive_features=G4, targets=T4, on_infeasible="closest")
    limits = result.limits()
    assert limits.lower.detach().numpy() == pytest.approx(result.problem.lower)
    assert limits.upper.detach().numpy() == pytest.approx(result.problem.upper)


def draw_region(rng: np.random.Generator) -> Region:
    unknowns = int(rng.integers(1, 7))
    constraints: list[tuple[int, float, float]] = []
    for _ in range(rng.integers(1, 6)):
        if rng.random() < 0.6:
            centre, half = rng.normal(), rng.choice([0, 0.05, 0.5])
            low, high = centre - half, centre + half
            side = rng.random()
            constraints.append((1, -math.inf if side < 0.3 else low, math.inf if 0.3 <= side < 0.5 else high))
        else:
            constraints.append((int(rng.integers(3, 5)), math.nan, float(rng.choice([0, 0.05, 0.3]))))
    rows = sum(k for k, _, _ in constraints)
    lb, ub = np.zeros(unknowns), np.ones(unknowns)
    if rng.random() < 0.3:
        ub[:] = math.inf
    if rng.random() < 0.2:
        lb[:] = -math.inf
    matrix, offset = rng.normal(size=(rows, unknowns)), rng.normal(size=rows)
    return Region(matrix, offset, lb, ub, tuple(constraints), np.ones(rows), np.ones(unknowns, dtype=bool))


def lp_feasible(region: Region, chosen: list[int]) -> bool:
    ranges = [k for k in chosen if math.isnan(region.constraints[k][1])]
    unknowns = region.matrix.shape[1]
    a, b = [], []
    for k in chosen:
        _, low, high = region.constraints[k]
        for i in range(region.slices()[k].start, region.slices()[k].stop):
            line = np.concatenate([region.matrix[i], np.zeros(len(ranges))])
            if math.isnan(low):
                shifted = line.copy()
                shifted[unknowns + ranges.index(k)] = -1
                a += [shifted, -shifted]
                b += [high - region.offset[i], region.offset[i]]
            else:
                a += [line] * int(high < math.inf) + [-line] * int(low > -math.inf)
                b += [high - region.offset[i]] * int(high < math.inf) + [region.offset[i] - low] * int(low > -math.inf)
    box = [(lo if lo > -math.inf else None, hi if hi < math.inf else None) for lo, hi in zip(region.lb, region.ub, strict=True)]
    return bool(linprog(np.zeros(unknowns + len(ranges)), A_ub=np.array(a), b_ub=b, bounds=box + [(None, None)] * len(ranges)).status == 0)


def problem_of(region: Region) -> ProjectionProblem:
    """The region as a problem of single samples, every row with weights of its own."""
    m, n = region.matrix.shape
    L = sum(not math.isnan(low) for _, low, _ in region.constraints)
    order = sorted(range(len(region.constraints)), key=lambda k: math.isnan(region.constraints[k][1]))
    index = [i for k in order for i in range(region.slices()[k].start, region.slices()[k].stop)]
    linear, ranges = [region.constraints[k] for k in order[:L]], [region.constraints[k] for k in order[L:]]
    rows = Rows(
        cell=torch.zeros(n, dtype=torch.int64),
        masks=np.ones((1, 1), dtype=bool),
        scales=np.zeros((m, 1)),
        offset=region.offset[index],
        dense=torch.from_numpy(region.matrix[index]),
        dense_rows=np.arange(m),
    )
    return ProjectionProblem(
        rows,
        np.array([low for _, low, _ in linear]),
        np.array([high for _, _, high in linear]),
        np.array([width for _, _, width in ranges]),
        np.cumsum([L, *(k for k, _, _ in ranges)]).astype(np.int64),
        lb=torch.from_numpy(region.lb),
        ub=torch.from_numpy(region.ub),
        softness=tuple(HARD for _ in order),
        labels=tuple(map(str, range(m))),
        constraint_labels=tuple(map(str, order)),
    )


@given(st.integers(0, 2**32 - 1))
def test_the_exact_test_agrees_with_an_lp(seed: int) -> None:
    region = draw_region(np.random.default_rng(seed))
    proof = infeasibility(problem_of(region))
    assert (proof is None) == lp_feasible(region, list(range(len(region.constraints))))
    assert proof is None or proof.check()


@given(st.integers(0, 2**32 - 1))
def test_conflicts_are_minimal(seed: int) -> None:
    region = draw_region(np.random.default_rng(seed))
    problem = problem_of(region)
    proof = infeasibility(problem)
    if proof is None:
        return
    fewest = conflict_of(problem, proof)
    assert fewest.check()
    found = [int(problem.constraint_labels[c]) for c in fewest.constraints]
    assert not lp_feasible(region, found)
    assert all(lp_feasible(region, [k for k in found if k != out]) for out in found if len(found) > 1)


@given(st.integers(0, 2**32 - 1))
def test_residuals_in_floats_become_a_proof(seed: int) -> None:
    """The road of problems with many terms: what the least violation leaves, made exact."""
    region = draw_region(np.random.default_rng(seed))
    problem = problem_of(region)
    proof = _least_squares(problem, list(range(problem.linear + problem.ranges)))
    assert proof is None or proof.check()
    known = infeasibility(problem)
    if known is None or known.margin > 1e-6:
        assert (proof is None) == (known is None)


@given(st.integers(0, 2**32 - 1))
def test_many_unknowns_agree_with_few(seed: int) -> None:
    """Linear constraints only: there both methods minimise the same sum."""
    from fairopt.feasibility import least_violation as module

    region = draw_region(np.random.default_rng(seed))
    if any(math.isnan(low) for _, low, _ in region.constraints):
        return
    args = (region.matrix, region.offset, region.lb, region.ub, list(region.constraints))
    few, many = (region.matrix @ u + region.offset for u in (module._interior(*args)[0], module._gradient(*args)))
    sums = [float((module.residuals(f, list(region.constraints)) ** 2).sum()) for f in (few, many)]
    assert sums[0] == pytest.approx(sums[1], abs=1e-6)
    assert sums[0] <= sums[1] + 1e-9  # the interior point is the better one


@given(st.integers(0, 2**32 - 1))
def test_products_by_terms_are_the_matrix_products(seed: int) -> None:
    from fairopt.feasibility.least_violation import _Matrix

    rng = np.random.default_rng(seed)
    F = rng.normal(size=(30, 40)) * (rng.random((30, 40)) < 0.03)
    F[np.arange(30), rng.integers(0, 40, 30)] = 1.0  # no row is all zero
    made = _Matrix(F)
    assert made.sparse
    x, q = rng.normal(size=40), rng.normal(size=30)
    assert made.dot(x) == pytest.approx(F @ x)
    assert made.transposed(q) == pytest.approx(F.T @ q)


@given(st.integers(0, 2**32 - 1))
def test_a_range_is_balanced(seed: int) -> None:
    rng = np.random.default_rng(seed)
    f, width = rng.normal(size=int(rng.integers(2, 9))).round(1), float(rng.choice([0.0, 0.3, 1.0]))
    t = _balance(f, width)
    assert np.maximum(t - f, 0).sum() == pytest.approx(np.maximum(f - t - width, 0).sum(), abs=1e-12)


def test_a_large_batch_with_dense_rows_is_settled() -> None:
    n = 3000
    s = np.linspace(-1, 1, n)
    features = {"s": s, "g": (s > 0).astype(int)}
    targets = (s > 0).astype(np.float64)
    loose = ScoreCovariance("s", tolerance=0.3) & MeanResidual("g", tolerance=0.1)
    assert feasible(loose, n=n, sensitive_features=features, targets=targets, bounds=(0.05, 0.95))
    tight = ScoreCovariance("s", tolerance=0.01) & MeanResidual("g", tolerance=0.1)
    rows = conflict(tight, n=n, sensitive_features=features, targets=targets, bounds=(0.0, 1.0))
    assert "ScoreCovariance(s): covariance" in rows


def test_the_rounding_of_a_centred_row_proves_nothing() -> None:
    """Pinned scores whose covariance, in rationals, is the tolerance: the weights s - mean(s) are rounded, an ulp beyond is no proof."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        n = int(rng.integers(3, 40))
        s, y = rng.normal(size=n), rng.normal(size=n)
        mean = sum(map(Fraction, s.tolist()), Fraction(0)) / n
        exact = abs(sum(((Fraction(a) - mean) * Fraction(b) for a, b in zip(s.tolist(), y.tolist(), strict=True)), Fraction(0)) / n)
        limit = float(exact) if Fraction(float(exact)) >= exact else float(np.nextafter(float(exact), np.inf))
        pinned = (torch.from_numpy(y), torch.from_numpy(y))
        for tolerance, proved in ((limit, False), (0.999 * limit, True)):
            notion = ScoreCovariance("s", tolerance=tolerance)
            options: dict[str, Any] = {"n": n, "sensitive_features": {"s": s}, "bounds": pinned, "on_infeasible": "passthrough"}
            assert (infeasibility(compile_problem(notion, **options).problem) is not None) == proved


def test_the_balance_of_a_range_far_from_zero() -> None:
    """What is cut above t + width and below t is equal, also where sums of the values lose their differences."""
    from fairopt.feasibility import least_violation

    rng = np.random.default_rng(0)
    for _ in range(300):
        f = rng.choice([-100000000.32112812, -99999999.53631435, -100000000.41341837], size=int(rng.integers(2, 90)))
        t = least_violation._balance(f, 1e-9)
        cut = np.maximum(f - (t + 1e-9), 0.0).sum() - np.maximum(t - f, 0.0).sum()
        assert abs(cut) <= 4 * len(f) * np.spacing(1e8)
