"""Gradients of the default backends: first and second order at generic points, the projector's algebra, and finite values everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from fairopt.contract.backend import Status
from fairopt.contract.problem import Limits
from fairopt.solve import Solution, solve
from fairopt.testing.active import piece_at
from fairopt.testing.draws import SOFT, Draw, drawn_problems, wild
from fairopt.testing.optimality import written_out
from fairopt.testing.oracle import OracleSolution
from fairopt.testing.sensitivity import exact_jacobian, generic

HARD = (*sorted(SOFT), "infeasible")
PLAIN = ("infeasible", "tiny", "huge", "far", "scaled_rows", "budget", "mixed_softness", "zero_tolerance")


def generic_draws(
    count: int, seed: int, *, max_n: int = 12, avoid: tuple[str, ...] = ("infeasible", "tiny", "huge")
) -> Iterator[tuple[Draw, OracleSolution]]:
    found = 0
    for d in wild(20 * count, seed, max_n=max_n, avoid=avoid):
        reference = generic(d)
        if reference is not None:
            yield d, reference
            found += 1
        if found == count:
            return
    raise AssertionError("too few generic draws")


def jacobian(d: Draw, backend: str = "auto") -> np.typing.NDArray[np.float64]:
    """(n, n), one vector-Jacobian product a row."""
    z = d.scores.clone().requires_grad_(True)
    y = solve(z, d.problem, backend=backend).scores
    rows = [torch.autograd.grad(y, z, e, retain_graph=True)[0] for e in torch.eye(d.problem.n, dtype=torch.float64)]
    return np.asarray(torch.stack(rows).numpy())


def test_jacobian_is_the_exact_one() -> None:
    for d, reference in generic_draws(60, 0, max_n=24, avoid=("infeasible",)):
        expected = exact_jacobian(d, reference)
        error = np.abs(jacobian(d) - expected).max()
        assert error <= 1e-9 * max(1.0, np.abs(expected).max()), (d, error)


def test_gradcheck_and_gradgradcheck() -> None:
    """Steps of 1e-6 stay on the piece: margins are 1e-3."""
    for d, _ in generic_draws(12, 1, max_n=8, avoid=("infeasible", "tiny", "huge", "far", "wild_weights", "scaled_rows")):

        def project(z: Tensor, problem: Draw = d) -> Tensor:
            return solve(z, problem.problem, certify=False).scores

        z = d.scores.clone().requires_grad_(True)
        assert torch.autograd.gradcheck(project, (z,), eps=1e-6, atol=1e-7, rtol=1e-6), d
        assert torch.autograd.gradgradcheck(project, (z,), eps=1e-6, atol=1e-7, rtol=1e-6), d


def test_gradcheck_of_the_limits() -> None:
    """Tolerances, offsets and softness weights, open limits left out, both limits of an equality moved together."""
    checked = 0
    for d, _ in generic_draws(40, 2, max_n=8, avoid=PLAIN):
        base = d.problem.limits()
        if bool((base.lower == base.upper).any()) or bool((base.width < 1e-4).any()) or checked == 12:
            continue
        checked += 1
        finite = [torch.isfinite(t) for t in base.tensors()]

        def project(*parts: Tensor, draw: Draw = d, base: Limits = base, finite: list[Tensor] = finite) -> Tensor:
            filled = [t.clone().masked_scatter(keep, part) for t, keep, part in zip(base.tensors(), finite, parts, strict=True)]
            return solve(draw.scores, draw.problem, limits=Limits(*filled), certify=False).scores

        leaves = tuple(t[keep].clone().requires_grad_(True) for t, keep in zip(base.tensors(), finite, strict=True))
        assert torch.autograd.gradcheck(project, leaves, eps=1e-7, atol=1e-5, rtol=1e-5), d
    assert checked >= 8


def test_second_order_through_the_limits() -> None:
    """The mixed second derivative of a quadratic loss in (scores, limits) is that of the exact linear piece."""
    for d, _ in generic_draws(10, 3, max_n=8, avoid=PLAIN):
        base = d.problem.limits()
        if d.problem.linear == 0 or bool((base.lower == base.upper).any()):
            continue
        z = d.scores.clone().requires_grad_(True)
        shift = torch.zeros((), dtype=torch.float64, requires_grad=True)

        def loss(z: Tensor, shift: Tensor, draw: Draw = d, base: Limits = base) -> Tensor:
            limits = Limits(base.lower + shift, base.upper + shift, base.width, base.offset, base.softness_weight)
            return (solve(z, draw.problem, limits=limits, certify=False).scores ** 2).sum()

        assert torch.autograd.gradgradcheck(loss, (z, shift), eps=1e-6, atol=1e-5, rtol=1e-5), d


def test_jacobian_of_hard_rows_is_a_projector_with_the_right_trace() -> None:
    """W = I: symmetric, idempotent, trace = free samples - rank of the held rows on them (claim L4)."""
    for d, reference in generic_draws(40, 4, max_n=24, avoid=(*HARD, "weights", "wild_weights")):
        j = jacobian(d)
        piece = piece_at(d.problem, d.scores.numpy(), reference.y, reference.prices)
        held = (piece.columns.T @ written_out(d.problem).a)[:, piece.free]
        rank = np.linalg.matrix_rank(held) if held.size else 0
        assert np.abs(j - j.T).max() <= 1e-10, d
        assert np.abs(j @ j - j).max() <= 1e-10, d
        assert abs(np.trace(j) - (piece.free.sum() - rank)) <= 1e-9, d


@settings(max_examples=120, deadline=None)
@given(drawn_problems(max_n=40))
def test_gradients_are_finite_everywhere(d: Draw) -> None:
    """Ties, redundant rows, tolerance 0, samples exactly at a bound: an element of the generalised Jacobian, never NaN."""
    for dtype in (torch.float64, torch.float32):
        z = d.scores.to(dtype).requires_grad_(True)
        limits = Limits(*(t.requires_grad_(True) for t in d.problem.limits().tensors()))
        solution = solve(z, d.problem, limits=limits)
        u = torch.from_numpy(np.random.default_rng(d.seed).normal(size=d.problem.n)).to(dtype)
        grads = torch.autograd.grad(solution.scores, (z, *limits.tensors()), u, allow_unused=True)
        for g in grads:
            assert g is None or bool(torch.isfinite(g).all()), d
        assert solution.scores.dtype == dtype
        g = grads[0]
        assert g is not None
        w = torch.ones(d.problem.n, dtype=torch.float64) if d.problem.weights is None else d.problem.weights
        norm, given_norm = ((v.double() ** 2 / w).sum().sqrt() for v in (g, u))
        assert float(norm) <= float(given_norm) * (1.0 + 1e-4), d  # claim L5: no backward pass amplifies, in the dual norm


def test_float32_gradients_are_those_of_float64() -> None:
    for d, _ in generic_draws(40, 5, max_n=40, avoid=("infeasible", "far", "wild_weights")):
        u = torch.from_numpy(np.random.default_rng(d.seed).normal(size=d.problem.n))
        found = []
        for dtype in (torch.float64, torch.float32):
            z = d.scores.to(dtype).requires_grad_(True)
            (g,) = torch.autograd.grad(solve(z, d.problem).scores, z, u.to(dtype))
            assert g.dtype == dtype
            found.append(g.double())
        assert float((found[0] - found[1]).abs().max()) <= 1e-4 * max(1.0, float(found[0].abs().max())), d


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_in_and_out(dtype: torch.dtype) -> None:
    for d, _ in generic_draws(10, 6, max_n=24, avoid=("infeasible", "far", "tiny", "huge", "scaled_rows", "wild_weights")):
        z = d.scores.to(dtype).requires_grad_(True)
        y = solve(z, d.problem).scores
        (g,) = torch.autograd.grad(y.double().sum(), z)
        assert y.dtype == g.dtype == dtype
        assert bool(torch.isfinite(g).all())


def test_no_grad_does_no_gradient_work() -> None:
    """Nothing is recorded without a gradient to take: under no_grad, for plain inputs, and in the status and certificate."""
    for d, _ in generic_draws(5, 7):
        z = d.scores.clone().requires_grad_(True)
        with torch.no_grad():
            silent = solve(z, d.problem)
        plain = solve(d.scores, d.problem)
        recorded = solve(z, d.problem)
        for solution in (silent, plain):
            assert not solution.scores.requires_grad
            assert solution.scores.grad_fn is None
        assert recorded.scores.grad_fn is not None
        assert torch.equal(silent.scores, recorded.scores.detach())
        assert saved(silent) == 0


def saved(solution: Solution) -> int:
    """Tensors kept for a backward pass."""
    node = solution.scores.grad_fn
    return 0 if node is None else len(getattr(node, "saved_tensors", ()))


def test_backward_leaves_the_inputs_alone() -> None:
    for d, _ in generic_draws(8, 8):
        z = d.scores.clone().requires_grad_(True)
        y = solve(z, d.problem).scores
        u = torch.ones_like(y)
        y.backward(u)
        assert torch.equal(z.detach(), d.scores)
        assert bool((u == 1).all())


def test_status_does_not_depend_on_the_gradient() -> None:
    for d, _ in generic_draws(8, 9):
        z = d.scores.clone().requires_grad_(True)
        a, b = solve(z, d.problem), solve(d.scores, d.problem)
        assert a.status is b.status
        assert a.status in (Status.CERTIFIED, Status.WITHIN_ROUNDING)
        assert torch.equal(a.scores.detach(), b.scores)
