"""L6 and L7: closed forms of one disjoint attribute without a box."""

from __future__ import annotations

from typing import Any

from fairopt.testing.claims.closed import check_many_groups, check_two_groups
from fairopt.testing.claims.formulas import clip, imbalance, two_group_shifts, window_means
from fairopt.testing.claims.subject import Layer
from proofs_checks.broken_layers import HalfWay, PricesOff, ToleranceDoubled, WeightsIgnored, WeightsPartly, WiderBy
from proofs_checks.claim import Claim, Exact
from proofs_checks.solver import all_of, implies, largest, number, proved, reals, smallest, where

L6 = """
Two disjoint groups, both present, no box, weights w: with D = mu_0 - mu_1, `N_g = n_g^2 / sum_{i in g} 1/w_i` and
`c = (|D| - eps)_+ / (1/N_0 + 1/N_1)`, the projection moves sample i of group 0 by `-sign(D) c / (n_0 w_i)` and of group 1 by
`+sign(D) c / (n_1 w_i)`. Samples of other groups stay. For w = 1: N_g = n_g.
"""
L6_PROOF = """
`|D(y)| <= eps` is one row a with a_i = 1/n_0, -1/n_1, so y = z - p W^-1 a with one price p. If |D| <= eps then p = 0. Else D(y) =
sign(D) eps, and `D(y) = D - p a^T W^-1 a` with `a^T W^-1 a = 1/N_0 + 1/N_1` gives p = sign(D) c. The objective is convex, so these
conditions suffice.
"""
L7 = """
K disjoint groups, all pairs within eps, no box, weights w: the new means are `clip(mu_g, t, t + eps)` where t is a root of the
increasing function `sum_g N_g [(t - mu_g)_+ - (mu_g - t - eps)_+]`, N_g as in L6; the root may be an interval, the means are then
the same. Sample i of g moves by `(new_g - mu_g) (n_g / w_i) / sum_{j in g} 1/w_j`, not by a common shift.
"""
L7_PROOF = """
Moving the mean of g by d at least cost spends `1/2 N_g d^2` and moves sample i by `d (n_g / w_i) / sum_g 1/w` (one Lagrange
multiplier). What is left is `min over t of sum_g N_g dist(mu_g, [t, t + eps])^2`, convex in t, whose derivative is twice the
function above. Its breakpoints are mu_g and mu_g - eps, so sorting 2K numbers finds t.
"""


def prove_two(broken: bool) -> bool:
    """Groups of 2 and 3: the optimality conditions of the row at new means (mu_0 - s_0, mu_1 - s_1), for all real means and eps >= 0."""
    m0, m1, eps = reals("m0", "m1", "eps")
    n0, n1 = number(2), number(3)
    s0, s1 = two_group_shifts(m0, m1, n0, n1 if not broken else n0, eps, where)
    new = (m0 - s0) - (m1 - s1)
    price = s0 * n0  # y = z - p a, a = 1/n_0: the shift of a sample of group 0 is p / n_0
    goal = all_of(
        new <= eps, -new <= eps, s1 * n1 == -price,
        implies(price > 0, new == eps), implies(price < 0, -new == eps),
    )  # fmt: skip
    return proved(goal, eps >= 0)


def prove_many(broken: bool) -> bool:
    """K = 4, sizes 1, 2, 3, 5: at a root t the new means obey the optimality conditions of the range."""
    means, sizes = reals("a", "b", "c", "d"), [number(k) for k in (1, 2, 3, 5)]
    t, eps = reals("t", "eps")
    new = window_means(means, t, eps, where) if not broken else [clip(m, t, t + 2 * eps, where) for m in means]
    prices = [n * (m - x) for n, m, x in zip(sizes, means, new, strict=True)]
    top, bottom = largest(new), smallest(new)
    conditions: list[Any] = [sum(prices) == 0, top - bottom <= eps]
    conditions += [implies(p > 0, all_of(x == top, top - bottom == eps)) for p, x in zip(prices, new, strict=True)]
    conditions += [implies(p < 0, x == bottom) for p, x in zip(prices, new, strict=True)]
    return proved(all_of(*conditions), eps >= 0, imbalance(means, sizes, t, eps, where) == 0)


CLAIMS = (
    Claim(
        "L6",
        "two groups: the closed form",
        "theorem",
        "ours",
        L6,
        L6_PROOF,
        check_two_groups,
        Layer(),
        {"tolerance doubled": ToleranceDoubled(), "weights ignored": WeightsIgnored()},
        deviations={"tolerance wider": WiderBy, "prices too large": PricesOff, "weights to the power 1 - size": WeightsPartly},
        exact=Exact(
            "groups of 2 and 3 samples, all real means and eps >= 0: the optimality conditions (the objective is convex)", prove_two
        ),
    ),
    Claim(
        "L7",
        "many groups: clip the means to a window",
        "theorem",
        "ours",
        L7,
        L7_PROOF,
        check_many_groups,
        Layer(),
        {"tolerance doubled": ToleranceDoubled(), "stops half way": HalfWay()},
        deviations={"tolerance wider": WiderBy, "prices too large": PricesOff, "weights to the power 1 - size": WeightsPartly},
        exact=Exact("K = 4, sizes 1, 2, 3, 5, all real means, eps >= 0 and roots t: the optimality conditions", prove_many),
    ),
)
