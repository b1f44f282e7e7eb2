"""N3 and N4: what the tolerance costs, and what one person's score can do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import torch
from torch import Tensor

import fairopt as fo
from fairopt.basics.arrays import Array
from fairopt.contract.problem import ProjectionProblem
from fairopt.testing.claims.closed import groups_case
from fairopt.testing.claims.subject import Case, Layer, clipped
from fairopt.testing.claims.tolerance import check_cost_of_fairness
from fairopt.testing.sensitivity import strictness
from proofs_checks.broken_layers import FaceTurned, StepOff, ToleranceSquared
from proofs_checks.claim import Claim, Generator, Measurement, worst

N3 = """
Difference rows with one tolerance eps, no box: dist(eps) = ||y(eps) - z||_W is convex and non-increasing, V = dist^2/2 is piecewise
quadratic, V'(eps) = -min ||p||_1 over multipliers, and `V(eps) <= (1 - eps / gap_raw)^2 V(0)`: removing half of the gap costs at
most a quarter of removing all of it. Equality for two groups.
"""
N3_PROOF = """
The feasible sets grow with eps, so dist falls. If y is feasible at eps and y' at eps', the mixture `s y + (1-s) y'` is feasible at
`s eps + (1-s) eps'`, and its distance is at most the mixture of distances: convex. With y(0) and z itself (feasible at gap_raw,
distance 0), convexity gives `dist(eps) <= (1 - eps/gap_raw) dist(0)`.
"""
N4 = """
Unit weights, one attribute of any number of groups, tolerance eps. Without a box: `||y(z) - y(z')||_inf <= 3 ||z - z'||_inf`,
approached by a group of k and one of m >> k samples: `1 + 2 m (k-1) / (k (m + k))`. With a box at most sqrt(n), and about
sqrt(n_1)/2 is reached. The gradient to the tolerance has norm `1/||a_F|| = (f_0/n_0^2 + f_1/n_1^2)^{-1/2}`, f the free samples: up
to n.
"""
N4_PROOF = """
y_i = z_i - mu_g + newmean_g. The map of means is monotone and commutes with adding constants, so it is 1-Lipschitz in the sup-norm;
mu_g too. The three terms give 3. With a box, Cauchy-Schwarz and L3: `|y_i - y'_i| <= ||y - y'||_2 <= ||z - z'||_2 <= sqrt(n) ||z -
z'||_inf`.
"""


class Overshoot(Layer):
    """Prices twice too large, in scores and gradient."""

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        _, p = super().project(scores, problem)
        return clipped(Case(scores, problem), 2.0 * p), 2.0 * p

    def vjp(self, scores: Tensor, problem: ProjectionProblem, g: Array) -> Array:
        return 2.0 * super().vjp(scores, problem, g) - g


@dataclass
class TolerancePower(Layer):
    """Projects to tolerance^(1 + size)."""

    size: float = 0.1

    def __post_init__(self) -> None:
        super().__init__()

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        f = 1.0 + self.size
        return super().project(
            scores, replace(problem, lower=-(np.abs(problem.lower) ** f), upper=problem.upper**f, width=problem.width**f)
        )


def measure(layer: Layer, case: Case, i: int, boxed: bool) -> Measurement:
    """The largest change of score i when every score moves by at most h, on the present piece: the 1-norm of the gradient of y_i.

    And the row is the derivative: along the signs of the row itself, by central differences; the rows of the face give 0."""
    row = layer.vjp(case.scores, case.problem, np.eye(case.problem.n)[i])
    n = case.problem.n
    bound = Measurement(float(np.abs(row).sum()), sqrt(n) if boxed else 3.0, 1e-9, note="box" if boxed else "no box")
    true = Layer()
    y, p = true.project(case.scores, case.problem)
    if not strictness(case.problem, case.z, y, p) >= 1e-3:
        return bound
    h, v = 1e-6 * max(1.0, float(np.abs(case.z).max())), np.where(row >= 0, 1.0, -1.0)
    up, down = (true.project(torch.from_numpy(case.z + s * h * v), case.problem)[0][i] for s in (1.0, -1.0))
    return worst(
        bound, Measurement(abs(float((up - down) / (2 * h)) - float(row @ v)), 0.0, 1e-5 * sqrt(n), note="the row is the derivative")
    )


def check(rng: Generator, layer: Layer) -> Measurement:
    """Gradient rows with and without a box; few free samples and lopsided groups among them."""
    if rng.uniform() < 0.5:
        case, _, _ = groups_case(rng, int(rng.integers(2, 6)))
        if case.problem.weights is None:
            return measure(layer, case, int(rng.integers(case.problem.n)), boxed=False)
    small, large = int(rng.integers(1, 12)), int(rng.integers(1, 60))
    codes = np.repeat([0, 1], (small, large))
    boxed = bool(rng.uniform() < 0.5)
    z = rng.uniform(0, 0.4, codes.size) + 0.6 * codes
    if boxed:
        z = np.where(rng.uniform(size=codes.size) < 0.7, np.where(codes == 1, 1.5, -0.5), z)
    prepared = fo.compile(
        fo.DemographicParity("a", tolerance=0.1), sensitive_features={"a": codes.tolist()}, bounds=(0.0, 1.0) if boxed else None
    )
    return measure(layer, Case(torch.from_numpy(z), prepared.problem), int(rng.integers(codes.size)), boxed)


def tight(layer: Layer) -> Measurement:
    """A group of 30 and one of 3,000."""
    codes = np.repeat([0, 1], (30, 3000))
    prepared = fo.compile(fo.DemographicParity("a", tolerance=0.0), sensitive_features={"a": codes.tolist()})
    return measure(layer, Case(torch.from_numpy(codes * 1.0), prepared.problem), 0, boxed=False)


CLAIMS = (
    Claim(
        "N3",
        "half the gap costs at most a quarter",
        "bound",
        "ours",
        N3,
        N3_PROOF,
        check_cost_of_fairness,
        Layer(),
        {"tolerance squared": ToleranceSquared()},
        deviations={"tolerance to the power 1 + size": TolerancePower},
    ),
    Claim(
        "N4",
        "one person's score: factor 3 at most, without a box",
        "bound",
        "ours",
        N4,
        N4_PROOF,
        check,
        Layer(),
        {"overshoots": Overshoot()},
        tight=tight,
        deviations={"face turned": FaceTurned, "price step too long": StepOff},
    ),
)
