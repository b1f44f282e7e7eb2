"""N6: the price at which the gaps of two attributes close."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

import fairopt as fo
from proofs_checks.claim import Claim, Generator, Measurement, worst
from proofs_checks.streams import FloatArray, IntArray

STATEMENT = """
One batch of n scores in a box of width R, two attributes, `y = argmin ||y - z||^2 + p n max(gap_A(y), gap_B(y))` inside the box.

(Two groups each) If p >= R, both gaps of y are 0, whatever z and the two attributes are. The constant 1 is sharp. So in S2 two such
attributes have `p_t <= R + eta_0 n_max (R - eps)`, whatever eps is.

(K groups each) No constant serves all K: for every odd K there are batches whose gaps stay open for all p < R (K^2 - 1) / (4 K) - o(1),
which passes R at K = 5.
"""
PROOF = """
R = 1. Suppose the larger gap D is positive. If one attribute alone has a price, S2's argument gives p < 1/2. Else both gaps are D.
Let a, b be the shares of A's top and bottom group, c, d those of B's. The prices shift A's top down by h/a, its bottom up by h/b,
B's by k/c and k/d, with h, k > 0 and h + k = p/2. Write tt, tb, bt, bb for the four cells (A's group first) and for their means of y.
A sample that is shifted down by w > 0 has y <= (1 - w)_+, one that is shifted up by w has y >= min(1, w).

One of these holds: (i) tt > bb; (ii) tt exceeds tb and bt, as far as these have samples; (iii) bb is below tb and bt, as far as
these have samples. For let none hold and, say, tb >= bt. Then tt <= tb, bb >= bt, tt <= bb, bt <= tb: each cell of B's top group {tt, bt}
is at most each cell of its bottom group {tb, bb}, so gap_B <= 0. The other case is the same with A. Cells without samples are left out of
the same argument.

(i) 1 - h/a - k/c > h/b + k/d, so 1 > h (1/a + 1/b) + k (1/c + 1/d) >= 4 (h + k) = 2p. (ii) tt > tb: 1 - h/a - k/c > k/d - h/a, so 1 > k
(1/c + 1/d) >= 4k; tt > bt gives 4h < 1; so p = 2 (h + k) < 1. Where tb is empty, A's top group lies inside B's: tt > bb would be (i), and
tt <= bb with bt < tt leaves gap_B <= 0. (iii) is (ii) for 1 - y. So p < 1 in every case. Sharp: tb and bt of m samples at 1, bb one
sample at 0: the prices are equal, bb is raised by p (1 - 1/(2m + 2)), the others fall by p/(2m): open below p = 1 - O(1/m^2).

K groups: m samples in each cell (j, j), one in each cell (j, j + 1); s = -(A - mean A)/2, t = (B - mean B)/2, z = 1/2 + s + t. s + t lies
in [-1/2, 1/2], so z is in the box. y = 1/2 has gaps 0, and z - y = s + t is a combination of the groups' shifts with mean 0: y is the hard
projection. The cells form a connected chain, so s and t are its only prices, of total size E|s| + E|t|: below it the gap stays open.
It tends to (K^2 - 1)/(4 K) as m grows.
"""
Reply = Callable[[FloatArray, IntArray, IntArray, float], FloatArray]
OPEN = 1e-9
CLOSED = 1e-10


def reply(z: FloatArray, a: IntArray, b: IntArray, price: float) -> FloatArray:
    """fairopt's answer to one soft batch: the paper's price p is a budget of p n / 2."""
    return _reply(z, a, b, price)


def too_cheap(z: FloatArray, a: IntArray, b: IntArray, price: float) -> FloatArray:
    """Mutant: nine tenths of the price."""
    return _reply(z, a, b, 0.9 * price)


def one_attribute(z: FloatArray, a: IntArray, b: IntArray, price: float) -> FloatArray:
    """Mutant: the second attribute is forgotten."""
    return _reply(z, a, a, price)


def _reply(z: FloatArray, a: IntArray, b: IntArray, price: float) -> FloatArray:
    both = fo.DemographicParity("a", tolerance=0.0) & fo.DemographicParity("b", tolerance=0.0)
    soft = both.budgeted(price * len(z) / 2)
    answer = fo.project(torch.from_numpy(z), soft, sensitive_features={"a": a, "b": b}, bounds=(0.0, 1.0))
    return np.asarray(answer, dtype=np.float64)


def gap(y: FloatArray, a: IntArray, b: IntArray) -> float:
    """The larger of the two gaps."""

    def of(codes: IntArray) -> float:
        means = [float(y[codes == g].mean()) for g in np.unique(codes)]
        return max(means) - min(means)

    return max(of(a), of(b))


def check(rng: Generator, answer: Reply) -> Measurement:
    """Two groups: gap 0 at p = R, near the sharp instance and on wild ones. K groups: open below the chain's price, closed at it."""
    z, a, b = sharp(rng) if rng.random() < 0.4 else wild(rng)
    closed = Measurement(gap(answer(z, a, b, 1.0), a, b), 0.0, CLOSED, note="two groups, p = R")
    z, a, b, price = chain(int(rng.choice([3, 5, 7])), int(rng.integers(2, 20)))
    below, at = gap(answer(z, a, b, 0.95 * price), a, b), gap(answer(z, a, b, price * (1 + 1e-9)), a, b)
    return worst(
        closed, Measurement(OPEN, below, 0.0, note="chain, below its price: open"), Measurement(at, 0.0, CLOSED, note="chain, at its price")
    )


def sharp(rng: Generator) -> tuple[FloatArray, IntArray, IntArray]:
    """Nearly opposite attributes of two groups; one sample is at the bottom of both; some scores moved; perhaps turned upside down."""
    m = int(rng.integers(1, 25))
    a = np.r_[np.ones(m), np.zeros(m), 0].astype(np.int64)
    b = np.r_[np.zeros(m), np.ones(m), 0].astype(np.int64)
    z = np.r_[np.ones(2 * m), 0.0] * 1.0
    moved = rng.random(len(z)) < rng.choice([0.0, 0.2])
    z[moved] = rng.random(int(moved.sum()))
    return (z, a, b) if rng.random() < 0.5 else (1 - z, 1 - a, 1 - b)


def wild(rng: Generator) -> tuple[FloatArray, IntArray, IntArray]:
    """Any shares of the four cells, rare ones too; scores uniform, at the bounds, or nearly tied."""
    n = int(rng.integers(2, 40))
    while True:
        cells = rng.choice(4, size=n, p=rng.dirichlet(np.full(4, rng.choice([0.1, 1.0]))))
        a, b = cells // 2, cells % 2
        if len(np.unique(a)) == len(np.unique(b)) == 2:
            break
    kind = rng.integers(3)
    if kind == 0:
        return rng.random(n), a, b
    if kind == 1:
        return rng.integers(0, 2, n).astype(np.float64), a, b
    return np.clip(a - b * 0.5 + 0.01 * rng.normal(size=n), 0.0, 1.0).astype(np.float64), a, b


def chain(groups: int, m: int) -> tuple[FloatArray, IntArray, IntArray, float]:
    """The K-group batch of the proof, and the price at which its gap closes."""
    j = np.arange(groups)
    a, b = np.r_[np.repeat(j, m), j[:-1]], np.r_[np.repeat(j, m), j[1:]]
    s, t = -(a - a.mean()) / 2, (b - b.mean()) / 2
    return 0.5 + s + t, a, b, float(np.abs(s).mean() + np.abs(t).mean())


def tight(answer: Reply) -> Measurement:
    """m = 100: the gap is still open at p = .999 R."""
    m, price = 100, 0.999
    a = np.r_[np.ones(m), np.zeros(m), 0].astype(np.int64)
    b = np.r_[np.zeros(m), np.ones(m), 0].astype(np.int64)
    z = np.r_[np.ones(2 * m), 0.0] * 1.0
    is_open = gap(answer(z, a, b, price), a, b) > OPEN
    return Measurement(price if is_open else 0.0, 1.0)


CLAIMS = (
    Claim(
        "N6",
        "two attributes: the price at which the gaps close",
        "bound",
        "ours",
        STATEMENT,
        PROOF,
        check,
        reply,
        {"nine tenths of the price": too_cheap, "second attribute forgotten": one_attribute},
        tight=tight,
    ),
)
