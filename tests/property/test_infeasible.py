"""INFEASIBLE is said only with a proof; CLOSEST only of what is proved infeasible, against the notion as written.

The proofs are checked anew here from the samples' side (A, box and limits as fractions, written out from the compiled problem without
fairopt's own sums); feasible problems are made around exact scores, infeasible ones with a known margin.
"""

from __future__ import annotations

import json
import math
import pickle
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.contract.problem import ProjectionProblem
from fairopt.feasibility import FarkasProof, conflict, infeasibility
from fairopt.feasibility.decide import contradiction

F64 = torch.float64
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
SEEDS = st.integers(0, 2**32 - 1)
Generator = np.random.Generator
Facts = dict[str, Any]


# an independent checker -------------------------------------------------------------------------------------------------------------


def written_out(problem: ProjectionProblem) -> tuple[list[list[Fraction]], list[Fraction]]:
    """A (m rows of n fractions) and the offsets, sample by sample."""
    rows = problem.rows
    cell = rows.cell.tolist()
    members = [[i for i, c in enumerate(cell) if rows.masks[j, c]] for j in range(rows.masks.shape[0])]
    A = [[Fraction(0)] * problem.n for _ in range(problem.m)]
    offset = [Fraction(0) if rows.offset_terms else Fraction(float(rows.offset[k])) for k in range(problem.m)]
    for k in range(problem.m):
        for j, inside in enumerate(members):
            for i in inside:
                A[k][i] += Fraction(float(rows.scales[k, j])) / len(inside)
    for k, scale, j, v in rows.offset_terms:
        values = [Fraction(1)] if j < 0 else [Fraction(float(rows.values[v][i])) for i in members[j]]
        offset[k] += Fraction(scale) * sum(values) / len(values)
    for d, k in enumerate(rows.dense_rows.tolist()):
        assert rows.dense is not None
        A[k] = [a + Fraction(float(w)) for a, w in zip(A[k], rows.dense[d], strict=True)]
    return A, offset


def proves(problem: ProjectionProblem, labels: tuple[str, ...], multipliers: tuple[Fraction, ...]) -> bool:
    """Whether these multipliers of the rows of these labels contradict the box and the limits."""
    A, offset = written_out(problem)
    q = dict(zip([problem.labels.index(label) for label in labels], multipliers, strict=True))
    least = sum(p * offset[k] for k, p in q.items())
    for i in range(problem.n):
        w = sum(p * A[k][i] for k, p in q.items())
        bound = (problem.lb if w > 0 else problem.ub) if w else 0.0
        end = float(bound[i]) if isinstance(bound, torch.Tensor) else bound
        if math.isinf(end):
            return False
        least += w * Fraction(end)
    most = Fraction(0)
    for c in range(problem.linear + problem.ranges):
        rows = [c] if c < problem.linear else range(*problem.range_slices[c - problem.linear].indices(problem.m))
        used = [q[k] for k in rows if k in q]
        if not used:
            continue
        if problem.softness[c].kind != "hard":
            return False
        if c < problem.linear:
            limit = float(problem.upper[c] if used[0] > 0 else problem.lower[c])
            if math.isinf(limit):
                return False
            most += used[0] * Fraction(limit)
        else:
            r = c - problem.linear
            ratio, width = Fraction(float(problem.ratio[r])), Fraction(float(problem.width[r]))
            up, down = sum(p for p in used if p > 0), -sum(p for p in used if p < 0)
            if up > ratio * down or (ratio == 1 and up < down):
                return False  # no sum of pairs  ratio v_b - v_a <= width
            most += width * (up if ratio == 1 else (down - up) / (1 - ratio))
    return least > most


def assert_proved(error: fo.InfeasibleError) -> None:
    proof = error.proof
    assert isinstance(proof, FarkasProof)
    assert proof.check()
    assert proof.least > proof.most
    assert proves(proof.problem, proof.labels, proof.multipliers)
    assert {proof.problem.constraint_labels[c] for c in proof.constraints} == set(error.rows)
    assert len(repr(proof)) < 80


# draws ------------------------------------------------------------------------------------------------------------------------------


def one(rng: Generator, scale: float) -> fo.Notion:
    a = str(rng.choice(["g", "h"]))
    tolerance = float(rng.choice([0.0, 1e-6, 0.05, 0.5])) * scale
    kind = int(rng.integers(6))
    if kind == 3:
        side: dict[str, Any] = {str(rng.choice(["lower", "upper"])): float(rng.normal()) * scale}
        return fo.GroupMeanBound(a, **side)
    made: list[fo.Notion] = [
        fo.DemographicParity(a, tolerance=tolerance),
        fo.MeanResidual(a, tolerance=tolerance),
        fo.ResidualParity(a, tolerance=tolerance),
        fo.ImpactRatio(a, ratio=float(rng.choice([0.5, 0.8, 1.0]))),
        fo.ScoreCovariance("s", tolerance=1e300 if rng.random() < 0.2 else tolerance),
    ]
    return made[kind if kind < 3 else kind - 1]


def wild(rng: Generator) -> tuple[fo.Notion, Facts, torch.Tensor]:
    """A join of notions in any box, feasible or not."""
    n, scale = int(rng.integers(2, 12)), 2.0 ** int(rng.integers(-100, 101) if rng.random() < 0.5 else 0)
    notion = one(rng, scale)
    for _ in range(int(rng.integers(0, 3))):
        notion = notion & one(rng, scale)
    far = 1e8 * scale if rng.random() < 0.2 else 0.0
    lo = rng.normal(size=n) * scale - (scale if rng.random() < 0.5 else 0.0)
    hi = lo + np.abs(rng.normal(size=n)) * scale * (rng.random(n) > rng.choice([0.0, 0.5, 0.9]))  # some pinned
    hi[rng.random(n) < rng.choice([0.0, 0.3])] = np.inf
    facts: Facts = {
        "sensitive_features": {"g": rng.integers(0, 3, n), "h": rng.integers(0, 2, n), "s": rng.normal(size=n)},
        "targets": rng.normal(size=n) * scale + far,
        "bounds": None if rng.random() < 0.3 else (lo, hi),
        "weights": 10.0 ** rng.uniform(-12, 12, n) if rng.random() < 0.3 else None,
    }
    return notion, facts, torch.tensor(rng.normal(size=n) * scale + far, dtype=F64)


@given(SEEDS)
@settings(max_examples=300)
def test_every_infeasible_error_has_a_proof(seed: int) -> None:
    notion, facts, z = wild(np.random.default_rng(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fo.FairoptWarning)
        try:
            fo.project(z, notion, **facts)
        except fo.InfeasibleError as error:
            assert_proved(error)


@given(SEEDS)
@settings(max_examples=150)
def test_without_any_one_of_the_rows_there_is_no_contradiction(seed: int) -> None:
    notion, facts, _ = wild(np.random.default_rng(seed))
    problem = fo.compile(notion, **facts, on_infeasible="passthrough").problem
    proof = infeasibility(problem)
    if proof is None:
        return
    fewest = conflict(problem, proof)
    assert proves(problem, fewest.labels, fewest.multipliers)
    for out in fewest.constraints:
        assert contradiction(problem, [c for c in fewest.constraints if c != out]) is None


# feasible problems, made around exact scores -----------------------------------------------------------------------------------------


def outward(value: Fraction) -> float:
    near = float(value)
    return near if Fraction(near) >= value else float(np.nextafter(near, math.inf))


def means(y: list[Fraction], column: Any) -> dict[int, Fraction]:
    groups = {int(v): [a for a, w in zip(y, column, strict=True) if w == v] for v in set(column.tolist())}
    return {v: sum(a, Fraction(0)) / len(a) for v, a in groups.items()}


def around(rng: Generator, scale: float) -> tuple[fo.Notion, Facts, np.typing.NDArray[np.float64]]:
    """A join that the scores y meet exactly, in a box that holds them; often at its very limits."""
    n = int(rng.integers(2, 10))
    g, h = rng.integers(0, 3, n), rng.integers(0, 2, n)
    y = np.round(rng.normal(size=n), int(rng.integers(1, 16))) * scale
    t = rng.normal(size=n) * scale + (1e8 * scale if rng.random() < 0.2 else 0.0)
    exact, targets = [Fraction(float(v)) for v in y], [Fraction(float(v)) for v in t]
    parts: list[fo.Notion] = []
    for name, column in (("g", g), ("h", h)):
        m, r = means(exact, column), means([a - b for a, b in zip(exact, targets, strict=True)], column)
        parts += [
            fo.DemographicParity(name, tolerance=outward(max(m.values()) - min(m.values()))),
            fo.MeanResidual(name, tolerance=outward(max(abs(v) for v in r.values()))),
            fo.ResidualParity(name, tolerance=outward(max(r.values()) - min(r.values()))),
            fo.GroupMeanBound(name, lower=-outward(-min(m.values())), upper=outward(max(m.values()))),
        ]
    parts.append(fo.DemographicParity("g", tolerance=min(1e300, 1e300 * scale)))
    kept = [parts[k] for k in rng.choice(len(parts), int(rng.integers(1, 4)), replace=False)]
    notion = kept[0]
    for other in kept[1:]:
        notion = notion & other
    pinned = rng.random(n) < rng.choice([0.0, 0.5, 0.9])
    room = np.abs(rng.normal(size=(2, n))) * scale * ~pinned
    lb, ub = np.minimum(y - room[0], y), np.maximum(y + room[1], y)
    facts: Facts = {
        "sensitive_features": {"g": g, "h": h},
        "targets": t,
        "bounds": None if rng.random() < 0.2 else (lb, ub),
        "weights": 10.0 ** rng.uniform(-12, 12, n) if rng.random() < 0.5 else None,
    }
    return notion, facts, y + rng.normal(size=n) * scale


@given(SEEDS)
@settings(max_examples=400)
def test_what_some_scores_meet_is_never_infeasible(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = DTYPES[int(rng.integers(4))]
    wide = dtype in (torch.float64, torch.bfloat16, torch.float32)
    scale = 10.0 ** float(rng.uniform(-30, 30)) if wide and rng.random() < 0.7 else 1.0
    notion, facts, z = around(rng, scale)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fo.FairoptWarning)
        solution = fo.project(torch.tensor(z).to(dtype), notion, **facts, return_solution=True)
    assert solution.status not in (fo.Status.INFEASIBLE, fo.Status.CLOSEST)


@given(SEEDS)
@settings(max_examples=300)
def test_one_free_sample_is_judged_exactly(seed: int) -> None:
    """Dyadic pinned samples and one free one at tolerance 0: equal means ask for one number, which lies in the box or not."""
    rng = np.random.default_rng(seed)
    n, free = int(rng.integers(2, 8)), 0
    g = rng.integers(0, 2, n)
    g[0], g[1] = 0, 1
    scale = 2.0 ** int(rng.integers(-40, 41) if rng.random() < 0.7 else 0)
    y = rng.integers(-64, 65, n) / 8.0 * scale
    reach = float(rng.choice([0.5, 4.0, 64.0])) * scale
    lb, ub = y.copy(), y.copy()
    lb[free], ub[free] = -reach, reach
    exact = [Fraction(float(v)) for v in y]
    mine = [i for i in range(n) if g[i] == 0]
    other = means(exact, g)[1]
    needed = other * len(mine) - sum(exact[i] for i in mine if i != free)
    z = y + (np.arange(n) == free) * rng.normal() * scale
    feasible = abs(needed) <= Fraction(reach)
    try:
        solution = fo.project(
            torch.tensor(z), fo.DemographicParity("g", tolerance=0.0), sensitive_features={"g": g}, bounds=(lb, ub), return_solution=True
        )
    except fo.InfeasibleError as error:
        assert not feasible
        assert_proved(error)
        return
    assert feasible
    assert solution.status in (fo.Status.CERTIFIED, fo.Status.WITHIN_ROUNDING)
    if solution.status is fo.Status.CERTIFIED:
        assert Fraction(float(solution.scores[free])) == needed


@fo.notion
def at_most_apart(batch: fo.Batch, attribute: str, tolerance: float) -> Any:
    groups = batch.groups(attribute)
    for a in groups:
        for b in groups:
            if a is not b:
                yield batch.mean(a) <= batch.mean(b) + tolerance


@given(SEEDS)
def test_rows_of_one_side_in_half_precision_are_feasible(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = (torch.bfloat16, torch.float16)[seed % 2]
    n = int(rng.integers(2, 9))
    z = torch.tensor(rng.normal(size=n)).to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fo.FairoptWarning)
        notion = at_most_apart("g", tolerance=float(rng.choice([0.0, 1e-6, 1e-3])))
        solution = fo.project(z, notion, sensitive_features={"g": np.arange(n) % 2}, return_solution=True)
    assert solution.status in (fo.Status.CERTIFIED, fo.Status.WITHIN_ROUNDING)


@given(SEEDS)
def test_what_is_soft_is_never_infeasible(seed: int) -> None:
    """A penalty as steep as one likes on residuals that the bounds put out of reach: at the bounds, and certified."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    targets, top = rng.uniform(0.2, 0.9, n), float(rng.uniform(0.0, 0.15))
    notion = fo.MeanResidual("g", tolerance=1e-6).penalised(10.0 ** float(rng.uniform(2, 14)))
    prepared = fo.compile(notion, sensitive_features={"g": np.arange(n) % 2}, targets=targets, bounds=(None, top))
    solution = prepared.solution(torch.zeros(n, dtype=F64))
    assert solution.status is fo.Status.CERTIFIED
    assert solution.scores.tolist() == [top] * n


# infeasible problems with a margin ---------------------------------------------------------------------------------------------------


def broken(rng: Generator, scale: float, least: float = -6.0) -> tuple[fo.Notion, Facts]:
    """A join that no scores meet, by 10^least of its numbers or more."""
    n = int(rng.integers(4, 14))
    g = np.arange(n) % 2
    margin = 10.0 ** float(rng.uniform(least, 0)) * scale
    kind = int(rng.integers(4))
    tolerance = float(rng.uniform(0, 1)) * scale
    targets = rng.normal(size=n) * scale
    bounds: Any = None
    notion: fo.Notion
    if kind == 0:  # boxes too far apart
        lb = np.where(g == 0, tolerance + margin, -scale) + rng.normal() * scale
        ub = lb + np.where(g == 0, scale, scale)
        notion, bounds = fo.DemographicParity("g", tolerance=tolerance), (lb, ub)
    elif kind == 1:  # targets too far apart, open or wide bounds
        targets = np.where(g == 0, 0.0, 3.0 * tolerance + margin) + rng.normal() * scale
        notion = fo.DemographicParity("g", tolerance=tolerance) & fo.MeanResidual("g", tolerance=tolerance)
        bounds = None if rng.random() < 0.5 else (-100.0 * scale, 100.0 * scale)
    elif kind == 2:  # means under the least ratio
        notion, bounds = fo.ImpactRatio("g", ratio=0.8), (-2.0 * scale, -margin)
    else:
        limit = float(rng.normal()) * scale
        notion = fo.GroupMeanBound("g", lower=limit + margin) & fo.GroupMeanBound("g", upper=limit)
    if rng.random() < 0.5:
        notion = notion & fo.ResidualParity("h", tolerance=scale)
    return notion, {"sensitive_features": {"g": g, "h": rng.integers(0, 3, n)}, "targets": targets, "bounds": bounds}


@given(SEEDS)
@settings(max_examples=300)
def test_what_no_scores_meet_is_proved(seed: int) -> None:
    rng = np.random.default_rng(seed)
    notion, facts = broken(rng, 10.0 ** float(rng.uniform(-30, 30)))
    with pytest.raises(fo.InfeasibleError) as caught:
        fo.project(torch.zeros(len(facts["targets"]), dtype=F64), notion, **facts)
    assert_proved(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert copy.rows == caught.value.rows
    assert copy.proof == caught.value.proof
    assert copy.proof.check()


# closest ----------------------------------------------------------------------------------------------------------------------------


@given(SEEDS)
@settings(max_examples=150)
def test_the_closest_is_told_against_the_notion_as_written(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale = 10.0 ** float(rng.uniform(-6, 6))
    notion, facts = broken(rng, scale, -2.0)
    z = torch.tensor(rng.normal(size=len(facts["targets"]))) * scale
    written = fo.compile(notion, **facts, on_infeasible="passthrough")
    with pytest.warns(fo.FairoptWarning, match="CLOSEST"):
        solution = fo.project(z, notion, **facts, on_infeasible="closest", return_solution=True)
    certificate = solution.certificate
    assert solution.status is certificate.status is fo.Status.CLOSEST
    assert certificate.max_violation > 0
    assert certificate.bounds_violation == 0
    assert certificate.limits == written.solution(z).certificate.limits
    words = json.loads(json.dumps(certificate.to_dict()))
    assert words["status"] == "CLOSEST"
    assert words["advice"] == fo.Status.CLOSEST.advice
    assert words["max_violation"] > 0
    A, offset = written_out(written.problem)
    y = [Fraction(float(v)) for v in solution.scores]
    f = [sum((a * v for a, v in zip(row, y, strict=True)), d) for row, d in zip(A, offset, strict=True)]
    for c in range(written.problem.linear):
        lower, upper = (Fraction(float(b[c])) if math.isfinite(b[c]) else None for b in (written.problem.lower, written.problem.upper))
        sides = [*([] if upper is None else [f[c] - upper]), *([] if lower is None else [lower - f[c]])]
        assert certificate.violation[c] == float(max(sides))
    gaps = fo.gaps(solution.scores, notion, sensitive_features=facts["sensitive_features"], targets=facts["targets"])
    statuses = [row["status"] for row in gaps]
    assert "broken" in statuses
    assert written.solution(z).status is fo.Status.INFEASIBLE
    assert torch.equal(written.project(z), z)


def test_the_closest_keeps_the_answer_and_its_own_hash() -> None:
    """Half of what is too much goes to each of the two groups' bounds."""
    notion = fo.GroupMeanBound("g", lower=0.6)
    facts: Facts = {"sensitive_features": {"g": list("aabb")}, "bounds": (0, 0.5)}
    with pytest.warns(fo.FairoptWarning, match="CLOSEST"):
        found = fo.project(torch.tensor([0.1, 0.2, 0.8, 0.9], dtype=F64), notion, **facts, on_infeasible="closest", return_solution=True)
    assert found.scores.tolist() == [0.5] * 4
    assert found.certificate.max_violation == pytest.approx(0.1, abs=1e-15)
    again = fo.compile(fo.GroupMeanBound("g", lower=0.5), **facts).solution(torch.tensor([0.1, 0.2, 0.8, 0.9], dtype=F64))
    assert again.status is fo.Status.CERTIFIED
    assert again.scores.tolist() == found.scores.tolist()
    assert again.certificate.problem_hash != found.certificate.problem_hash
    copy = pickle.loads(pickle.dumps(found))
    assert copy.certificate.to_dict() == found.certificate.to_dict()


def test_the_closest_is_told_once_a_place_and_once_a_layer() -> None:
    notion, z = fo.GroupMeanBound("g", lower=0.6), torch.tensor([0.1, 0.9], dtype=F64)
    facts: Facts = {"sensitive_features": {"g": [0, 1]}}

    def told(act: Any) -> list[warnings.WarningMessage]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            for _ in range(3):
                act()
        return [w for w in caught if "CLOSEST" in str(w.message)]

    (warning,) = told(lambda: fo.project(z, notion, **facts, bounds=(0, 0.5), on_infeasible="closest"))
    assert warning.filename == __file__
    prepared = fo.compile(notion, **facts, bounds=(0, 0.5), on_infeasible="closest")
    assert len(told(lambda: prepared.project_batch(torch.stack([z, z])))) == 1
    layer = fo.FairnessLayer(notion, bounds=(0, 0.5), on_infeasible="closest")
    (warning,) = told(lambda: layer(z, **facts))
    assert warning.filename == __file__
    assert not told(lambda: layer(z + 1, **facts))
    assert layer.certificate is not None
    assert layer.certificate.status is fo.Status.CLOSEST


# found only while solving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["auto", "unrolled"])
@pytest.mark.parametrize("mode", ["raise", "closest", "passthrough"])
def test_limits_that_move_into_a_contradiction(mode: Any, backend: str) -> None:
    """A learned tolerance shrinks after compiling: the same ending as at compile time. Back again, all is well."""
    if ":" in backend:
        pytest.importorskip("qpsolvers")
        pytest.importorskip("quadprog")
    tolerance = torch.nn.Parameter(torch.tensor(0.6, dtype=F64))
    z = torch.tensor([0.1, 0.2, 0.7, 0.9], dtype=F64, requires_grad=True)
    notion = fo.DemographicParity("g", tolerance=tolerance) & fo.MeanResidual("g", tolerance=0.3)
    facts: Facts = {"sensitive_features": {"g": [0, 0, 1, 1]}, "targets": [0.0, 0.0, 1.0, 1.0], "on_infeasible": mode}
    prepared = fo.compile(notion, **facts)
    for value, feasible in ((0.6, True), (0.1, False), (0.6, True), (0.1, False)):
        with torch.no_grad():
            tolerance.fill_(value)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if not feasible and mode == "raise":
                with pytest.raises(fo.InfeasibleError) as error:
                    prepared.project(z, backend=backend)
                assert_proved(error.value)
                with pytest.raises(fo.InfeasibleError) as error:
                    prepared.project_batch(z.detach()[None], backend=backend)
                assert_proved(error.value)
                continue
            solution = prepared.solution(z, backend=backend)
            batch = prepared.project_batch(z.detach()[None], backend=backend)
        words = [w for w in caught if "CLOSEST" in str(w.message)]
        assert torch.allclose(batch[0], solution.scores.detach(), atol=1e-9)
        assert solution.certificate.limits["DemographicParity(g): 0 - 1"] == (-value, value)
        if feasible:
            assert solution.status is fo.Status.CERTIFIED
            assert not words
        elif mode == "closest":
            assert solution.status is fo.Status.CLOSEST
            assert len(words) == 2
            assert solution.certificate.max_violation == pytest.approx(0.1, abs=1e-9)
            # the same as compiled anew
            again = fo.compile(notion, **facts).project(z.detach()) if backend == "auto" else batch[0]
            assert torch.allclose(again, solution.scores.detach(), atol=1e-9)
            tolerance.grad = None
            (solution.scores[2:].sum() - solution.scores[:2].sum()).backward()
            assert tolerance.grad is not None
        else:
            assert solution.status is fo.Status.INFEASIBLE
            assert torch.equal(solution.scores, z)


def test_limits_that_move_out_of_a_contradiction() -> None:
    tolerance = torch.nn.Parameter(torch.tensor(0.1, dtype=F64))
    z = torch.tensor([0.1, 0.2, 0.7, 0.9], dtype=F64)
    notion = fo.DemographicParity("g", tolerance=tolerance) & fo.MeanResidual("g", tolerance=0.3)
    facts: Facts = {"sensitive_features": {"g": [0, 0, 1, 1]}, "targets": [0.0, 0.0, 1.0, 1.0]}
    for mode in ("closest", "passthrough"):
        tolerance.data.fill_(0.1)
        prepared = fo.compile(notion, **facts, on_infeasible=mode)
        assert not prepared.problem.feasible
        tolerance.data.fill_(0.6)
        assert prepared.solution(z).status is fo.Status.CERTIFIED
        tolerance.data.fill_(0.05)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fo.FairoptWarning)
            solution = prepared.solution(z)
        assert solution.status is (fo.Status.CLOSEST if mode == "closest" else fo.Status.INFEASIBLE)
        assert solution.certificate.limits["DemographicParity(g): 0 - 1"] == (-0.05, 0.05)


def test_a_margin_below_rounding_is_solved() -> None:
    """Two pinned groups an ulp apart at tolerance 0: no scores are fair, and rounding hides it."""
    b = float(np.nextafter(0.3, 1.0))
    facts: Facts = {"sensitive_features": {"g": [0, 1]}, "bounds": ([0.3, b], [0.3, b])}
    prepared = fo.compile(fo.DemographicParity("g", tolerance=0.0), **facts)
    proof = infeasibility(prepared.problem)
    assert proof is not None
    assert proof.margin < 1e-15
    solution = prepared.solution(torch.tensor([0.3, b], dtype=F64))
    assert solution.status is fo.Status.WITHIN_ROUNDING
    assert solution.certificate.max_violation > 0
