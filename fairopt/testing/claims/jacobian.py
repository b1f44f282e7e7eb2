"""Claims L4, L5 and N4: the derivative of the layer is a projector, and what that bounds."""

from __future__ import annotations

import numpy as np
import torch

from fairopt.basics.arrays import Array
from fairopt.testing.active import piece_at
from fairopt.testing.claims.measurement import Measurement, worst
from fairopt.testing.claims.subject import Generator, Layer
from fairopt.testing.optimality import written_out

ACCURACY = 1e-6


def check_projector(rng: Generator, layer: Layer) -> Measurement:
    """L4: J J = J, W J = J^T W, A_act J = 0, J = 0 on clamped samples, trace = free samples - rank of the active rows; n <= 10, strict."""
    case = layer.case(rng, max_n=10, strict=True)
    problem, w, n = case.problem, case.w, case.problem.n
    j = np.stack([layer.vjp(case.scores, problem, np.eye(n)[i]) for i in range(n)])  # (n, n): row i is the gradient of y_i
    y, p = layer.project(case.scores, problem)
    piece = piece_at(problem, case.z, y, p)
    c = (piece.columns.T @ written_out(problem).a)[:, piece.free] / np.sqrt(w[piece.free])
    held = _unit_rows(piece.columns.T @ written_out(problem).a)  # (q, n)
    rank = int(np.linalg.matrix_rank(_unit_rows(c), tol=1e-8)) if c.size else 0
    expected = float(piece.free.sum() - rank)
    root = np.sqrt(w)
    symmetric = (root[:, None] * j) / root[None, :]  # W^1/2 J W^-1/2, an orthogonal projector
    return worst(
        Measurement(float(np.abs(symmetric @ symmetric - symmetric).max()), ACCURACY, note="J J = J"),
        Measurement(float(np.abs(symmetric - symmetric.T).max()), ACCURACY, note="W J = J^T W"),
        Measurement(abs(float(np.trace(j)) - expected), ACCURACY, note="trace"),
        Measurement(float(np.abs(held @ j).max(initial=0.0)), ACCURACY * max(1.0, float(root.max() / root.min())), note="A_act J = 0"),
        Measurement(float(np.abs(j[~piece.free]).max(initial=0.0)), 0.0, ACCURACY, note="J = 0 on clamped samples"),
    )


def _unit_rows(c: Array) -> Array:
    length = np.linalg.norm(c, axis=1, keepdims=True)
    return np.asarray(c / np.where(length > 0, length, 1.0))


def check_stable_gradient(rng: Generator, layer: Layer) -> Measurement:
    """L5: ||J^T g||_{W^-1} <= ||g||_{W^-1}, at every point (soft constraints too)."""
    case = layer.case(rng, hard=False)
    g = rng.normal(size=case.problem.n)
    if rng.uniform() < 0.3:
        g = np.eye(g.size)[rng.integers(g.size)]
    pulled = layer.vjp(case.scores, case.problem, g)
    return Measurement(_dual_norm(pulled, case.w), _dual_norm(g, case.w), 1e-6 * _dual_norm(g, case.w))


def _dual_norm(g: Array, w: Array) -> float:
    return float(np.sqrt(np.sum(g * g / w)))


def check_implicit_gradient(rng: Generator, layer: Layer) -> Measurement:
    """L11, first half: the implicit gradient against central differences, relative, at strict points."""
    case = layer.case(rng, max_n=12, strict=True, hard=False)
    g, v = rng.normal(size=case.problem.n), rng.normal(size=case.problem.n)
    scale = max(1e-9, float(np.abs(case.z).max()))
    h = 1e-6 * scale
    up, _ = layer.project(torch.from_numpy(case.z + h * v), case.problem)
    down, _ = layer.project(torch.from_numpy(case.z - h * v), case.problem)
    numeric = float(g @ (up - down)) / (2 * h)
    analytic = float(layer.vjp(case.scores, case.problem, g) @ v)
    accuracy = 1e-6 + 10.0 * layer.accuracy / 1e-6 if layer.accuracy > 1e-9 else 1e-5
    return Measurement(abs(numeric - analytic) / (float(np.linalg.norm(g) * np.linalg.norm(v))), accuracy, note="implicit")
