"""P1: the explicit pooled rule (Theorem A), and P5's delay: why the implicit rule is the one that fairopt ships."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import sqrt

import numpy as np

from proofs_checks.claim import Claim, Generator, Measurement, worst
from proofs_checks.streams import KAPPAS, FloatArray, IntArray, Totals, drawn

STATEMENT = """
Two groups, scores clipped into the box of width R first. Price `q_t = kappa sqrt(N_t) sign(D) (|D_{t-1}| - eps)_+`, shifts q /
share, N_t and the shares after the batch. For every stream, every batch size and every t with both groups present: `|D_t| <= eps +
pi_t R / (kappa sqrt N_t) + max_{s <= t} (N_s / N_t) J_s`, `J_s = min(R, R sum_g n_{s,g} / N_{s,g})`, pi_t the larger running share.
Without clipping, or without the last term, it is false. The rule is not shipped: P2's needs no last term.
"""
PROOF = """
Let theta_t be the first two terms. If |D_{t-1}| <= theta_t the batch moves D by at most J_t. Else every shift exceeds R, all
samples sit at the bounds that shrink D: `N_t |D_t| <= N_{t-1} |D_{t-1}|`, or the sign flips and |D_t| <= J_t. Induct on N_t |D_t|;
for pi_t: an arrival in the smaller group contracts by N_1/(N_1+1) <= (N/(N+1))^{3/2}.
"""


@dataclass
class Explicit:
    """The explicit rule on two groups. ``late``: the state that it sees is this many samples old."""

    eps: float
    kappa: float
    late: int = 0
    clips: bool = True
    sign: float = 1.0
    totals: Totals = field(default_factory=lambda: Totals(2))
    waiting: list[tuple[IntArray, FloatArray]] = field(default_factory=list)

    def seen(self) -> Totals:
        """What has reached the rule."""
        view = Totals(2)
        view.counts, view.sums = self.totals.counts.copy(), self.totals.sums.copy()
        for codes, y in self.waiting:
            view.counts -= np.bincount(codes, minlength=2)
            view.sums -= np.bincount(codes, weights=y, minlength=2)
        return view

    def step(self, z: FloatArray, codes: IntArray) -> FloatArray:
        z = np.clip(z, 0, 1) if self.clips else z
        view = self.seen()
        after = self.totals.counts + np.bincount(codes, minlength=2)
        y = z
        if (view.counts > 0.5).all() and (after > 0).all():
            d = view.sums[0] / view.counts[0] - view.sums[1] / view.counts[1]
            q = self.sign * self.kappa * sqrt(after.sum()) * np.sign(d) * max(0.0, abs(d) - self.eps)
            y = z - np.where(codes == 0, q, -q) * after.sum() / after[codes]
        y = np.clip(y, 0, 1)
        self.totals.add(codes, y)
        self.waiting.append((codes, y))
        while self.waiting and sum(len(c) for c, _ in self.waiting) > self.late:
            self.waiting.pop(0)
        return y


@dataclass(frozen=True)
class Rule:
    """What ``Explicit`` is made with; mutants change it."""

    factor: float = 1.0
    sign: float = 1.0
    overshoot: bool = True

    def run(self, rng: Generator, late: int = 0) -> Measurement:
        return self.follow(drawn(rng, (2,)), float(rng.choice([0.0, 0.05, 0.3])), float(rng.choice(KAPPAS)), late)

    def follow(self, stream: Iterable[tuple[FloatArray, list[IntArray]]], eps: float, kappa: float, late: int = 0) -> Measurement:
        """The gap against the bound after every batch."""
        rule = Explicit(eps, kappa * self.factor, late=late, sign=self.sign)
        carried, found = 0.0, [Measurement(0.0, 1.0)]
        for z, (codes,) in stream:
            unseen = rule.totals.counts - rule.seen().counts
            expected = None if late else stated(rule.totals, z, codes, eps, kappa)
            y = rule.step(z, codes)
            counts = rule.totals.counts
            if expected is not None:
                found.append(Measurement(float(np.abs(y - expected).max()), 0.0, 1e-9, note="the rule of the claim"))
            if (counts == 0).any():
                continue
            arrived = np.bincount(codes, minlength=2)
            jump = min(1.0, float((arrived / counts).sum())) + (min(1.0, float((unseen / counts).sum())) if late else 0.0)
            carried = max(carried, counts.sum() * jump)
            total = float(counts.sum())
            bound = eps + float(counts.max()) / total / (kappa * sqrt(total)) + (carried / total if self.overshoot else 0.0)
            found.append(Measurement(rule.totals.gap, bound, 1e-9))
        return worst(*found)


def stated(before: Totals, z: FloatArray, codes: IntArray, eps: float, kappa: float) -> FloatArray:
    """The answer in the words of the statement, from counts and sums before the batch."""
    z = np.clip(z, 0, 1)
    if (before.counts == 0).any():
        return z
    after = before.counts + np.bincount(codes, minlength=2)
    d = float(before.means[0] - before.means[1])
    price = kappa * sqrt(after.sum()) * (max(0.0, d - eps) - max(0.0, -d - eps))
    share = after / after.sum()
    return np.asarray(np.clip(np.where(codes == 0, z - price / share[0], z + price / share[1]), 0, 1))


def check(rng: Generator, rule: Rule) -> Measurement:
    return rule.run(rng)


CLAIMS = (
    Claim(
        "P1",
        "the explicit pooled rule (Theorem A)",
        "bound",
        "ours",
        STATEMENT,
        PROOF,
        check,
        Rule(),
        {"wrong sign": Rule(sign=-1.0), "without the overshoot term": Rule(overshoot=False)},
        deviations={"gain smaller": lambda size: Rule(factor=1.0 - size)},
    ),
)
