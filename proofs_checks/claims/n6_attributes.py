"""N6: the price at which the gaps of several attributes close."""

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

(k attributes of two groups) At p >= R D_k / 2 all gaps are 0, D_k = max { ||A^-1 s||_1 : A an invertible 0/1 matrix, s a 0/1 vector, of
size k }: D_1 ... D_6 = 1, 2, 4, 8, 16, 33 by exhaustion. For k <= 5 this is exact: C_k = 1/2, 1, 2, 4, 8 (times R). By anti-Hadamard
matrices (Alon and Vu 1997) log C_k ~ (k log k)/2.

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

k attributes of two groups, R = 1: let the largest gap D be positive and label the groups so that each priced attribute has mean(1) >
mean(0). A price h_j > 0 shifts a sample of cell c in {0,1}^k down by `u_c = T.c - V`, with a = E c, T_j = h_j/(a_j (1 - a_j)), V =
T.a, and p = 2 sum h_j = 2 sum T_j a_j (1 - a_j) <= 1/2 sum T_j. Let Y = E y, w_c the cell's mean of y less Y. As y <= (1 - u)_+ for u >
0 and y >= min(1, -u) for u < 0: u_c >= 1 - Y gives w_c <= 0 (P), u_c <= -Y gives w_c >= 0 (Q); call the other cells M. There is no
(tau, v) /= 0 with tau >= 0 on the priced attributes, tau.c = v on M, >= v on P, <= v on Q: it would give 0 < sum_j tau_j Cov(y, c_j) =
sum_c m_c w_c (tau.c - v) <= 0. So the polyhedron of (T >= 0, V) with -Y <= T.c - V <= 1 - Y on M, >= 1 - Y on P, <= -Y on Q has a
trivial recession cone: sum T is at most its value at a vertex. There r attributes and r + 1 cells, affinely independent on them, have
T.c - V in {-Y, 1 - Y}; flip attributes so that one of these cells is 0: A T~ = s with A invertible 0/1, s in {0,1}^r up to sign, |T~_j|
= T_j. Hence p <= D_k/2 while a gap is open, and by continuity of y in p all are closed from there on.

Sharp for k <= 5: T = (1), (1,1), (2,1,1), (2,2,3,1), (4,5,2,2,3); M are the cells with T.c = sum T/2 or one less. A complementary pair
at sum T/2 gets nearly all samples, so a = 1/2 and p = sum T/2; the other cells of M get one sample each. Cell means Y + w_c with equal
small gaps exist as M spans, and z = y + u is in the box if T is scaled by a little less than 1 and Y is near 1.

K groups: m samples in each cell (j, j), one in each cell (j, j + 1); s = -(A - mean A)/2, t = (B - mean B)/2, z = 1/2 + s + t. s + t lies
in [-1/2, 1/2], so z is in the box. y = 1/2 has gaps 0, and z - y = s + t is a combination of the groups' shifts with mean 0: y is the hard
projection. The cells form a connected chain, so s and t are its only prices, of total size E|s| + E|t|: below it the gap stays open.
It tends to (K^2 - 1)/(4 K) as m grows.
"""
Reply = Callable[[FloatArray, list[IntArray], float], FloatArray]
SHARP = {2: (1, 1), 3: (2, 1, 1), 4: (2, 2, 3, 1), 5: (4, 5, 2, 2, 3)}
OPEN = 1e-9
CLOSED = 1e-10


def reply(z: FloatArray, codes: list[IntArray], price: float) -> FloatArray:
    """fairopt's answer to one soft batch: the paper's price p is a budget of p n / 2."""
    notion: fo.Notion = fo.DemographicParity("a0", tolerance=0.0)
    for k in range(1, len(codes)):
        notion = notion & fo.DemographicParity(f"a{k}", tolerance=0.0)
    features = {f"a{k}": c for k, c in enumerate(codes)}
    answer = fo.project(torch.from_numpy(z), notion.budgeted(price * len(z) / 2), sensitive_features=features, bounds=(0.0, 1.0))
    return np.asarray(answer, dtype=np.float64)


def cheaper(size: float) -> Reply:
    """Less than the price, by the part ``size``."""
    return lambda z, codes, price: reply(z, codes, (1 - size) * price)


def one_attribute(z: FloatArray, codes: list[IntArray], price: float) -> FloatArray:
    """Mutant: all attributes but the first are forgotten."""
    return reply(z, [codes[0]] * len(codes), price)


def gap(y: FloatArray, codes: list[IntArray]) -> float:
    """The largest of the gaps."""

    def of(code: IntArray) -> float:
        means = [float(y[code == g].mean()) for g in np.unique(code)]
        return max(means) - min(means)

    return max(of(code) for code in codes)


def check(rng: Generator, answer: Reply) -> Measurement:
    """Two groups: gap 0 at p = R C_k, near the sharp instance and on wild ones, k = 2 and 3. Sharp instances of k = 2 ... 5: open below
    C_k, closed at it. K groups: open below the chain's price, closed at it."""
    z, a, b = sharp(rng) if rng.random() < 0.4 else wild(rng)
    closed = Measurement(gap(answer(z, [a, b], 1.0), [a, b]), 0.0, CLOSED, note="two groups, p = R")
    z, a, b, price = chain(int(rng.choice([3, 5, 7])), int(rng.integers(2, 20)))
    below, at = gap(answer(z, [a, b], 0.95 * price), [a, b]), gap(answer(z, [a, b], price * (1 + 1e-9)), [a, b])
    found = [
        closed,
        Measurement(OPEN, below, 0.0, note="chain, below its price: open"),
        Measurement(at, 0.0, CLOSED, note="chain, at its price"),
    ]
    if rng.random() < 0.2:
        k = int(rng.integers(2, 6))
        z, codes, price = corner(k, int(rng.integers(20, 200)))
        top = sum(SHARP[k]) / 2
        found += [
            Measurement(OPEN, gap(answer(z, codes, price * 0.999), codes), 0.0, note=f"{k} attributes, at {price / top:.3f} of C_k: open"),
            Measurement(gap(answer(z, codes, top), codes), 0.0, CLOSED, note=f"{k} attributes, at C_k: closed"),
        ]
    if rng.random() < 0.3:
        n = int(rng.integers(4, 30))
        codes = [rng.integers(0, 2, n) for _ in range(3)]
        z = rng.choice([rng.random(n), rng.integers(0, 2, n) * 1.0])
        live = [c for c in codes if 0 < c.sum() < n]
        if live:
            found.append(Measurement(gap(answer(z, codes, 2.0), live), 0.0, CLOSED, note="three attributes, p = 2 R"))
    return worst(*found)


def corner(k: int, m: int) -> tuple[FloatArray, list[IntArray], float]:
    """The sharp instance of the proof: m samples in each cell of a complementary pair, one in every other cell of M; and its price."""
    t = np.array(SHARP[k], dtype=np.float64)
    half = t.sum() / 2
    cells = np.array([[(c >> j) & 1 for j in range(k)] for c in range(2**k)])
    inside = cells[(cells @ t <= half) & (cells @ t >= half - 1)]
    middle = {tuple(c) for c in inside[inside @ t == half].tolist()}
    pair = next(c for c in sorted(middle) if tuple(1 - x for x in c) in middle)
    counts = np.array([m if tuple(c) in (pair, tuple(1 - x for x in pair)) else 1 for c in inside.tolist()])
    codes = np.repeat(inside, counts, axis=0)  # (n, k)
    share, scale = codes.mean(axis=0), 1.0 - 2.0 / m
    ones = codes.sum(axis=0)
    rows = (inside * counts[:, None] / ones - (1 - inside) * counts[:, None] / (len(codes) - ones)).T  # (k, cells): the gaps of cell means
    w = np.linalg.lstsq(rows, np.ones(k), rcond=None)[0]  # all gaps 1
    y = (1 + scale) / 2 + 1e-3 / m * np.repeat(w, counts) / max(1.0, float(np.abs(w).max()))
    return y + scale * (codes @ t - share @ t), [codes[:, j] for j in range(k)], 2 * scale * float((t * share * (1 - share)).sum())


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
    is_open = gap(answer(z, [a, b], price), [a, b]) > OPEN
    return Measurement(price if is_open else 0.0, 1.0)


CLAIMS = (
    Claim(
        "N6",
        "several attributes: the price at which the gaps close",
        "bound",
        "ours",
        STATEMENT,
        PROOF,
        check,
        reply,
        {"other attributes forgotten": one_attribute},
        tight=tight,
        deviations={"price lower": cheaper},
        open="C_6 (16.42 to 16.5) and larger k exactly.",
    ),
)
