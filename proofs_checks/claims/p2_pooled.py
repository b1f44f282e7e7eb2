"""P2, P4 and P7: the pooled rule that fairopt ships (Theorems B, C, D), and its forecast."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np

from fairopt.streaming import PooledParity, parity
from fairopt.testing.adversary import Structure, batches
from fairopt.testing.claims.closed import window
from proofs_checks.claim import Claim, Generator, Measurement, worst
from proofs_checks.streams import KAPPAS, FloatArray, IntArray, Totals, drawn

P2 = """
Two groups, scores clipped into the box of width R: `y_t = argmin 1/2 ||y - z||^2 + (kappa N_t^{3/2} / 2) (|D_t(y)| - eps)_+^2`, D_t
and N_t after the batch. For every stream, any batch sizes, any drift, from the first moment both groups exist: `|D_t| <= eps + pi_t
R / (kappa sqrt N_t)`, pi_t the larger running share. No burn-in, no assumption on shares, no overshoot.
"""
P2_PROOF = """
The price is p = kappa N^{3/2} v with v = (|D_t| - eps)_+, and group g is shifted by p / N_g = kappa sqrt(N) v / pi_g. If |D_t|
exceeds the bound theta_t, every shift exceeds R, so the whole batch sits at the bounds that shrink D, say group 0 at lb, group 1 at ub.
With `x = M_0 - lb`, `w = ub - M_1` before the batch and a = N_0/N_0', b = N_1/N_1' the shares of the old counts in the new ones, `D = x +
w - R` becomes `a x + b w - R <= a b (x + w - R)`, since `a b (x + w - R) - (a x + b w - R) = a (1 - b) (R - x) + b (1 - a) (R - w) + R (1
- a) (1 - b) >= 0`. (A group that is new and at its bound would give D <= 0.) So D falls by the factor a b at least. The bound falls no
faster: theta - eps is R/kappa times `max(N_0, N_1) / N^{3/2}`, and one arrival in group g multiplies this by
at least N_g/(N_g + 1). For the larger group the factor is `((N_g + 1)/N_g) (N/(N + 1))^{3/2}`, and ((N_g + 1)/N_g)^2 >= ((N +
1)/N)^{3/2} as N_g <= N; for the smaller one it is `(N/(N + 1))^{3/2} >= N_g/(N_g + 1)`, as 2 N_g + 1 <= N. (N_t theta_t itself need not
rise: counts (10, 2) -> (10, 3) at eps = 0, kappa = R = 1 give .2133 < (12/13) .2406 = .2221.) So theta is never
exceeded.
"""
P4 = """
(C) One attribute of K groups, potential kappa N_t^{3/2} times the squared unweighted distance of the K means to {max - min <= eps}:
`D_t <= max(eps + K R / (2 kappa sqrt N_t), D_{t-1})` for every stream and batch size (at K = 2 this potential is P2's). With the
range row itself as the potential it fails: runs of tied extreme groups are never pushed. For K >= 3 no any-time bound in N alone
exists: a gap between two groups that no longer arrive stays.

(C, groups that come again) X_t = D_t - eps, h_t = R/(2 kappa sqrt N_t). If N growing by the factor 1 + d makes each group grow by at least
1 + c d, with c' = c d/(1 + c d), K c' < 1 and A = K/(1 - K c'): for N_t = (1 + d) N_s, `X_t <= max(A h_s, X_s/(1 + 2c'))`. With 1 + 2c' >=
sqrt(1 + d), which c > 1/4 gives for small d, `X_t <= (1 + d) A h_t + O(X_0 (N_0/N_t)^{1/2})`: the rate N^{-1/2}. Shares bounded below do
*not* give it: K = 3, eps = 0, blocks of one group at a time with the mean of the two others as scores, each block multiplying the group's
count by lambda: the gap halves a block, N grows like lambda^{1/3} a block, so the gap falls like N^{-3 ln 2/ln lambda}, slower than
N^{-1/2} for lambda > 64, although each group always has a share of about 1/lambda. For iid arrivals, whatever the scores:
`limsup X_t kappa sqrt(N_t) / R <= K/2` with probability 1.

(D) Several attributes of one population, potential `gamma_t/2 Psi_t`,
Psi = sum over attributes of min over {range <= eps} of sum_g N_g (M_g - T_g)^2: for all pairs of all attributes `|M_a - M_b| <= eps
+ sqrt((1/N_a + 1/N_b) sum_{s<=t} n_s R^2 / (2 gamma_s))`; fairopt takes gamma_s = 4 kappa sqrt N_s.
"""
P4_PROOF = """
(C) Let r_g be the residuals of the means to the optimal window, h = R/(2 kappa sqrt N), r_top and r_bot the largest above and
below: D - eps = r_top + r_bot. At the optimal window the residuals above and below have the same sum S. If r_bot <= h, then r_top
<= S <= (K - 1) h, so D - eps <= K h; the same if r_top <= h. Else both exceed h, and the shift 2 kappa N^{3/2} r_g / N_g of the top
and of the bottom group exceeds R: their arrivals sit at the bounds, the top mean has not risen, the bottom one has not fallen
(neither is new), so D_t <= D_{t-1}.

(Groups that come again) While X > K h both end groups are pushed to the bounds on the other side, so the top mean T falls and the
bottom mean B rises. Look at group g over (s, t], its residual above being r. If all its arrivals were pushed down, its distance to lb
falls by the factor 1/(1 + c d). Else at its last other arrival r_g <= h pi_g, so its mean is at most T minus the top's residual plus h:
at most T_s - X_t/K + h_s, as the top's residual is at least X/K. So T_t <= T_s - min(X_t/K - h_s, c' X_t), B likewise from below, and
the two give the claim. In the blocks of the counterexample the arrivals lie between the two others' means, so they are never pushed;
the one group's mean moves to the middle, and the largest distance of three means halves. iid: N_{t,g}/N_t tends to a positive share, so
for every d > 0 and c < 1 the condition holds from some sample on. Put rho = sqrt(1 + d)/(1 + 2c'), below 1 for c near 1 and d small:
along N = (1 + d)^k (whole numbers aside) `sqrt(N) X <= max(sqrt(1 + d) A R/(2 kappa), rho sqrt(N_before) X_before)`, so limsup sqrt(N) X
is at most sqrt(1 + d) A R/(2 kappa), from every start; A tends to K as d, and with it c', tends to 0.

(D) The neutral reply c (the overall mean, N2) has Psi_t(c) <= Psi_{t-1}; first-order optimality gives `Psi_t(y) - Psi_t(c) <=
(2/gamma) sum (y - z)(c - y) <= n R^2/(2 gamma)`. Sum up. A pair that is v beyond eps costs at least v^2 / (1/N_a + 1/N_b). (D is
not tight: its proof lets every sample spend R^2/4 in the same direction.)
"""
Make = Callable[..., PooledParity]


P7 = """
Anything known from the past may be taken off the scores before the rule's step: if the scores z_t - s_t(past), clipped into the box, go
through the rule of P2 (or P4 C, or limits on means), its bound holds as it stands. `PooledParity(predict=True)` takes off the shifts that
its forecast expects. The gap beyond the tolerance is then that of the prediction's error: where no score is clipped and the right price
is q*, a forecast of q^ leaves `D - eps ~ (q* - q^)_+ / (kappa sqrt N)` in place of q* (P3).
"""
P7_PROOF = """
P2 holds on *every* stream of scores in the box, so also on the stream z'_t = clip(z_t - s_t): nothing in it asks that z' be what came. The
second half is P3's heuristic for the stream z', whose raw gap is smaller by what the forecast took off.
"""


def plain(notion: object, *, bounds: object, kappa: float) -> PooledParity:
    """The rule without its forecast."""
    return PooledParity(notion, bounds=bounds, kappa=kappa, predict=False)


def forecasting(notion: object, *, bounds: object, kappa: float) -> PooledParity:
    """The rule with its forecast."""
    return PooledParity(notion, bounds=bounds, kappa=kappa, predict=True)


def weaker(factor: float, predict: bool = False) -> Make:
    """A controller whose gain is too small by ``factor``."""

    def make(notion: object, *, bounds: object, kappa: float) -> PooledParity:
        return PooledParity(notion, bounds=bounds, kappa=kappa * factor, predict=predict)

    return make


def off_by(size: float) -> Make:
    """The gain too small by ``size``."""
    return weaker(1.0 - size)


def stronger(size: float) -> Make:
    return weaker(1.0 + size)


class Unbalanced(PooledParity):
    """What the forecast took off is put back in part after the step, so that the answer is no longer the rule's on the shifted scores."""

    size = 0.1

    def __init__(self, notion: object, *, bounds: object, kappa: float) -> None:
        super().__init__(notion, bounds=bounds, kappa=kappa, predict=True)

    def _answer(self, z: FloatArray, touches: Any) -> FloatArray:
        y = super()._answer(z, touches)
        for touch in touches:
            if touch.component.forecast is not None:
                shifts = np.asarray(touch.component.forecast.shifts)
                back = self.size * shifts[touch.codes[: len(touch.where)]] if shifts.size else 0.0
                y = y.copy()
                y[touch.where] = np.clip(y[touch.where] + back, self._low, self._high)
        return y


def put_back(size: float) -> Make:
    return type("Unbalanced", (Unbalanced,), {"size": size})


def of_attributes(several: bool, change: Callable[[float], Make]) -> Callable[[float], Make]:
    """``change`` where the notion has several attributes (or one); the rule as it is else."""

    def altered(size: float) -> Make:
        def make(notion: object, *, bounds: object, kappa: float) -> PooledParity:
            return (change(size) if isinstance(notion, list) == several else plain)(notion, bounds=bounds, kappa=kappa)

        return make

    return altered


class GainOfStart(PooledParity):
    """A gain that does not grow with sqrt N."""

    def __init__(self, notion: object, *, bounds: object, kappa: float) -> None:
        super().__init__(notion, bounds=bounds, kappa=kappa, predict=False)

    def _gain(self, total: float, counts: object) -> float:
        return self.kappa

    def _answer_two(self, z: float, component: object, g: int) -> float | None:
        component.total += 0.0  # type: ignore[attr-defined]
        kappa, self.kappa = self.kappa, self.kappa / sqrt(component.total + 1.0)  # type: ignore[attr-defined]
        try:
            return super()._answer_two(z, component, g)  # type: ignore[arg-type]
        finally:
            self.kappa = kappa


def settings(rng: Generator) -> tuple[float, float]:
    return float(rng.choice([0.0, 0.05, 0.3])), float(rng.choice(KAPPAS))


def optimal(codes: list[IntArray], z: FloatArray, y: FloatArray, before: list[Totals], eps: float, kappa: float) -> Measurement:
    """Whether y is the minimiser that the claim speaks of, by its optimality condition: y = clip(z - sum of the shifts c_g r_g / N_g).

    r: the residuals of the means after the step to a window of width eps, which L7's formula finds; c_g = 2 kappa N^1.5 for one
    attribute, 4 kappa sqrt(N) N_g for several. The shifts must
    solve the equation to what rounding does to r times c.
    """
    pull, stiff = np.zeros(len(z)), 1.0
    for held, code in zip(before, codes, strict=True):
        counts = held.counts + np.bincount(code, minlength=held.counts.size)
        sums = held.sums + np.bincount(code, weights=y, minlength=held.counts.size)
        there = counts > 0
        total = float(counts.sum())
        metric = np.full(counts.size, 2.0 * kappa * total**1.5) if len(codes) == 1 else 4.0 * kappa * sqrt(total) * counts
        means = sums[there] / counts[there]
        shift = np.zeros(counts.size)
        if means.size > 1 and np.ptp(means) > eps:
            t = window(means, metric[there], eps)
            shift[there] = metric[there] * (means - np.clip(means, t, t + eps)) / counts[there]
        pull += shift[code]
        stiff = max(stiff, float((metric[there] / counts[there]).max()))
    wrong = np.abs(y - np.clip(np.clip(z, 0, 1) - pull, 0, 1)).max()
    return Measurement(float(wrong), 0.0, 1e-8 + 1e-13 * stiff, note="the rule of the claim")


def expected(controller: PooledParity, codes: IntArray) -> FloatArray:
    """(n,) What the forecast took off the scores of the last step; 0 where there is none."""
    (component,) = controller._components.values()
    if component.forecast is None:
        return np.zeros(len(codes))
    return np.array([component.forecast.shifts[component.index[int(g)]] for g in codes])


def follow_two(make: Make, stream: object, eps: float, kappa: float, single: bool) -> Measurement:
    """P2 after every step, against counts and sums kept here; and each answer the rule's, on what the forecast has left."""
    controller = make(parity("g", tolerance=eps), bounds=(0, 1), kappa=kappa)
    totals, found = Totals(2), [Measurement(0.0, 1.0)]
    for t, (z, (codes,)) in enumerate(stream):  # type: ignore[arg-type,var-annotated]
        one = single and len(z) == 1
        sent = controller.step(float(z[0]) if one else z, sensitive_features=int(codes[0]) if one else codes).scores
        y = np.atleast_1d(np.asarray(sent, dtype=np.float64))
        found.append(optimal([codes], np.clip(z, 0, 1) - expected(controller, codes), y, [totals], eps, kappa))
        totals.add(codes, y)
        if (totals.counts == 0).any():
            continue
        theta = totals.counts.max() / totals.total / (kappa * sqrt(totals.total))
        found.append(Measurement(totals.gap - eps, float(theta), 1e-9, note=f"step {t + 1}, beyond eps"))
    return worst(*found)


def check_two(rng: Generator, make: Make) -> Measurement:
    """The gap against the bound after every step of a random or adversarial stream; every answer against the rule as stated."""
    eps, kappa = settings(rng)
    return follow_two(make, drawn(rng, (2,)), eps, kappa, single=bool(rng.integers(2)))


def reach(make: Make) -> Measurement:
    """The streams of a search over runs of opposed extremes: the worst of 30."""
    found = []
    for seed in range(30):
        for arrivals in ("runs", "late", "blocks"):
            stream = batches(Structure((2,), 200, arrivals, "opposed", "one"), seed)
            found.append(follow_two(make, stream, 0.05, (0.25, 1.0)[seed % 2], single=True))
    return max(found, key=lambda m: (not m.holds, m.ratio))


def check_groups(rng: Generator, make: Make) -> Measurement:
    """Theorem C, K = 2 ... 6."""
    eps, kappa = settings(rng)
    groups = int(rng.integers(2, 7))
    controller = make(parity("g", tolerance=eps), bounds=(0, 1), kappa=kappa)
    totals, before, found = Totals(groups), 0.0, [Measurement(0.0, 1.0)]
    for z, (codes,) in drawn(rng, (groups,), 160):
        y = np.asarray(controller.step(z, sensitive_features=codes).scores)
        found.append(optimal([codes], np.clip(z, 0, 1) - expected(controller, codes), y, [totals], eps, kappa))
        totals.add(codes, y)
        if totals.means.size < 2:
            continue
        bound = max(eps + totals.means.size / (2 * kappa * sqrt(totals.total)), before)
        found.append(Measurement(totals.gap, bound, 1e-9, note=f"Theorem C, K={groups}"))
        before = totals.gap
    return worst(*found)


def check_attributes(rng: Generator, make: Make) -> Measurement:
    """Theorem D, two or three attributes of 2 to 3 groups."""
    eps, kappa = settings(rng)
    sizes = tuple(int(k) for k in rng.integers(2, 4, int(rng.integers(2, 4))))
    names = [f"a{k}" for k in range(len(sizes))]
    controller = make([parity(name, tolerance=eps) for name in names], bounds=(0, 1), kappa=kappa)
    totals, running, found = [Totals(k) for k in sizes], 0.0, [Measurement(0.0, 1.0)]
    for z, codes in drawn(rng, sizes, 60):
        y = np.asarray(controller.step(z, sensitive_features=dict(zip(names, codes, strict=True))).scores)
        found.append(optimal(codes, z, y, totals, eps, kappa))
        for held, c in zip(totals, codes, strict=True):
            held.add(c, y)
        running += len(z) / (8 * kappa * sqrt(totals[0].total))
        for held in totals:
            n = held.counts[held.counts > 0]
            if n.size < 2:
                continue
            spread = np.abs(held.means[:, None] - held.means[None, :])
            limit = eps + np.sqrt((1 / n[:, None] + 1 / n[None, :]) * running)
            i, j = np.unravel_index(int(np.argmax(spread / limit)), spread.shape)
            found.append(Measurement(float(spread[i, j]), float(limit[i, j]), 1e-9, note="Theorem D"))
    return worst(*found)


def check_blocks(rng: Generator, make: Make) -> Measurement:
    """The counterexample: three groups in blocks, the gap halves a block, so it falls slower than N^(-1/2) for lambda > 64."""
    lam, kappa = float(rng.choice([100.0, 256.0])), 1.0
    controller = make(parity("g", tolerance=0.0), bounds=(0, 1), kappa=kappa)
    totals = Totals(3)
    codes = np.array([0, 1, 2])
    totals.add(codes, np.asarray(controller.step(np.array([0.0, 0.5, 1.0]), sensitive_features=codes).scores))
    rates = []
    for block in range(9):
        g = block % 3
        many = min(int((lam - 1) * totals.counts[g]), 200_000)
        others = [k for k in range(3) if k != g]
        middle = float((totals.sums[others] / totals.counts[others]).mean())
        group = np.full(many, g)
        totals.add(group, np.asarray(controller.step(np.full(many, middle), sensitive_features=group).scores))
        rates.append(totals.gap * kappa * sqrt(totals.total))
        if many == 200_000:
            break
    return Measurement(rates[2], rates[-1], 0.0, note=f"D kappa sqrt(N) grows, lambda = {lam:.0f}")


def check_recurrent(rng: Generator, make: Make) -> Measurement:
    """Groups in turn (c near 1), or iid: the gap is inside the theorem's (1 + d) A h with d = 1/10, once the start is forgotten."""
    groups, kappa, eps = int(rng.integers(3, 6)), float(rng.choice([0.25, 1.0])), float(rng.choice([0.0, 0.05]))
    controller = make(parity("g", tolerance=eps), bounds=(0, 1), kappa=kappa)
    totals = Totals(groups)
    z = rng.choice([0.0, 1.0], groups)
    z[:2] = 0.0, 1.0
    in_turn = bool(rng.integers(2))
    for k in range(400):
        codes = rng.permutation(groups) if in_turn or k == 0 else rng.integers(0, groups, groups)
        totals.add(codes, np.asarray(controller.step(z[codes], sensitive_features=codes).scores))
    d = 0.1
    c = d / (1 + d)
    h = 1 / (2 * kappa * sqrt(totals.total))
    return Measurement(totals.gap - eps, (1 + d) * groups / (1 - groups * c) * h, 1e-9, note="groups that come again")


def check_many(rng: Generator, make: Make) -> Measurement:
    """Theorems C and D, the blocks of the counterexample, and groups that come again."""
    kind = rng.uniform()
    if kind < 0.02:
        return check_blocks(rng, make)
    if kind < 0.1:
        return check_recurrent(rng, make)
    return check_groups(rng, make) if kind < 0.7 else check_attributes(rng, make)


def check_forecast(rng: Generator, make: Make) -> Measurement:
    """P2's bound (K = 2) or P4's (K = 2 ... 6) after every step of the rule with its forecast; each answer the rule's on shifted scores."""
    return check_two(rng, make) if rng.uniform() < 0.7 else check_groups(rng, make)


def reach_forecast(make: Make) -> Measurement:
    """Opposed scores that stop the forecast's help: what it expects never comes."""
    found = []
    for seed in range(12):
        for arrivals in ("runs", "late"):
            stream = batches(Structure((2,), 200, arrivals, "opposed", "one"), seed)
            found.append(follow_two(make, stream, 0.05, (0.25, 1.0)[seed % 2], single=True))
    return max(found, key=lambda m: (not m.holds, m.ratio))


CLAIMS = (
    Claim(
        "P2",
        "the pooled rule: the gap at any time, on every stream (Theorem B)",
        "bound",
        "ours",
        P2,
        P2_PROOF,
        check_two,
        plain,
        {"gain a quarter": weaker(0.25), "gain without sqrt N": GainOfStart},
        tight=reach,
        deviations={"gain smaller": off_by, "gain larger": stronger},
    ),
    Claim(
        "P4",
        "many groups and attributes (Theorems C and D)",
        "bound",
        "ours",
        P4,
        P4_PROOF,
        check_many,
        plain,
        {"gain a third": weaker(0.3)},
        deviations={
            f"gain {way}, {where}": of_attributes(where == "several attributes", change)
            for where in ("one attribute", "several attributes")
            for way, change in (("smaller", off_by), ("larger", stronger))
        },
        open="N^{-1/2} for several attributes at gamma ~ sqrt N.",
    ),
    Claim(
        "P7",
        "the forecast is free: any prediction keeps the bound",
        "bound",
        "ours",
        P7,
        P7_PROOF,
        check_forecast,
        forecasting,
        {"gain a quarter": weaker(0.25, predict=True)},
        tight=reach_forecast,
        deviations={
            "gain smaller": lambda size: weaker(1.0 - size, predict=True),
            "what the forecast took off is put back in part": put_back,
        },
    ),
)
