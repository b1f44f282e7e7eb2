"""Uzawa's method: projected gradient on the prices of linear rows. Slow and simple; fairopt polishes what it finds."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

import fairopt as fo


class Uzawa(fo.Backend):
    """``steps``: the most steps; ``solver_tol``: the change of prices, in score units, at which to stop."""

    name: ClassVar[str] = "uzawa"
    # hard linear rows (fairopt hands it ranges as pairs), box and weights
    capabilities: ClassVar[fo.Capabilities] = fo.Capabilities(accuracy_y=1e-6, accuracy_gradient=1e-6)

    def __init__(self, *, steps: int = 200_000, solver_tol: float = 1e-12) -> None:
        if steps < 1:
            raise fo.InputError(f"steps: got {steps!r}, expected at least 1")
        self.steps, self.solver_tol = steps, solver_tol

    def solve(self, scores: Tensor, problem: fo.ProjectionProblem) -> fo.RawSolution:
        a, z = problem.rows.matrix().numpy(), scores.numpy()  # (m, n), (n,)
        w = np.ones_like(z) if problem.weights is None else problem.weights.numpy()
        lb, ub = (b.numpy() if isinstance(b, Tensor) else b for b in (problem.lb, problem.ub))
        lower, upper = problem.lower - problem.rows.offset, problem.upper - problem.rows.offset
        size = 1.0 / max(float(np.linalg.norm(a / np.sqrt(w), 2)) ** 2, 1e-300)
        p = np.zeros(problem.m)
        for step in range(1, self.steps + 1):
            y = np.clip(z - (a.T @ p) / w, lb, ub)
            q = p / size + a @ y
            new = size * (q - np.clip(q, lower, upper))  # the proximal step of the limits
            moved, p = float(np.abs(new - p).max(initial=0.0)) / size, new
            if moved <= self.solver_tol:
                return fo.RawSolution(torch.from_numpy(np.clip(z - (a.T @ p) / w, lb, ub)), p, None, step)
        return fo.RawSolution(torch.from_numpy(y), p, fo.Status.ITERATION_LIMIT, self.steps, "prices still move")
