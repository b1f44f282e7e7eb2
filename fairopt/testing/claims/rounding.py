"""Claim L12: what is certified holds exactly for the very numbers that are returned."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch

from fairopt.contract.backend import Status
from fairopt.testing.claims.measurement import Measurement, worst
from fairopt.testing.claims.subject import Generator, Layer
from fairopt.testing.exact import violation_exact

DTYPES = (torch.float64, torch.float32)


def check_certified(rng: Generator, layer: Layer) -> Measurement:
    """L12, every notion: status CERTIFIED means every hard row and bound <= 0 in rational arithmetic; else within the stated bound."""
    case = layer.case(rng, max_n=60)
    dtype = DTYPES[int(rng.integers(2))]
    solution = layer.solution(case.scores.to(dtype), case.problem)
    found = violation_exact(case.problem, solution.scores)
    hard = [v for v, s in zip(found.constraints, case.problem.softness, strict=True) if v is not None and s.kind == "hard"]
    most = max([*hard, *([found.bounds] if found.bounds is not None else [])], default=Fraction(0))
    if solution.status is Status.CERTIFIED:
        return Measurement(float(max(most, Fraction(0))), 0.0, note="certified")
    ulp = torch.finfo(dtype).eps * max(1e-300, float(solution.scores.abs().max()))
    told = float(np.max(solution.certificate.violation, initial=0.0)) + solution.certificate.rounding_bound
    return worst(Measurement(float(max([*hard, Fraction(0)])), told, ulp, note="within rounding"))
