"""A composition that an earlier one is the template of compiles to the same problem, and to the same plan, in every bit."""

from __future__ import annotations

import copy
import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fairopt as fo
from fairopt.compiler import Compiled, cells_of_rows, compile_problem, numbered, template
from fairopt.compiler.duplicates import directions
from fairopt.compiler.memory import CompiledMemory
from fairopt.compiler.reach import Box, always_met, reaches, surely_open
from fairopt.contract.problem import HARD, ProjectionProblem
from fairopt.contract.rows import Rows
from fairopt.contract.workspace import Workspace
from fairopt.notions import cells
from fairopt.notions.functional import Functional
from fairopt.solve.kin import plan_of
from fairopt.solve.plan import Plan

A, B, C = "a", "b", "c"
Make = Callable[[float], fo.Notion]
ALIKE: dict[str, Make] = {  # of these a further composition has a template
    "pairs": lambda t: fo.DemographicParity(A, tolerance=t),
    "two": lambda t: fo.DemographicParity(A, tolerance=t) & fo.DemographicParity(B, tolerance=t / 2),
    "three": lambda t: fo.DemographicParity(A, tolerance=t) & fo.DemographicParity(B, tolerance=t) & fo.DemographicParity(C, tolerance=t),
    "reference": lambda t: fo.DemographicParity(A, tolerance=t, to=fo.Reference(0)),
    "overall": lambda t: fo.DemographicParity(A, tolerance=t, to="overall"),
    "strata": lambda t: fo.DemographicParity(A, tolerance=t, given=B),
    "crossed": lambda t: fo.DemographicParity((A, B), tolerance=t),
    "opportunity": lambda t: fo.EqualOpportunity(A, tolerance=t),
    "odds": lambda t: fo.EqualizedOdds(A, tolerance=t, given=B),
    "odds and parity": lambda t: fo.DemographicParity(B, tolerance=t) & fo.PredictiveEquality(A, tolerance=t),
    "ratio": lambda t: fo.ImpactRatio(A, ratio=1.0 - min(t, 1.0)),
    "bound": lambda t: fo.GroupMeanBound(A, lower=0.5 - t, upper=0.5 + t),
    "soft": lambda t: fo.DemographicParity(A, tolerance=t).penalised(9.0) & fo.DemographicParity(B, tolerance=t).priced(2.0),
    "budget": lambda t: (fo.DemographicParity(A, tolerance=t) & fo.DemographicParity(C, tolerance=t, to="overall")).budgeted(3.0),
    "twice": lambda t: fo.DemographicParity(A, tolerance=t) & fo.DemographicParity(A, tolerance=t / 2),
}
FAR: dict[str, Make] = {  # limits far beyond what bounds let a row reach: presolve opens them
    "far": lambda t: fo.GroupMeanBound(A, lower=0.5, upper=0.5 + 1e8 * t),
    "ratio of strata": lambda t: fo.ImpactRatio(A, ratio=0.9, given=B) & fo.GroupMeanBound(C, lower=-1e8 * t, upper=0.5),
}
OTHERS: dict[str, Make] = {  # of these none, or none by its nature
    "residual": lambda t: fo.ResidualParity(A, tolerance=t),
    "covariance": lambda t: fo.ScoreCovariance(B, tolerance=t),
    "learned": lambda t: fo.DemographicParity(A, tolerance=torch.tensor(t, requires_grad=True)),
}


BOUNDS = st.sampled_from([None, (0.0, 1.0), (0.0, None), (-0.0, 0.75), (-2.0, 3e9), (0.4, 0.6)])
TOLERANCES = st.sampled_from([0.0, 1e-3, 0.05, 0.5, 0.999999, 1.0, 1.5, 1e7])


@pytest.fixture(autouse=True)
def emptied() -> Iterator[None]:
    template.MEMORY.clear()
    yield
    template.MEMORY.clear()


def same(a: Any, b: Any, where: str = "") -> None:
    """Equal in type, dtype, shape and every bit."""
    assert type(a) is type(b), where
    if isinstance(a, Tensor):
        assert a.dtype == b.dtype, where
        same(a.numpy(), b.numpy(), where)
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), where
    elif is_dataclass(a) and not isinstance(a, type):
        for f in fields(a):
            same(getattr(a, f.name), getattr(b, f.name), f"{where}.{f.name}")
    elif isinstance(a, (tuple, list)):
        assert len(a) == len(b), where
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{where}[{k}]")
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            same(a[key], b[key], f"{where}[{key!r}]")
    else:
        assert repr(a) == repr(b), where  # -0.0 is another bit than 0.0


def compare(a: Compiled, b: Compiled) -> None:
    same(a.problem, b.problem, "problem")
    same(a.vocabularies, b.vocabularies)
    same(a.removed, b.removed)
    assert (a.moving is None, a.whole is None) == (b.moving is None, b.whole is None)
    for name in ("counts", "mask_counts", "coefficients", "absolute_sum", "order", "starts"):
        same(getattr(a.problem.rows, name), getattr(b.problem.rows, name), name)
    if a.problem.m and not isinstance(a.problem.lb, Tensor):
        first, second = plan_of(a.problem), plan_of(b.problem)
        assert (first is None) == (second is None)
        if first is not None and second is not None:
            assert isinstance(first, Plan)
            same(first, second, "plan")


def facts_of(rng: np.random.Generator, n: int, groups: int) -> dict[str, Any]:
    features = {name: rng.integers(0, k, n) for name, k in ((A, groups), (B, 2), (C, 3))}
    return {"n": n, "sensitive_features": features, "targets": rng.integers(0, 2, n).astype(np.float64)}


def again(rng: np.random.Generator, facts: dict[str, Any], most: int) -> dict[str, Any]:
    """The same combinations of groups and labels, each in another number, in another order."""
    n = facts["n"]
    rows = rng.permutation(np.repeat(np.arange(n), rng.integers(1, most + 1, n)))
    features = {name: column[rows] for name, column in facts["sensitive_features"].items()}
    return {"n": rows.size, "sensitive_features": features, "targets": facts["targets"][rows]}


class Used:
    """Counts the problems that a template made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        filled = template.Template.filled

        def counted(*args: Any) -> Any:
            found = filled(*args)
            self.count += found is not None
            return found

        monkeypatch.setattr(template.Template, "filled", counted)


def outcome(notion: fo.Notion, **facts: Any) -> Compiled | str:
    try:
        return compile_problem(notion, **facts)
    except fo.InputError as error:
        return f"{type(error).__name__}: {error}"
    except fo.InfeasibleError as error:
        return f"{type(error).__name__}: {error}"


@given(st.sampled_from([*ALIKE, *FAR, *OTHERS]), st.integers(0, 2**32 - 1), BOUNDS, TOLERANCES, st.booleans(), st.booleans(), st.data())
@settings(max_examples=400, deadline=None)
def test_templates_change_no_bit(name: str, seed: int, bounds: Any, tolerance: float, weighted: bool, declared: bool, data: Any) -> None:
    rng = np.random.default_rng(seed)
    notion = {**ALIKE, **FAR, **OTHERS}[name](tolerance)
    how: dict[str, Any] = {"bounds": bounds}
    if declared:
        how["groups"] = {A: [0, 1, 2, 3, 7]}
    first = facts_of(rng, data.draw(st.integers(1, 40)), data.draw(st.integers(1, 4)))
    batches = [first, again(rng, first, 4), again(rng, first, 40), facts_of(rng, 20, 4)]
    template.MEMORY.clear()
    for facts in batches:
        if weighted:
            how["weights"] = rng.uniform(0.5, 2.0, facts["n"])
        found = outcome(notion, **facts, **how)
        if not isinstance(found, str) and found.problem.m:
            plan_of(found.problem)  # what is shared may be used by now
        kept = template.MEMORY
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(template, "MEMORY", template.TemplateMemory())
            expected = outcome(notion, **facts, **how)
        assert template.MEMORY is kept
        if isinstance(found, str) or isinstance(expected, str):
            assert found == expected
        else:
            compare(found, expected)


@given(st.sampled_from([*ALIKE, *FAR]), st.integers(0, 2**32 - 1), BOUNDS, TOLERANCES, st.booleans(), st.integers(0, 1))
@settings(max_examples=250, deadline=None)
def test_means_over_groups_are_the_same_one_by_one_and_in_blocks(
    name: str, seed: int, bounds: Any, tolerance: float, declared: bool, large: int
) -> None:
    rng = np.random.default_rng(seed)
    how: dict[str, Any] = {"bounds": bounds, **({"groups": {A: [0, 1, 2, 3, 7]}} if declared else {})}
    facts = facts_of(rng, int(rng.integers(1, 60)), int(rng.integers(1, 5)))
    found = []
    for many in (0, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(numbered, "MANY", many)
            patch.setattr(template, "MEMORY", template.TemplateMemory())
            for module in (cells, cells_of_rows, numbered):
                patch.setattr(module, "LARGE", (1 << 18, 0)[large])
            found.append(outcome({**ALIKE, **FAR}[name](tolerance), **facts, **how))
    if isinstance(found[0], str) or isinstance(found[1], str):
        assert found[0] == found[1]
    else:
        compare(found[0], found[1])


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("name", list(ALIKE))
def test_further_compositions_are_made_by_templates(name: str, bounds: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    used = Used(monkeypatch)
    rng = np.random.default_rng(5)
    first = facts_of(rng, 60, 3)
    for k in range(4):
        compile_problem(ALIKE[name](0.05), **(first if k == 0 else again(rng, first, 3)), bounds=bounds)
    assert used.count == 3


@pytest.mark.parametrize("name", list(OTHERS))
def test_facts_that_are_numbers_have_no_template(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used = Used(monkeypatch)
    rng = np.random.default_rng(5)
    first = facts_of(rng, 30, 3)
    for _ in range(2):
        compile_problem(OTHERS[name](0.05), **again(rng, first, 3))
    assert used.count == 0


def test_a_template_runs_no_notion(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    first = facts_of(rng, 60, 3)
    notion = ALIKE["two"](0.05)
    compile_problem(notion, **first)
    monkeypatch.setattr(Functional, "label", lambda self: pytest.fail("compiled anew"))
    compile_problem(notion, **again(rng, first, 3))
    compile_problem(ALIKE["two"](0.05), **again(rng, first, 3))  # notions are values


def test_rows_that_these_counts_make_multiples_are_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """mean(a) - overall and mean(b) - overall of two groups are multiples for any counts: joined, and no template."""
    used = Used(monkeypatch)
    rng = np.random.default_rng(0)
    first = facts_of(rng, 60, 2)
    for _ in range(2):
        assert compile_problem(ALIKE["overall"](0.05), **again(rng, first, 3)).problem.m == 1
    assert used.count == 0


def test_a_limit_that_counts_put_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """|mean(a) - overall| <= 0.6 always holds inside [0, 1] where a has most samples, and can break where it has few."""
    used = Used(monkeypatch)
    notion = fo.DemographicParity(A, tolerance=0.6, to="overall")
    batches = [np.repeat(np.arange(4), counts) for counts in ([20, 20, 20, 20], [70, 10, 10, 10], [21, 20, 22, 20])]

    def compiled(g: Any) -> Compiled:
        return compile_problem(notion, n=g.size, sensitive_features={A: g}, bounds=(0.0, 1.0))

    found = [compiled(g) for g in batches]
    assert [c.problem.m for c in found] == [4, 3, 4]
    assert used.count == 1
    for c, g in zip(found, batches, strict=True):
        template.MEMORY.clear()
        compare(c, compiled(g))


def test_what_reading_refuses_is_refused_with_a_template() -> None:
    rng = np.random.default_rng(0)
    facts = facts_of(rng, 60, 3)
    compile_problem(ALIKE["opportunity"](0.05), **facts)
    with pytest.raises(fo.InputError, match="labels 0 and 1"):
        compile_problem(ALIKE["opportunity"](0.05), **{**facts, "targets": facts["targets"] + 1.0 * (np.arange(60) == 7)})
    far = fo.DemographicParity(A, tolerance=0.05) & fo.DemographicParity(A, tolerance=0.05, to=fo.Reference(9))
    assert len(compile_problem(far, **facts).problem.dropped) == 3
    with pytest.raises(fo.InputError, match="no declared group"):
        compile_problem(far, **facts, groups={A: [0, 1, 2]})


def test_bounds_of_another_sign_are_other_bounds() -> None:
    facts = facts_of(np.random.default_rng(0), 60, 3)
    for lb in (0.0, -0.0):
        assert repr(compile_problem(ALIKE["pairs"](0.05), **facts, bounds=(lb, 1.0)).problem.lb) == repr(lb)


@given(st.integers(0, 2**32 - 1), BOUNDS.filter(lambda b: b is not None and None not in b), TOLERANCES, st.sampled_from([*ALIKE, *FAR]))
@settings(max_examples=200, deadline=None)
def test_what_is_surely_open_stays_as_it_is(seed: int, bounds: tuple[float, float], tolerance: float, name: str) -> None:
    """Against the numbers that presolve works out, for counts of all sizes."""
    from fairopt.compiler.cells_of_rows import Cells
    from fairopt.compiler.gather import gather
    from fairopt.notions.batch import Batch

    rng = np.random.default_rng(seed)
    facts = again(rng, facts_of(rng, 12, 3), int(10 ** rng.uniform(0, 3)))
    batch = Batch(facts["n"], facts["sensitive_features"], facts["targets"])
    found = gather({**ALIKE, **FAR}[name](tolerance), batch)
    cells = Cells(found.masks, found.counts, found.mask_counts, found.names)
    reached = reaches(found.items, cells, Box(*bounds, found.cell, None))
    for item, reach in zip(found.items, reached, strict=True):
        before = copy.copy(item)
        if surely_open(item, found.masks, *bounds):
            assert not always_met(item, reach, [])
            assert (item.lower, item.upper) == (before.lower, before.upper)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_rows_with_other_signs_are_no_multiples(seed: int) -> None:
    """Whatever the counts: their directions, which presolve compares, differ."""
    rng = np.random.default_rng(seed)
    k, masks, cells = (int(v) for v in rng.integers(1, 6, 3))
    scales = rng.choice([0.0, 1.0, -1.0, 0.5], (k, masks))
    members = rng.random((masks, cells)) < 0.4
    if not template.signs_differ(scales, members):
        return
    counts = np.maximum((10 ** rng.uniform(0, 7, masks)).astype(np.int64), 1)
    keys = directions((scales / counts) @ members.astype(np.float64), np.zeros(k))
    assert len(set(keys)) == k


def test_memory_is_bounded_and_shared_by_threads() -> None:
    rng = np.random.default_rng(0)
    problems: list[int] = []

    def work(seed: int) -> None:
        own = np.random.default_rng(seed)
        for k in range(60):
            notion = ALIKE["pairs"](0.001 * (1 + k % 40))
            problems.append(compile_problem(notion, **facts_of(own, 30, 1 + k % 6)).problem.n)

    threads = [threading.Thread(target=work, args=(int(rng.integers(2**31)),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == [30] * 180
    families = template.MEMORY._families
    assert 0 < len(families) <= template.NOTIONS
    assert all(len(family.templates) <= template.TEMPLATES for family in families.values())


def test_problems_of_one_template_solve_apart() -> None:
    """What they share holds nothing of the samples: solutions are those of problems on their own."""
    rng = np.random.default_rng(1)
    first = facts_of(rng, 80, 3)
    notion = ALIKE["two"](0.02)
    batches = [again(rng, first, 3) for _ in range(4)]
    scores = [torch.tensor(rng.normal(0.5, 0.4, facts["n"]) + 0.3 * facts["sensitive_features"][A]) for facts in batches]

    def solved(k: int) -> Tensor:
        facts = batches[k]
        prepared = fo.compile(notion, sensitive_features=facts["sensitive_features"], bounds=(0.0, 1.0))
        solution = prepared.project(scores[k], return_solution=True)
        assert solution.status is fo.Status.CERTIFIED
        return solution.scores

    together = [solved(k) for k in range(4)]
    for k in reversed(range(4)):
        template.MEMORY.clear()
        assert torch.equal(solved(k), together[k])


def test_a_plan_of_other_entries_is_made_anew() -> None:
    """Where counts made a coefficient 0, entries would lie elsewhere: the layout of an earlier plan steps aside."""
    problem = compile_problem(ALIKE["two"](0.05), **facts_of(np.random.default_rng(2), 60, 4)).problem
    other = replace(problem, rows=replace(problem.rows, scales=np.where(problem.rows.scales == problem.rows.scales[0], 0.0, 1.0)))
    expected = plan_of(replace(other))
    kin = Workspace()
    for p in (problem, other):
        p.workspace.put("kin", kin)
        assert plan_of(p) is not None
    assert kin.get(("layout", True)) is not None
    same(plan_of(other), expected, "plan")


@pytest.mark.parametrize("sizes", [(10, 10), (1_000_000_001, 1_000_000_000)])
def test_a_layout_steps_aside_where_counts_cancel(sizes: tuple[int, int]) -> None:
    """A row whose weights in one cell cancel, wholly or nearly: it has another entry less there, or numbers far from 1."""

    def problem(counts: tuple[int, int]) -> ProjectionProblem:
        masks, scales = np.array([[True, True], [True, False]]), np.array([[0.7, -0.35]])
        rows = Rows(torch.tensor([0, 1]), masks, scales if not kept else kept[0], np.zeros(1), copies=np.array(counts))
        kept.append(rows.scales)
        limits = np.array([-0.1]), np.array([0.1]), np.zeros(0), np.array([1])
        return ProjectionProblem(rows, *limits, lb=0.0, ub=1.0, softness=(HARD,), labels=("row",), constraint_labels=("row",))

    kept: list[Any] = []
    kin = Workspace()
    first, second = problem((10, 20)), problem(sizes)
    for p in (first, second):
        p.workspace.put("kin", kin)
    assert plan_of(first) is not None
    layout = kin.get(("layout", True))
    if sizes[0] == sizes[1]:
        assert layout.of(second) is None
        assert int(np.count_nonzero(second.rows.coefficients)) == 1
    same(plan_of(second), plan_of(replace(second)), "plan")


def test_layers_compile_inside_transforms() -> None:
    """The first composition and further ones, with groups and labels that are tensors, which hand out no numbers there."""
    layer = fo.FairnessLayer(ALIKE["odds"](0.05), bounds=(0.0, 1.0))
    rng = np.random.default_rng(3)
    first = facts_of(rng, 40, 2)
    for facts in (first, again(rng, first, 3), again(rng, first, 3)):
        features = {name: torch.tensor(column) for name, column in facts["sensitive_features"].items()}
        targets, z = torch.tensor(facts["targets"]), torch.tensor(rng.normal(0.5, 0.4, facts["n"]))

        def total(scores: Tensor, features: Any = features, targets: Tensor = targets) -> Tensor:
            return layer(scores, sensitive_features=features, targets=targets).square().sum()

        def projected(scores: Tensor, features: Any = features, targets: Tensor = targets) -> Tensor:
            how: dict[str, Any] = {"sensitive_features": features, "targets": targets, "bounds": (0.0, 1.0)}
            return fo.project(scores, ALIKE["odds"](0.05), **how).square().sum()

        outside = z.clone().requires_grad_(True)
        total(outside).backward()
        layer._memory = CompiledMemory()
        for inside in (total, projected):
            torch.testing.assert_close(torch.func.grad(inside)(z), outside.grad, rtol=0, atol=1e-12)


def test_a_compilation_leaves_no_columns_behind() -> None:
    """Codes (n,) are let go with the batch, not when the collector of circles comes round."""
    n = 200_000
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, n).astype(np.float64)
    notion = ALIKE["odds and parity"](0.05)

    def kept(columns: int) -> int:
        features = {name: rng.integers(0, 2, n) for name in (A, B)}
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(columns):
                fo.compile(notion, sensitive_features=features, targets=targets, bounds=(0.0, 1.0))
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
            gc.enable()

    kept(1)
    assert kept(4) < n  # bytes; one column has eight times as many
