"""L2: which notions are feasible, always."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import fairopt as fo
from fairopt.basics.arrays import Array
from fairopt.basics.sparse import dense
from fairopt.contract.problem import ProjectionProblem
from fairopt.testing.claims.subject import excess
from proofs_checks.claim import Claim, Generator, Measurement, worst

STATEMENT = """
Two witnesses settle feasibility. (C) A constant c in all boxes meets every row whose coefficients sum to zero if lower <= 0 <=
upper, every ratio row `mean_a >= r mean_b` (0 <= r <= 1) if c >= 0, every group-mean bound that contains c. (T) y = targets, inside
the boxes, meets MeanResidual and ResidualParity, overlapping attributes too. So any `&` of difference notions in boxes with a
common point, and any `&` of residual notions with targets in the box, is feasible. Joins of different kinds can be infeasible
although each alone is not: DemographicParity .05 & MeanResidual .05 with t = (0, 0, 1, 1). `min >= r max` over >= 2 groups with r <
1 is feasible iff ub >= 0. MeanResidual on disjoint groups in a common box is feasible iff each group's mean target lies in [lb -
eps, ub + eps]. A row with an absent group is dropped whole.
"""
PROOF = """
(C) The row's value at a constant c is c times the sum of its coefficients, 0 for differences, (1 - r) c for ratios, c for means.
(T) All residuals are 0. Ratio: `min >= r max >= r min` gives (1 - r) min >= 0, so some score is >= 0 and ub >= 0; conversely take
the constant max(lb, 0). MeanResidual: group means range over [lb, ub] independently, and [lb, ub] meets [t_g - eps, t_g + eps] iff
t_g is in [lb - eps, ub + eps]. The join: both groups' means are within .05 of 0 and of 1, so they are at least .9 apart.
"""
Compile = Callable[..., ProjectionProblem]


def compile_problem(notion: fo.Notion, **options: Any) -> ProjectionProblem:
    prepared: fo.Prepared = fo.compile(notion, **options)
    return prepared.problem


def term_dropped(notion: fo.Notion, **options: Any) -> ProjectionProblem:
    """Drops one term of each row, as a compiler would that forgets an absent group's mean but keeps the row."""
    problem = compile_problem(notion, **options)
    scales = dense(problem.rows.scales).copy()
    for row in scales:
        row[np.flatnonzero(row)[-1:]] = 0.0
    return replace(problem, rows=replace(problem.rows, scales=scales))


def never_infeasible(notion: fo.Notion, **options: Any) -> ProjectionProblem:
    return compile_problem(notion, **options, on_infeasible="passthrough")


def coefficient_off(size: float) -> Compile:
    """One term of each row smaller by ``size``."""

    def off(notion: fo.Notion, **options: Any) -> ProjectionProblem:
        problem = compile_problem(notion, **options)
        scales = dense(problem.rows.scales).copy()
        for row in scales:
            row[np.flatnonzero(row)[-1:]] *= 1.0 - size
        return replace(problem, rows=replace(problem.rows, scales=scales))

    return off


def residuals_narrower(size: float) -> Compile:
    """The tolerance of a limit on residuals smaller by ``size``."""

    def off(notion: fo.Notion, **options: Any) -> ProjectionProblem:
        if isinstance(notion, fo.MeanResidual):
            notion = fo.MeanResidual(notion.attributes[0], tolerance=(1.0 - size) * notion.tolerance)
        return compile_problem(notion, **options)

    return off


def box_higher(size: float) -> Compile:
    """The box's upper end higher by ``size``."""

    def off(notion: fo.Notion, *, bounds: tuple[float, float], **options: Any) -> ProjectionProblem:
        return compile_problem(notion, bounds=(bounds[0], bounds[1] + size), **options)

    return off


def _raises(compile: Compile, notion: fo.Notion, **options: Any) -> bool:
    try:
        compile(notion, **options)
    except fo.InfeasibleError:
        return True
    return False


def check(rng: Generator, compile: Compile) -> Measurement:
    """A join of one family on a random batch with its witness; the two exact criteria; the contradictory join."""
    n = int(rng.integers(2, 30))
    features = {"a": rng.integers(0, 4, n).tolist(), "b": rng.integers(0, 2, n).tolist()}
    eps = float(rng.choice([0.0, 0.05, 0.3]))
    lb = float(rng.uniform(-1, 0.5))
    ub = lb + float(rng.uniform(0, 1))
    parts = [
        fo.DemographicParity("a", tolerance=eps) & fo.DemographicParity(("a", "b"), tolerance=eps) & fo.EqualizedOdds("b", tolerance=eps),
        fo.MeanResidual("a", tolerance=eps) & fo.ResidualParity(("a", "b"), tolerance=eps),
        fo.ImpactRatio("a", ratio=0.8) & fo.DemographicParity("b", tolerance=eps),
    ]
    family = int(rng.integers(3))
    binary = rng.integers(0, 2, n)
    targets: Array = rng.uniform(lb, ub, n) if family == 1 else binary.astype(np.float64)
    if family == 2:
        lb, ub = max(lb, 0.0), max(ub, 0.0)
    witness = targets if family == 1 else np.full(n, rng.uniform(lb, ub))
    problem = compile(
        parts[family], sensitive_features=features, targets=targets, bounds=(lb, ub), groups={"a": range(4)} if family == 0 else None
    )
    met = Measurement(max(0.0, excess(problem, witness)), 0.0, 1e-12, note=f"witness of family {family}")
    return worst(met, _ratio(rng, compile), _residual(rng, compile), _contradiction(compile))


def _ratio(rng: Generator, compile: Compile) -> Measurement:
    """Boxes whose upper end lies near 0, on either side, half of the time."""
    lb = float(rng.uniform(-1, 0.5))
    ub = lb + float(rng.uniform(0, 1))
    if rng.uniform() < 0.5:
        ub = float(rng.choice([-1.0, 1.0])) * 10.0 ** float(rng.uniform(-12, 0))
        lb = ub - float(rng.uniform(0, 1))
    raises = _raises(compile, fo.ImpactRatio("a", ratio=0.8), sensitive_features={"a": [0, 0, 1]}, bounds=(lb, ub))
    return Measurement(float(raises != (ub < 0)), 0.0, note="ratio: feasible iff ub >= 0")


def _residual(rng: Generator, compile: Compile) -> Measurement:
    """Targets anywhere, or with a group's mean beside the edge."""
    n = int(rng.integers(2, 12))
    codes, targets, eps = rng.integers(0, 2, n), rng.uniform(-1, 2, n), float(rng.uniform(0, 0.5))
    if rng.uniform() < 0.5:  # one group's mean target beside an edge of what is feasible
        near = float(rng.choice([-1.0, 1.0])) * 10.0 ** float(rng.uniform(-7, -1))
        targets = targets + (1 + eps + near if rng.integers(2) else -eps + near) - targets[codes == codes[0]].mean()
    means = [targets[codes == g].mean() for g in np.unique(codes)]
    margin = min(min(abs(m - (-eps)), abs(m - (1 + eps))) for m in means)
    raises = _raises(
        compile, fo.MeanResidual("a", tolerance=eps), sensitive_features={"a": codes.tolist()}, targets=targets, bounds=(0.0, 1.0)
    )
    expected = any(not -eps <= m <= 1 + eps for m in means)
    return Measurement(float(raises != expected and margin > 1e-9), 0.0, note="MeanResidual: feasible iff mean targets are near the box")


def _contradiction(compile: Compile) -> Measurement:
    join = fo.DemographicParity("a", tolerance=0.05) & fo.MeanResidual("a", tolerance=0.05)
    raises = _raises(compile, join, sensitive_features={"a": [0, 0, 1, 1]}, targets=np.array([0.0, 0.0, 1.0, 1.0]), bounds=(0.0, 1.0))
    return Measurement(float(not raises), 0.0, note="parity & residuals contradict each other")


CLAIMS = (
    Claim(
        "L2",
        "which notions are always feasible",
        "theorem",
        "ours",
        STATEMENT,
        PROOF,
        check,
        compile_problem,
        {"a term of a row dropped": term_dropped, "never says infeasible": never_infeasible},
        deviations={
            "a coefficient smaller": coefficient_off,
            "tolerance of residuals smaller": residuals_narrower,
            "upper bound higher": box_higher,
        },
    ),
)
