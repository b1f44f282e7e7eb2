"""A solve driven by passes: the answer of the other roads, from passes over samples that lie anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fairopt as fo
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.compiler import compile_problem
from fairopt.feasibility.exact_rows import exact_offsets
from fairopt.solve import drive as driving
from fairopt.solve.drive import decided, drive, guess, respond
from fairopt.solve.front import solve
from fairopt.solve.passes import stages
from fairopt.solve.passes.compiled_passes import CompiledPasses
from fairopt.solve.passes.interface import Samples
from fairopt.solve.passes.torch_passes import TorchPasses
from fairopt.solve.plan import CellPlan, cell_plan, extents_of
from fairopt.solve.road import closed, fast
from fairopt.testing.draws import Draw, wild

IMPLEMENTATIONS: dict[str, Any] = {"torch": TorchPasses, "compiled": CompiledPasses}
both = pytest.mark.parametrize("make", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)


def samples_of(problem: Any) -> Samples:
    return Samples(problem.rows.cell, int(problem.rows.masks.shape[1]), problem.lb, problem.ub, problem.weights)


def planned(count: int, seed: int, max_n: int = 60) -> Iterator[tuple[Draw, CellPlan]]:
    for draw in wild(count, seed, max_n=max_n):
        plan = cell_plan(draw.problem)
        if plan is not None:
            yield draw, plan


@both
def test_the_answer_of_the_other_roads(make: Any) -> None:
    compared = 0
    for draw, plan in planned(120, 3):
        z = draw.scores.detach().clone().requires_grad_(True)
        passes = make(draw.scores, samples_of(draw.problem))
        driven = drive(draw.problem, plan, passes)
        if not driven.certified or driven.scores is None:
            continue
        with closed():
            general = solve(z, draw.problem)
        assert general.status is fo.Status.CERTIFIED
        size = float(draw.scores.abs().max())
        assert torch.allclose(driven.scores, general.scores, rtol=0, atol=1e-9 * size), draw
        again = solve(draw.scores, draw.problem)
        if again.backend and (again.prices.numpy() == driven.prices).all():  # the compiled road: the same steps
            assert torch.allclose(driven.scores, again.scores, rtol=0, atol=1e-12 * size)
        hard = np.array([s.kind == "hard" for s in draw.problem.softness])
        assert (driven.violation[hard] <= 0).all()
        v = torch.from_numpy(np.random.default_rng(1).normal(size=z.shape[0]))
        general.scores.backward(v)
        found = respond(driven, passes, v)
        if draw.problem.all_hard:
            assert torch.allclose(respond(driven, passes, found), found, rtol=0, atol=1e-9 * float(v.abs().max()))  # a projector (claim L4)
        w = 1.0 if draw.problem.weights is None else draw.problem.weights
        u = torch.from_numpy(np.random.default_rng(2).normal(size=z.shape[0]))
        left, right = float(found @ u), float(v @ respond(driven, passes, u, forward=True))
        assert abs(left - right) <= 1e-9 * float(found.norm() * u.norm() + v.norm()) * float(
            torch.as_tensor(w).max() / torch.as_tensor(w).min()
        )
        compared += 1
    assert compared > 30


def test_gradients_are_finite_differences() -> None:
    notion = fo.DemographicParity("g", tolerance=0.05) & fo.DemographicParity("h", tolerance=0.02)
    rng = np.random.default_rng(0)
    features = {"g": rng.integers(0, 3, 80), "h": rng.integers(0, 2, 80)}
    problem = fo.compile(notion, sensitive_features=features, bounds=(0.0, 1.0)).problem
    z = torch.from_numpy(rng.normal(0.5, 0.4, 80) + 0.2 * features["g"])
    plan = cell_plan(problem)
    assert plan is not None
    passes = TorchPasses(z, samples_of(problem))
    driven = drive(problem, plan, passes)
    assert driven.certified
    assert driven.scores is not None
    v = torch.from_numpy(rng.normal(size=80))
    gradient = respond(driven, passes, v)
    for i in range(0, 80, 7):
        ends = []
        for step in (1e-5, -1e-5):
            moved = z.clone()
            moved[i] += step
            other = drive(problem, plan, TorchPasses(moved, samples_of(problem)))
            assert other.scores is not None
            ends.append(float(other.scores @ v))
        assert abs((ends[0] - ends[1]) / 2e-5 - float(gradient[i])) < 1e-6


def test_extents_join() -> None:
    """A plan from the sums of two halves is the plan of the whole."""
    for draw, plan in planned(60, 5):
        problem, n = draw.problem, draw.problem.n
        parts = []
        for chosen in (slice(0, n // 2), slice(n // 2, n)):
            if chosen.start == chosen.stop:
                continue
            rows = problem.rows
            sub = {
                b: getattr(problem, b)[chosen] if isinstance(getattr(problem, b), Tensor) else getattr(problem, b)
                for b in ("lb", "ub", "weights")
            }
            parts.append(extents_of(_Part(rows.cell[chosen], int(rows.masks.shape[1]), **sub)))  # type: ignore[arg-type]
        joined = parts[0] if len(parts) == 1 else parts[0].joined(parts[1])
        again = cell_plan(problem, joined)
        assert again is not None
        assert (again.whole == plan.whole).all()
        assert np.allclose(again.real, plan.real, rtol=1e-13, atol=0, equal_nan=True)


class _Part:
    """What ``extents_of`` reads of a problem, of some of its samples."""

    def __init__(self, cell: Tensor, cells: int, lb: Any, ub: Any, weights: Tensor | None) -> None:
        self.lb, self.ub, self.weights = lb, ub, weights
        self.uniform_box = not isinstance(lb, Tensor) and not isinstance(ub, Tensor)
        self.rows = self
        self.cell, self.masks = cell, np.zeros((1, cells))
        self.counts = np.bincount(cell.numpy(), minlength=cells)


def test_a_start_near_the_answer_saves_passes() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    features = {"g": rng.integers(0, 3, n), "h": rng.integers(0, 2, n)}
    notion = fo.DemographicParity("g", tolerance=0.02) & fo.DemographicParity("h", tolerance=0.01)
    problem = fo.compile(notion, sensitive_features=features, bounds=(0.0, 1.0)).problem
    z = torch.from_numpy(rng.normal(0.5, 0.4, n) + 0.3 * features["g"])
    samples = samples_of(problem)
    plan = cell_plan(problem)
    assert plan is not None
    cold = drive(problem, plan, TorchPasses(z, samples))
    part = torch.arange(0, n, 10)
    some = Samples(samples.cell[part], samples.cells, samples.lb, samples.ub, None)
    scale = problem.rows.counts / np.bincount(some.cell.numpy(), minlength=samples.cells)
    start = guess(plan, TorchPasses(z[part], some), scale)
    assert start is not None
    warm = drive(problem, plan, TorchPasses(z, samples), start=start)
    exact = drive(problem, plan, TorchPasses(z, samples), start=cold.prices)
    assert warm.certified
    assert cold.scores is not None
    assert torch.allclose(warm.scores, cold.scores, atol=1e-10, rtol=0)  # type: ignore[arg-type]
    assert exact.rounds <= warm.rounds <= cold.rounds
    assert exact.rounds < cold.rounds


def test_exact_sums_decide_where_floats_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    decisions = refused = 0
    stage = driving._Run.stage

    def unsure(self: Any, which: int, *arrays: Any) -> int:
        found = stage(self, which, *arrays)
        return 0 if which == stages.JUDGE else found

    monkeypatch.setattr(driving._Run, "stage", unsure)
    for draw, plan in planned(60, 7):
        driven = drive(draw.problem, plan, TorchPasses(draw.scores, samples_of(draw.problem)))
        if driven.scores is None:
            continue
        assert driven.exact
        assert driven.certified
        decisions += 1
        if draw.problem.all_hard and draw.problem.linear:  # a cell's sum far off breaks a row that the cell is in
            far = TorchPasses(draw.scores, samples_of(draw.problem)).exact_sums(driven.scores)
            k = int(np.flatnonzero(np.isfinite(draw.problem.upper[: draw.problem.linear]) | np.isfinite(draw.problem.lower))[0])
            weight = np.asarray(draw.problem.rows.coefficients[k])
            c = int(np.abs(weight).argmax())
            up = np.isfinite(draw.problem.upper[k])
            far[c] += Fraction(10**9 * (1 if (weight[c] > 0) == up else -1)) * 10**6
            assert not decided(draw.problem, plan, driven.numbers.copy(), far)
            refused += 1
    assert decisions > 15
    assert refused > 5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_left_at_once(bad: float) -> None:
    problem = fo.compile(fo.DemographicParity("g", tolerance=0.1), sensitive_features={"g": [0, 1, 0, 1]}).problem
    plan = cell_plan(problem)
    assert plan is not None
    driven = drive(problem, plan, TorchPasses(torch.tensor([0.1, bad, 0.3, 0.4]), samples_of(problem)))
    assert not driven.certified
    assert driven.left_at == stages.OPEN
    assert driven.scores is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_dtype(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    g = rng.integers(0, 4, 500)
    prepared = fo.compile(fo.DemographicParity("g", tolerance=0.05), sensitive_features={"g": g}, bounds=(0.0, 1.0))
    z = torch.tensor(rng.uniform(size=500) * (0.5 + 0.1 * g)).to(dtype)
    plan = cell_plan(prepared.problem)
    assert plan is not None
    driven = drive(prepared.problem, plan, TorchPasses(z, samples_of(prepared.problem)))
    assert driven.certified
    assert driven.scores is not None
    assert driven.scores.dtype == dtype
    means = [float(driven.scores.double()[torch.from_numpy(g == k)].mean()) for k in range(4)]
    assert max(means) - min(means) <= 0.05 + 1e-12
    general = prepared.project(z)
    assert torch.allclose(driven.scores.double(), general.double(), rtol=0, atol=2 * torch.finfo(dtype).eps)


NOTIONS = {
    "parity": fo.DemographicParity("g", tolerance=0.05),
    "two": fo.DemographicParity("g", tolerance=0.05) & fo.DemographicParity("h", tolerance=0.02),
    "odds": fo.EqualizedOdds("g", tolerance=0.05),
    "opportunity": fo.EqualOpportunity("h", tolerance=0.02),
    "given": fo.DemographicParity("g", given="h", tolerance=0.05),
    "overall": fo.DemographicParity("g", tolerance=0.05, to="overall"),
    "residual": fo.MeanResidual("g", tolerance=0.02),
    "residuals": fo.ResidualParity("g", tolerance=0.05),
    "priced": fo.DemographicParity("g", tolerance=0.05).priced(0.3) & fo.DemographicParity("h", tolerance=0.02),
}


@pytest.mark.parametrize("name", NOTIONS)
def test_a_plan_from_counts_alone(name: str) -> None:
    """One position a distinct composition, with how often it comes, compiles to the problem of all samples."""
    notion, rng, n = NOTIONS[name], np.random.default_rng(len(name)), 3_000
    features = {"g": rng.integers(0, 4, n), "h": rng.integers(0, 2, n)}
    targets = (rng.random(n) < 0.2 + 0.1 * features["g"]).astype(float)
    table = np.stack([features["g"], features["h"], targets], axis=1)
    kinds, where, copies = np.unique(table, axis=0, return_inverse=True, return_counts=True)
    facts: dict[str, Any] = {"targets": targets} if notion.needs_targets else {}
    whole = compile_problem(notion, n=n, sensitive_features=features, bounds=(0.0, 1.0), **facts).problem
    counted = compile_problem(
        notion, n=len(kinds), sensitive_features={"g": kinds[:, 0].astype(int), "h": kinds[:, 1].astype(int)}, bounds=(0.0, 1.0),
        copies=copies.astype(np.int64), **dict.fromkeys(facts, kinds[:, 2]),  # type: ignore[arg-type]
    ).problem  # fmt: skip
    assert counted.labels == whole.labels
    assert counted.group_counts == whole.group_counts
    for field in ("lower", "upper", "width", "range_starts"):
        assert (getattr(counted, field) == getattr(whole, field)).all()
    assert (counted.rows.offset == whole.rows.offset).all()
    assert exact_offsets(counted.rows) == exact_offsets(whole.rows)
    cell = counted.rows.cell[torch.from_numpy(where.reshape(-1))]
    by_sample = [np.asarray(p.rows.coefficients)[:, c.numpy()] for p, c in ((counted, cell), (whole, whole.rows.cell))]
    assert (by_sample[0] == by_sample[1]).all()
    z = torch.from_numpy(rng.normal(0.5, 0.3, n) + 0.1 * features["g"])
    plan = cell_plan(counted)
    assert plan is not None
    driven = drive(counted, plan, TorchPasses(z, Samples(cell, plan.cells, 0.0, 1.0, None)))
    assert driven.certified
    assert driven.scores is not None
    assert torch.allclose(driven.scores, solve(z, whole).scores, rtol=0, atol=1e-12)


def test_copies_are_checked() -> None:
    notion, features = NOTIONS["parity"], {"g": [0, 1]}
    two = np.array([3, 4])
    for facts, word in (
        ({"copies": np.array([1, 0])}, "copies"),
        ({"copies": np.array([1])}, "copies"),
        ({"copies": two, "weights": [1.0, 2.0]}, "weights"),
        ({"copies": two, "bounds": ([0.0, 0.1], None)}, "bounds"),
    ):
        with pytest.raises(InputError, match=word):
            compile_problem(notion, n=2, sensitive_features=features, **facts)
    with pytest.raises(UnsupportedError, match="weight of their own"):
        compile_problem(fo.ScoreCovariance("g", tolerance=0.1), n=2, sensitive_features={"g": [0.0, 1.0]}, copies=two)


class LogisticPasses(TorchPasses):
    """Another map: y = sigmoid(logit(z) - shift), which is the nearest in Kullback-Leibler distance; slopes are y (1 - y)."""

    def _values(self, shift: np.ndarray) -> Tensor:
        return torch.sigmoid(torch.logit(self.z) - torch.from_numpy(shift)[self.samples.cell])

    def sums(self, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = self._values(shift)
        return self._summed(y), self._summed(y * (1.0 - y))

    def largest(self, shift: np.ndarray) -> float:
        return 1.0

    def scores(self, shift: np.ndarray) -> tuple[Tensor, np.ndarray, np.ndarray]:
        y = self._values(shift)
        self.slope = y * (1.0 - y)
        return y, self._summed(y), self._summed(self.slope)

    def gradient_sums(self, v: Tensor, *, weighted: bool = True) -> np.ndarray:
        return self._summed(v * self.slope if weighted else v)

    def spread(self, v: Tensor, shift: np.ndarray, *, weighted: bool = False) -> Tensor:
        """D (v - shift), for D = diag(slopes); the derivative by logit(z) is what J' gives."""
        return self.slope * (v - torch.from_numpy(shift)[self.samples.cell])


@pytest.mark.parametrize("notion", ["parity", "two", "given", "overall"])
def test_another_map_than_clipping(notion: str) -> None:
    rng = np.random.default_rng(1)
    n = 300
    features = {"g": rng.integers(0, 3, n), "h": rng.integers(0, 2, n)}
    problem = compile_problem(NOTIONS[notion], n=n, sensitive_features=features, bounds=(0.0, 1.0)).problem
    logits = torch.from_numpy(rng.normal(0.0, 1.0, n) + features["g"])
    plan = cell_plan(problem)
    assert plan is not None

    def solved(logit: Tensor) -> tuple[Any, LogisticPasses]:
        passes = LogisticPasses(torch.sigmoid(logit), Samples(problem.rows.cell, plan.cells, 0.0, 1.0, None))
        driven = drive(problem, plan, passes)
        assert driven.certified
        return driven, passes

    driven, passes = solved(logits)
    y, p = driven.scores, driven.prices
    A = problem.rows.matrix()
    f = (A @ y).numpy() + problem.rows.offset
    assert torch.allclose(torch.logit(y), logits - A.T @ torch.from_numpy(p), rtol=0, atol=1e-9)  # stationary
    for k in range(problem.linear):  # and complementary
        assert problem.lower[k] <= f[k] <= problem.upper[k]
        assert abs(p[k]) < 1e-12 or abs(f[k] - (problem.upper[k] if p[k] > 0 else problem.lower[k])) < 1e-9
    for r, rows in enumerate(problem.range_slices):
        assert f[rows].max() - f[rows].min() <= problem.width[r]
        assert abs(p[rows].sum()) < 1e-9
        assert f[rows].max() - f[rows].min() > problem.width[r] - 1e-9 or np.abs(p[rows]).max() < 1e-12
    v = torch.from_numpy(rng.normal(size=n))
    gradient = respond(driven, passes, v)
    step = 1e-6
    for i in range(0, n, 31):
        ends = []
        for sign in (step, -step):
            moved = logits.clone()
            moved[i] += sign
            ends.append(float(solved(moved)[0].scores @ v))
        assert abs((ends[0] - ends[1]) / (2 * step) - float(gradient[i])) < 1e-6


def test_prices_that_a_repair_moved_far_are_judged_by_their_own_residual(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = driving._Run.stage
    wrong = 0.0

    def far(self: Any, which: int, *arrays: Any) -> int:
        found = stage(self, which, *arrays)
        if which == stages.SETTLE:
            self.numbers[stages.MOVED] = 1e300
            self.numbers[stages.HEAD : stages.HEAD + self.plan.m] *= 1.0 + wrong
            self.shift[:] *= 1.0 + wrong  # what the scores are made from
        return found

    monkeypatch.setattr(driving._Run, "stage", far)
    kept = refused = 0
    for draw, plan in planned(60, 11):
        wrong = 0.0
        driven = drive(draw.problem, plan, TorchPasses(draw.scores, samples_of(draw.problem)))
        if not driven.certified:
            continue
        kept += 1
        assert driven.numbers[stages.RESIDUE] <= driven.numbers[stages.BOUND]
        if not driven.prices.any() or not draw.problem.all_hard:
            continue
        wrong = 1e-3  # fair all the same, and not the nearest
        driven = drive(draw.problem, plan, TorchPasses(draw.scores, samples_of(draw.problem)))
        refused += driven.left_at == stages.BESIDE
        wrong = np.nan
        assert drive(draw.problem, plan, TorchPasses(draw.scores, samples_of(draw.problem))).left_at == stages.BESIDE
    assert kept > 20
    assert refused > 5


def test_a_million_float64_scores_are_for_the_compiled_road() -> None:
    """The margin of so long a sum moves scores by more than 2^-38."""
    road = fast(torch.float64)
    if road is None:
        pytest.skip("numba is not installed, or FAIROPT_FAST=0")
    n = 1_000_000
    draw = torch.Generator().manual_seed(0)
    g = torch.arange(n) % 3
    z = (torch.rand(n, generator=draw, dtype=torch.float64) + 0.05 * g).clamp(0.0, 1.0)
    problem = fo.compile(fo.DemographicParity("g", tolerance=0.01), sensitive_features={"g": g}, bounds=(0.0, 1.0)).problem
    found = road.attempt(z, problem)
    assert found is not None
    certificate = found[1].certificate()
    assert certificate.moved_by_repair > 2.0**-38
    assert certificate.kkt_residual <= certificate.kkt_bound
