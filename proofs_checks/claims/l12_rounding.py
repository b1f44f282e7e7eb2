"""L12: certified rounding."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch

import fairopt as fo
from fairopt.contract.backend import Status
from fairopt.solve import Solution
from fairopt.testing.claims.rounding import DTYPES, check_certified
from fairopt.testing.claims.subject import Generator, Layer
from proofs_checks.broken_layers import NotRepaired
from proofs_checks.claim import Claim, Measurement, worst

STATEMENT = """
(Certified) CERTIFIED means: every hard row and bound holds in rational arithmetic for the very numbers returned, for every notion,
dtype and size. (Distance) One row of two disjoint groups in a box: the certified answer lies within `C ulp` of the exact projection
in the sup-norm, ulp the spacing at the box's largest bound, the rounding of the answer included: C = max_g n_g + 1/2 for float32.
For float64 fairopt tightens by up to 3 b + 1 ulps, b the certificate's summation bound in ulps (about n): C = (3 b + 1) max_g n_g +
1/2; the smaller constant is possible there too, at the price of exact sums in the repair. The order n is needed: one free sample in
a group whose others sit at a bound, the other group at its bound. (Tolerance 0) For disjoint groups equal means exist on the grid
of the top binade, and the answer's means are exactly equal.
"""
PROOF = """
Tighten the row by one ulp (half an ulp for each mean) and round to nearest: each mean moves by at most half an ulp, so the rounded
row holds. Tightening by u moves the exact projection by `u (1/n_g) / (f_0/n_0^2 + f_1/n_1^2)` in group g, f the free samples; with
one free sample this is n_g u, and it is never more. Rounding adds 1/2. For tolerance 0: with grid h a group's sum is an integer
multiple of h, and any integer can be reached by moving samples a step or two; give group g the sum k n_g h: its mean is k h. For
many rows the constant is the Hoffman constant of the rows over the box.
"""


def exact_gap(y: torch.Tensor, codes: np.typing.NDArray[np.int64]) -> Fraction:
    """The exact difference of the means of groups 0 and 1."""
    values = [Fraction(v) for v in y.double().tolist()]
    sums = [sum((v for v, c in zip(values, codes.tolist(), strict=True) if c == g), Fraction(0)) for g in (0, 1)]
    return sums[0] / int((codes == 0).sum()) - sums[1] / int((codes == 1).sum())


def ulp_of(dtype: torch.dtype) -> float:
    """The spacing of the dtype at the box's largest bound, 1."""
    return float(torch.finfo(dtype).eps)


def ulps_from_exact(found: Solution, scores: torch.Tensor, prepared: fo.Prepared, codes: np.typing.NDArray[np.int64], eps: float) -> float:
    """Sup-distance to the rational projection, in ulps of the box [0, 1]'s top binade.

    The float64 answer says which samples are free; the price then solves one linear equation in rationals, and the clamped ones must
    stay outside."""
    rough = prepared.project(scores.double(), certify=False)
    z = [Fraction(v) for v in scores.double().tolist()]
    clamped = [Fraction(0) if v <= 0 else Fraction(1) if v >= 1 else None for v in rough.tolist()]
    count = [int((codes == g).sum()) for g in (0, 1)]
    a = [Fraction(1, count[0]) if c == 0 else Fraction(-1, count[1]) for c in codes.tolist()]
    gap = sum((ai * (zi if c is None else c) for ai, zi, c in zip(a, z, clamped, strict=True)), Fraction(0))
    plain = sum((ai * min(max(zi, Fraction(0)), Fraction(1)) for ai, zi in zip(a, z, strict=True)), Fraction(0))
    stiffness = sum((ai * ai for ai, c in zip(a, clamped, strict=True) if c is None), Fraction(0))
    if not stiffness:
        exact = [zi if c is None else c for zi, c in zip(z, clamped, strict=True)]
    limit = Fraction(eps) if plain > 0 else -Fraction(eps)
    price = (gap - limit) / stiffness if abs(plain) > Fraction(eps) and stiffness else Fraction(0)
    if stiffness:
        exact = [min(max(zi - price * ai, Fraction(0)), Fraction(1)) for zi, ai in zip(z, a, strict=True)]
    ulp = Fraction(ulp_of(found.scores.dtype))
    return float(max(abs(Fraction(y) - x) for y, x in zip(found.scores.double().tolist(), exact, strict=True)) / ulp)


def one_row(rng: Generator, layer: Layer) -> Measurement:
    """Two groups in [0, 1], often with few free samples, float32 and float64: distance from the exact projection in ulps."""
    n = int(rng.choice([2, 3, 8, 40, 300]))
    codes = (rng.random(n) < rng.uniform(0.1, 0.9)).astype(np.int64)
    codes[0], codes[1] = 0, 1
    z = rng.uniform(-0.2, 1.2, n) + 0.5 * codes
    if rng.uniform() < 0.4:  # one free sample
        z = np.where(codes == 0, 5.0, -5.0)
        z[0] = float(rng.uniform(0.3, 0.9))
    dtype = DTYPES[int(rng.integers(2))]
    eps = float(rng.choice([0.0, 1e-3, 0.05, 0.3]))
    scores = torch.from_numpy(z).to(dtype)
    prepared = fo.compile(fo.DemographicParity("a", tolerance=eps), sensitive_features={"a": codes.tolist()}, bounds=(0.0, 1.0))
    found: Solution = layer.solution(scores, prepared.problem)
    far = ulps_from_exact(found, scores, prepared, codes, eps)
    gap = abs(exact_gap(found.scores, codes))
    holds = Measurement(float(max(gap - Fraction(eps), Fraction(0))), 0.0, note="row holds exactly")
    counts = np.bincount(codes)
    if found.status is not Status.CERTIFIED:
        return Measurement(1.0, 0.0, note=f"one row is not certified: {found.status.name}")
    margin = 1.0 if dtype is torch.float32 else 1.0 + 3.0 * found.certificate.rounding_bound / ulp_of(dtype)
    bound = float(counts.max()) * margin + 0.5
    return worst(holds, Measurement(far, bound, note=f"{dtype}, n={n}, eps={eps}: ulps moved"))


def check(rng: Generator, layer: Layer) -> Measurement:
    return worst(check_certified(rng, layer), one_row(rng, layer))


def tight(layer: Layer) -> Measurement:
    """The worst of 150 float32 rows."""
    found = [one_row(np.random.default_rng(k), layer) for k in range(150)]
    return max((m for m in found if m.note.startswith("torch.float32")), key=lambda m: m.ratio)


CLAIMS = (
    Claim(
        "L12",
        "certified rounding",
        "bound",
        "ours",
        STATEMENT,
        PROOF,
        check,
        Layer(),
        {"not repaired": NotRepaired()},
        tight=tight,
        open="A universal constant for many rows (it is the Hoffman constant of the rows over the box); equal means for three or more "
        "attributes at tolerance 0.",
    ),
)
