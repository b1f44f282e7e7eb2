"""L8 and L9: the dual, and softness."""

from __future__ import annotations

import numpy as np

from fairopt.testing.claims.formulas import clip, soft_violation, two_group_shifts
from fairopt.testing.claims.measurement import Measurement, worst
from fairopt.testing.claims.prices import check_one_row, check_prices, check_softness
from fairopt.testing.claims.subject import Generator, Layer
from proofs_checks.broken_layers import HalfWay, PricesHalved, PricesOff, PricesTold, SofterBy, SoftnessWeak
from proofs_checks.claim import Claim, Exact
from proofs_checks.solver import all_of, number, proved, reals, where

L8 = """
y = clip(z - W^-1 A^T p, lb, ub) with prices p, one a row, whatever n. p is the shadow price: with V the least cost `1/2 ||y -
z||_W^2`, `dV/d upper_k = -p_k^+`, `dV/d lower_k = +p_k^-`, for a range `dV/d width = -(sum of its positive prices)`, wherever p_k
is the same in all multipliers; else the derivatives are one-sided: `V'(.; h) = max over multipliers of -(p^+ . du - p^- . dl)`. No
Slater condition is needed (the set is polyhedral). The streaming rule of the paper has no 1/2: its prices are twice these. With
several multipliers the sensitivity to a common tolerance is the least 1-norm, not the 1-norm of the least 2-norm: z = (-1, 0, 1),
one member each, eps = 0: 4/3 against the true 1.
"""
L8_PROOF = """
For fixed p the Lagrangian `1/2 ||y - z||_W^2 + p . A y` separates over samples; each is a parabola with vertex `z_i - (A^T p)_i /
w_i` on an interval, so its minimum is the clipped vertex. Strong duality of a convex quadratic programme gives a p at which this y
is the solution. V is the maximum over p of functions affine in the limits, `d(p) - p^+ . u + p^- . l`. The multipliers need not be a
compact set (with all samples clamped they are unbounded), so Danskin's theorem does not apply as it stands; the problem is polyhedral,
though. V is finite on the polyhedron of limits that admit a y, convex and piecewise quadratic there: each piece belongs to a choice of
active rows and clamped samples. The inequality `V'(.; h) >= -(p^+ . du - p^- . dl)` holds for every multiplier, as each p gives an affine
minorant that touches V. Equality: in a direction h in which limits stay feasible, V follows for small t one quadratic piece, whose own
multipliers p(t) are affine in t and converge to a multiplier p(0), and V(t) - V(0) is the integral of `-(p(t)^+ . du - p(t)^- . dl)`. In
a direction that leaves the feasible limits V is infinite, and so is the supremum (a ray of multipliers).
"""
L9 = """
Let p* be any multiplier of the hard problem, V its cost. (Cap) rho >= max |p*_k| gives the hard solution exactly; for any rho, `rho
* (total violation) <= V - cost(rho)`. (Quadratic, gamma) one row: `0 <= violation <= |p*| / gamma`; several: `||violation||_2 <=
||p*||_2 / gamma` and `||y_gamma - y*||_W <= ||p*||_2 / (2 sqrt gamma)`. The bound row by row is false: means (0, .3, 1), eps .25,
gamma .1 violate the row (0, 1) by .0192 although its price is 0. For a range, its price is the sum of its positive prices.
"""
L9_PROOF = """
Let d be the concave dual of the hard problem. A cap restricts |p_k| <= rho: with a maximiser inside, it is the maximum still. The
hard solution is feasible for the soft problem at cost V, so `cost(rho) + rho * violation <= V`. Quadratic softness subtracts `|p|^2
/ (2 gamma)`: p_gamma is the proximal point of the dual from 0, so `<p_gamma, p* - p_gamma> >= 0`, which puts p_gamma in the ball
with diameter [0, p*]: `|p_gamma| <= |p*|`, and the violation is p_gamma / gamma. Strong convexity of the primal gives `||y_gamma -
y*||_W^2 <= <p_gamma, p* - p_gamma> / gamma <= |p*|^2 / (4 gamma)`.
"""


def check_both(rng: Generator, layer: Layer) -> Measurement:
    return worst(check_softness(rng, layer), check_one_row(rng, layer))


def tight(layer: Layer) -> Measurement:
    """One row, gamma huge: the violation is p / gamma up to 1 / gamma^2."""
    found = [check_one_row(np.random.default_rng(k), layer) for k in range(40)]
    return max((m for m in found if m.bound > 1e-6), key=lambda m: m.ratio)


def prove_box(broken: bool) -> bool:
    """One sample: y = clip(z - s, 0, 1) obeys (y - z + s)(v - y) >= 0 for every v in the box: it minimises the Lagrangian.

    Summed over samples this is y's optimality for fixed prices; with complementary prices, `p . (A v - A y) <= 0` for feasible v, so
    `<y - z, v - y> >= 0`: y is the projection."""
    z, s, v = reals("z", "s", "v")
    y = clip(z - s if not broken else z + s, number(0), number(1), where)
    return proved((y - z + s) * (v - y) >= 0, v >= 0, v <= 1)


def prove_quadratic(broken: bool) -> bool:
    """Two groups of 2 and 3, one row: the quadratic step d with gamma violates by at most price / gamma, and not below 0."""
    m0, m1, eps, gamma, d = reals("m0", "m1", "eps", "gamma", "d")
    n0, n1 = number(2), number(3)
    s0, _ = two_group_shifts(m0, m1, n0, n1, eps, where)
    price = s0 * n0
    size = 1 / n0 + 1 / n1  # a^T a
    # stationarity of 1/2 ||y - z||^2 + gamma/2 v^2 at the violation d: the row moved by gamma d size
    stationary = (m0 - m1) - gamma * d * size - eps == d
    formula = soft_violation(m0 - m1 - eps, gamma, size)
    bound = formula * gamma <= (price if not broken else price * number(9, 10))
    assumed = (eps >= 0, gamma > 0, m0 - m1 > eps)
    return proved(all_of(bound, formula >= 0), *assumed) and proved(formula == d, *assumed, stationary)


CLAIMS = (
    Claim(
        "L8",
        "prices determine the scores, and are shadow prices",
        "theorem",
        "textbook",
        L8,
        L8_PROOF,
        check_prices,
        Layer(),
        {"prices of an objective without 1/2": PricesHalved(), "stops half way": HalfWay()},
        deviations={"prices told too small": PricesTold, "prices too large": PricesOff},
        exact=Exact("one sample, all real z, shift and v in [0, 1]: the clipped vertex obeys the variational inequality", prove_box),
    ),
    Claim(
        "L9",
        "softness: caps are exact, quadratic violations are bounded by the prices",
        "bound",
        "ours",
        L9,
        L9_PROOF,
        check_both,
        Layer(),
        {"softness too weak": SoftnessWeak(), "prices halved": PricesHalved()},
        deviations={"softness too weak": SofterBy, "prices told too small": PricesTold},
        tight=tight,
        exact=Exact(
            "groups of 2 and 3 samples, the function that the check compares with: 0 <= violation <= price / gamma",
            prove_quadratic,
        ),
    ),
)
