"""How likely a mean of bounded numbers errs by e or more, from their bound and their variance alone.

X_1 .. X_n independent and alike, with mean 0, X_i <= b and a variance of at most v. Both bounds compare their sum with that of n numbers
that are b or -v / b: a binomial B of n and p = v / (b^2 + v), of which k = n (v + b e) / (b^2 + v) or more are to be b:

    Hoeffding 1963, theorem 3     P(mean >= e) <= exp(-n kl(k / n, p))
    Bentkus 2004                  P(mean >= e) <= inf over t < k of  E max(B - t, 0)^2 / (k - t)^2

The second is at most e^2 / 2 times the binomial's own tail, and near it: for a tail of .05 it asks for 2.17 standard errors where
Hoeffding asks for 2.45 and a normal law for 1.64. Any t is a bound; one near the best of a normal law is taken, and t far below, which is
Cantelli's inequality.
"""

from __future__ import annotations

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.basics.extras import missing

ROUNDING = 1e-11  # of each summand of a second moment is added to it


def tail_of_mean(n: int, error: Array, most: Array, variance: Array) -> Array:
    """(...) a bound of P(mean >= error), for error > 0, most = b > 0 and variance >= 0, of one shape. What is no number is 1."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        whole = most * most + variance
        p, share = variance / whole, np.minimum((variance + most * error) / whole, 1.0)
        found = np.minimum(_hoeffding(n, p, share), _bentkus(n, p, n * share))
    found = np.where(np.isfinite(found), np.clip(found, 0.0, 1.0), 1.0)
    return np.where(variance == 0.0, 0.0, found)


def _hoeffding(n: int, p: Array, share: Array) -> Array:
    upper = np.where(share > 0, share * np.log(share / p), 0.0)
    lower = np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - p)), 0.0)
    return np.asarray(np.exp(-n * (upper + lower)))


def _bentkus(n: int, p: Array, k: Array) -> Array:
    deviation = np.sqrt(n * p * (1 - p))
    z = (k - n * p) / deviation
    gap = 4.0 * deviation / (z + np.sqrt(z * z + 4.0))  # k - t: the best of a normal law, but for a hundredth of the bound
    bound = squares_above(n, p, k - gap) / (gap * gap)
    return np.asarray(np.fmin(bound, 1.0 / (1.0 + z * z)))


def squares_above(n: int, p: Array, t: Array) -> Array:
    """E max(B - t, 0)^2 of a binomial B of n and p, rounded upwards."""
    k = np.maximum(np.ceil(t), 0.0)
    # E B (B - 1) ; B >= k and the like are chances of binomials of fewer draws
    second = n * (n - 1) * p * p * _at_least(n - 2, p, k - 2)
    first, none = n * p * _at_least(n - 1, p, k - 1), _at_least(n, p, k)
    terms = (second, first, -2.0 * t * first, t * t * none)
    return np.asarray(sum(terms) + ROUNDING * sum(np.abs(term) for term in terms))


def _at_least(n: int, p: Array, k: Array) -> Array:
    """P(B >= k) of a binomial of n and p, for whole k."""
    try:
        from scipy.special import betainc
    except ImportError as error:
        raise missing("a guarantee needs scipy", "audit") from error
    inside = (k >= 1) & (k <= n)
    tail = betainc(np.where(inside, k, 1.0), np.where(inside, n - k + 1, 1.0), p)
    return np.where(inside, tail, np.where(k <= 0, 1.0, 0.0))
