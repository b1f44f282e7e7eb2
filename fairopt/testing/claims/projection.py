"""Claims L1 and L3 of any backend: the projection is the one nearest point, and it moves no two inputs apart."""

from __future__ import annotations

import numpy as np
import torch

from fairopt.basics.arrays import Array
from fairopt.testing.claims.measurement import Measurement, worst
from fairopt.testing.claims.subject import Case, Generator, Layer, excess, norm, scale_of

ROOM = 100.0  # a backend's accuracy is that of y; inner products and rays multiply it


def check_unique(rng: Generator, layer: Layer) -> Measurement:
    """L1: y is feasible, obeys the variational inequality at feasible points, and is the answer for every point of its normal ray."""
    case = layer.case(rng)
    z, problem = case.z, case.problem
    y, _ = layer.project(case.scores, problem)
    scale = scale_of(case, y)
    bound = ROOM * layer.accuracy
    feasible = Measurement(max(0.0, excess(problem, y)) / scale, bound, note="feasible")
    others = [layer.project(torch.from_numpy(z + scale * rng.normal(size=z.size)), problem)[0] for _ in range(2)]
    others += [0.5 * (others[0] + others[1])] + ([case.witness] if case.witness is not None else [])
    inequality = max(_against(case, y, v, scale) for v in others)
    ray = max(
        float(np.abs(layer.project(torch.from_numpy(y + s * (z - y)), problem)[0] - y).max()) / (scale * (1.0 + s)) for s in (0.0, 0.5, 3.0)
    )
    return worst(feasible, Measurement(max(0.0, inequality), bound, note="inequality"), Measurement(ray, bound, note="normal ray"))


def _against(case: Case, y: Array, v: Array, scale: float) -> float:
    """<W (z - y), v - y> relative to the sizes in it: <= 0 for every feasible v where y is the projection."""
    size = norm(case.z - y, case.w) * norm(v - y, case.w) + scale * scale * float(case.w.max()) * 1e-3
    return float(np.sum(case.w * (case.z - y) * (v - y))) / size


def check_non_expansive(rng: Generator, layer: Layer) -> Measurement:
    """L3: ||y(z) - y(z')||_W <= ||z - z'||_W, hard and soft; z' near or far, or z moved in one sample."""
    case = layer.case(rng, hard=False)
    z, w = case.z, case.w
    y, _ = layer.project(case.scores, case.problem)
    scale = scale_of(case, y)
    step = scale * 10.0 ** rng.uniform(-4.0, 1.0)
    direction = rng.normal(size=z.size) if rng.uniform() < 0.7 else np.eye(z.size)[rng.integers(z.size)]
    if rng.uniform() < 0.3:  # along the displacement, where a wrong step length shows
        direction = (z - y) / (float(np.abs(z - y).max()) or 1.0) + 1e-3 * direction
    other = z + step * direction
    moved, _ = layer.project(torch.from_numpy(other), case.problem)
    slack = ROOM * layer.accuracy * scale * float(np.sqrt(w.sum()))
    return Measurement(norm(moved - y, w), norm(other - z, w), slack)
