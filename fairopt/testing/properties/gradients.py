"""Is the gradient right? At generic points: against the exact formula, against differences, implicit against native."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError, UnsupportedError
from fairopt.contract.backend import GradientKind
from fairopt.contract.problem import Limits
from fairopt.testing.sensitivity import exact_jacobian
from fairopt.testing.subject import Case, Subject, fail, limit_step, moved, reference_at, rescored

DIFFERENCE = 1e-5  # step of the differences, relative to the scores


def gradient_exact(subject: Subject) -> None:
    """The implicit gradient is J^T u of the active-set formula, within the declared ``accuracy_gradient``."""
    for case in subject.generic:
        u = cotangent(case, subject.seed)
        expected = exact_jacobian(case.draw, case.reference).T @ u.numpy()
        _compare("gradient_exact", subject, case, vjp(subject, case, u, "implicit"), expected, subject.capabilities.accuracy_gradient)


def gradient_differences(subject: Subject) -> None:
    """The implicit gradient along a random direction is the central difference of the backend's own answers."""
    for case in subject.generic_sample:
        rng = np.random.default_rng(subject.seed + 1)
        direction = torch.from_numpy(rng.uniform(-1.0, 1.0, case.problem.n))
        step = DIFFERENCE * float(case.scores.abs().max() or 1.0)
        ends = []
        try:
            for sign in (1.0, -1.0):
                end = rescored(case, case.scores + sign * step * direction)
                if not np.allclose(exact_jacobian(end.draw, end.reference), exact_jacobian(case.draw, case.reference), atol=1e-9):
                    raise BackendError("the step leaves the piece")
                ends.append(subject.project(end.scores, case.problem).scores.double().numpy())
        except (BackendError, UnsupportedError):
            continue
        u = cotangent(case, subject.seed)
        slope = float(u.numpy() @ (ends[0] - ends[1])) / (2.0 * step)
        analytic = float(direction.numpy() @ vjp(subject, case, u, "implicit"))
        reach = float(u.abs().sum())
        bound = reach * (
            1e-7 + subject.capabilities.accuracy_y * case.scale / step + subject.capabilities.accuracy_gradient * case.problem.n
        )
        if not abs(slope - analytic) <= bound:
            fail("gradient_differences", subject, case.draw, f"gradient {analytic:.9g}, difference {slope:.9g}, allowed {bound:.1e}")


def gradient_limits(subject: Subject) -> None:
    """The implicit gradient with respect to the limits (tolerances, offsets, softness weights) is the reference's difference."""
    _limits("gradient_limits", subject, "implicit", subject.capabilities.accuracy_gradient)


def native_scores(subject: Subject) -> None:
    """solve_native's own scores, before any polish, are within ``accuracy_native_y``; the front door's are the certified ones."""
    accuracy = subject.capabilities.accuracy_native_y
    if "native" not in subject.capabilities.gradients:
        return
    if accuracy is None:
        fail("native_scores", subject, None, "gradients has 'native', but accuracy_native_y is None: declare it")
    for case in subject.raw_cases:
        z = case.scores.clone().requires_grad_(True)
        try:
            own = subject.backend.solve_native(z, case.problem, case.problem.limits())
        except UnsupportedError:
            continue
        if own.shape != z.shape or own.dtype != torch.float64:
            fail("native_scores", subject, case.draw, f"expected float64 ({case.problem.n},), got {own.dtype} {tuple(own.shape)}")
        error = float(np.abs(own.detach().numpy() - case.reference.y).max())
        if not error <= accuracy * case.scale:
            fail("native_scores", subject, case.draw, f"|y - y*| = {error:.2e}, declared {accuracy * case.scale:.2e}")


def native_gradient(subject: Subject) -> None:
    """gradient="native" is the exact gradient, and so the implicit one, within ``accuracy_native_gradient``."""
    accuracy = subject.capabilities.accuracy_native_gradient
    if "native" not in subject.capabilities.gradients:
        return
    if accuracy is None:
        fail("native_gradient", subject, None, "gradients has 'native', but accuracy_native_gradient is None: declare it")
    for case in subject.generic:
        u = cotangent(case, subject.seed)
        expected = exact_jacobian(case.draw, case.reference).T @ u.numpy()
        _compare("native_gradient", subject, case, vjp(subject, case, u, "native"), expected, accuracy)


def native_limits(subject: Subject) -> None:
    """The native gradient with respect to the limits, for backends that have one."""
    accuracy = subject.capabilities.accuracy_native_gradient
    if "native" in subject.capabilities.gradients and accuracy is not None:
        _limits("native_limits", subject, "native", accuracy)


def cotangent(case: Case, seed: int) -> Tensor:
    """(n,) a fixed random vector, with one exact zero: some solvers stumble over zeros."""
    u = np.random.default_rng([seed, case.problem.n]).normal(size=case.problem.n)
    u[0] = 0.0
    return torch.from_numpy(u)


def vjp(subject: Subject, case: Case, u: Tensor, kind: GradientKind) -> Array:
    """J^T u (n,) by autograd through the front door."""
    z = case.scores.clone().requires_grad_(True)
    y = subject.project(z, case.problem, gradient=kind).scores
    if not y.requires_grad:
        fail("gradient_exact" if kind == "implicit" else "native_gradient", subject, case.draw, "the scores returned carry no gradient")
    (found,) = torch.autograd.grad(y, z, u)
    return np.asarray(found.double().numpy())


def _compare(name: str, subject: Subject, case: Case, found: Array, expected: Array, accuracy: float) -> None:
    error = float(np.abs(found - expected).max())
    bound = accuracy * max(1.0, float(np.abs(expected).max()))
    if not error <= bound:
        fail(name, subject, case.draw, f"off by {error:.2e}, declared {bound:.1e}")


def _limits(name: str, subject: Subject, kind: GradientKind, accuracy: float) -> None:
    for number, case in enumerate(subject.generic_sample):
        u = cotangent(case, subject.seed)
        direction, step = limit_step(case, subject.seed + number)
        limits = _leaves(case)
        try:
            y = subject.project(case.scores, case.problem, limits=limits, gradient=kind).scores
        except UnsupportedError:
            return  # a native gradient need not reach the limits
        if not y.requires_grad:
            fail(name, subject, case.draw, "the scores carry no gradient to the limits")
        found = torch.autograd.grad(y, limits.tensors(), u, allow_unused=True)
        analytic = sum(_inner(g, d) for g, d in zip(found, direction.tensors(), strict=True))
        try:
            ahead, behind, near, back = (
                reference_at(case, moved(case.problem.limits(), direction, sign * step)) for sign in (1.0, -1.0, 0.5, -0.5)
            )
        except BackendError:
            continue
        slope, check = (float(u.numpy() @ (a - b)) / h for a, b, h in ((ahead, behind, 2 * step), (near, back, step)))
        if abs(slope - check) > 1e-6 * max(1.0, abs(slope)):
            continue  # the step leaves the piece
        bound = max(1e-5, 10.0 * accuracy) * max(1.0, abs(slope), float(u.abs().sum()))
        if not abs(slope - analytic) <= bound:
            fail(name, subject, case.draw, f"gradient {analytic:.9g}, difference {slope:.9g}, allowed {bound:.1e}")


def _leaves(case: Case) -> Limits:
    """The problem's limits as leaves that require grad."""
    return Limits(*(t.clone().requires_grad_(True) for t in case.problem.limits().tensors()))


def _inner(gradient: Tensor | None, direction: Tensor) -> float:
    """gradient . direction over the entries that move (open limits do not)."""
    if gradient is None:
        return 0.0
    return float(torch.where(direction != 0, gradient * direction, torch.zeros_like(direction)).sum())
