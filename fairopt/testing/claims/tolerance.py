"""Claim N3: what the tolerance costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fairopt.basics.errors import UnsupportedError
from fairopt.testing.claims.measurement import Measurement, worst
from fairopt.testing.claims.prices import cost
from fairopt.testing.claims.projection import ROOM
from fairopt.testing.claims.subject import Case, Generator, Layer, distances, norm, row_values, scale_of


def with_tolerance(case: Case, eps: float) -> Case:
    """Every symmetric linear limit and every width set to ``eps``."""
    p = case.problem
    return replace(
        case, problem=replace(p, lower=np.full_like(p.lower, -eps), upper=np.full_like(p.upper, eps), width=np.full_like(p.width, eps))
    )


def check_cost_of_fairness(rng: Generator, layer: Layer) -> Measurement:
    """N3: dist(eps) is convex and non-increasing; V(eps) <= (1 - eps / raw gap)^2 V(0)."""
    for _ in range(200 if layer.notion is None else 20):
        case = layer.case(rng, avoid=("infeasible",))
        if homogeneous(case):
            break
    else:
        raise UnsupportedError("N3 is about differences of means with one symmetric tolerance and no box")
    zero = with_tolerance(case, 0.0)
    raw = max(distances(zero.problem, row_values(zero.problem, case.z)), default=0.0)
    at_zero, _ = layer.project(case.scores, zero.problem)
    scale = scale_of(case, at_zero)
    slack = ROOM * layer.accuracy * scale * float(np.sqrt(case.w.sum()))
    if raw <= 1e-6 * scale:
        return Measurement(0.0, slack, note="nothing to do")
    a, b = sorted(float(x) * raw for x in rng.uniform(0.0, 1.0, 2))
    dist = [norm(layer.project(case.scores, with_tolerance(case, e).problem)[0] - case.z, case.w) for e in (0.0, a, 0.5 * (a + b), b)]
    convex = Measurement(max(0.0, dist[2] - 0.5 * (dist[1] + dist[3])), slack, slack, note="convex")
    falls = Measurement(max(0.0, dist[3] - dist[1]), slack, slack, note="non-increasing")
    far = with_tolerance(case, a)
    share = Measurement(
        cost(far, layer.project(far.scores, far.problem)[0]), (1 - a / raw) ** 2 * 0.5 * dist[0] ** 2, slack * (dist[0] + scale),
        note="(1 - eps / gap)^2",
    )  # fmt: skip
    return worst(convex, falls, share)


def homogeneous(case: Case) -> bool:
    """Difference rows with a symmetric tolerance, no box: the set at tolerance 0 contains a constant, and mixing is a scaling."""
    p = case.problem
    return (
        not p.has_box and bool((p.lower == -p.upper).all()) and not p.rows.offset.any() and bool(np.isfinite(p.upper).all())
        and bool(np.abs(p.rows.scales.sum(axis=1)[: p.linear]).max(initial=0.0) == 0.0)
    )  # fmt: skip
