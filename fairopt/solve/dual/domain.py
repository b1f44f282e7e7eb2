"""The price domain as linear inequalities, for the interior point method.

Prices p = Lx with x >= 0 parts for upper and lower limits, so that the dual cost of the limits is linear: cost = c'x. A range has
p_j = ratio u_j - d_j with sum u = sum d = the flow.
Rows with lower = upper and ranges of width 0 that are hard need no split: there x is free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.solve.dual.structure import Numbers, Structure


@dataclass(frozen=True, eq=False)
class Domain:
    """p = lift @ x; minimise c'x + quadratic softness, G x <= g, E x = 0."""

    lift: Array  # (m, N)
    cost: Array  # (N,)
    quadratic: Array  # (N, N)
    G: Array
    g: Array
    E: Array


def domain(structure: Structure, numbers: Numbers) -> Domain:
    """Build the domain. N <= 2 m."""
    L, m = structure.linear, structure.metric.shape[0]
    columns: list[tuple[int, float, float]] = []  # (row, sign, cost)
    free: list[bool] = []
    member: list[list[int]] = [[] for _ in range(L + len(structure.slices))]  # columns that count towards a constraint's flow

    def add(row: int, sign: float, cost: float, is_free: bool = False) -> int:
        columns.append((row, sign, cost))
        free.append(is_free)
        return len(columns) - 1

    for k in range(L):
        lower, upper = float(numbers.lower[k]), float(numbers.upper[k])
        if lower == upper and not structure.in_block[k] and not np.isfinite(numbers.rho[k]):
            add(k, 1.0, upper, True)
            continue
        if np.isfinite(upper):
            member[k].append(add(k, 1.0, upper))
        if np.isfinite(lower):
            member[k].append(add(k, -1.0, -lower))
    sums: list[tuple[list[int], list[int]]] = []  # the parts of each range that balance: up, down
    for r, part in enumerate(structure.slices):
        width = float(numbers.width[r])
        if width == np.inf:  # open: no price
            continue
        ratio = structure.ratios[r]
        rows = range(part.start, part.stop)
        if ratio == 0.0:  # the largest row does not count
            member[L + r] = [add(j, -1.0, width) for j in rows]
            continue
        is_free = width == 0 and ratio == 1.0 and bool(structure.hard[L + r])
        ups = [add(j, ratio, width, is_free) for j in rows]
        sums.append((ups, [] if is_free else [add(j, -1.0, 0.0) for j in rows]))
        member[L + r] = [] if is_free else ups
    N = len(columns)
    lift = np.zeros((m, N))
    for column, (j, sign, _) in enumerate(columns):
        lift[j, column] = sign
    G = [-row for row, is_free in zip(np.eye(N), free, strict=True) if not is_free]
    g = [0.0] * len(G)
    for linear, ranges, k in structure.blocks:
        cap = np.zeros(N)
        for c in [*linear.tolist(), *(L + ranges).tolist()]:
            cap[member[c]] = 1.0
        G.append(cap)
        g.append(float(numbers.rho[k]))
    for k in range(len(member)):
        if np.isfinite(numbers.rho[k]) and not structure.in_block[k]:
            cap = np.zeros(N)
            cap[member[k]] = 1.0
            G.append(cap)
            g.append(float(numbers.rho[k]))
    quadratic = np.zeros((N, N))
    for k in np.flatnonzero(np.isfinite(numbers.gamma)).tolist():
        row = lift[k] if k < L else np.zeros(N)
        if k >= L:
            row[member[k]] = 1.0
        quadratic += np.outer(row, row) / numbers.gamma[k]
    E = np.zeros((len(sums), N))
    for r, (ups, downs) in enumerate(sums):
        E[r, ups], E[r, downs] = 1.0, -1.0
    return Domain(lift, np.array([c for _, _, c in columns]), quadratic, np.array(G).reshape(len(G), N), np.array(g), E)
