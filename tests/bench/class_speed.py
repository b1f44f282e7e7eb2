"""Class probabilities, KL, against an exponential cone layer of cvxpylayers on the same problem: forward and backward, one thread.

``python tests/bench/class_speed.py`` (part of ``make bench``) prints times and errors. The layer of cvxpylayers is written as its own
manual would write it, compiled once, and asked in both of its solvers at their own tolerances.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import fairopt as fo

BAR = 100.0
TOLERANCE = 0.01


def problem(n: int, C: int) -> tuple[Tensor, Tensor]:
    """Probabilities (n, C) that differ by group, and 2 groups (n,)."""
    draw = torch.Generator().manual_seed(0)
    g = torch.arange(n) % 2
    logits = torch.randn(n, C, dtype=torch.float64, generator=draw) + g[:, None] * torch.linspace(0.7, -0.7, C, dtype=torch.float64)
    return torch.softmax(logits, 1), g


def cone_layer(n: int, C: int, g: Tensor) -> Any:
    """The projection as a cvxpylayers layer of log z."""
    import cvxpy as cp
    from cvxpylayers.torch import CvxpyLayer

    y, log_z = cp.Variable((n, C)), cp.Parameter((n, C))
    ours, theirs = (g == 0).numpy(), (g == 1).numpy()
    apart = cp.abs(cp.sum(y[ours], axis=0) / ours.sum() - cp.sum(y[theirs], axis=0) / theirs.sum())
    objective = cp.Minimize(-cp.sum(cp.entr(y)) - cp.sum(cp.multiply(log_z, y)))
    return CvxpyLayer(cp.Problem(objective, [cp.sum(y, axis=1) == 1, apart <= TOLERANCE]), parameters=[log_z], variables=[y])


def milliseconds(function: Callable[[Tensor], Tensor], z: Tensor, calls: int) -> float:
    """Median of ``calls`` times forward and backward."""
    v, taken = torch.randn_like(z), []
    for _ in range(calls + 1):
        x = z.clone().requires_grad_(True)
        start = time.perf_counter()
        function(x).backward(v)
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken[1:])


def main(n: int = 256, C: int = 3) -> None:
    torch.set_num_threads(1)
    z, g = problem(n, C)
    prepared: Any = fo.compile(
        fo.DemographicParity("g", tolerance=TOLERANCE), sensitive_features={"g": g}, outputs="simplex", distance="kl"
    )
    fair = prepared.project(z)
    ours = milliseconds(prepared.project, z, 200)
    print(f"class probabilities, KL, n = {n}, C = {C}, 2 groups: forward + backward {ours:.3f} ms, certified")
    try:
        layer = cone_layer(n, C, g)
    except ImportError as error:
        print(f"cvxpylayers: {error}")
        return
    for solver in ("SCS", "Clarabel"):

        def cone(x: Tensor, solver: str = solver) -> Tensor:
            y: Tensor = layer(x.log(), solver_args={"solve_method": solver})[0]
            return y

        off = float((cone(z) - fair).abs().max())
        taken = milliseconds(cone, z, 5)
        word = "kept  " if taken >= BAR * ours else "MISSED"
        print(f"{word}  cvxpylayers by {solver}: {taken:.1f} ms, {taken / ours:.0f} x ours, bar {BAR:g}; it is off by {off:.0e}")


if __name__ == "__main__":
    main()
