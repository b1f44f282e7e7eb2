"""The exact minimiser of the Newton model: an active-set method on the prices, warm-started, safe on redundant rows.

    minimise over p   1/2 |B'(p - p0)|^2 - f0'(p - p0) + sigma(p),    B B' = M + PROXIMAL diag(metric)

The price domain is a cone of *columns* with weights x >= 0: a linear row has one column up and one down, a range has one for
every pair of its rows (i up times the ratio a_c, j down; i = j too where the ratio is below 1), made when needed. sigma is linear in x
but for the quadratic softness and the caps:

    p = sum_c x_c (a_c e_i - e_j),   F_k = sum of x over the columns of constraint k,   sum_c cost_c x_c + sum_k F_k^2 / (2 gamma_k),
    F_k <= rho_k (priced), sum of F over a block <= rho (budget)

The working set is the columns with x > 0 and the caps that bind. Each pivot solves the working set by a QR factorisation of its
normals, walks until a weight or a cap blocks, and takes in the most violated column once the working set is solved. The model
never rises, so that no working set comes back. The proximal term makes redundant rows no special case; solving once more with its centre
at the answer takes its pull away. Only cycles of pairs, which change no price, remain dependent: they are exchanged.

Source: Lawson & Hanson's non-negative least squares, which is the dual of Goldfarb & Idnani's method (Math. Programming 27, 1983);
Rockafellar 1976 (proximal points).
"""

from __future__ import annotations

import numpy as np

from fairopt.basics.arrays import Array, IntArray
from fairopt.solve.dual.structure import Numbers, Structure

PROXIMAL = 1e-12  # weight of the proximal term, in units of the metric
DEPENDENT = 1e-11  # a normal this small next to its own length, once the working set is projected out, depends on it
NONE = -1


class ModelSolver:
    """The price domain of one problem, and the columns in use. ``minimise`` may be called again and again."""

    def __init__(self, structure: Structure, numbers: Numbers) -> None:
        self.structure, self.numbers = structure, numbers
        self.m, self.L = structure.metric.shape[0], structure.linear
        constraints = self.L + len(structure.slices)
        self.rho: list[float] = []
        self.cap_of = np.full(constraints, NONE, dtype=np.int64)  # (constraints,)
        for k in range(constraints):
            if np.isfinite(numbers.rho[k]) and not structure.in_block[k]:
                self.cap_of[k] = len(self.rho)
                self.rho.append(float(numbers.rho[k]))
        for linear, ranges, k in structure.blocks:
            self.cap_of[linear], self.cap_of[self.L + ranges] = len(self.rho), len(self.rho)
            self.rho.append(float(numbers.rho[k]))
        closed = np.array([c != NONE and self.rho[c] <= 0 for c in self.cap_of.tolist()], dtype=bool)
        soft = np.flatnonzero(np.isfinite(numbers.gamma))
        self.soft_row = np.full(constraints, NONE, dtype=np.int64)
        self.soft_row[soft] = np.arange(soft.size)
        self.soft = soft.size
        self.gamma_inverse = 1.0 / numbers.gamma
        self.up_open = np.isfinite(numbers.upper) & ~closed[: self.L]
        self.down_open = np.isfinite(numbers.lower) & ~closed[: self.L]
        self.range_open = ~closed[self.L :]
        self.unit = np.append(structure.unit, 0.0)  # (m + 1,); index m stands for "no row"
        self.ratio = np.concatenate([np.ones(self.L), structure.ratios])  # (constraints,) of the rows that go up

    # -- columns -------------------------------------------------------------------------------------------------------------

    def _load(self, p: Array) -> None:
        """The columns of p (m,), cut to the price domain."""
        columns: list[tuple[int, int, int]] = []
        x: list[float] = []
        m, L = self.m, self.L
        for k in np.flatnonzero(p[:L]).tolist():
            value = float(p[k])
            if value > 0 and self.up_open[k]:
                columns.append((k, m, k))
            elif value < 0 and self.down_open[k]:
                columns.append((m, k, k))
            else:
                continue
            x.append(abs(value))
        for r, part in enumerate(self.structure.slices):
            theta = p[part]
            if not self.range_open[r] or not theta.any():
                continue
            for i, j, flow in _pair_up(theta, self.structure.ratios[r]):
                columns.append((part.start + i, part.start + j, L + r))
                x.append(flow)
        table = np.array(columns, dtype=np.int64).reshape(-1, 3)
        self.i, self.j, self.k = table[:, 0], table[:, 1], table[:, 2]
        self.x = np.array(x)
        self.active: set[int] = set()
        for cap, rho in enumerate(self.rho):
            mine = self.cap_of[self.k] == cap
            flow = float(self.x[mine].sum())
            if flow >= rho * (1 - 1e-12) and mine.any():
                self.x[mine] *= rho / flow
                self.active.add(cap)

    def feasible(self, p: Array) -> Array:
        """(m,) p cut to the price domain."""
        self._load(p)
        return self._prices()

    def _prices(self) -> Array:
        p = np.zeros(self.m + 1)
        np.add.at(p, self.i, self.ratio[self.k] * self.x)
        np.subtract.at(p, self.j, self.x)
        return p[: self.m]

    def _units(self) -> Array:
        """(k,) how far a unit of every score moves each column's combination of rows."""
        return np.asarray(self.ratio[self.k] * self.unit[self.i] + self.unit[self.j])

    def _costs(self) -> Array:
        nums, L = self.numbers, self.L
        if not L:
            return np.asarray(nums.width[self.k])
        linear = np.minimum(self.k, L - 1)
        cost = np.where(self.i == self.m, -nums.lower[linear], nums.upper[linear])
        if nums.width.size:
            cost = np.where(self.k < L, cost, nums.width[np.maximum(self.k - L, 0)])
        return np.asarray(cost)

    def _keep(self, kept: IntArray) -> None:
        self.i, self.j, self.k, self.x = self.i[kept], self.j[kept], self.k[kept], self.x[kept]

    def _enter(self, i: int, j: int, k: int) -> None:
        self.i, self.j, self.k = np.append(self.i, i), np.append(self.j, j), np.append(self.k, k)
        self.x = np.append(self.x, 0.0)

    # -- the method ----------------------------------------------------------------------------------------------------------

    def minimise(self, p0: Array, f0: Array, B: Array, resolution: float, start: Array | None = None) -> Array:
        """(m,) prices. ``B`` (m, r) with M = B B'; ``resolution``: violations below it, in score units, count as none."""
        self.p0, self.f0 = p0, f0
        self.B = np.concatenate([B, np.zeros((1, B.shape[1]))])  # (m + 1, r)
        self.resolution = resolution
        self.banned: set[tuple[int, int, int]] = set()
        self._load(p0 if start is None else start)
        self.budget = 60 + 12 * self.m
        self._solve()
        # the proximal term pulls towards p0: once more with its centre at the answer
        p = self._prices()
        step = p - p0
        pull = PROXIMAL * self.structure.metric * step
        if float(np.abs(pull / self.structure.unit).max(initial=0.0)) > resolution:
            self.f0 = f0 - self.B[:-1] @ (self.B[:-1].T @ step) + pull
            self.p0 = p
            self._solve()
        return self._prices()

    def _solve(self) -> None:
        self.polished, self.error = 0, 0.0
        while self.budget > 0 and self._pivot():
            self.budget -= 1

    def _pivot(self) -> bool:
        """One step. False: done."""
        step = self._prices() - self.p0
        B = self.B[:-1]
        v = np.append(self.f0 - B @ (B.T @ step), 0.0)  # (m + 1,)
        flow = np.bincount(self.k, weights=self.x, minlength=self.cap_of.shape[0])
        extra = flow * self.gamma_inverse  # (constraints,)
        gradient = self._costs() - (self.ratio[self.k] * v[self.i] - v[self.j]) + extra[self.k]
        unit = self._units()
        cap = self.cap_of[self.k]
        lead: dict[int, int] = {}  # one column of each cap that binds takes up what the others leave
        price = np.zeros(len(self.rho) + 1)  # multiplier of each cap; the last entry is 0
        for c in sorted(self.active):
            mine = np.flatnonzero(cap == c)
            if mine.size == 0:
                self.active.discard(c)
                continue
            used = mine[self.x[mine] > 0] if (self.x[mine] > 0).any() else mine
            lead[c] = int(used[np.argmin(unit[used])])  # of the finest unit: its multiplier is the most accurate
            price[c] = -gradient[lead[c]]
        gradient = gradient + price[cap]
        noise = (np.abs(B) @ (np.abs(B.T) @ np.abs(step))) / self.unit[:-1]
        tol = self.resolution + 4e-16 * float(noise.max(initial=0.0))
        error = float(np.abs(gradient / unit).max(initial=0.0))
        if error > tol and (self.polished == 0 or error < 0.25 * self.error):
            self.error = error
            return self._walk(gradient, lead)
        return self._take_in(v, extra + price[self.cap_of], price, max(tol, 2 * error))

    def _take_in(self, v: Array, extra: Array, price: Array, tol: float) -> bool:
        """The working set is solved: release a cap or take in the most violated column. False: there is none."""
        L, worst = self.L, tol
        choice: tuple[int, int, int] | None = None
        known = set(zip(self.i.tolist(), self.j.tolist(), self.k.tolist(), strict=True)) | self.banned
        if L:
            over = np.where(self.up_open, v[:L] - self.numbers.upper - extra[:L], -np.inf) / self.unit[:L]
            under = np.where(self.down_open, self.numbers.lower - extra[:L] - v[:L], -np.inf) / self.unit[:L]
            for k in np.flatnonzero(np.maximum(over, under) > worst).tolist():
                column = (k, self.m, k) if over[k] >= under[k] else (self.m, k, k)
                if max(over[k], under[k]) > worst and column not in known:
                    worst, choice = float(max(over[k], under[k])), column
        for r, part in enumerate(self.structure.slices):
            if not self.range_open[r]:
                continue
            i, j, ratio = part.start + int(v[part].argmax()), part.start + int(v[part].argmin()), self.structure.ratios[r]
            over_width = float(ratio * v[i] - v[j] - self.numbers.width[r] - extra[L + r])
            violation = over_width / float(ratio * self.unit[i] + self.unit[j])
            if violation > worst and (i, j, L + r) not in known:
                worst, choice = violation, (i, j, L + r)
        released = NONE
        for c in self.active:
            mine = np.flatnonzero(self.cap_of[self.k] == c)
            size = float(self._units()[mine].max())
            if -price[c] / size > worst:
                worst, released = -float(price[c]) / size, c
        self.polished = 0
        if released != NONE:
            self.active.discard(released)
            return True
        if choice is None:
            return False
        self._enter(*choice)
        return True

    def _normals(self) -> Array:
        """(r + soft, k) normals of the columns."""
        N: Array = (self.ratio[self.k][:, None] * self.B[self.i] - self.B[self.j]).T
        if not self.soft:
            return N
        low = np.zeros((self.soft, self.k.shape[0]))
        mine = np.flatnonzero(self.soft_row[self.k] != NONE)
        low[self.soft_row[self.k[mine]], mine] = np.sqrt(self.gamma_inverse[self.k[mine]])
        return np.concatenate([N, low])

    def _walk(self, gradient: Array, lead: dict[int, int]) -> bool:
        """Towards the minimum on the working set; the first column or cap that blocks leaves or binds. False: no bound."""
        N = self._normals()
        size = self.x.shape[0]
        cap = self.cap_of[self.k]
        led = np.array([lead.get(c, NONE) for c in cap.tolist()], dtype=np.int64)  # (k,)
        free = np.flatnonzero(led != np.arange(size))
        bound = led[free] != NONE
        reduced = N[:, free]
        if bound.any():
            reduced[:, bound] -= N[:, led[free[bound]]]
        dz, full = _direction(reduced, gradient[free], np.linalg.norm(N, axis=0)[free])
        dx = np.zeros(size)
        dx[free] = dz
        np.subtract.at(dx, led[free[bound]], dz[bound])
        return self._move(dx, full)

    def _move(self, dx: Array, full: bool) -> bool:
        size = self._units()  # prices of small and large rows differ by orders of magnitude
        falling = np.flatnonzero(dx * size < -1e-13 * np.abs(dx * size).max(initial=0.0))
        reach, who = (1.0 if full else np.inf), NONE
        if falling.size:
            ratios = self.x[falling] / -dx[falling]
            first = int(ratios.argmin())
            if ratios[first] < reach:
                reach, who = float(ratios[first]), int(falling[first])
        binding = NONE
        cap = self.cap_of[self.k]
        for c, rho in enumerate(self.rho):
            if c in self.active:
                continue
            mine = cap == c
            rise = float(dx[mine].sum())
            if rise > 1e-13 * float(np.abs(dx[mine]).sum()):
                a = max(0.0, (rho - float(self.x[mine].sum())) / rise)
                if a < reach:
                    reach, who, binding = a, NONE, c
        if not np.isfinite(reach):
            # a cycle of pairs: it changes no price, so that a column may leave in either direction
            return self._move(-dx, False) if (dx > 0).any() else False
        self.polished = self.polished + 1 if full and reach == 1.0 else 0
        self.x = np.maximum(self.x + reach * dx, 0.0)
        if reach > 0:
            self.banned.clear()
        if binding != NONE:
            self.active.add(binding)
        if who != NONE:
            if reach == 0 and who == self.x.shape[0] - 1:
                self.banned.add((int(self.i[who]), int(self.j[who]), int(self.k[who])))
            self._keep(np.delete(np.arange(self.x.shape[0]), who))
        return True


def _direction(N: Array, gradient: Array, lengths: Array) -> tuple[Array, bool]:
    """(k,) the step to the minimum of 1/2 |N dz|^2 + gradient'dz, True; or a falling direction of zero curvature, False."""
    k = N.shape[1]
    if k > N.shape[0]:
        N = np.concatenate([N, np.zeros((k - N.shape[0], k))])
    R = _triangle(N)
    dependent = np.flatnonzero(np.abs(np.diag(R)) <= DEPENDENT * lengths)
    if dependent.size == 0:
        return -np.linalg.solve(R, np.linalg.solve(R.T, gradient)), True
    c = int(dependent[0])
    dz = np.zeros(k)
    dz[c] = 1.0
    if c:
        dz[:c] = -np.linalg.solve(R[:c, :c], R[:c, c])
    return (-dz if float(gradient @ dz) > 0 else dz), False


def _pair_up(theta: Array, ratio: float = 1.0) -> list[tuple[int, int, float]]:
    """(i up, j down, flow): prices (K,) of a range as flows between pairs, at most K of them.

    What is left over of the positive parts is cut, and of the negative ones where the ratio is 1: else they are rows at the tip.
    """
    order = np.flatnonzero(theta)
    ups = [[int(i), float(theta[i]) / ratio] for i in order if theta[i] > 0 and ratio > 0]
    downs = [[int(j), -float(theta[j])] for j in order if theta[j] < 0]
    pairs: list[tuple[int, int, float]] = []
    a = b = 0
    while a < len(ups) and b < len(downs):
        (i, up), (j, down) = ups[a], downs[b]
        flow = min(up, down)
        pairs.append((int(i), int(j), flow))
        ups[a][1], downs[b][1] = up - flow, down - flow
        if up <= down:
            a += 1
        if down <= up:
            b += 1
    if ratio < 1.0:
        pairs += [(int(j), int(j), down / (1.0 - ratio)) for j, down in downs[b:] if down > 0.0]
    return pairs


def _triangle(N: Array) -> Array:
    """(k, k) R of N = Q R."""
    return np.asarray(np.linalg.qr(N, mode="r"), dtype=np.float64)


def factor(coefficients: Array, slope: Array, metric: Array) -> Array:
    """(m, m) B with B B' = (coefficients * slope) coefficients' + PROXIMAL diag(metric)."""
    B = np.concatenate([coefficients * np.sqrt(slope), np.diag(np.sqrt(PROXIMAL * metric))], axis=1)
    return _triangle(B.T).T


def factor_dense(M: Array, metric: Array) -> Array:
    """(m, m) B with B B' = M + PROXIMAL diag(metric), from M itself."""
    d = np.sqrt(metric)
    values, vectors = np.linalg.eigh(M / d / d[:, None])
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0) + PROXIMAL) * d[:, None])
