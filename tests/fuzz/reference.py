"""The written-out problem, solved by clarabel: a maker of prices and of points, trusted only as far as ``nearest.gap`` proves them."""

from __future__ import annotations

import math

import clarabel
import numpy as np
from scipy import sparse

from tests.fuzz.nearest import Point, Scaled, cancelled, no_prices

INF = math.inf


def clarabel_point(s: Scaled, start: Point) -> tuple[np.ndarray, list[np.ndarray]] | None:
    """The written-out problem in displacements from y: the move (n,) in scaled units from z, and prices; None where it was not solved.

    Variables: displacement d from ``start``, one violation per soft block, two levels per range.
    """
    n = s.n
    variables = n
    slack: dict[int, int] = {}
    for b, block in enumerate(s.blocks):
        if block.kind != "hard" and block.constraints and 0 < s.weight[b] < INF:
            slack[b] = variables
            variables += 1
    levels: dict[int, int] = {}
    for i, (b, c) in enumerate(s.constraints()):
        if c.width is not None and (b in slack or s.blocks[b].kind == "hard"):
            levels[i] = variables
            variables += 2
    rows: list[tuple[dict[int, float], float]] = []
    place: list[tuple[int, int, float]] = []  # constraint, member, sign of the price
    data: list[np.ndarray | None] = []
    for i, (b, c) in enumerate(s.constraints()):
        if b not in slack and s.blocks[b].kind != "hard" and s.weight[b] < INF:
            continue
        mine = {slack[b]: -1.0} if b in slack else {}
        if c.width is None:
            for sign, e in zip((1.0, -1.0), start.excess[i][0], strict=True):
                if e > -1e15:
                    rows.append((mine, -e))
                    data.append(sign * s.a[i][0])
                    place.append((i, 0, sign))
        else:
            hi = levels[i]
            for j, (up, down) in enumerate(start.excess[i]):  # up = ratio * (f - max), down = min - f
                rows.append(({hi: -1.0}, -up / s.ratio[i] if s.ratio[i] else INF))
                data.append(s.a[i][j])
                place.append((i, j, 1.0))
                rows.append(({hi + 1: 1.0}, -down))
                data.append(-s.a[i][j])
                place.append((i, j, -1.0))
            rows.append(({hi: s.ratio[i], hi + 1: -1.0, **mine}, -start.over[i]))
            data.append(None)
            place.append((i, -1, 0.0))
    for v in slack.values():
        rows.append(({v: -1.0}, 0.0))
        data.append(None)
        place.append((-1, -1, 0.0))
    m = len(rows)
    top = sparse.lil_matrix((m, variables - n))
    for k, (more, _) in enumerate(rows):
        for j, factor in more.items():
            top[k, j - n] = factor
    body = np.array([np.zeros(n) if a is None else a for a in data]).reshape(m, n)
    right = np.array([r for _, r in rows])
    lower, upper = np.isfinite(start.above), np.isfinite(start.below)
    eye = sparse.identity(n, format="csr")
    G = sparse.vstack(
        [
            sparse.hstack([sparse.csr_matrix(body), top.tocsr()]),
            sparse.hstack([eye[upper], sparse.csr_matrix((int(upper.sum()), variables - n))]),
            sparse.hstack([-eye[lower], sparse.csr_matrix((int(lower.sum()), variables - n))]),
        ],
        format="csc",
    )
    h = np.concatenate([right, start.below[upper], start.above[lower]])
    diagonal = np.concatenate([s.w, np.zeros(variables - n)])
    linear = np.concatenate([s.w * start.move, np.zeros(variables - n)])
    for b, v in slack.items():
        if s.blocks[b].kind == "penalised":
            diagonal[v] = s.weight[b]
        else:
            linear[v] = s.weight[b]
    kept = h < INF
    G, h = G[kept], h[kept]
    if not (np.isfinite(h).all() and np.isfinite(linear).all() and np.isfinite(diagonal).all()):
        return None
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_iter = 200
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    try:
        solution = clarabel.DefaultSolver(
            sparse.csc_matrix(sparse.diags(diagonal)), linear, G, h, [clarabel.NonnegativeConeT(len(h))], settings
        ).solve()
    except BaseException as error:  # a Rust panic is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return None
    x, dual = np.array(solution.x), np.zeros(len(kept))
    dual[kept] = solution.z
    if not (np.isfinite(x).all() and np.isfinite(dual).all()):
        return None
    prices = no_prices(s)
    for (i, j, sign), v in zip(place, dual[:m], strict=True):
        if j >= 0 and prices[i].ndim == 1:
            prices[i][0] += sign * max(v, 0.0)
        elif j >= 0:
            prices[i][0 if sign > 0 else 1, j] += max(v, 0.0)
    for i, p in enumerate(prices):
        if p.ndim == 2 and p.any():  # the prices on the largest sum to ratio times those on the smallest
            if s.ratio[i] and p[0].any():
                p[0] *= p[1].sum() / p[0].sum()
            else:
                p[0, int(np.argmax([e[0] for e in start.excess[i]]))] = p[1].sum()
    k = 0
    for b, block in enumerate(s.blocks):
        index = range(k, k + len(block.constraints))
        k += len(block.constraints)
        if block.kind in ("priced", "budgeted"):
            mass = sum(abs(float(prices[i][0])) if prices[i].ndim == 1 else float(prices[i][1].sum()) for i in index)
            if mass > s.weight[b]:
                for i in index:
                    prices[i] *= s.weight[b] / mass
    return x[:n], cancelled(s, prices)
