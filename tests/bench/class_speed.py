"""Kullback-Leibler distance and class probabilities, certified: forward and backward on one thread, against what the issue named.

``python tests/bench/class_speed.py`` (part of ``make bench``) prints ratios with their bars, and times:

- one score, 2 groups, against torch.sigmoid(torch.logit(z)),
- 10 classes, 4 groups, n = 4,096, against torch.softmax,
- 3 classes, 2 groups, n = 256, against an exponential cone layer of cvxpylayers on the same problem, written as its own manual would write
  it, compiled once, and asked in both of its solvers at their own tolerances.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

import fairopt as fo

SIGMOID_BARS = {256: 3.0, 65_536: 8.0, 1_000_000: 5.0}
SOFTMAX_BAR = 12.0
CONE_BAR = 100.0
TOLERANCE = 0.01
Layer = Callable[[Tensor], Tensor]


def problem(n: int, C: int, groups: int = 2) -> tuple[Tensor, Tensor]:
    """Probabilities (n, C) that differ by group, and groups (n,)."""
    draw = torch.Generator().manual_seed(0)
    g = torch.arange(n) % groups
    apart = (
        torch.randn(groups, C, dtype=torch.float64, generator=draw)
        if groups > 2
        else torch.linspace(0.7, -0.7, C).double() * torch.tensor([[0.0], [1.0]])
    )
    logits = torch.randn(n, C, dtype=torch.float64, generator=draw) + apart[g]
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


def medians(layers: dict[str, Layer], z: Tensor, rounds: int) -> dict[str, float]:
    """Milliseconds, forward and backward, the layers in turn; the first round warms them up."""
    v = torch.randn_like(z)
    taken: dict[str, list[float]] = {name: [] for name in layers}
    for _ in range(rounds + 1):
        for name, layer in layers.items():
            x = z.clone().requires_grad_(True)
            start = time.perf_counter()
            layer(x).backward(v)
            taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def fair_classes(g: Tensor, z: Tensor, distance: Literal["kl", "squared"]) -> Layer:
    notion = fo.DemographicParity("g", tolerance=TOLERANCE)
    prepared: Any = fo.compile(notion, sensitive_features={"g": g}, outputs="simplex", distance=distance)
    assert prepared.project(z, return_solution=True).status is fo.Status.CERTIFIED
    return prepared.project


def against_sigmoid() -> None:
    for n, bar in SIGMOID_BARS.items():
        draw = torch.Generator().manual_seed(0)
        g = torch.arange(n) % 2
        z = torch.sigmoid(torch.randn(n, generator=draw) + 0.5 * g)
        prepared = fo.compile(fo.DemographicParity("g", tolerance=TOLERANCE), sensitive_features={"g": g}, distance="kl")
        assert prepared.project(z, return_solution=True).status is fo.Status.CERTIFIED
        layers: dict[str, Layer] = {"ours": lambda x, p=prepared: p.project(x), "theirs": lambda x: torch.sigmoid(torch.logit(x))}  # type: ignore[misc]
        found = medians(layers, z, 400 if n < 10_000 else 20)
        said(f"KL, one score, 2 groups, n = {n:,}", found, bar, "torch.sigmoid(torch.logit(z))")


def against_softmax(n: int = 4096, C: int = 10) -> None:
    z, g = problem(n, C, 4)
    for dtype in (torch.float64, torch.float32):
        scores = z.to(dtype)
        layers: dict[str, Layer] = {"theirs": lambda x: torch.softmax(x, 1)}
        distances: tuple[Literal["kl", "squared"], ...] = ("kl", "squared")
        for distance in distances:
            found = medians({"ours": fair_classes(g, scores, distance), **layers}, scores, 60)
            said(f"{distance}, {C} classes, 4 groups, n = {n:,}, {dtype}", found, SOFTMAX_BAR, "torch.softmax")


def said(words: str, found: dict[str, float], bar: float, rival: str) -> None:
    ratio = found["ours"] / found["theirs"]
    print(f"{'kept  ' if ratio <= bar else 'MISSED'}  {words}: {found['ours']:.3f} ms, {ratio:.2f} x {rival}, bar {bar:g}")


def against_cones(n: int = 256, C: int = 3) -> None:
    z, g = problem(n, C)
    project = fair_classes(g, z, "kl")
    fair = project(z)
    ours = medians({"ours": project}, z, 200)["ours"]
    print(f"kl, {C} classes, 2 groups, n = {n}: {ours:.3f} ms")
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
        taken = medians({"theirs": cone}, z, 5)["theirs"]
        word = "kept  " if taken >= CONE_BAR * ours else "MISSED"
        print(f"{word}  cvxpylayers by {solver}: {taken:.1f} ms, {taken / ours:.0f} x ours, bar {CONE_BAR:g}; it is off by {off:.0e}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    against_sigmoid()
    against_softmax()
    against_cones()
