"""Numbers behind what claim N10 leaves open: SGD through the layer, its stationarity for the expected batch loss, and its stability.

    python tests/bench/minibatch_training.py [--steps 10000] [--batches 2000]

A linear score on five features, squared loss behind the layer (demographic parity, tolerance .05), batches of 32 of a population of 4,000
in two groups; steps .3 / (1 + t/100)^.75. First table: the norm of the gradient of the expected batch loss at the iterate, from so many
fresh batches, and its standard error. Second: how far the iterates of two runs are apart after 1,000 steps whose data differ in one of n
samples (the same draws of indices).
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt
import torch

import fairopt as fo

FloatArray = npt.NDArray[np.float64]
BATCH, FEATURES, PEOPLE = 32, 5, 4000


class Data:
    """Features (n, 5), groups (n,), targets (n,) in [0, 1]; the groups' targets are .3 apart."""

    def __init__(self, n: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.groups = (rng.random(n) < 0.4).astype(np.int64)
        self.x = rng.normal(0, 0.3, (n, FEATURES)) + np.r_[1.0, np.zeros(FEATURES - 1)] + 0.4 * self.groups[:, None] * np.eye(FEATURES)[1]
        score = self.x @ np.array([0.3, 0.7, 0.3, -0.2, 0.1]) + rng.normal(0, 0.1, n)
        self.targets = np.clip(score, 0, 1)


def gradient(layer: fo.FairnessLayer, data: Data, rows: npt.NDArray[np.int64], weights: FloatArray) -> FloatArray:
    """(5,) of the mean squared error of a batch behind the layer."""
    w = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
    y = layer(torch.from_numpy(data.x[rows]) @ w, sensitive_features={"g": data.groups[rows]})
    (found,) = torch.autograd.grad(((y - torch.from_numpy(data.targets[rows])) ** 2).mean(), w)
    return np.asarray(found.numpy())


def train(layer: fo.FairnessLayer, data: Data, steps: int, seed: int, marks: tuple[int, ...] = ()) -> list[FloatArray]:
    """The iterates at ``marks`` and the last."""
    rng, weights, kept = np.random.default_rng(seed), 0.3 * np.eye(FEATURES)[0], []
    for t in range(steps):
        if t in marks:
            kept.append(weights.copy())
        weights = weights - 0.3 / (1 + t / 100) ** 0.75 * gradient(layer, data, rng.integers(0, len(data.x), BATCH), weights)
    return [*kept, weights]


def stationarity(layer: fo.FairnessLayer, steps: int, batches: int) -> None:
    data, marks = Data(PEOPLE, 0), (0, steps // 100, steps // 10)
    for t, weights in zip((*marks, steps), train(layer, data, steps, 1, marks), strict=True):
        rng = np.random.default_rng(2)
        found = np.array([gradient(layer, data, rng.integers(0, PEOPLE, BATCH), weights) for _ in range(batches)])
        error = float(np.sqrt(found.var(axis=0).sum() / batches))
        print(f"  after {t:6} steps: |gradient| {np.linalg.norm(found.mean(axis=0)):.5f} (standard error {error:.5f})")


def stability(layer: fo.FairnessLayer, sizes: tuple[int, ...] = (100, 1000, 10_000), repeats: int = 5) -> None:
    for n in sizes:
        apart = []
        for seed in range(repeats):
            one, other = Data(n, seed), Data(n, seed)
            fresh = Data(1, 1000 + seed)
            other.x[0], other.groups[0], other.targets[0] = fresh.x[0], fresh.groups[0], 1 - one.targets[0]
            apart.append(float(np.linalg.norm(train(layer, one, 1000, seed)[-1] - train(layer, other, 1000, seed)[-1])))
        print(f"  n = {n:6}: mean distance {np.mean(apart):.2e}, times n {n * np.mean(apart):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batches", type=int, default=2000)
    options = parser.parse_args()
    for bounds in (None, (0.0, 1.0)):
        layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.05), bounds=bounds)
        print(f"bounds {bounds}")
        stationarity(layer, options.steps, options.batches)
        stability(layer)


if __name__ == "__main__":
    main()
