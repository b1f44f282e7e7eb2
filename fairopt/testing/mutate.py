"""Changes to the rows of a drawn problem: copies, implied rows, scales, softness, and a contradiction."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.contract.problem import HARD, Softness
from fairopt.testing.assembly import INF, Assembly, Linear

Generator = np.random.Generator


def duplicate(assembly: Assembly, rng: Generator) -> None:
    """Repeats some rows: the same, negated or scaled, with the same limits or looser ones."""
    for row in list(assembly.linear):
        if rng.uniform() < 0.5:
            factor = float(rng.choice([1.0, -1.0, 2.0, -0.3]))
            low, high = sorted((row.lower * factor, row.upper * factor))
            if rng.uniform() < 0.3:
                low, high = low - abs(low) * 0.5, high + abs(high) * 0.5
            assembly.linear.append(Linear(row.functional.scaled(factor), low, high, row.softness))
    for block in list(assembly.ranges):
        if rng.uniform() < 0.5:
            assembly.ranges.append(replace(block, members=block.members[::-1], width=block.width * float(rng.choice([1.0, 1.5]))))


def redundant(assembly: Assembly, rng: Generator) -> None:
    """Adds rows that the others imply: pairs of a range, and a sum of two rows with the sum of their limits."""
    for block in list(assembly.ranges):
        for a, b in itertools.combinations(block.members, 2):
            if rng.uniform() < 0.5:
                low = -block.width if block.ratio == 1.0 else -INF
                assembly.linear.append(Linear(a.scaled(block.ratio).plus(b, -1.0), low, block.width, block.softness))
    rows = list(assembly.linear)
    if len(rows) >= 2:
        i, j = (int(k) for k in rng.choice(len(rows), 2, replace=False))
        total = rows[i].functional.plus(rows[j].functional)
        if not total.vanishes:
            assembly.linear.append(Linear(total, rows[i].lower + rows[j].lower, rows[i].upper + rows[j].upper))


def scaled_rows(assembly: Assembly, rng: Generator) -> None:
    """Writes constraints in other units: 1e-3 to 1e3 of them."""
    for k, row in enumerate(assembly.linear):
        factor = float(np.exp(rng.uniform(np.log(1e-3), np.log(1e3))))
        assembly.linear[k] = Linear(row.functional.scaled(factor), row.lower * factor, row.upper * factor, row.softness)
    for k, block in enumerate(assembly.ranges):
        factor = float(np.exp(rng.uniform(np.log(1e-2), np.log(1e2))))
        assembly.ranges[k] = replace(block, members=tuple(f.scaled(factor) for f in block.members), width=block.width * factor)


ROWS: dict[str, Callable[[Assembly, Generator], None]] = {
    "duplicate": duplicate,
    "redundant": redundant,
    "scaled_rows": scaled_rows,
}


def soften(assembly: Assembly, kind: str, rng: Generator, scale: float, n: int) -> None:
    """Makes constraints soft: all of them, or about half; with weights around the prices that such problems have (about n * scale)."""
    half = rng.uniform() < 0.4
    blocks = [Softness("budget", _price(rng, scale, n), block) for block in range(2)]

    def one(now: Softness, size: float) -> Softness:
        if now.kind != "hard" or (half and rng.uniform() < 0.5):
            return now
        name = str(rng.choice(["hard", "priced", "budget", "quadratic"])) if kind == "mixed_softness" else kind
        if name == "priced":
            return Softness("priced", _price(rng, scale, n) / size)
        if name == "quadratic":
            return Softness("quadratic", n * float(np.exp(rng.uniform(np.log(1e-2), np.log(1e3)))) / size**2)
        return blocks[int(rng.integers(2))] if name == "budget" else HARD

    for k, row in enumerate(assembly.linear):
        assembly.linear[k] = replace(row, softness=one(row.softness, _size([s for _, s in row.functional.means])))
    for k, block in enumerate(assembly.ranges):
        assembly.ranges[k] = replace(block, softness=one(block.softness, _size([s for _, s in block.members[0].means])))


def _price(rng: Generator, scale: float, n: int) -> float:
    return n * scale * float(np.exp(rng.uniform(np.log(1e-2), np.log(3.0))))


def _size(scales: list[float]) -> float:
    return max((abs(s) for s in scales), default=1.0)


def conflict(assembly: Assembly, rng: Generator, scale: float, lb: float | Array, ub: float | Array) -> None:
    """Adds hard rows that no scores in the box meet: two that contradict each other, or one that the box excludes."""
    members = assembly.masks[int(rng.integers(len(assembly.masks)))] if assembly.masks else np.ones(assembly.n, dtype=np.bool_)
    mean = assembly.mean(assembly.mask(members), label="conflict")
    low = float(np.broadcast_to(lb, (assembly.n,))[members].mean())
    high = float(np.broadcast_to(ub, (assembly.n,))[members].mean())
    gap = scale * float(rng.uniform(0.05, 1.0))
    middle = scale * float(rng.uniform(0.2, 0.8))
    if np.isfinite(high) and rng.uniform() < 0.5:
        assembly.linear.append(Linear(mean, high + gap, INF))
    elif np.isfinite(low) and rng.uniform() < 0.5:
        assembly.linear.append(Linear(mean, -INF, low - gap))
    else:
        assembly.linear.append(Linear(mean, middle + gap, INF))
        assembly.linear.append(Linear(mean.scaled(2.0), -INF, 2.0 * middle))
