"""Probabilities that mean what they say in each group: a line in the logit, fitted per group on rows the network was not trained on.

    logit p' = (1 + a) logit p + b,   (a, b) = argmin cross-entropy + ridge / 2 * (a^2 + b^2)      (Platt 1999, with a prior)

A threshold moved in one group costs what the probabilities there say; a network that is right on the whole need not be right in a group.
The prior draws small groups to what the network said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MARGIN = 1e-6
# Worth about ten rows at even odds: felt in groups of a hundred rows, not in groups of thousands.
RIDGE = 10.0


@dataclass(frozen=True)
class Calibration:
    """lines: group -> (slope, intercept) in the logit; a group that the fit had not keeps its probabilities."""

    lines: dict[str, tuple[float, float]]

    @classmethod
    def fit(cls, probabilities: Floats, targets: Floats, groups: npt.NDArray[np.str_], ridge: float = RIDGE) -> Calibration:
        """From probabilities (n,), targets (n,) 0 or 1, groups (n,)."""
        z = logit(probabilities)
        return cls({str(g): _line(z[groups == g], targets[groups == g], ridge) for g in np.unique(groups)})

    def __call__(self, probabilities: Floats, groups: npt.NDArray[np.str_]) -> Floats:
        """(n,) calibrated."""
        z = logit(probabilities)
        for group, (slope, intercept) in self.lines.items():
            rows = groups == group
            z[rows] = slope * z[rows] + intercept
        return sigmoid(z)


def logit(p: Floats) -> Floats:
    """log(p / (1 - p)), p kept off 0 and 1."""
    inside = np.clip(p, MARGIN, 1 - MARGIN)
    return np.asarray(np.log(inside / (1 - inside)))


def sigmoid(z: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))


def _line(z: Floats, targets: Floats, ridge: float, steps: int = 50) -> tuple[float, float]:
    """Newton on the two numbers: a strictly convex problem, for ridge > 0."""
    design = np.stack([z, np.ones_like(z)], axis=1)  # (n, 2)
    start = np.array([1.0, 0.0])
    theta = start.copy()
    value = _value(theta, start, design, targets, ridge)
    for _ in range(steps):
        p = sigmoid(design @ theta)
        gradient = design.T @ (p - targets) + ridge * (theta - start)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + ridge * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        length = 1.0
        while (after := _value(theta - length * step, start, design, targets, ridge)) > value and length > 1e-8:
            length /= 2
        theta, gain, value = theta - length * step, value - after, after
        if gain <= 1e-12 * (1 + abs(value)):
            break
    return float(theta[0]), float(theta[1])


def _value(theta: Floats, start: Floats, design: Floats, targets: Floats, ridge: float) -> float:
    z = design @ theta
    return float((np.logaddexp(0, z) - targets * z).sum() + ridge / 2 * ((theta - start) ** 2).sum())
