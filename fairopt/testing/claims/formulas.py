"""Closed forms in plain Python that take floats, Fractions and z3 terms alike: what the SMT solver proves is what the tests compare.

``where(condition, a, b)`` chooses: ``choose`` for numbers, ``z3.If`` for terms. Sizes are numbers > 0 of the same kind.
Each is compared with the tensor code on every numeric instance of its claim (L6, L7, L8, B2, S1, Q2, N2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Number = Any  # float, Fraction or a z3 term
Where = Callable[[Any, Number, Number], Number]


def choose(condition: Any, a: Number, b: Number) -> Number:
    """``where`` for numbers."""
    return a if condition else b


def clip(x: Number, low: Number, high: Number, where: Where = choose) -> Number:
    """x moved into [low, high]."""
    return where(x < low, low, where(x > high, high, x))


def positive(x: Number, where: Where = choose) -> Number:
    """max(x, 0)."""
    return where(x > 0, x, 0 * x)


def two_group_shifts(
    mean0: Number, mean1: Number, size0: Number, size1: Number, eps: Number, where: Where = choose
) -> tuple[Number, Number]:
    """(shift of mean 0, of mean 1), to be subtracted (claim L6): the excess over eps, split by 1 / effective size.

    Effective size N_g = n_g^2 / sum_{i in g} 1 / w_i, which is n_g for unit weights.
    """
    d = mean0 - mean1
    excess = where(d > eps, d - eps, where(-d > eps, d + eps, 0 * d))
    c = excess / (1 / size0 + 1 / size1)
    return c / size0, -(c / size1)


def row_gradient(g: Sequence[Number], a: Sequence[Number]) -> list[Number]:
    """J g of one active row a on free samples, unit weights (claim L5): g less its part along a."""
    along = sum((x * y for x, y in zip(a[1:], g[1:], strict=True)), a[0] * g[0])
    square = sum((x * x for x in a[1:]), a[0] * a[0])
    return [y - x * along / square for x, y in zip(a, g, strict=True)]


def soft_violation(excess: Number, gamma: Number, stiffness: Number) -> Number:
    """What quadratic softness gamma leaves of an excess (claim L9, one row, no box); stiffness = a^T W^-1 a."""
    return excess / (1 + gamma * stiffness)


def imbalance(means: Sequence[Number], sizes: Sequence[Number], t: Number, eps: Number, where: Where = choose) -> Number:
    """sum_g N_g [(t - mu_g)_+ - (mu_g - t - eps)_+], increasing in t: claim L7's function, whose root is the window's lower end."""
    total = 0 * t
    for mean, size in zip(means, sizes, strict=True):
        total = total + size * (positive(t - mean, where) - positive(mean - t - eps, where))
    return total


def window_means(means: Sequence[Number], t: Number, eps: Number, where: Where = choose) -> list[Number]:
    """The new means clip(mu_g, t, t + eps) of claim L7."""
    return [clip(m, t, t + eps, where) for m in means]


def composition_bound(shares: Sequence[tuple[Number, Number]], gaps: Sequence[Number], width: Number, where: Where = choose) -> Number:
    """Claim B2: sum_t min(w_t0, w_t1) gap_t + R TV, TV = half the l1 distance of the two share vectors; gap_t of a vacuous batch is 0."""
    total = 0 * width
    for (a, b), gap in zip(shares, gaps, strict=True):
        total = total + where(a < b, a, b) * gap + width * where(a < b, b - a, a - b) / 2
    return total


def price_step(price: Number, eta: Number, n: Number, gap: Number, eps: Number, where: Where = choose) -> Number:
    """The paper's price update max(0, p + eta n (gap - eps)) (claims S1-S4)."""
    return positive(price + eta * n * (gap - eps), where)


def systematic(probabilities: Sequence[Number], start: Number, floor: Callable[[Number], Number]) -> list[Number]:
    """Claim Q2: decision i is floor(start + p_1 + ... + p_i) - floor(start + p_1 + ... + p_{i-1})."""
    out, total = [], start
    for p in probabilities:
        out.append(floor(total + p) - floor(total))
        total = total + p
    return out


def neutral_reply(counts: Sequence[Number], means: Sequence[Number]) -> Number:
    """Claim N2: the overall mean of what was sent."""
    total = sum((c * m for c, m in zip(counts[1:], means[1:], strict=True)), counts[0] * means[0])
    return total / sum(counts[1:], counts[0])


def mean_after(count: Number, mean: Number, reply: Number) -> Number:
    """A group's mean after one more sample."""
    return (count * mean + reply) / (count + 1)
