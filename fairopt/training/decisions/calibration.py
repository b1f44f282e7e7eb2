"""Probabilities that mean what they say in each group, fitted per group: a line in the logit, or steps where there are many rows.

    line    logit p' = (1 + a) logit p + b,   (a, b) = argmin cross-entropy + ridge / 2 * (a^2 + b^2)      (Platt 1999, with a prior)
    steps   isotonic regression of the target on p                                                         (Zadrozny, Elkan 2002)

A threshold moved in one group costs what the probabilities there say; a network that is right on the whole need not be right in a group.
The prior draws small groups to what the network said. Many thousands of rows see what a line misses near a threshold; with fewer, steps
follow the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fairopt.basics.extras import missing

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[Any]  # (n,) values or codes
Curve = Callable[[Floats], Floats]
MARGIN = 1e-6
# Worth about ten rows at even odds: felt in groups of a hundred rows, not in groups of thousands.
RIDGE = 10.0
# Rows of a group from which on steps are fitted.
MANY = 5000


@dataclass(frozen=True)
class Line:
    """slope and intercept in the logit."""

    slope: float
    intercept: float

    def __call__(self, probabilities: Floats) -> Floats:
        return sigmoid(self.slope * logit(probabilities) + self.intercept)


@dataclass(frozen=True)
class Steps:
    """A step function, as a fitted model of scikit-learn."""

    model: Any

    def __call__(self, probabilities: Floats) -> Floats:
        return np.asarray(self.model.predict(probabilities), dtype=np.float64)


@dataclass(frozen=True)
class Calibration:
    """curves: group -> probabilities (n,) to calibrated ones; a group that the fit had not keeps its probabilities."""

    curves: dict[Any, Curve]

    @classmethod
    def fit(cls, probabilities: Floats, targets: Floats, groups: Groups) -> Calibration:
        """From probabilities (n,), targets (n,) 0 or 1, groups (n,)."""
        return cls({g: _curve(probabilities[groups == g], targets[groups == g]) for g in np.unique(groups).tolist()})

    def __call__(self, probabilities: Floats, groups: Groups) -> Floats:
        """(n,) calibrated."""
        calibrated = probabilities.copy()
        for group, curve in self.curves.items():
            rows = groups == group
            if rows.any():
                calibrated[rows] = curve(probabilities[rows])
        return calibrated


def _curve(probabilities: Floats, targets: Floats) -> Curve:
    return (steps if len(targets) >= MANY else line)(probabilities, targets)


def steps(probabilities: Floats, targets: Floats) -> Curve:
    """Isotonic regression, held inside the probabilities between none and all of n + 1 rows."""
    try:
        from sklearn.isotonic import IsotonicRegression
    except ImportError as error:
        raise missing("calibration needs scikit-learn", "sklearn") from error
    edge = 1.0 / (len(targets) + 2)
    model = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(probabilities, targets)
    return Steps(model)


def logit(p: Floats) -> Floats:
    """log(p / (1 - p)), p kept off 0 and 1."""
    inside = np.clip(p, MARGIN, 1 - MARGIN)
    return np.asarray(np.log(inside / (1 - inside)))


def sigmoid(z: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))


def line(probabilities: Floats, targets: Floats, ridge: float = RIDGE) -> Line:
    """Newton on the two numbers: a strictly convex problem, for ridge > 0."""
    z = logit(probabilities)
    design = np.stack([z, np.ones_like(z)], axis=1)  # (n, 2)
    start = np.array([1.0, 0.0])
    theta = start.copy()
    value = _value(theta, start, design, targets, ridge)
    for _ in range(50):
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
    return Line(float(theta[0]), float(theta[1]))


def _value(theta: Floats, start: Floats, design: Floats, targets: Floats, ridge: float) -> float:
    z = design @ theta
    return float((np.logaddexp(0, z) - targets * z).sum() + ridge / 2 * ((theta - start) ** 2).sum())
