"""S1-S5: the paper's streaming rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np

from fairopt.streaming import PooledParity, PrimalDual, parity
from fairopt.streaming.step_solver import Touch
from fairopt.testing.claims.formulas import price_step
from proofs_checks.claim import Claim, Exact, Generator, Measurement, worst
from proofs_checks.claims.b3_simpson import partly_pooled
from proofs_checks.solver import number, proved, reals, where
from proofs_checks.streams import FloatArray, IntArray, drawn

RULE = """
Batch t of n_t samples, scores in a box of width R: `y_t = argmin ||y - z_t||^2 + p_t n_t gap_t(y)`, `p_{t+1} = max(0, p_t + eta_t
G_t)`, `G_t = n_t (gap_t(y_t) - eps)`, eta_t = eta_0 / sqrt(t), p_1 = 0; batches with n_t >= b_tau take the hard layer and change
neither p nor t; a batch where a group is absent has gap 0.
"""
S1 = (
    RULE
    + """
For every stream and every T: `sum_{t <= T} G_t <= p_{T+1} / eta_T`. (It says nothing of the batches whose gap is counted as 0.)
"""
)
S1_PROOF = """
`p_{t+1} >= p_t + eta_t G_t`, so `G_t <= (p_{t+1} - p_t) / eta_t`. Summing by parts, `sum G_t <= p_{T+1}/eta_T - p_1/eta_1 -
sum_{t=2}^{T} p_t (1/eta_t - 1/eta_{t-1})`, and the last sum is >= 0 as eta does not increase and p >= 0.
"""
S2 = (
    RULE
    + """
One attribute of K >= 2 groups: `gap_t(y_t) <= (R - 2 p_t)_+`, so `p_t <= (R - eps) max(1/2, eta_0 n_max)`, reached. Several
attributes: `gap_t <= R^2 / (4 p_t)`, so `p_t <= R^2/(4 eps) + eta_0 n_max (R - eps)`; and k attributes of two groups each: the gap is 0
from the price C_k R on, so `p_t <= C_k R + eta_0 n_max (R - eps)`, free of eps, with `C_k <= D_k / 2`, D_k = max ||A^-1 s||_1 over
invertible 0/1 matrices A and 0/1 vectors s of size k: D_1 ... D_6 = 1, 2, 4, 8, 16, 33; C_1 ... C_5 = 1/2, 1, 2, 4, 8 exactly, 16.42 <=
C_6 <= 16.5 (N6). For any numbers of groups the threshold is finite. Without the box all of this is false.
"""
)
S2_PROOF = """
While the gap is open, the top groups (tied ones taken together, share a) carry the price p n / 2 downwards and the bottom ones (share b)
upwards, so their shifts sum to s_top + s_bot = (p/2)(1/a + 1/b) >= 2p, because a + b <= 1. Scores start inside the box, so the top mean
is at most ub - s_top and the bottom one at least lb + s_bot: gap <= R - 2p. Hence the price does not rise from p >= (R - eps)/2, and from
below one step leads to at most p + eta_0 n_max (R - eps - 2p), which is linear in p: its largest value on [0, (R - eps)/2] is at an end,
eta_0 n_max (R - eps) or (R - eps)/2. Several attributes: any constant c has gap 0 and costs at most n R^2/4, so `p n gap <= n R^2 / 4`.
The thresholds C_k: N6. For any numbers of groups the same argument applies to the group shifts (their sign pattern is fixed by which group
is at the top and which at the bottom): a polytope, so the threshold is finite.
"""
S3 = (
    RULE
    + """
One attribute: the sample-weighted mean of the gaps of the soft batches is at most `eps + (R - eps) max(1/(2 eta_0), n_max) sqrt(T)
/ N_T`.
"""
)
S3_PROOF = "S1 divided by N_T = sum n_t, with S2's bound on p_{T+1} and 1/eta_T = sqrt(T)/eta_0."
S4 = (
    RULE
    + """
For every comparator y* that is feasible in every batch, with P the bound of S2: `sum_t ||y_t - z_t||^2 - ||y*_t - z_t||^2 + sum_t
||y_t - y*_t||^2 <= P^2 / (2 eta_T) + 1/2 sum_t eta_t G_t^2 = O(sqrt T)`.
"""
)
S4_PROOF = """
y_t minimises the 2-strongly convex f_t + p_t n_t gap_t, so `f_t(y_t) + p_t G_t + ||y_t - y*_t||^2 <= f_t(y*_t) + p_t G_t(y*_t) <=
f_t(y*_t)`. The drift `p_{t+1}^2 <= p_t^2 + 2 eta_t p_t G_t + eta_t^2 G_t^2` gives `-p_t G_t <= (p_t^2 - p_{t+1}^2)/(2 eta_t) +
eta_t G_t^2 / 2`; sum by parts with p_t <= P.
"""
S5 = """
S1-S4 bound quantities of the batches; nothing follows for the pooled gap. Two halves of a stream with gap 0 each (Simpson): the
rule sends every score as it came, its own quantity is 0, and the pooled gap is 1 - 2d.
"""
S5_PROOF = "B3 and B4: gap_t = 0 in every batch, so p stays 0 and y_t = z_t."


@dataclass
class Log:
    """The soft batches: n, gap, price before, after, y, clipped z, codes; and the constants."""

    n: list[int]
    gap: list[float]
    before: list[float]
    after: list[float]
    y: list[FloatArray]
    z: list[FloatArray]
    codes: list[IntArray]
    eta_0: float
    eps: float

    @property
    def top(self) -> float:
        return (1 - self.eps) * max(0.5, self.eta_0 * max(self.n))

    def eta(self, t: int) -> float:
        return self.eta_0 / sqrt(t)


Make = Callable[..., PrimalDual]


def run(rng: Generator, make: Make) -> Log:
    eta_0, eps = float(rng.choice([0.01, 0.1, 0.5, 3.0])), float(rng.choice([0.01, 0.05, 0.3]))
    groups = int(rng.integers(2, 5))
    return feed(make(parity("g", tolerance=eps), bounds=(0, 1), eta_0=eta_0, b_tau=64), drawn(rng, (groups,)), eta_0, eps)


def run_with_comparator(rng: Generator, make: Make) -> tuple[Log, list[FloatArray]]:
    """A run, and the nearest scores with gap <= eps of each soft batch: the rule itself with the hard layer from one sample on."""
    eta_0, eps = float(rng.choice([0.01, 0.1, 0.5, 3.0])), float(rng.choice([0.01, 0.05, 0.3]))
    return against_nearest(make, list(drawn(rng, (int(rng.integers(2, 5)),))), eta_0, eps)


def against_nearest(make: Make, stream: list[tuple[FloatArray, list[IntArray]]], eta_0: float, eps: float) -> tuple[Log, list[FloatArray]]:
    log = feed(make(parity("g", tolerance=eps), bounds=(0, 1), eta_0=eta_0, b_tau=64), stream, eta_0, eps)
    hard = PrimalDual(parity("g", tolerance=eps), bounds=(0, 1), b_tau=1)
    return log, [np.asarray(hard.step(z, sensitive_features=codes).scores) for z, (codes,) in stream if len(z) < 64]


def feed(controller: PrimalDual, stream: object, eta_0: float, eps: float) -> Log:
    log = Log([], [], [], [], [], [], [], eta_0, eps)
    for z, (codes,) in stream:  # type: ignore[attr-defined]
        before = controller.price
        y = np.asarray(controller.step(z, sensitive_features=codes).scores)
        if len(z) >= 64:
            if controller.price != before:
                raise AssertionError("a hard batch changed the price")
            continue
        means = [float(y[codes == g].mean()) for g in np.unique(codes)]
        log.n.append(len(z))
        log.gap.append(max(means) - min(means))
        log.before.append(before)
        log.after.append(controller.price)
        log.y.append(y)
        log.z.append(np.clip(z, 0, 1))
        log.codes.append(codes)
    return log


def check_s1(rng: Generator, make: Make) -> Measurement:
    """S1 after every batch; and the price update equal to the formula that z3 proves."""
    log = run(rng, make)
    total, found = 0.0, [Measurement(0.0, 1.0)]
    for t, (n, gap, before, after) in enumerate(zip(log.n, log.gap, log.before, log.after, strict=True), start=1):
        total += n * (gap - log.eps)
        found.append(Measurement(total, after / log.eta(t), 1e-9 * t * n, note=f"after batch {t}"))
        same = abs(price_step(before, log.eta(t), n, gap, log.eps) - after)
        found.append(Measurement(same, 0.0, 1e-9 * (1 + log.eta_0 * n), note="equals the formula"))
    return worst(*found)


def check_several(rng: Generator, make: Make) -> Measurement:
    """Two or three attributes of two groups: gap <= R^2/(4 p), and both price bounds; batches below 12 samples."""
    k = int(rng.integers(2, 4))
    eta_0, eps = float(rng.choice([0.1, 0.5, 3.0])), float(rng.choice([0.05, 0.3]))
    names = [f"a{j}" for j in range(k)]
    controller = make([parity(name, tolerance=eps) for name in names], bounds=(0, 1), eta_0=eta_0, b_tau=64)
    found, largest = [Measurement(0.0, 1.0)], 0
    for _ in range(int(rng.integers(2, 8))):
        n = int(rng.integers(2, 12))
        codes = [rng.integers(0, 2, n) for _ in names]
        z = rng.choice([rng.random(n), codes[0] * 1.0, (codes[0] ^ codes[1]) * 1.0])
        price = controller.price
        y = np.asarray(controller.step(z, sensitive_features=dict(zip(names, codes, strict=True))).scores)
        largest = max(largest, n)
        gap = max((abs(float(y[c == 0].mean() - y[c == 1].mean())) for c in codes if 0 < c.sum() < n), default=0.0)
        found.append(Measurement(gap * 4 * price, 1.0, 1e-6, note="gap at a price, several attributes"))
        room = eta_0 * largest * (1 - eps)
        found.append(Measurement(controller.price, min(1 / (4 * eps), (1.0, 2.0)[k - 2]) + room, 1e-6, note="price, several attributes"))
    return worst(*found)


def check_s2(rng: Generator, make: Make) -> Measurement:
    """The gap that a price leaves, and the price: one attribute of any number of groups, and several of two groups."""
    if rng.uniform() < 0.2:
        return check_several(rng, make)
    log = run(rng, make)
    found = [Measurement(0.0, 1.0)]
    for gap, before, after in zip(log.gap, log.before, log.after, strict=True):
        found += [Measurement(gap, max(0.0, 1 - 2 * before), 1e-9, note="gap at a price"), Measurement(after, log.top, 1e-9, note="price")]
    return worst(*found)


def check_s3(rng: Generator, make: Make) -> Measurement:
    return s3(run(rng, make))


def s3(log: Log) -> Measurement:
    if not log.n:
        return Measurement(0.0, 1.0)
    N, T = sum(log.n), len(log.n)
    mean = sum(n * g for n, g in zip(log.n, log.gap, strict=True)) / N
    return Measurement(mean, log.eps + (1 - log.eps) * max(1 / (2 * log.eta_0), max(log.n)) * sqrt(T) / N, 1e-9)


def check_s4(rng: Generator, make: Make) -> Measurement:
    """Against the nearest feasible scores of each batch (the hard layer), and against its mean."""
    return s4(*run_with_comparator(rng, make))


def s4(log: Log, nearest: list[FloatArray]) -> Measurement:
    if not log.n:
        return Measurement(0.0, 1.0)
    regret = squares = 0.0
    found = []
    for t, (n, gap, y, z, c, fair) in enumerate(zip(log.n, log.gap, log.y, log.z, log.codes, nearest, strict=True), start=1):
        other = fair if t % 5 or t == 5 else np.full(n, z.mean())
        regret += float(((y - z) ** 2).sum() - ((other - z) ** 2).sum() + ((y - other) ** 2).sum())
        squares += log.eta(t) * (n * (gap - log.eps)) ** 2
        theirs = float(np.ptp([other[c == g].mean() for g in np.unique(c)]))
        price = log.before[t - 1]
        left = float(((y - z) ** 2).sum() + ((y - other) ** 2).sum()) + price * n * gap
        found.append(
            Measurement(left, float(((other - z) ** 2).sum()) + price * n * theirs, 1e-7 * n, note="y_t is least, by three points")
        )
        found.append(Measurement(regret, log.top**2 / (2 * log.eta(t)) + squares / 2, 1e-9 * t))
    return worst(*found)


def check_s5(rng: Generator, make: Make) -> Measurement:
    """Two runs of batches, gap 0 within each batch, drifting composition: own quantity 0, pooled gap 1 - 2d."""
    size, few, count = int(rng.integers(4, 40)), 1, int(rng.integers(1, 6))
    eps = 0.05
    controller = make(parity("g", tolerance=eps), bounds=(0, 1))
    step = None
    for half in (0, 1):
        codes: IntArray = np.repeat([half, 1 - half], (size - few, few))
        for _ in range(count):
            step = controller.step(np.full(size, 1.0 - half), sensitive_features=codes)
    assert step is not None
    pooled = step.pooled_gaps["DemographicParity(g)"]
    assert pooled is not None
    own = float(controller.report().extra.get("batch_gap", 0.0))
    return worst(Measurement(own, 0.0, 1e-12, note="own quantity"), Measurement(1 - 2 * few / size, pooled, 1e-9, note="pooled gap"))


class StepHalved(PrimalDual):
    """Takes half of each price step."""

    factor = 0.5

    def _answer(self, z: FloatArray, touches: object) -> FloatArray:
        before = self.price
        y = super()._answer(z, touches)  # type: ignore[arg-type]
        self.price = before + self.factor * (self.price - before)
        return y


def step_shorter(size: float) -> Make:
    """Each price step shorter by ``size``."""
    return type("StepShorter", (StepHalved,), {"factor": 1.0 - size})


class PriceOff(PrimalDual):
    """Answers at a price that is too low by the part ``size``; moves the price as it should."""

    size = 0.0

    def _answer(self, z: FloatArray, touches: object) -> FloatArray:
        if len(z) >= self.b_tau:
            return super()._answer(z, touches)  # type: ignore[arg-type]
        price = self.price
        self.price = price * (1.0 - self.size)
        y = super()._answer(z, touches)  # type: ignore[arg-type]
        gap = self._gap_sum - self._before
        self._before = self._gap_sum
        self.price = max(0.0, price + self.eta_0 / sqrt(self.soft_steps) * (gap - len(z) * self.tolerance))
        return y

    _before = 0.0


def price_lower(size: float) -> Make:
    return type("PriceLower", (PriceOff,), {"size": size})


def price_higher(size: float) -> Make:
    return type("PriceHigher", (PriceOff,), {"size": -size})


class PriceUnused(PrimalDual):
    """Sends the scores as they are, whatever the price."""

    def _answer(self, z: FloatArray, touches: object) -> FloatArray:
        price, self.price = self.price, 0.0
        y = super()._answer(z, touches)  # type: ignore[arg-type]
        gap = 0.0 if len(z) >= self.b_tau else self.eta_0 / sqrt(self.soft_steps) * len(z) * (self._last(z, touches) - self.tolerance)
        self.price = max(0.0, price + gap)
        return y

    @staticmethod
    def _last(y: FloatArray, touches: object) -> float:
        touch = next(t for t in touches if isinstance(t, Touch))  # type: ignore[attr-defined]
        means = [float(y[touch.where[touch.codes == g]].mean()) for g in np.unique(touch.codes)]
        return max(means) - min(means)


class SendsLowest(PrimalDual):
    """Fair and dear: a soft batch gets the lower bound."""

    def _answer(self, z: FloatArray, touches: object) -> FloatArray:
        y = super()._answer(z, touches)  # type: ignore[arg-type]
        return y if len(z) >= self.b_tau else np.full(len(z), self.lb)


def s2_tight(make: Make) -> Measurement:
    """One large first batch with opposed groups: the price jumps to eta_0 n (R - eps). With eta_0 = .01 the next gap is R - 2p."""
    codes = np.repeat([0, 1], 20)
    batch = (codes.astype(float), [codes])
    log = feed(make(parity("g", tolerance=0.05), bounds=(0, 1), eta_0=0.5, b_tau=64), [batch], 0.5, 0.05)
    slow = feed(make(parity("g", tolerance=0.05), bounds=(0, 1), eta_0=0.01, b_tau=64), [batch] * 2, 0.01, 0.05)
    return worst(
        Measurement(log.after[0], log.top, 1e-9),
        Measurement(slow.gap[1], 1 - 2 * slow.before[1], 1e-9, note="gap at a price"),
        Measurement(abs(slow.before[1] - 0.38), 0.0, 1e-9, note="the price after one batch"),
    )


def s3_tight(make: Make) -> Measurement:
    """One opposed batch reaches the bound; after two, the price of the first is in the gap of the second."""
    controller = make(parity("g", tolerance=0.05), bounds=(0, 1), eta_0=0.5, b_tau=64)
    codes = np.array([0, 1])
    first = s3(feed(controller, [(codes.astype(float), [codes])], 0.5, 0.05))
    wide = np.repeat([0, 1], 20)
    log = feed(make(parity("g", tolerance=0.05), bounds=(0, 1), eta_0=0.01, b_tau=64), [(wide.astype(float), [wide])] * 2, 0.01, 0.05)
    return worst(first, Measurement(abs(float(np.mean(log.gap)) - (1 + 1 - 0.76) / 2), 0.0, 1e-9, note="mean gap of two opposed batches"))


def s4_tight(make: Make) -> Measurement:
    """Found by search: two batches of one opposed sample a group, eps = .6: the price jumps above what the second batch needs."""
    codes = np.array([0, 1])
    return s4(*against_nearest(make, [(codes.astype(float), [codes])] * 2, 0.62, 0.6))


def prove_s1(broken: bool) -> bool:
    """T = 3, all real G_t (so all gaps and sizes) and steps 1, 7/10, 1/2 (broken: increasing steps)."""
    g = reals("g1", "g2", "g3")
    etas = [number(1), number(7, 10), number(1, 2)] if not broken else [number(1, 2), number(7, 10), number(1)]
    p = number(0)
    for eta, x in zip(etas, g, strict=True):
        p = price_step(p, eta, number(1), x, number(0), where)
    return proved(sum(g) * etas[-1] <= p)


CLAIMS = (
    Claim(
        "S1",
        "the paper's rule: sum of excess <= last price / step",
        "bound",
        "paper",
        S1,
        S1_PROOF,
        check_s1,
        PrimalDual,
        {"half steps": StepHalved},
        deviations={"price steps shorter": step_shorter},
        exact=Exact("T = 3, all real G_1, G_2, G_3, decreasing steps", prove_s1),
    ),
    Claim(
        "S2",
        "the paper's rule: the price is bounded",
        "bound",
        "ours",
        S2,
        S2_PROOF,
        check_s2,
        PrimalDual,
        {"price unused": PriceUnused, "half steps": StepHalved},
        tight=s2_tight,
        deviations={"price lower than asked": price_lower, "price steps shorter": step_shorter},
        open="C_6, which lies between 16.42 and 16.5, and whether C_k = D_k / 2 in general.",
    ),
    Claim(
        "S3",
        "the paper's rule: mean batch gap",
        "bound",
        "paper",
        S3,
        S3_PROOF,
        check_s3,
        PrimalDual,
        {"price unused": PriceUnused, "half steps": StepHalved},
        tight=s3_tight,
        deviations={"price lower than asked": price_lower, "price steps shorter": step_shorter},
    ),
    Claim(
        "S4",
        "the paper's rule: regret",
        "bound",
        "paper",
        S4,
        S4_PROOF,
        check_s4,
        PrimalDual,
        {"sends the lowest score": SendsLowest, "price unused": PriceUnused},
        tight=s4_tight,
        deviations={"price lower than asked": price_lower, "price higher than asked": price_higher},
    ),
    Claim(
        "S5",
        "the paper's rule says nothing of the pooled gap",
        "counterexample",
        "ours",
        S5,
        S5_PROOF,
        check_s5,
        PrimalDual,
        {"pooled rule": PooledParity},
        deviations={"a part of the pooled rule's answer": partly_pooled},
        instances=200,
    ),
)
