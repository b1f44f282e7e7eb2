"""Drawn batches of shipped notions, and the shares that ranks hold of them."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import fairopt as fo

NOTIONS = {
    "parity": lambda t: fo.DemographicParity("g", tolerance=t),
    "two attributes": lambda t: fo.DemographicParity("g", tolerance=t) & fo.DemographicParity("h", tolerance=t / 2),
    "strata": lambda t: fo.DemographicParity("g", given="h", tolerance=t),
    "intersections": lambda t: fo.DemographicParity(("g", "h"), tolerance=t),
    "overall": lambda t: fo.DemographicParity("g", tolerance=t, to="overall"),
    "opportunity": lambda t: fo.EqualOpportunity("g", tolerance=t),
    "predictive": lambda t: fo.PredictiveEquality("h", tolerance=t),
    "odds": lambda t: fo.EqualizedOdds("g", tolerance=t),
    "bound": lambda t: fo.GroupMeanBound("g", lower=0.3, upper=0.7),
    "residual": lambda t: fo.MeanResidual("g", tolerance=t),
    "residuals": lambda t: fo.ResidualParity("g", tolerance=t),
    "impact": lambda t: fo.ImpactRatio("g", ratio=0.9),
    "covariance": lambda t: fo.ScoreCovariance("x", tolerance=t / 10),
    "covariance of two": lambda t: fo.ScoreCovariance("h", tolerance=t / 10),
    "priced": lambda t: fo.DemographicParity("g", tolerance=t).priced(0.02) & fo.DemographicParity("h", tolerance=t),
    "budgeted": lambda t: (fo.DemographicParity("g", tolerance=t) & fo.DemographicParity("h", tolerance=t)).budgeted(0.05),
    "penalised": lambda t: fo.DemographicParity("g", tolerance=t).penalised(3.0),
}


@dataclass(frozen=True, eq=False)
class Batch:
    """One drawn batch: the arguments of ``cases.project`` for all samples."""

    name: str
    seed: int
    n: int
    arguments: dict[str, Any]

    def shares(self, cuts: list[int]) -> list[dict[str, Any]]:
        """The arguments of each rank: the samples between two cuts."""
        return [{k: _part(v, slice(a, b), self.n) for k, v in self.arguments.items()} for a, b in itertools.pairwise(cuts)]


def _part(value: Any, part: slice, n: int) -> Any:
    if isinstance(value, dict):
        return {k: _part(v, part, n) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(_part(v, part, n) for v in value)
    return value[part] if isinstance(value, (np.ndarray, list)) and len(value) == n else value


def draw(name: str, seed: int, most: int = 60) -> Batch:
    """A batch of the notion ``name``: sizes, groups that may be absent, ties, a box, weights, one tolerance in four of 0."""
    rng = np.random.default_rng([seed, *name.encode()])
    n = int(rng.integers(4, most))
    g, h = rng.integers(0, int(rng.integers(2, 5)), n), rng.integers(0, 2, n)
    words = np.array(["a", "b", "c", "d"])[g]
    z = rng.normal(0.5, 0.4, n) + 0.2 * g
    if rng.random() < 0.2:
        z = np.round(4 * z) / 4
    tolerance = 0.0 if rng.random() < 0.15 else float(np.exp(rng.uniform(np.log(1e-3), np.log(0.3))))
    notion = NOTIONS[name](tolerance)
    arguments: dict[str, Any] = {"notion": notion, "scores": z, "features": {"g": words if rng.random() < 0.5 else g, "h": h > 0}}
    arguments["features"]["x"] = rng.normal(size=n)
    if notion.needs_targets:
        arguments["targets"] = (rng.random(n) < 0.4 + 0.1 * g).astype(np.int64)
    kind = rng.random()
    if kind < 0.5:
        arguments["bounds"] = (0.0, 1.0)
    elif kind < 0.6:
        arguments["bounds"] = (0.0, None)
    elif kind < 0.7:
        arguments["bounds"] = (rng.uniform(-0.2, 0.2, n), rng.uniform(0.8, 1.2, n))
    if rng.random() < 0.3:
        arguments["weights"] = np.exp(rng.uniform(np.log(0.1), np.log(10.0), n))
    arguments["incoming"] = rng.normal(size=n)
    arguments["on_infeasible"] = "closest"
    return Batch(name, seed, n, arguments)


def cuts_of(batch: Batch, ranks: int, seed: int) -> list[int]:
    """Where the shares begin and end: uneven, at times empty."""
    rng = np.random.default_rng([seed, ranks])
    inner = np.sort(rng.integers(0, batch.n + 1, ranks - 1)).tolist()
    if rng.random() < 0.3 and ranks > 1:
        inner[0] = 0
    return [0, *sorted(inner), batch.n]


def alone(batch: Batch) -> dict[str, Any]:
    """The answer of one process that has all samples and no group."""
    facts = dict(batch.arguments)
    incoming, features, scores = facts.pop("incoming"), facts.pop("features"), facts.pop("scores")
    z = torch.tensor(scores, dtype=torch.float64, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fo.FairoptWarning)
        solution = fo.project(z, facts.pop("notion"), sensitive_features=features, return_solution=True, **facts)
    solution.scores.backward(torch.from_numpy(incoming))
    certificate = solution.certificate
    assert z.grad is not None
    return {
        "scores": solution.scores.detach().numpy(),
        "gradient": z.grad.numpy(),
        "status": solution.status.name,
        "violation": certificate.violation,
        "distance": certificate.distance,
        "group_counts": certificate.group_counts,
        "labels": certificate.labels,
        "dropped": certificate.dropped,
        "limits": certificate.limits,
    }
