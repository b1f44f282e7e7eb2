"""L1: existence and uniqueness."""

from __future__ import annotations

from fairopt.testing.claims.projection import check_unique
from fairopt.testing.claims.subject import Layer
from proofs_checks.broken_layers import BoxBetween, BoxForgotten, HalfWay, PricesOff, WeightsIgnored, WeightsPartly
from proofs_checks.claim import Claim

STATEMENT = """
Let z be finite, 0 < w_i < inf, every lower limit at most its upper limit, lb_i <= ub_i, and let the set C of points that meet all
hard rows inside the box be non-empty. Then `min over y in C of 1/2 sum w_i (y_i - z_i)^2` has exactly one solution y. With soft
rows the same holds for the box alone. A weight of 0 loses uniqueness.
"""
PROOF = """
C is closed and convex: an intersection of half-spaces. The objective grows without bound and is continuous, so a minimiser exists
on the closed set. If y and y' both had the least value v, strict convexity (all w_i > 0) would give their midpoint, which lies in
C, a value below v. Softness adds a convex function, which changes nothing in the argument.

What is checked is equivalent: y is in C, `<W(z - y), v - y> <= 0` for feasible v, and `P(y + s (z - y)) = y` for s in {0, 1/2, 3}:
all points of the normal ray have the same projection.
"""
CLAIMS = (
    Claim(
        "L1",
        "the projection exists and is unique",
        "theorem",
        "textbook",
        STATEMENT,
        PROOF,
        check_unique,
        Layer(),
        {"weights ignored": WeightsIgnored(), "stops half way": HalfWay(), "clips after projecting": BoxForgotten()},
        deviations={
            "prices too large": PricesOff,
            "weights to the power 1 - size": WeightsPartly,
            "a part clipped after projecting": BoxBetween,
        },
    ),
)
