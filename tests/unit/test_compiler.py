"""The compiler against brute force, the order and words of its rows, presolve, moving limits, bad input, size."""

from __future__ import annotations

import itertools
import tracemalloc
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairopt.auditing.gap_table import gaps
from fairopt.basics.arrays import Array
from fairopt.basics.errors import FairoptWarning, InputError
from fairopt.basics.exact_sums import exact_cell_sums
from fairopt.compiler import Compiled, compile_problem
from fairopt.contract.problem import ProjectionProblem
from fairopt.feasibility import infeasibility
from fairopt.notions import (
    Batch,
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    GroupMeanBound,
    ImpactRatio,
    MeanResidual,
    Notion,
    PredictiveEquality,
    Reference,
    ResidualParity,
    ScoreCovariance,
    notion,
)

SEEDS = st.integers(0, 2**32 - 1)


def row_values(problem: ProjectionProblem, y: Array) -> Array:
    return problem.rows.matrix().numpy() @ y + problem.rows.offset


def distances(problem: ProjectionProblem, y: Array) -> Array:
    """(L + R,) how far each constraint is violated."""
    f = row_values(problem, y)
    linear = f[: problem.linear]
    d = np.maximum(np.maximum(problem.lower - linear, linear - problem.upper), 0)
    ranges = [max(np.ptp(f[s]) - w, 0) for s, w in zip(problem.range_slices, problem.width, strict=True)]
    return np.concatenate([d, ranges])


def draw_data(rng: np.random.Generator) -> tuple[dict[str, Any], Array, Array]:
    n, k = int(rng.integers(1, 40)), int(rng.integers(1, 5))
    features = {"a": rng.integers(0, k, n), "b": rng.choice(["x", "y", "z"], n), "s": rng.normal(size=n)}
    return features, rng.integers(0, 2, n).astype(np.float64), rng.normal(size=n)


def mean(y: Array, mask: Array) -> float | None:
    return float(y[mask].mean()) if mask.any() else None


def brute_gaps(y: Array, masks: list[Array]) -> list[float]:
    """All pairs of group means by hand; absent groups have none."""
    means = [m for m in (mean(y, mask) for mask in masks) if m is not None]
    return [abs(p - q) for p, q in itertools.combinations(means, 2)]


Family = Callable[[np.random.Generator, float], tuple[Notion, Callable[[dict[str, Any], Array, Array], list[float]]]]


def groups_of(f: dict[str, Any], name: str, event: Any = True) -> list[Array]:
    return [(f[name] == v) & event for v in np.unique(f[name])]


def families(t: float) -> list[tuple[Notion, Callable[[dict[str, Any], Array, Array], list[float]]]]:
    """Notions and, by hand, the numbers of which each must be <= t."""
    everyone = lambda f: np.ones(len(f["a"]), dtype=bool)  # noqa: E731

    def overall(f: dict[str, Any], y: Array) -> list[float]:
        return [abs(float(y[m].mean() - y.mean())) for m in groups_of(f, "a")]

    def strata(f: dict[str, Any], y: Array) -> list[float]:
        return [g for v in np.unique(f["b"]) for g in brute_gaps(y, groups_of(f, "a", f["b"] == v))]

    def cross(f: dict[str, Any], y: Array) -> list[float]:
        return brute_gaps(y, [np.logical_and(p, q) for p in groups_of(f, "a") for q in groups_of(f, "b")])

    def reference(f: dict[str, Any], y: Array, event: Array) -> list[float]:
        base = mean(y, (f["b"] == "x") & event)
        others = [mean(y, m) for m in groups_of(f, "b", event) if not (m & (f["b"] == "x")).any()]
        return [] if base is None else [abs(o - base) for o in others if o is not None]

    def ratio(f: dict[str, Any], y: Array) -> list[float]:
        means = [float(y[m].mean()) for m in groups_of(f, "a")]
        return [0.8 * q - p + t for p, q in itertools.permutations(means, 2)]

    return [
        (DemographicParity("a", tolerance=t), lambda f, y, g: brute_gaps(y, groups_of(f, "a"))),
        (DemographicParity("a", tolerance=t, to="overall"), lambda f, y, g: overall(f, y)),
        (DemographicParity("a", tolerance=t, given="b"), lambda f, y, g: strata(f, y)),
        (DemographicParity(("a", "b"), tolerance=t), lambda f, y, g: cross(f, y)),
        (DemographicParity("b", tolerance=t, to=Reference("x")), lambda f, y, g: reference(f, y, everyone(f))),
        (EqualOpportunity("a", tolerance=t), lambda f, y, g: brute_gaps(y, groups_of(f, "a", g == 1))),
        (PredictiveEquality("b", tolerance=t), lambda f, y, g: brute_gaps(y, groups_of(f, "b", g == 0))),
        (EqualizedOdds("a", tolerance=t), lambda f, y, g: [v for e in (0, 1) for v in brute_gaps(y, groups_of(f, "a", g == e))]),
        (EqualOpportunity("b", tolerance=t, to=Reference("x")), lambda f, y, g: reference(f, y, g == 1)),
        (MeanResidual("b", tolerance=t), lambda f, y, g: [abs(float((y - g)[m].mean())) for m in groups_of(f, "b")]),
        (ResidualParity("a", tolerance=t), lambda f, y, g: brute_gaps(y - g, groups_of(f, "a"))),
        (ImpactRatio("a", ratio=0.8), lambda f, y, g: ratio(f, y)),
        (GroupMeanBound("a", upper=t), lambda f, y, g: [float(y[m].mean()) for m in groups_of(f, "a")]),
        (ScoreCovariance("s", tolerance=t), lambda f, y, g: [abs(float(((f["s"] - f["s"].mean()) * y).mean()))]),
    ]


@given(SEEDS, st.integers(0, 13), st.sampled_from([0.0, 0.05, 0.7]))
def test_compiled_rows_say_what_group_means_say(seed: int, family: int, t: float) -> None:
    rng = np.random.default_rng(seed)
    features, targets, y = draw_data(rng)
    made, by_hand = families(t)[family]
    problem = compile_problem(made, n=len(y), sensitive_features=features, targets=targets, on_infeasible="passthrough").problem
    expected = max((v - t for v in by_hand(features, y, targets)), default=-1.0)
    found = float(distances(problem, y).max(initial=0.0))
    if abs(expected) > 1e-12:
        assert (found > 0) == (expected > 0)
    scaled = isinstance(made, DemographicParity) and made.to == "overall"  # joined multiples of one row
    if not scaled:
        assert found == pytest.approx(max(expected, 0.0), abs=1e-12)
    table = gaps(y, made, sensitive_features=features, targets=targets)
    if abs(expected) > 1e-12:
        assert ("broken" in table["status"]) == (expected > 0)


@given(SEEDS)
def test_a_join_holds_both(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, targets, y = draw_data(rng)
    picks = rng.choice(14, 3)
    made = [families(0.05)[i][0] for i in picks]
    options: dict[str, Any] = {"n": len(y), "sensitive_features": features, "targets": targets, "on_infeasible": "passthrough"}
    joined = compile_problem(made[0] & made[1] & made[2], **options).problem
    alone = [compile_problem(m, **options).problem for m in made]
    worst = max(float(distances(p, y).max(initial=0.0)) for p in alone)
    assert float(distances(joined, y).max(initial=0.0)) == pytest.approx(worst, rel=1e-9, abs=1e-12) or "overall" in repr(made)


@given(SEEDS)
def test_problems_obey_the_contract(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, targets, y = draw_data(rng)
    made = [families(0.05)[i][0] for i in rng.choice(14, 3)]
    soft = made[0].priced(2.0) & made[1].budgeted(3.0) & made[2].penalised(4.0) & made[0].budgeted(1.0)
    problem = compile_problem(soft, n=len(y), sensitive_features=features, targets=targets).problem
    rows = problem.rows
    assert rows.cell.dtype == torch.int64
    assert rows.cell.shape == (len(y),)
    assert rows.counts.tolist() == np.bincount(rows.cell.numpy()).tolist()
    assert rows.counts.min() >= 1
    assert rows.scales.shape == (rows.m, rows.masks.shape[0])
    assert rows.masks.shape[1] == len(rows.counts)
    assert len({m.tobytes() for m in rows.masks}) == rows.masks.shape[0]
    assert len({c.tobytes() for c in rows.masks.T}) == rows.masks.shape[1]
    assert len(problem.softness) == len(problem.constraint_labels) == problem.linear + problem.ranges
    assert len(problem.labels) == rows.m == problem.range_starts[-1]
    assert problem.range_starts[0] == problem.linear
    assert len(set(problem.labels)) == len(problem.labels)
    assert all(problem.lower <= problem.upper)
    assert {s.kind for s in problem.softness} <= {"priced", "budget", "quadratic"}
    assert {s.block for s in problem.softness if s.kind == "budget"} <= {1, 3}
    assert all(s.block == -1 for s in problem.softness if s.kind != "budget")


# words ------------------------------------------------------------------------------------------------------------------------

TEN: dict[str, Any] = {"sex": ["f", "m"] * 5, "race": [0, 1, 2, 0, 1, 2, 0, 1, 2, 0], "half": [True] * 5 + [False] * 5}


def compiled(made: Notion, **options: Any) -> Compiled:
    return compile_problem(made, n=10, sensitive_features=TEN, **options)


def test_words_and_order() -> None:
    made = (
        DemographicParity("race", tolerance=0.1) & DemographicParity("sex", tolerance=0.05, given="half") & GroupMeanBound("sex", lower=0.0)
    )
    problem = compiled(made).problem
    assert problem.labels == (
        "DemographicParity(sex | half=False): f - m",
        "DemographicParity(sex | half=True): f - m",
        "GroupMeanBound(sex): f",
        "GroupMeanBound(sex): m",
        "DemographicParity(race): 0",
        "DemographicParity(race): 1",
        "DemographicParity(race): 2",
    )
    assert problem.constraint_labels[-1] == "DemographicParity(race)"
    assert problem.upper.tolist() == [0.05, 0.05, np.inf, np.inf]
    assert problem.width.tolist() == [0.1]
    assert dict(problem.group_counts)["race=0"] == 4
    assert not problem.used_targets


def test_limits_are_the_float64_that_was_given() -> None:
    for tolerance in (0.1, 1e-3, np.float32(0.1), torch.tensor(0.1)):
        problem = compiled(DemographicParity("sex", tolerance=tolerance)).problem
        assert problem.upper[0] == float(tolerance) == -problem.lower[0]


def test_events_from_arrays_join_in() -> None:
    young = np.array([True] * 3 + [False] * 7)

    @notion
    def custom(batch: Batch, attribute: str) -> Any:
        for a, b in batch.pairs(attribute):
            yield batch.mean(young & a) - 2 * batch.mean(~(b | torch.from_numpy(young))) + 0.25 <= batch.mean()

    problem = compiled(custom("sex")).problem
    y = np.random.default_rng(0).normal(size=10)
    female = np.array([v == "f" for v in TEN["sex"]])
    expected = y[young & female].mean() - 2 * y[~(~female | young)].mean() + 0.25 - y.mean()
    assert row_values(problem, y)[0] == pytest.approx(expected, abs=1e-12)
    assert (0, 0.25, -1, -1) in problem.rows.offset_terms


# absent groups ----------------------------------------------------------------------------------------------------------------


def test_absent_groups_are_dropped_and_listed() -> None:
    declared = {"sex": ["f", "m", "x"]}
    problem = compiled(DemographicParity("sex", tolerance=0.1), groups=declared).problem
    assert problem.labels == ("DemographicParity(sex): f - m",)
    assert problem.dropped == (("DemographicParity(sex): x", "no sample in x"),)
    assert ("sex=x", 0) in problem.group_counts
    problem = compiled(DemographicParity("sex", tolerance=0.1, to=Reference("x")), groups=declared).problem
    assert problem.labels == ()
    assert [label for label, _ in problem.dropped] == ["DemographicParity(sex): f - x", "DemographicParity(sex): m - x"]
    problem = compiled(EqualOpportunity("sex", tolerance=0.1), targets=np.zeros(10)).problem
    assert problem.m == 0
    assert problem.dropped[-1] == ("EqualOpportunity(sex | target=1)", "fewer than two groups have samples")


def test_a_term_about_nobody_drops_the_whole_constraint() -> None:
    """Dropping the term alone would leave mean(f) <= tolerance: a row that does not sum to zero."""
    made = MeanResidual("sex", tolerance=0.1) & DemographicParity("sex", tolerance=0.1, to=Reference("x"))
    problem = compiled(made, targets=np.zeros(10), groups={"sex": ["f", "m", "x"]}).problem
    assert problem.labels == ("MeanResidual(sex): f", "MeanResidual(sex): m")
    assert len(problem.dropped) == 3


def test_on_missing() -> None:
    made, declared = DemographicParity("sex", tolerance=0.1), {"sex": ["f", "m", "x"]}
    with pytest.warns(FairoptWarning, match=r"DemographicParity\(sex\): x"):
        compiled(made, groups=declared, on_missing="warn")
    with pytest.raises(InputError, match=r"DemographicParity\(sex\): x"):
        compiled(made, groups=declared, on_missing="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled(made, groups=declared)
        compiled(made, on_missing="warn")


# presolve ---------------------------------------------------------------------------------------------------------------------


@notion
def all_pairs(batch: Batch, attribute: str, tolerance: float) -> Any:
    for a, b in itertools.permutations(batch.groups(attribute), 2):
        yield abs(batch.mean(a) - batch.mean(b)) <= tolerance


def test_a_written_out_loop_is_one_range() -> None:
    result = compiled(all_pairs("race", tolerance=0.1))
    assert result.problem.ranges == 1
    assert result.problem.linear == 0
    assert result.problem.labels == ("all_pairs(race): 0", "all_pairs(race): 1", "all_pairs(race): 2")
    assert len(result.removed) == 6  # three pairs twice
    soft = compiled(all_pairs("race", tolerance=0.1).priced(1.0)).problem
    assert soft.ranges == 0  # the sum of the pairs' violations is no range
    assert [s.weight for s in soft.softness] == [2.0, 2.0, 2.0]
    assert compiled(all_pairs("sex", tolerance=0.1)).problem.linear == 1


def test_loops_with_different_limits_or_an_incomplete_one_stay_pairs() -> None:
    @notion
    def chain(batch: Batch, attribute: str) -> Any:
        masks = batch.groups(attribute)
        for k, (a, b) in enumerate(itertools.combinations(masks, 2)):
            yield abs(batch.mean(a) - batch.mean(b)) <= 0.1 + 0.01 * k

    assert compiled(chain("race")).problem.linear == 3


def test_duplicates_join_with_the_tightest_limits() -> None:
    for other in (0.05, 0.2):
        problem = compiled(DemographicParity("sex", tolerance=0.1) & DemographicParity("sex", tolerance=other)).problem
        assert problem.upper.tolist() == [min(0.1, other)]
        assert problem.lower.tolist() == [-min(0.1, other)]
        ranges = compiled(DemographicParity("race", tolerance=0.1) & DemographicParity("race", tolerance=other)).problem
        assert ranges.width.tolist() == [min(0.1, other)]


@notion
def scaled(batch: Batch, attribute: str, t: float, u: float) -> Any:
    a, b = (batch.mean(m) for m in batch.groups(attribute))
    yield abs(a - b) <= t
    yield abs(-3 * a + 3 * b) <= u


def test_scaled_duplicates_join_where_no_limit_is_rounded() -> None:
    """Either the joined limits are exactly the tighter of the two, or both rows stay."""
    for t, u in [(1.0, t) for t in np.linspace(0.01, 0.9, 40).tolist()] + [
        (0.1, 0.9),
        (0.1, 0.3),
        (0.1, 0.30000000000000004),
        (0.25, 0.75),
    ]:
        problem = compiled(scaled("sex", t, u)).problem
        a = problem.rows.scales[0, 0]
        assert problem.linear == 1
        assert Fraction(problem.upper[0]) / abs(Fraction(a)) == min(Fraction(t), Fraction(u) / 3)
        assert problem.lower[0] == -problem.upper[0]


def test_rows_stay_apart_where_joining_them_would_round() -> None:
    """1 <= a <= inf beside 3 a <= 3.1: one side of each is the tighter one, and 3.1 / 3 is no float64."""

    @notion
    def sides(batch: Batch, attribute: str, sign: float) -> Any:
        for mask in batch.groups(attribute)[:1]:
            yield batch.mean(mask) >= 0.1
            yield sign * 3 * batch.mean(mask) <= sign * 0.7

    assert compiled(sides("sex", 1.0)).problem.linear == 2
    assert compiled(sides("sex", -1.0)).problem.linear == 1  # mean >= 0.7 / 3 implies mean >= 0.1


@notion
def pinned(batch: Batch, attribute: str, low: float) -> Any:
    yield abs(-3.0 * batch.mean()) <= 3.0 * low  # the nearest float64 to it
    yield batch.mean() >= low


def test_the_one_feasible_mean_is_not_rounded_away() -> None:
    """-3 mean in [-u, u] beside mean >= lb, u >= 3 lb by rounding alone: a third of u that is rounded inward would leave nothing."""
    lows = np.random.default_rng(0).random(60).tolist()
    feasible = [low for low in lows if Fraction(3.0 * low) >= 3 * Fraction(low)]
    assert len(feasible) >= 20
    for low in feasible:
        problem = compile_problem(pinned("sex", low), n=2, sensitive_features={"sex": ["f", "m"]}, bounds=(0.0, low)).problem
        assert infeasibility(problem) is None, low


def test_overall_of_two_unequal_groups_is_one_row() -> None:
    features = {"sex": ["f"] * 3 + ["m"] * 7}
    result = compile_problem(DemographicParity("sex", tolerance=0.1, to="overall"), n=10, sensitive_features=features)
    assert result.problem.linear == 1
    assert result.problem.upper[0] == pytest.approx(0.1)  # the smaller group binds: |a - all| = 0.7 |a - b|
    reverse = {"sex": ["f"] * 7 + ["m"] * 3}
    result = compile_problem(DemographicParity("sex", tolerance=0.1, to="overall"), n=10, sensitive_features=reverse)
    assert result.problem.linear == 1
    assert result.problem.upper[0] == 0.1  # as written: it is the row of the smaller group
    learned = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    result = compile_problem(DemographicParity("sex", tolerance=learned, to="overall"), n=10, sensitive_features=reverse)
    assert result.problem.linear == 1


def test_soft_duplicates_stay_unless_they_are_the_same_function() -> None:
    base = DemographicParity("sex", tolerance=0.1)
    assert compiled(base.priced(1.0) & DemographicParity("sex", tolerance=0.2).priced(1.0)).problem.linear == 2
    assert compiled(base.priced(1.0) & base).problem.linear == 2
    assert compiled(base.priced(1.0) & base.penalised(1.0)).problem.linear == 2
    assert compiled(base.budgeted(1.0) & base.budgeted(1.0)).problem.linear == 2  # two blocks: two maxima
    same = compiled((base & base).budgeted(3.0)).problem
    assert [s.weight for s in same.softness] == [3.0]
    added = compiled(base.priced(1.0) & base.priced(2.0)).problem
    assert [s.weight for s in added.softness] == [3.0]


def test_always_met_rows_go_only_when_no_limit_can_move() -> None:
    wide = DemographicParity("sex", tolerance=1.5) & DemographicParity("race", tolerance=1.5)
    result = compiled(wide, bounds=(0.0, 1.0))
    assert result.problem.m == 0
    assert [reason for _, reason in result.removed] == ["always met inside the bounds"] * 2
    assert compiled(wide).problem.m == 4
    assert compiled(DemographicParity("sex", tolerance=1.0), bounds=(0.0, 1.0)).problem.m == 1  # reached, not beyond
    assert compiled(DemographicParity("sex", tolerance=torch.tensor(1.5)), bounds=(0.0, 1.0)).problem.m == 1


def test_groups_with_the_same_samples_are_one_mask() -> None:
    features = {"sex": [0, 0, 1, 1], "gender": ["f", "f", "m", "m"]}
    both = DemographicParity("sex", tolerance=0.1) & DemographicParity("gender", tolerance=0.05)
    problem = compile_problem(both, n=4, sensitive_features=features).problem
    assert problem.rows.masks.shape == (2, 2)
    assert problem.upper.tolist() == [0.05]


def test_samples_in_no_mask_share_one_cell() -> None:
    features = {"a": list(range(5)) * 20}
    problem = compile_problem(GroupMeanBound("a", upper=1.0), n=100, sensitive_features=features).problem
    assert problem.rows.masks.shape == (5, 5)
    targets = np.array([1.0] * 10 + [0.0] * 90)
    problem = compile_problem(EqualOpportunity("a", tolerance=0.1), n=100, sensitive_features=features, targets=targets).problem
    assert problem.rows.masks.shape == (5, 6)
    assert sorted(problem.rows.counts.tolist()) == [2, 2, 2, 2, 2, 90]


# moving limits ----------------------------------------------------------------------------------------------------------------


def test_limits_follow_their_parameters() -> None:
    tolerance, rho = torch.nn.Parameter(torch.tensor(0.1, dtype=torch.float64)), torch.nn.Parameter(torch.tensor(2.0))
    made = DemographicParity("sex", tolerance=tolerance) & DemographicParity("race", tolerance=tolerance).priced(rho)
    result = compiled(made)
    assert result.has_parameters
    limits = result.limits()
    assert limits.upper.tolist() == [0.1]
    assert limits.width.tolist() == [0.1]
    (limits.upper.sum() - limits.lower.sum() + 5 * limits.width.sum()).backward()
    assert float(tolerance.grad) == 7.0  # type: ignore[arg-type]
    with torch.no_grad():
        tolerance.fill_(0.3)
        rho.fill_(5.0)
    changed = result.problem.with_limits(result.limits())
    assert changed.upper.tolist() == [0.3]
    assert changed.lower.tolist() == [-0.3]
    assert [s.weight for s in changed.softness] == [float("inf"), 5.0]
    with torch.no_grad():
        tolerance.fill_(-0.1)
    with pytest.raises(InputError, match="has become negative"):
        result.limits()


def test_joined_limits_share_the_gradient_at_a_tie() -> None:
    tolerance = torch.nn.Parameter(torch.tensor(0.1, dtype=torch.float64))
    result = compiled(DemographicParity("sex", tolerance=tolerance) & DemographicParity("sex", tolerance=tolerance, to=Reference("f")))
    assert result.problem.linear == 1
    result.limits().upper.sum().backward()
    assert float(tolerance.grad) == 1.0  # type: ignore[arg-type]


def test_fixed_numbers_cost_nothing_at_call_time() -> None:
    result = compiled(DemographicParity("sex", tolerance=0.1))
    assert not result.has_parameters
    assert not result.limits().requires_grad


def test_targets_that_learn_move_the_offsets() -> None:
    targets = torch.rand(10, requires_grad=True)
    result = compiled(ResidualParity("race", tolerance=0.1) & MeanResidual("sex", tolerance=0.05), targets=targets)
    limits = result.limits()
    assert limits.offset.detach().numpy().tolist() == result.problem.rows.offset.tolist()
    f = torch.autograd.functional.jacobian(lambda t: compiled(MeanResidual("race", tolerance=0.1), targets=t).limits().offset, targets)
    expected = [[-1.0 / TEN["race"].count(g) if r == g else 0.0 for r in TEN["race"]] for g in (0, 1, 2)]
    assert np.allclose(f, expected)


def test_a_tensor_constant_moves_to_the_limit() -> None:
    shift = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    @notion
    def shifted(batch: Batch, attribute: str) -> Any:
        yield batch.mean(batch.groups(attribute)[0]) + shift <= 0.7

    result = compiled(shifted("sex"))
    assert result.problem.upper[0] == pytest.approx(0.2)
    result.limits().upper.sum().backward()
    assert float(shift.grad) == -1.0  # type: ignore[arg-type]


@given(SEEDS)
def test_offsets_are_the_nearest_floats(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.normal(size=10) * 10.0 ** rng.integers(-12, 12, 10)
    problem = compiled(MeanResidual("race", tolerance=0.1), targets=targets, on_infeasible="passthrough").problem
    for k, group in enumerate((0, 1, 2)):
        inside = [Fraction(float(t)) for t, r in zip(targets, TEN["race"], strict=True) if r == group]
        assert problem.rows.offset[k] == float(-sum(inside) / len(inside))


@given(SEEDS, st.integers(1, 50), st.sampled_from([0, 3, 300]))
def test_exact_sums_are_exact(seed: int, n: int, spread: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=n) * 10.0 ** rng.integers(-spread, spread + 1, n)
    cell = rng.integers(0, 3, n)
    expected = [sum((Fraction(float(v)) for v in values[cell == c]), Fraction(0)) for c in range(3)]
    assert exact_cell_sums(values, cell, 3) == expected


# bad input --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "the batch is empty"),
        ({"n": 9}, "has 10 values for 9 samples"),
        ({"sensitive_features": {"race": [0] * 10}}, "no attribute 'sex'; it has 'race'"),
        ({"sensitive_features": "fm" * 5}, "must map attribute names"),
        ({"sensitive_features": {"sex": [None] + ["f"] * 9}}, "missing value at position 0"),
        ({"sensitive_features": {"sex": [1] + ["f"] * 9}}, "mixes int and str"),
        ({"groups": {"sex": ["f"]}}, "unknown value 'm'"),
        ({"weights": np.zeros(10)}, "weights must be > 0"),
        ({"weights": np.full(10, np.nan)}, "weights holds NaN"),
        ({"weights": np.ones(9)}, r"weights must have shape \(10,\)"),
        ({"weights": "heavy"}, "weights must be a list.* came str"),
        ({"weights": torch.ones(10, requires_grad=True)}, "no gradient"),
        ({"bounds": (1.0, 0.0)}, "lower bound 1.0 is above the upper bound 0.0"),
        ({"bounds": (np.linspace(0, 1, 10), 0.5)}, "of sample 5 is above"),
        ({"bounds": 1.0}, "a pair"),
        ({"bounds": (0.0, 1.0, 2.0)}, "a pair"),
        ({"bounds": (float("nan"), 1.0)}, "lower bound must be a number"),
        ({"bounds": (float("inf"), None)}, "lower bound must be a number"),
        ({"bounds": (np.zeros(9), 1.0)}, r"shape \(10,\)"),
        ({"bounds": ("a", 1.0)}, "lower bound must be None, a number"),
        ({"bounds": (0.0, torch.ones(10, requires_grad=True))}, "no gradient"),
        ({"on_missing": "ignore"}, "on_missing must be one of"),
        ({"on_infeasible": "ignore"}, "on_infeasible must be one of"),
        ({"missing_group": "drop"}, "missing_group must be one of"),
    ],
)
def test_bad_input_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compile_problem(DemographicParity("sex", tolerance=0.1), **{"n": 10, "sensitive_features": TEN, **options})


@pytest.mark.parametrize(
    ("targets", "message"),
    [(None, "needs targets"), (np.ones(9), "shape"), (np.full(10, np.inf), "NaN or infinite"), (["a"] * 10, "targets must be numbers")],
)
def test_bad_targets_are_named(targets: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compiled(EqualOpportunity("sex", tolerance=0.1), targets=targets)


def test_notion_must_be_one() -> None:
    with pytest.raises(InputError, match="notion must be a notion"):
        compiled("DemographicParity")  # type: ignore[arg-type]


def test_facts_are_read_into_the_problem_and_not_shared() -> None:
    weights, lower = np.linspace(1, 2, 10), np.linspace(0, 0.1, 10)
    problem = compiled(DemographicParity("sex", tolerance=0.1), weights=weights, bounds=(lower, None)).problem
    weights[:], lower[:] = 7, 7
    assert problem.weights is not None
    assert float(problem.weights[0]) == 1.0
    assert isinstance(problem.lb, torch.Tensor)
    assert float(problem.lb[0]) == 0.0
    assert problem.ub == float("inf")
    same = compiled(DemographicParity("sex", tolerance=0.1), weights=[1] * 10, bounds=(torch.zeros(10), np.ones((10, 1)))).problem
    assert same.weights is None
    assert (same.lb, same.ub) == (0.0, 1.0)


def test_vocabularies_grow_or_not() -> None:
    made = DemographicParity("sex", tolerance=0.1)
    first = compile_problem(made, n=2, sensitive_features={"sex": ["m", "n"]})
    grown = compile_problem(made, n=2, sensitive_features={"sex": ["a", "m"]}, vocabularies=first.vocabularies)
    assert grown.vocabularies["sex"].values == ("a", "m", "n")
    assert grown.problem.dropped == (("DemographicParity(sex): n", "no sample in n"),)
    with pytest.raises(InputError, match="unknown value 'a'"):
        compile_problem(made, n=2, sensitive_features={"sex": ["a", "m"]}, vocabularies=first.vocabularies, grow=False)


# size -------------------------------------------------------------------------------------------------------------------------


def test_memory_is_linear_in_n_whatever_the_groups() -> None:
    """One (n, groups) array of booleans alone would take 100 bytes a sample."""
    n = 200_000
    features = {"g": np.arange(n) % 100, "h": np.arange(n) % 7}
    made = DemographicParity("g", tolerance=0.1) & DemographicParity("h", tolerance=0.1)
    tracemalloc.start()
    problem = compile_problem(made, n=n, sensitive_features=features).problem
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert problem.rows.masks.shape == (107, 700)
    assert peak < 80 * n
