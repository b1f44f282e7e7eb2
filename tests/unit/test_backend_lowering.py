"""The lowering: the programme that solvers see has the problem's optimum, in either space, with its numbers differentiable."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt.testing.assembly import Assembly, Linear, Range
from fairopt.testing.draws import Draw, drawn_problems, wild
from fairopt.testing.oracle import accepted_oracle
from fairopt_backends.functionals import Functionals, functionals
from fairopt_backends.lowering import Lowered, lower
from fairopt_backends.programme import Programme, sides, unit_of
from fairopt_backends.qpsolvers import QPSolvers

pytest.importorskip("qpsolvers")


def programme(lowered: Lowered, draw: Draw) -> Programme:
    numbers, centre = lowered.numbers(draw.problem.limits()), lowered.functionals.centre(draw.scores).numpy()
    unit = unit_of(centre, numbers)
    return Programme(lowered, numbers.divided(unit), centre / unit)


def two_groups(n: int = 12, *, permuted: bool = False) -> ProjectionProblem:
    members = np.arange(n) % 3 == 0
    if permuted:
        members = members[::-1].copy()
    assembly = Assembly(n)
    a, b = assembly.mask(members), assembly.mask(~members)
    assembly.ranges.append(Range((assembly.mean(a), assembly.mean(b)), 0.1))
    return assembly.problem()


@settings(max_examples=40)
@given(drawn_problems(max_n=20))
def test_the_reference_solves_the_lowered_programme(draw: Draw) -> None:
    """The optimum of the problem, written in the programme's variables, has residual 0 there: rows, limits, signs and slacks are right."""
    reference = accepted_oracle(draw)
    if reference is None:
        return
    for pairs in (False, True):
        lowered = lower(draw.problem, pairs=pairs)
        if lowered.rows == 0:
            continue
        p = programme(lowered, draw)
        answer = QPSolvers("daqp")._solve(p)
        assert answer.x is not None
        assert answer.multipliers is not None
        assert p.residual(answer.x, answer.multipliers) < 1e-6
        numbers, centre = lowered.numbers(draw.problem.limits()), lowered.functionals.centre(draw.scores)
        unit = unit_of(centre.numpy(), numbers)
        y = lowered.functionals.scores(torch.from_numpy(unit * answer.x[: lowered.size]), draw.scores).numpy()
        assert np.abs(y - reference.y).max() <= 2e-6 * max(draw.scale, float(np.abs(reference.y).max()))


def test_prices_reproduce_the_scores_and_sum_to_zero_over_a_range() -> None:
    checked = 0
    for draw in wild(40, 5, max_n=20):
        reference = accepted_oracle(draw)
        if reference is None:
            continue
        p = draw.problem
        prices = QPSolvers("clarabel").solve(draw.scores, p).prices
        assert prices is not None
        w = np.ones(p.n) if p.weights is None else p.weights.numpy()
        lb, ub = (np.asarray(b) for b in (p.lb, p.ub))
        y = np.clip(draw.scores.numpy() - (p.rows.matrix().numpy().T @ prices) / w, lb, ub)
        assert np.abs(y - reference.y).max() <= 1e-5 * max(draw.scale, float(draw.scores.abs().max()))
        for rows, ratio in zip(p.range_slices, p.ratio, strict=True):
            up, down = prices[rows].clip(min=0).sum(), -prices[rows].clip(max=0).sum()
            surplus = up - ratio * down  # a ratio below 1 may leave its highest row a share of the level
            assert (abs(surplus) if ratio == 1 else surplus) <= 1e-7 * max(1.0, float(np.abs(prices).max()))
        checked += 1
    assert checked >= 25


def test_cell_space_is_taken_where_it_is_exact_and_agrees_with_sample_space(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0
    for draw in wild(60, 8, max_n=20):
        small = functionals(draw.problem)
        varied = draw.problem.weights is not None and draw.problem.weights.unique().numel() > 1 and draw.problem.rows.counts.max() > 1
        if draw.problem.has_box or draw.problem.rows.dense is not None:
            assert not small.cells
            continue
        if varied and not small.cells:
            continue
        taken += 1
        assert small.cells
        assert small.size == draw.problem.rows.counts.size
        in_cells = QPSolvers("clarabel").solve(draw.scores, draw.problem).y
        root = np.ones(draw.problem.n) if draw.problem.weights is None else draw.problem.weights.sqrt().numpy()
        open_ = np.full(draw.problem.n, np.inf)
        with monkeypatch.context() as patch:
            patch.setattr("fairopt_backends.lowering.functionals", lambda p, root=root, o=open_: Functionals(p, False, root, -o, o))
            in_samples = QPSolvers("clarabel").solve(draw.scores, draw.problem).y
        assert in_cells is not None
        assert in_samples is not None
        assert float((in_cells - in_samples).abs().max()) <= 1e-7 * max(1.0, float(draw.scores.abs().max()))
    assert taken >= 10


def test_no_infinite_number_reaches_a_one_sided_solver() -> None:
    one_sided = 0
    for draw in wild(60, 3, max_n=20):
        lowered = lower(draw.problem)
        s = sides(lowered)
        h, b = s.h(lowered.numbers(draw.problem.limits())), s.b(lowered.numbers(draw.problem.limits()))
        assert bool(torch.isfinite(h).all())
        assert bool(torch.isfinite(b).all())
        g, a = s.dense
        assert g.shape == (h.shape[0], lowered.variables)
        assert a.shape == (b.shape[0], lowered.variables)
        one_sided += bool(np.isinf(lowered.lbx[: lowered.size]).any() != np.isinf(lowered.ubx[: lowered.size]).any())
    assert one_sided > 0


def test_a_variable_with_equal_bounds_is_an_equality() -> None:
    """As two inequalities it would leave no interior; equalities on such variables alone are implied."""
    pytest.importorskip("scipy")
    seen = 0
    for draw in wild(200, 8, max_n=12):
        lowered = lower(draw.problem, pairs=True)
        pinned = np.flatnonzero(lowered.lbx == lowered.ubx)
        s, some, apart = sides(lowered), sides(lowered, independent=True), sides(lowered, box=False)
        assert s.pinned.tolist() == pinned.tolist()
        assert not set(pinned.tolist()) & {*s.most.tolist(), *s.least.tolist()}
        assert apart.pinned.size == apart.most.size == apart.least.size == 0
        if pinned.size:
            seen += 1
            assert s.b(lowered.numbers(draw.problem.limits()))[s.equal.size :].tolist() == lowered.lbx[pinned].tolist()
            assert np.linalg.matrix_rank(some.dense[1], tol=1e-8) == some.equalities == np.linalg.matrix_rank(s.dense[1], tol=1e-8)
    assert seen >= 5


def test_an_equality_on_pinned_variables_alone_is_implied() -> None:
    pytest.importorskip("scipy")
    assembly = Assembly(4)
    mask = assembly.mask(np.arange(4) < 2)
    assembly.linear.append(Linear(assembly.mean(mask), 0.3, 0.3))
    problem = assembly.problem(np.array([0.2, 0.4, 0.0, 0.0]), np.array([0.2, 0.4, 1.0, 1.0]))
    lowered = lower(problem, pairs=True)
    assert sides(lowered).equal.tolist() == [0]
    assert sides(lowered, independent=True).equal.tolist() == []
    assert sides(lowered, independent=True, box=False).equal.tolist() == [0]


def test_dense_and_sparse_forms_are_the_same() -> None:
    pytest.importorskip("scipy")
    for draw in wild(20, 4, max_n=12):
        s = sides(lower(draw.problem))
        for dense, sparse in zip(s.dense, s.sparse, strict=True):
            assert np.array_equal(dense, sparse.toarray())


def test_independent_equalities_span_all_of_them() -> None:
    seen = 0
    for draw in wild(400, 6, max_n=12):
        if "zero_tolerance" not in draw.mutations or not draw.mutations & {"redundant", "duplicate", "scaled_rows"}:
            continue
        lowered = lower(draw.problem, pairs=True)
        every, some = sides(lowered).dense[1], sides(lowered, independent=True).dense[1]
        if every.shape == some.shape:
            continue
        seen += 1
        assert np.linalg.matrix_rank(some, tol=1e-8) == some.shape[0] == np.linalg.matrix_rank(every, tol=1e-8)
    assert seen >= 2


def test_the_key_is_the_composition_alone() -> None:
    """Other limits, other scores and another order of the samples: the same compiled programme. Other counts, or an equality: another."""
    problem = two_groups()
    key = lower(problem).key
    wider = problem.limits()
    assert lower(problem.with_limits(Limits(wider.lower, wider.upper, wider.width + 0.3, wider.offset, wider.softness_weight))).key == key
    assert lower(two_groups(permuted=True)).key == key
    assert lower(two_groups(13)).key != key
    assert lower(problem.with_limits(Limits(wider.lower, wider.upper, 0 * wider.width, wider.offset, wider.softness_weight))).key != key


def test_numbers_are_differentiable_to_the_limits() -> None:
    checked = 0
    for draw in wild(25, 9, max_n=12):
        lowered = lower(draw.problem)
        finite = [torch.nan_to_num(t, posinf=7.0, neginf=-7.0).requires_grad_(True) for t in draw.problem.limits().tensors()]

        def total(*limits: torch.Tensor, lowered: Lowered = lowered) -> torch.Tensor:
            n = lowered.numbers(Limits(*limits))
            parts = [torch.where(torch.isfinite(t), t, torch.zeros_like(t)) for t in (n.lower, n.upper, n.cost, n.hess)]
            return torch.cat(parts)

        if total(*finite).numel() == 0:
            continue
        assert torch.autograd.gradcheck(total, finite)
        checked += 1
    assert checked >= 15


def test_scores_and_centre_are_inverse() -> None:
    for draw in wild(30, 2, max_n=20):
        f = functionals(draw.problem)
        assert torch.allclose(f.scores(f.centre(draw.scores), draw.scores), draw.scores, rtol=1e-12, atol=1e-12 * draw.scale)
