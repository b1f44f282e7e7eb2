"""Ranges with a ratio, ratio * max - min <= width: against their pairs, the definition by a solver of another make, and differences."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.basics.range_projection import INF, flow_derivative, level_shares, range_flow, range_prices, width_shares
from fairopt.contract.backend import Capabilities, RawSolution
from fairopt.contract.problem import ProjectionProblem
from fairopt.contract.ranges_as_pairs import as_pairs, untaken
from fairopt.solve import solve
from fairopt.testing.draws import draw
from fairopt.testing.optimality import residuals, written_out
from fairopt.testing.oracle import accepted_oracle
from fairopt.testing.sensitivity import exact_jacobian, is_generic
from fairopt_backends.dual_newton import DualNewton

F64 = torch.float64
SEEDS = st.integers(0, 2**32 - 1)
Generator = np.random.Generator
MUTATIONS = ("box", "narrow_box", "sample_box", "weights", "priced", "budget", "quadratic", "mixed_softness", "ties", "duplicate", "far")


# the projection of one range -------------------------------------------------------------------------------------------------------


@given(SEEDS)
@settings(max_examples=300, deadline=None)
def test_prices_of_one_range_meet_its_optimality_conditions(seed: int) -> None:
    """theta is in the price domain, theta . v is what its flow costs, and the flow is what the softness says of the violation."""
    rng = np.random.default_rng(seed)
    K, ratio = int(rng.integers(1, 8)), float(rng.choice([0.0, 0.5, 0.8, 0.99, 1.0, rng.random()]))
    a, s = rng.normal(rng.choice([-1.0, 0.0, 1.0]), 1.0, K), np.exp(rng.normal(0, 1.5, K))
    width = float(rng.choice([0.0, 0.1, 1.0, -0.1 if ratio < 1 else 0.0]))
    kind = int(rng.integers(3))
    rho, gamma = (float(np.exp(rng.normal(-1, 1.5))) if kind == k else INF for k in (1, 2))
    theta = range_prices(a, s, width, ratio=ratio, rho=rho, gamma=gamma)
    v = a - s * theta
    up, down = float(np.maximum(theta, 0.0).sum()), -float(np.minimum(theta, 0.0).sum())
    q, d = range_flow(theta, ratio), ratio * float(v.max()) - float(v.min()) - width
    assert up <= ratio * down + 1e-9
    assert ratio < 1.0 or abs(up - down) <= 1e-9
    if q > 0:
        assert theta @ v == pytest.approx((width + max(d, 0.0)) * q, abs=1e-9 * (1 + q))
        assert d >= -1e-9
    assert d <= 1e-9 or (q == pytest.approx(rho) if kind == 1 else kind == 2)
    assert q <= rho * (1 + 1e-12)
    assert kind != 2 or q == pytest.approx(gamma * max(d, 0.0), abs=1e-9 * max(1.0, gamma))
    assert width_shares(theta, ratio) @ theta == pytest.approx(q, rel=1e-12, abs=1e-12)
    assert level_shares(theta, ratio) @ theta == pytest.approx(0.0, abs=1e-12 * (1 + q))


@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_the_flow_falls_and_rises_as_its_derivative_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    K, ratio = int(rng.integers(2, 7)), float(rng.choice([0.3, 0.8, 1.0]))
    a, b = (range_prices(rng.normal(0, 1, K), np.ones(K), 0.1, ratio=ratio) for _ in range(2))
    h = 1e-7  # the domain is convex: a and b span a ray in it
    numeric = (range_flow(a + h * (b - a), ratio) - range_flow(a, ratio)) / h
    assert flow_derivative(a, b - a, ratio) == pytest.approx(numeric, abs=1e-5)


# problems --------------------------------------------------------------------------------------------------------------------------


def with_ratios(rng: Generator, seed: int) -> tuple[ProjectionProblem, torch.Tensor]:
    """A drawn problem whose ranges get ratios, with widths that its witness meets."""
    chosen = rng.choice(
        ["box", "narrow_box", "weights", "sample_box", "ties", "redundant", "scaled_rows"], int(rng.integers(0, 3)), replace=False
    )
    d = draw(str(rng.choice(["range", "overlap", "strata", "mixture", "residual_range"])), seed, chosen.tolist(), max_n=50)
    p = d.problem
    ratio = np.where(rng.random(p.ranges) < 0.8, np.round(rng.random(p.ranges), 2), 1.0)
    dense = written_out(p)
    assert d.witness is not None
    f = dense.a @ d.witness + dense.offset
    needed = [q * f[part].max() - f[part].min() for q, part in zip(ratio, p.range_slices, strict=True)]
    return replace(p, ratio=ratio, width=np.maximum(p.width * float(rng.choice([0.0, 0.3, 1.0])), np.array(needed) + 1e-6)), d.scores


@given(SEEDS)
@settings(max_examples=80, deadline=None)
def test_a_range_is_its_pairs(seed: int) -> None:
    problem, z = with_ratios(np.random.default_rng(seed), seed % 2**31)
    found, pairs = (solve(z, p, backend="dual_newton") for p in (problem, as_pairs(problem).problem))
    assert found.status is fo.Status.CERTIFIED
    assert float((found.scores - pairs.scores).abs().max()) <= 1e-9 * max(1.0, float(z.abs().max()))
    lifted = as_pairs(problem).lift @ pairs.prices.numpy()
    assert residuals(problem, z.numpy(), found.scores.numpy(), lifted).worst <= 1e-8


@given(SEEDS)
@example(seed=971797971)
@settings(max_examples=80, deadline=None)
def test_drawn_ratio_ranges_are_solved_and_differentiated(seed: int) -> None:
    """Against daqp and the exact derivative on the piece, for every softness."""
    rng = np.random.default_rng(seed)
    d = draw("ratio_range", seed % 2**31, [m for m in MUTATIONS if rng.random() < 0.2], max_n=40)
    z = d.scores.clone().requires_grad_(True)
    found, scale = solve(z, d.problem, backend="dual_newton"), max(1.0, float(d.scores.abs().max()))
    assert found.status in (fo.Status.CERTIFIED, fo.Status.WITHIN_ROUNDING)
    y = found.scores.detach().numpy()
    assert residuals(d.problem, d.scores.numpy(), y, found.prices.numpy()).worst <= 1e-9
    reference = accepted_oracle(d)
    if reference is None:
        return
    assert float(np.abs(reference.y - y).max()) <= 1e-9 * scale
    if is_generic(d, reference):
        g = torch.from_numpy(rng.normal(size=d.problem.n))
        (v,) = torch.autograd.grad(found.scores, z, g)
        np.testing.assert_allclose(v.numpy(), exact_jacobian(d, reference).T @ g.numpy(), atol=1e-7)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])  # below 0 all group means meet at the tip
def test_impact_ratio_is_the_loop_over_all_pairs(ratio: float, shift: float) -> None:
    @fo.notion
    def loop(batch, attribute, ratio):
        for a, b in itertools.permutations(batch.groups(attribute), 2):
            yield batch.mean(a) - ratio * batch.mean(b) >= 0

    rng = np.random.default_rng(0)
    g = rng.integers(0, 5, 200)
    z = torch.tensor(rng.normal(size=200) + g + shift)
    for bounds in (None, (-1.0, 4.0)):
        ours, theirs = (
            fo.project(z, n, sensitive_features={"g": g}, bounds=bounds, return_solution=True)
            for n in (fo.ImpactRatio("g", ratio=ratio), loop("g", ratio=ratio))
        )
        assert ours.status is theirs.status is fo.Status.CERTIFIED
        assert len(ours.labels) == 5  # one price a group
        torch.testing.assert_close(ours.scores, theirs.scores, atol=1e-9, rtol=0)
        means = [sum(map(Fraction, ours.scores[torch.from_numpy(g == k)].tolist()), Fraction(0)) / int((g == k).sum()) for k in range(5)]
        assert min(means) >= Fraction(ratio) * max(means)


def test_two_groups_stay_two_linear_rows() -> None:
    problem = fo.compile(fo.ImpactRatio("g"), sensitive_features={"g": list("aabb")}).problem
    assert (problem.linear, problem.ranges) == (2, 0)
    assert problem.constraint_labels == ("ImpactRatio(g): a - 0.8*b", "ImpactRatio(g): b - 0.8*a")
    soft = fo.compile(fo.ImpactRatio("g").priced(1.0), sensitive_features={"g": list("aabb")}).problem
    assert (soft.linear, soft.ranges) == (0, 1)  # the larger of two violations, not their sum
    scaled = fo.compile(third("g"), sensitive_features={"g": list("aabb")}).problem
    assert (scaled.linear, scaled.ranges) == (0, 1)  # 0.8 * 0.3 is no float64: the row would be another one


@fo.notion
def third(batch, attribute):
    yield batch.range([0.3 * batch.mean(g) for g in batch.groups(attribute)], ratio=0.8) <= 0


@pytest.mark.parametrize("make", ["priced", "penalised", "budgeted"])
def test_softness_prices_one_violation(make: str) -> None:
    """The scores minimise the distance plus the cost of max(ratio * max - min, 0), by a search over directions."""
    rng = np.random.default_rng(1)
    g, weight = rng.integers(0, 3, 60), 2.0
    z = torch.tensor(rng.normal(size=60) * 0.1 + g)
    y = fo.project(z, getattr(fo.ImpactRatio("g", ratio=0.9), make)(weight), sensitive_features={"g": g})

    def cost(x: torch.Tensor) -> float:
        means = [float(x[torch.from_numpy(g == k)].mean()) for k in range(3)]
        d = max(0.9 * max(means) - min(means), 0.0)
        return 0.5 * float(((x - z) ** 2).sum()) + (weight / 2 * d * d if make == "penalised" else weight * d)

    assert all(cost(y) <= cost(y + t * torch.tensor(rng.normal(size=3)[g])) + 1e-12 for t in (1e-3, 1e-2, 0.1) for _ in range(50))


def test_gradients_to_rho_and_gamma_are_differences() -> None:
    rng = np.random.default_rng(2)
    g, w = rng.integers(0, 4, 80), torch.tensor(rng.normal(size=80))
    for level in (0.0, -2.0):  # split, and at the tip
        z = torch.tensor(rng.normal(size=80) * 0.1 + g * 0.3 + level)
        for make, at in (("priced", 0.3), ("penalised", 4.0)):

            def value(x: torch.Tensor, z: torch.Tensor = z, make: str = make) -> torch.Tensor:
                return (fo.project(z, getattr(fo.ImpactRatio("g"), make)(x), sensitive_features={"g": g}) * w).sum()

            x = torch.tensor(at, dtype=F64, requires_grad=True)
            (own,) = torch.autograd.grad(value(x), x)
            numeric = (value(torch.tensor(at + 1e-5, dtype=F64)) - value(torch.tensor(at - 1e-5, dtype=F64))) / 2e-5
            assert float(own) == pytest.approx(float(numeric), rel=1e-5, abs=1e-8)


def test_gradient_to_the_width_is_a_difference() -> None:
    @fo.notion
    def wide(batch, attribute, tolerance):
        yield batch.range(batch.groups(attribute), ratio=0.7) <= tolerance

    rng = np.random.default_rng(3)
    g, w = rng.integers(0, 4, 80), torch.tensor(rng.normal(size=80))
    for level in (0.3, -3.0):
        z = torch.tensor(rng.normal(size=80) * 0.1 + g * 0.5 + level)

        def value(t: torch.Tensor, z: torch.Tensor = z) -> torch.Tensor:
            return (fo.project(z, wide("g", tolerance=t), sensitive_features={"g": g}, bounds=(-4.0, 2.0)) * w).sum()

        t = torch.tensor(0.1, dtype=F64, requires_grad=True)
        (own,) = torch.autograd.grad(value(t), t)
        numeric = (value(torch.tensor(0.1 + 1e-6, dtype=F64)) - value(torch.tensor(0.1 - 1e-6, dtype=F64))) / 2e-6
        assert abs(float(own)) > 1e-3
        assert float(own) == pytest.approx(float(numeric), rel=1e-5)


# around it -------------------------------------------------------------------------------------------------------------------------


class Plain(DualNewton):
    """Takes ranges, but none with a ratio."""

    name = "plain"
    capabilities: Capabilities = replace(DualNewton.capabilities, ratio_ranges=False, exact=False)  # type: ignore[misc]

    def solve(self, scores: torch.Tensor, problem: ProjectionProblem) -> RawSolution:
        assert (problem.ratio == 1.0).all()
        raw = super().solve(scores, problem)
        return RawSolution(None, raw.prices, raw.status, raw.iterations)


@pytest.mark.parametrize("means", [(0.0, 0.0, -1.5), (0.0, 0.1, -1.5), (0.0, -1.0), (-2.0, -1.0, -1.5)])
def test_at_the_tip_every_mean_is_held_also_where_its_price_is_0(means: tuple[float, ...]) -> None:
    """All means are 0 there and stay 0 nearby: the derivative takes off each group's own mean."""
    spread = np.array([-0.5, 0.1, 0.4])
    z = torch.tensor([m + s for m in means for s in spread], dtype=torch.float64, requires_grad=True)
    g = [k for k, _ in enumerate(means) for _ in spread]
    v = torch.from_numpy(np.random.default_rng(0).normal(size=len(g)))
    (found,) = torch.autograd.grad(fo.project(z, fo.ImpactRatio("g", ratio=0.22), sensitive_features={"g": g}), z, v)
    expected = (v.view(-1, 3) - v.view(-1, 3).mean(1, keepdim=True)).flatten()
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0.0)


def test_a_backend_without_ratios_gets_pairs_for_these_alone() -> None:
    rng = np.random.default_rng(4)
    g, h = rng.integers(0, 4, 100), rng.integers(0, 3, 100)
    notion = fo.ImpactRatio("g") & fo.DemographicParity("h", tolerance=0.05)
    prepared = fo.compile(notion, sensitive_features={"g": g, "h": h})
    assert untaken(prepared.problem, Plain.capabilities) == (0,)
    z = torch.tensor(rng.normal(size=100) + g + h)
    expected, found = (prepared.solution(z, backend=b) for b in ("dual_newton", Plain()))
    assert found.status is fo.Status.CERTIFIED
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-10, rtol=0)
    assert found.prices.shape == expected.prices.shape
    soft = fo.compile(notion.priced(1.0), sensitive_features={"g": g, "h": h})
    with pytest.raises(fo.UnsupportedError, match="soft ranges"):
        soft.solution(z, backend=Plain())


def test_gaps_and_audits_show_every_pair() -> None:
    g = list("aabbcc")
    rows = list(fo.gaps([0.2, 0.4, 0.5, 0.5, 1.0, 0.8], fo.ImpactRatio("g", ratio=0.5), sensitive_features={"g": g}))
    assert [(r["group_a"], r["group_b"], r["limit"], r["status"]) for r in rows] == [
        (a, b, 0.0, "broken" if (a, b) == ("a", "c") else "met") for a, b in itertools.permutations("abc", 2)
    ]
    assert rows[1]["gap"] == pytest.approx(0.5 * 0.9 - 0.3)
    audit = fo.audit([0.2, 0.4, 0.5, 0.5, 1.0, 0.8], fo.ImpactRatio("g", ratio=0.5), sensitive_features={"g": g})
    assert len(audit.checks[0].violation) == 6


@pytest.mark.parametrize("ratio", [1.2, -0.1, float("nan"), "x", torch.tensor(0.5, requires_grad=True)])
def test_a_wrong_ratio_is_told(ratio: object) -> None:
    @fo.notion
    def bad(batch, attribute):
        yield batch.range(batch.groups(attribute), ratio=ratio) <= 0

    with pytest.raises(fo.InputError, match="ratio of batch.range"):
        fo.project(torch.zeros(4), bad("g"), sensitive_features={"g": list("aabb")})


def test_a_problem_says_how_many_ratios_it_needs() -> None:
    problem = fo.compile(fo.DemographicParity("g", tolerance=0.1), sensitive_features={"g": list("abc")}).problem
    assert problem.ratio.tolist() == [1.0]
    assert replace(problem, width=np.zeros(0), range_starts=problem.range_starts[:1]).ratio.shape == (0,)
    with pytest.raises(fo.InputError, match="ratio: got 2 for 1 ranges"):
        replace(problem, ratio=np.array([0.5, 0.5]))


def test_the_hash_of_a_certificate_tells_ratios_apart() -> None:
    z, g = torch.tensor([0.1, 0.5, 0.9], dtype=F64), list("abc")
    found = [
        fo.project(z, fo.ImpactRatio("g", ratio=r), sensitive_features={"g": g}, return_solution=True).certificate.problem_hash
        for r in (0.8, 0.9)
    ]
    assert found[0] != found[1]


def test_infeasible_ratios_are_proved_and_widened() -> None:
    z = torch.tensor([-0.6, -0.7, -0.8], dtype=F64)
    facts: dict[str, Any] = {"sensitive_features": {"g": list("abc")}, "bounds": (-1.0, -0.5)}
    with pytest.raises(fo.InfeasibleError) as caught:
        fo.project(z, fo.ImpactRatio("g"), **facts)
    assert caught.value.proof is not None
    assert caught.value.proof.check()
    with pytest.warns(fo.FairoptWarning, match="CLOSEST"):
        found = fo.project(z, fo.ImpactRatio("g"), **facts, on_infeasible="closest", return_solution=True)
    assert found.scores.tolist() == pytest.approx([-0.5] * 3, abs=1e-6)  # (1 - 0.8) * 0.5 is the least that can be missing
    assert found.certificate.max_violation == pytest.approx(0.1, abs=1e-6)
