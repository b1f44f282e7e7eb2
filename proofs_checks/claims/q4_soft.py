"""Q4, Q5: groups that are known in probability alone, and the groups that people are in."""

from __future__ import annotations

from collections.abc import Callable
from math import log, sqrt
from typing import Any

import numpy as np
import torch

import fairopt as fo
from proofs_checks.batches import FloatArray
from proofs_checks.claim import Claim, Generator, Measurement, worst

Q4 = """
(A calibrated proxy) Scores y_i are fixed; the groups G_i are independent, and G_i = g with probability P_ig. With the soft mean
s_g = sum_i P_ig y_i / sum_i P_ig, N_g people in group g and their mean m_g: `E sum_i 1[G_i = g] (y_i - s_g) = 0`, which is to say that the
group's total and its size have the expectations whose quotient is s_g; and with probability at least 1 - delta
`|m_g - s_g| <= sqrt(log(2 / delta) / 2 * V_g) / N_g`, V_g = sum of (y_i - s_g)^2 over the people whose P_ig is neither 0 nor 1.
"""
Q4_PROOF = """
E 1[G_i = g] = P_ig, so the expectation is sum_i P_ig (y_i - s_g) = 0 by the choice of s_g. N_g (m_g - s_g) is that sum itself: independent
terms, each of which takes one of two values |y_i - s_g| apart, or one value where P_ig is 0 or 1. Hoeffding 1963, theorem 2.
"""
Q5 = """
(Any proxy) Whatever P is: for scores in [lo, hi], people in groups G, N_g > 0 and M_g = sum_i P_ig > 0,
`|m_g - s_g| <= (hi - lo) T_g`, T_g = 1/2 sum_i |1[G_i = g] / N_g - P_ig / M_g|, the total variation between the group and its proxy. So a
layer that holds soft means within eps keeps any two groups within `eps + (hi - lo) (T_g + T_h)`. No constant below 1 will do.
"""
Q5_PROOF = """
m_g - s_g = sum_i (1[G_i = g] / N_g - P_ig / M_g) y_i, whose weights sum to 0: y_i - (hi + lo) / 2 may stand for y_i, at most (hi - lo) / 2
in size. Equality: y_i = hi where the weight is positive, lo where it is not. The second part is the triangle inequality.
"""
Means = Callable[[FloatArray, FloatArray], FloatArray]
DRAWS = 400
RARE = log(2e9)  # a simulation is off by more than what is allowed for once in a thousand million


def shipped(P: FloatArray, y: FloatArray) -> FloatArray:
    """(K,) the soft means of scores y (n,) by the rows that a notion compiles to."""
    groups = fo.Soft(P, range(P.shape[1]))
    notion = fo.GroupMeanBound("g", lower=-1e6)
    prepared = fo.compile(notion, sensitive_features={"g": groups})
    assert isinstance(prepared, fo.Prepared)
    problem = prepared.problem
    return np.asarray(problem.rows.matrix().numpy() @ y)


def sharpened(size: float) -> Means:
    """The soft means of P^(1 + size), each sample's probabilities summing to 1 again."""

    def means(P: FloatArray, y: FloatArray) -> FloatArray:
        other = P ** (1.0 + size)
        return shipped(other / other.sum(1, keepdims=True), y)

    return means


def likeliest(P: FloatArray, y: FloatArray) -> FloatArray:
    """Each sample in its likeliest group."""
    return shipped(np.eye(P.shape[1])[P.argmax(1)] * 0.999 + 0.001 / P.shape[1], y)


def by_size(P: FloatArray, y: FloatArray) -> FloatArray:
    """Divided by an even share of the people instead of the group's mass."""
    return np.asarray(P.T @ y * P.shape[1] / len(y))


def proxy(rng: Generator) -> tuple[FloatArray, FloatArray]:
    """P (n, K) and scores (n,) that go with it."""
    n, groups = int(rng.integers(5, 120)), int(rng.integers(2, 6))
    P = rng.dirichlet(np.full(groups, rng.choice([0.2, 1.0, 5.0])), n)
    if rng.random() < 0.3:
        known = rng.random(n) < 0.5
        P[known] = np.eye(groups)[P[known].argmax(1)]
    return P, np.clip(rng.random(n) * 0.5 + 0.5 * P[:, 0], 0, 1)


def check_calibrated(rng: Generator, means: Means) -> Measurement:
    """sum_i P_ig (y_i - s_g), its mean over 400 draws of the groups, and how often m_g is farther from s_g than the bound."""
    P, y = proxy(rng)
    s = means(P, y)
    groups = (rng.random((DRAWS, len(y), 1)) < P.cumsum(1)[None, :, :-1]).sum(2)  # (DRAWS, n)
    groups = P.shape[1] - 1 - groups
    found = []
    for g in range(P.shape[1]):
        found.append(Measurement(abs(float(P[:, g] @ (y - s[g]))), 0.0, 1e-9, note="expectation, exactly"))
        inside = groups == g
        drift = (inside * (y - s[g])).sum(1)
        uncertain = (P[:, g] > 0) & (P[:, g] < 1)
        total = float(((y - s[g]) ** 2)[uncertain].sum())
        off = abs(float(drift.mean())) - 1e-12 * len(y)
        found.append(Measurement(off, sqrt(RARE * max(total, 1e-30) / (2 * DRAWS)), note="expectation, drawn"))
        delta = float(rng.choice([0.05, 0.3]))
        share = float((np.abs(drift) > sqrt(log(2 / delta) / 2 * total) + 1e-12 * len(y)).mean())
        found.append(Measurement(share, delta + sqrt(RARE / (2 * DRAWS)), note="tails"))
    return worst(*found)


def check_any(rng: Generator, means: Means) -> Measurement:
    """The bound on random scores, on the worst ones, and on those of a layer."""
    P, y = proxy(rng)
    n, K = P.shape
    actual = np.concatenate([np.arange(K), rng.integers(0, K, n - K)])
    lo, hi = 0.0, 1.0
    onto = np.eye(K)[actual]
    weight = onto / onto.sum(0) - P / P.sum(0)  # (n, K)
    T = 0.5 * np.abs(weight).sum(0)
    g = int(rng.integers(K))
    bad = np.where(weight[:, g] > 0, hi, lo)
    found = []
    for scores in (y, bad):
        off = np.abs(onto.T @ scores / onto.sum(0) - means(P, scores))
        found += [Measurement(float(off[k]), (hi - lo) * float(T[k]), 1e-9, note="one group") for k in range(K)]
    eps = float(rng.uniform(0, 0.2))
    how: Any = {"sensitive_features": {"g": fo.Soft(P, range(K))}, "bounds": (lo, hi)}
    sent = fo.project(torch.from_numpy(y), fo.DemographicParity("g", tolerance=eps), **how).numpy()
    m = onto.T @ sent / onto.sum(0)
    order = np.argsort(m)
    bound = eps + (hi - lo) * float(T[order[0]] + T[order[-1]])
    found.append(Measurement(float(m[order[-1]] - m[order[0]]), bound, 1e-9, note="two groups of a layer"))
    return worst(*found)


CLAIMS = (
    Claim(
        "Q4",
        "a calibrated proxy: the soft mean is the mean that is to be expected",
        "bound",
        "ours",
        Q4,
        Q4_PROOF,
        check_calibrated,
        shipped,
        {"the likeliest group": likeliest, "an even share for the mass": by_size},
        loose="The bounds are on the sampling error of 400 draws, and on tails, which a bound by ranges overstates.",
        deviations={"probabilities sharpened": sharpened},
    ),
    Claim(
        "Q5",
        "any proxy: the gap of people is within the total variation",
        "bound",
        "ours",
        Q5,
        Q5_PROOF,
        check_any,
        shipped,
        {"the likeliest group": likeliest, "an even share for the mass": by_size},
        deviations={"probabilities sharpened": sharpened},
        tight=lambda means: check_any(np.random.default_rng(0), means),
    ),
)
