"""Drawn problems of class probabilities: of every notion, and wild ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import fairopt as fo
from fairopt.layer.classes import PreparedClasses


@dataclass(frozen=True, eq=False)
class ClassDraw:
    prepared: PreparedClasses
    z: Tensor
    groups: dict[str, Tensor]
    distance: str
    words: str
    sharp: bool  # nearly one-hot, with probabilities down to 1e-300


def class_draws(count: int, seed: int, distance: str, max_n: int = 400, most: int = 8) -> Iterator[ClassDraw]:
    """Batches with 2 to ``most`` classes, 2 to 12 groups, overlapping attributes at times, and probabilities down to 0 and 1e-300."""
    for k in range(count):
        rng = np.random.default_rng([seed, k])
        n = round(float(np.exp(rng.uniform(np.log(4.0), np.log(max_n)))))
        C, K = int(rng.integers(2, most + 1)), int(rng.integers(2, min(12, n) + 1))
        P = rng.dirichlet(np.ones(C) * [1.0, 0.3, 0.05][k % 3], n)
        g = rng.integers(0, K, n)
        P[g == 0] = P[g == 0] ** 1.5 + 1e-300
        P = P / P.sum(1, keepdims=True)
        if k % 4 == 1:
            P[rng.random(P.shape) < 0.03] = 0.0
            P[P.sum(1) == 0.0, 0] = 1.0
            P = P / P.sum(1, keepdims=True)
        groups = {"g": torch.from_numpy(g), "h": torch.from_numpy(rng.integers(0, 2, n))}
        targets = torch.from_numpy(rng.integers(0, C, n))
        tolerance = [0.0, 0.01, 0.05][int(rng.integers(3))]
        notions = [
            fo.DemographicParity("g", tolerance=tolerance),
            fo.DemographicParity("g", tolerance=tolerance) & fo.DemographicParity("h", tolerance=0.02),
            fo.DemographicParity("g", tolerance=tolerance, to="overall"),
            fo.DemographicParity("g", tolerance=tolerance).penalised(20.0),
            fo.DemographicParity("g", tolerance=tolerance).priced(0.05),
            fo.EqualOpportunity("g", tolerance=0.05).priced(0.1),
            fo.ImpactRatio("g", ratio=0.9),
        ]
        if k % 4 == 1:  # zeros may make equal means impossible
            notions = notions[3:6]
        notion = notions[int(rng.integers(len(notions)))]
        weights = torch.from_numpy(rng.uniform(0.3, 3.0, n)) if k % 5 == 0 else None
        prepared: Any = fo.compile(
            notion, sensitive_features=groups, targets=targets, weights=weights, outputs="simplex", distance=distance
        )
        yield ClassDraw(
            prepared, torch.from_numpy(P), groups, distance, f"class_draws({count}, {seed}, {distance!r}): {k}, {notion!r}, {n}, {C}",
            k % 3 == 2,
        )  # fmt: skip


def wild(seed: int) -> tuple[Any, dict[str, Any], fo.Notion, Any]:
    """Probabilities (n, C) from flat to one-hot, tied, tiny and 0, groups that may be alone, limits from 0 to beyond 1, weights."""
    rng = np.random.default_rng([seed, 99])
    n, C, K = int(rng.integers(1, 40)), int(rng.integers(2, 9)), int(rng.integers(1, 6))
    z = rng.dirichlet(np.full(C, np.exp(rng.uniform(-4.0, 3.0))), n)
    kind = int(rng.integers(6))
    if kind == 0:
        z = z[rng.integers(0, max(n // 4, 1), n)]  # ties
    elif kind == 1:
        z = np.where(rng.random(z.shape) < 0.3, 1e-300, z)
    elif kind == 2:
        z = np.where(rng.random(z.shape) < 0.4, 0.0, z)
    elif kind == 3:
        z = np.eye(C)[rng.integers(0, C, n)] * (1.0 - 1e-12) + 1e-13
    z[~(z.sum(1) > 0.0), 0] = 1.0
    features = {"g": rng.integers(0, K, n), "h": rng.integers(0, 2, n)}
    t = float(rng.choice([0.0, 1e-12, 1e-3, 0.05, 0.5, 2.0]))
    notions = [
        fo.DemographicParity("g", tolerance=t),
        fo.DemographicParity("g", tolerance=t) & fo.DemographicParity("h", tolerance=float(rng.choice([0.0, 0.1]))),
        fo.DemographicParity("g", tolerance=t, to="overall") & fo.GroupMeanBound("h", upper=0.9),
        fo.DemographicParity(("g", "h"), tolerance=t),
        fo.DemographicParity("g", tolerance=t).penalised(float(np.exp(rng.uniform(-5, 8)))),
        fo.DemographicParity("g", tolerance=t).priced(float(np.exp(rng.uniform(-8, 3)))),
        fo.ImpactRatio("g", ratio=float(rng.choice([0.0, 0.5, 0.99, 1.0]))),
    ]
    weights = np.exp(rng.uniform(-3.0, 3.0, n)) if rng.random() < 0.3 else None
    return z / z.sum(1, keepdims=True), features, notions[int(rng.integers(len(notions)))], weights
