"""L4 and L5: the derivative is a projector."""

from __future__ import annotations

import numpy as np
import torch

import fairopt as fo
from fairopt.basics.arrays import Array
from fairopt.testing.claims.closed import ACCURACY, groups_case
from fairopt.testing.claims.formulas import row_gradient
from fairopt.testing.claims.jacobian import check_projector, check_stable_gradient
from fairopt.testing.claims.subject import Case, Generator, Layer
from fairopt.testing.sensitivity import strictness
from proofs_checks.broken_layers import ClampedMoves, FaceTurned, GradientScaled, RowsForgottenInGradient, StepOff, Transposed, WrongSign
from proofs_checks.claim import Claim, Exact, Measurement, worst
from proofs_checks.solver import all_of, number, proved, reals

L4 = """
Hard rows. At every z where the active set is locally constant (all z but a null set), J = dy/dz is the W-orthogonal projector on
`{v : v_i = 0 on clamped samples, A_act v = 0}`: `J J = J`, `W J = J^T W`, eigenvalues 0 and 1, `trace J = |free| - rank(A_act on
the free samples)`. J does not depend on which of several multipliers is taken. (At an equality row that z already meets, z comes
back with the gradient of the identity; such z are a null set too.)
"""
L4_PROOF = """
On an open set with a constant active set, y stays in one affine face F and W(z - y) in the span of the active normals, so y is the
W-projection on F: an affine map whose linear part is the projector on the face's directions. The slacks are affine on each of
finitely many pieces, so the active set is locally constant off the pieces' boundaries. The projector is a function of the face, not
of the multipliers. Its trace is the dimension of the face: free samples less independent active rows.
"""
L5 = """
At every z, hard or soft: `||J^T g||_{W^-1} <= ||g||_{W^-1}`. For W = I, two groups and one active row: `||J^T g||^2 = ||g_F||^2 -
(a_F . g_F)^2 / ||a_F||^2`, a = 1/n_0 on group 0 and -1/n_1 on group 1, F the free samples (no second term if a_F = 0).
"""
L5_PROOF = """
`W^{1/2} J W^{-1/2}` is an orthogonal projector (L4) or, for soft rows, symmetric with eigenvalues in [0, 1] (the layer is firmly
non-expansive, L3); its norm is at most 1. With one active row J = D_F - D_F a a^T D_F / ||a_F||^2, and the formula is `||J g||^2 =
<g, J g>`.
"""


def check_gradient(rng: Generator, layer: Layer) -> Measurement:
    """The bound on any problem, and the formula for two groups with and without a box."""
    bound = check_stable_gradient(rng, layer)
    if rng.uniform() < 0.5:
        return worst(bound, _in_a_box(rng, layer))
    case, codes, eps = groups_case(rng, 2)
    means = [case.z[codes == k].mean() for k in (0, 1)]
    if case.problem.weights is not None or abs(abs(means[0] - means[1]) - eps) <= 1e-9:  # the latter is a kink: either piece
        return bound
    y, p = layer.project(case.scores, case.problem)
    g = rng.normal(size=y.size)
    counts = np.bincount(codes)
    a = np.where(codes == 0, 1.0 / counts[0], -1.0 / counts[1])
    binds = np.abs(p).max(initial=0.0) > 1e-9
    expected = np.array(row_gradient(g.tolist(), a.tolist())) if binds else g
    return worst(bound, _equal(layer.vjp(case.scores, case.problem, g), expected, g, a, binds, "formula"))


def _equal(pulled: Array, expected: Array, g: Array, a: Array, binds: bool, note: str) -> Measurement:
    """J^T g is the formula that z3 proves, and its length is the claim's."""
    slack = ACCURACY * (float(g @ g) + 1.0)
    length = g @ g - ((a @ g) ** 2 / (a @ a) if binds and a.any() else 0.0)
    return worst(
        Measurement(float(np.abs(pulled - expected).max(initial=0.0)), slack, note=note),
        Measurement(abs(float(pulled @ pulled - length)), slack, note=f"{note}: length"),
    )


def _in_a_box(rng: Generator, layer: Layer) -> Measurement:
    """Two groups in the box [0, 1], unit weights, many samples outside it: the formula on the free samples."""
    n = int(rng.integers(2, 30))
    codes = rng.integers(0, 2, n)
    codes[:2] = (0, 1)
    z = rng.normal(0.5, 0.6, n) + 0.5 * codes
    eps = float(rng.choice([0.0, 0.05, 0.3]))
    prepared = fo.compile(fo.DemographicParity("a", tolerance=eps), sensitive_features={"a": codes.tolist()}, bounds=(0.0, 1.0))
    case = Case(torch.from_numpy(z), prepared.problem)
    y, p = layer.project(case.scores, case.problem)
    if not strictness(case.problem, z, y, p) >= 1e-3:
        return Measurement(0.0, 1.0, note="a kink")
    free, binds = (y > 1e-9) & (y < 1 - 1e-9), bool(np.abs(p).max(initial=0.0) > 1e-9)
    counts = np.bincount(codes)
    a = np.where(codes == 0, 1.0 / counts[0], -1.0 / counts[1]) * free
    g = rng.normal(size=n)
    expected = np.array(row_gradient((g * free).tolist(), a.tolist())) if binds and free.any() else g * free
    return _equal(layer.vjp(case.scores, case.problem, g), expected, g * free, a, binds, "formula in a box")


def prove(broken: bool) -> bool:
    """Two groups of 2 and 3: J g = g - a (a . g) / ||a||^2 has ||J g||^2 = ||g||^2 - (a . g)^2 / ||a||^2 <= ||g||^2, a . J g = 0, J J
    g = J g.
    """
    g = reals("g1", "g2", "g3", "g4", "g5")
    a = [number(1, 2)] * 2 + [number(-1, 3)] * 3
    square = number(1, 2) + number(1, 3)
    once = row_gradient(g, a)
    if broken:
        once = [x + (x - y) / 10 for x, y in zip(once, g, strict=True)]
    twice = row_gradient(once, a)
    inner = sum(x * y for x, y in zip(a, g, strict=True))
    lost = sum(x * x for x in g) - sum(y * y for y in once)
    return proved(
        all_of(
            lost * square == inner * inner,
            sum(x * y for x, y in zip(a, once, strict=True)) == 0,
            *(x == y for x, y in zip(once, twice, strict=True)),
        )
    )


CLAIMS = (
    Claim(
        "L4",
        "the derivative is the projector on the active face",
        "theorem",
        "textbook",
        L4,
        L4_PROOF,
        check_projector,
        Layer(),
        {"rows forgotten": RowsForgottenInGradient(), "transposed": Transposed(), "step too long": GradientScaled()},
        deviations={"face turned": FaceTurned, "clamped samples move": ClampedMoves, "price step too long": StepOff},
    ),
    Claim(
        "L5",
        "stable backpropagation",
        "bound",
        "ours",
        L5,
        L5_PROOF,
        check_gradient,
        Layer(),
        {"wrong sign": WrongSign(), "rows forgotten": RowsForgottenInGradient()},
        deviations={"face turned": FaceTurned, "clamped samples move": ClampedMoves, "price step too long": StepOff},
        exact=Exact("groups of 2 and 3 samples, the function that the check compares with: J J = J, a . J g = 0, its length", prove),
    ),
)
