"""The kinds of rows that the drawn problems have: one small function each, on top of ``Assembly``."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.testing.assembly import INF, Assembly, Functional, Linear, Range

Generator = np.random.Generator


@dataclass(frozen=True, eq=False)
class Setting:
    """The population of a draw: two overlapping attributes, a binary target, real targets, a continuous attribute."""

    codes: tuple[IntArray, IntArray]  # each (n,): 0 .. K - 1, every group has a member
    label: BoolArray  # (n,)
    targets: Array  # (n,) inside [0, scale]
    continuous: Array  # (n,)
    constant: float  # inside [0, scale]
    scale: float


def make_setting(rng: Generator, n: int, scale: float, *, singleton: bool = False) -> Setting:
    first = _groups(rng, n)
    second = _groups(rng, n)
    if singleton:
        first[first == 0] = 1
        first[int(rng.integers(n))] = 0
        first = np.unique(first, return_inverse=True)[1].astype(np.int64).reshape(-1)
    label = rng.uniform(size=n) < rng.uniform(0.2, 0.8)
    targets = np.round(rng.uniform(0.0, 1.0, n), 2) if rng.uniform() < 0.5 else label.astype(np.float64)
    constant = float(np.round(rng.uniform(0.2, 0.8), 2)) * scale
    return Setting((first, second), label, targets * scale, rng.normal(size=n), constant, scale)


def _groups(rng: Generator, n: int) -> IntArray:
    """(n,) codes of 2 .. 6 groups, sizes from equal to very unequal, none empty."""
    k = min(n, int(rng.integers(2, 7)))
    shares = rng.dirichlet(np.full(k, float(np.exp(rng.uniform(np.log(0.3), np.log(30.0))))))
    codes = rng.choice(k, size=n, p=shares)
    codes[rng.permutation(n)[:k]] = np.arange(k)
    return np.asarray(codes, dtype=np.int64)


def _means(assembly: Assembly, codes: IntArray, within: BoolArray | None = None) -> list[tuple[int, Functional]]:
    """(mask, group mean) of each group that has a member."""
    found = []
    for g in range(int(codes.max()) + 1):
        members = codes == g
        if within is not None:
            members = members & within
        if members.any():
            mask = assembly.mask(members)
            found.append((mask, assembly.mean(mask, label=f"group {g}")))
    return found


def _range(assembly: Assembly, codes: IntArray, width: float, within: BoolArray | None = None) -> None:
    members = tuple(f for _, f in _means(assembly, codes, within))
    if len(members) >= 2:
        assembly.ranges.append(Range(members, width))


def range_rows(assembly: Assembly, setting: Setting, rng: Generator, tolerance: float) -> None:
    _range(assembly, setting.codes[0], tolerance)


def pair_rows(assembly: Assembly, setting: Setting, rng: Generator, tolerance: float) -> None:
    for (_, a), (_, b) in itertools.combinations(_means(assembly, setting.codes[0]), 2):
        assembly.linear.append(Linear(a.plus(b, -1.0), -tolerance, tolerance))


def overall_rows(assembly: Assembly, setting: Setting, rng: Generator, tolerance: float) -> None:
    everyone = assembly.mean(assembly.mask(np.ones(assembly.n, dtype=np.bool_)), label="all")
    for _, a in _means(assembly, setting.codes[0]):
        row = a.plus(everyone, -1.0)
        if len({mask for mask, _ in row.means}) > 1:  # the only group minus all is the zero row, which presolve drops
            assembly.linear.append(Linear(row, -tolerance, tolerance))


def reference_rows(assembly: Assembly, setting: Setting, rng: Generator, tolerance: float) -> None:
    for _, a in _means(assembly, setting.codes[0]):
        assembly.linear.append(Linear(a.plus(Functional(const=-setting.constant, label="reference")), -tolerance, tolerance))


def ratio_rows(assembly: Assembly, setting: Setting, rng: Generator, tolerance: float) -> None:
    ratio = 1.0 if tolerance == 0.0 else float(np.round(rng.uniform(0.5, 0.99), 2))
    for (_, a), (_, b) in itertools.permutations(_means(assembly, setting.codes[0]), 2):
        assembly.linear.append(Linear(a.plus(b, -ratio), 0.0, INF))


def ratio_range_rows(assembly: Assembly, setting: Setting, rng: Generator, tolerance: float) -> None:
    """ratio * max - min <= width: of width 0 (the four-fifths rule) or the tolerance, at times with overlapping groups beside it."""

    def ratio() -> float:
        return float(rng.choice([0.0, 0.8, 0.95, np.round(rng.uniform(0.05, 0.99), 2)]))

    def add(codes: IntArray, within: BoolArray | None = None) -> None:
        members = tuple(f for _, f in _means(assembly, codes, within))
        assembly.ranges.append(Range(members, tolerance if rng.uniform() < 0.4 else 0.0, ratio=ratio()))

    if rng.uniform() < 0.3:  # in strata; one group alone is a lower bound
        for stratum in (setting.label, ~setting.label):
            if stratum.any():
                add(setting.codes[0], stratum)
        return
    add(setting.codes[0])
    if rng.uniform() < 0.3:
        add(setting.codes[1])
    elif rng.uniform() < 0.3:
        _range(assembly, setting.codes[1], tolerance)


def bound_rows(assembly: Assembly, setting: Setting, rng: Generator, tolerance: float) -> None:
    for _, a in _means(assembly, setting.codes[0]):
        side = int(rng.integers(3))
        low = -INF if side == 0 else setting.constant - tolerance
        high = INF if side == 1 else setting.constant + tolerance
        assembly.linear.append(Linear(a, low, high))


def residual_rows(assembly: Assembly, setting: Setting, rng: Generator, tolerance: float) -> None:
    targets = assembly.value(setting.targets)
    for mask, a in _means(assembly, setting.codes[0]):
        row = a.plus(Functional(value_means=((-1.0, mask, targets),), label="targets"))
        assembly.linear.append(Linear(row, -tolerance, tolerance))


def residual_range_rows(assembly: Assembly, setting: Setting, rng: Generator, tolerance: float) -> None:
    targets = assembly.value(setting.targets)
    members = tuple(
        a.plus(Functional(value_means=((-1.0, mask, targets),), label="targets")) for mask, a in _means(assembly, setting.codes[0])
    )
    if len(members) >= 2:
        assembly.ranges.append(Range(members, tolerance))
    else:
        residual_rows(assembly, setting, rng, tolerance)


def covariance_rows(assembly: Assembly, setting: Setting, rng: Generator, tolerance: float) -> None:
    """abs(1/n sum (s_i - mean s) y_i) <= tolerance, at times beside group rows."""
    s = setting.continuous
    dense = tuple(((s - s.mean()) / assembly.n).tolist())
    assembly.linear.append(Linear(Functional(dense=dense, label="covariance"), -tolerance, tolerance))
    if rng.uniform() < 0.5:
        _range(assembly, setting.codes[0], tolerance)
    if rng.uniform() < 0.3:
        mixed = assembly.mean(assembly.mask(setting.codes[1] == 0)).plus(Functional(dense=dense, label="covariance"), 0.5)
        assembly.linear.append(Linear(mixed, -INF, setting.constant + tolerance))


def overlap_rows(assembly: Assembly, setting: Setting, rng: Generator, tolerance: float) -> None:
    """Two overlapping attributes, and now and then their intersection."""
    _range(assembly, setting.codes[0], tolerance)
    if rng.uniform() < 0.5:
        _range(assembly, setting.codes[1], tolerance * float(rng.uniform(0.5, 2.0)))
    else:
        for (_, a), (_, b) in itertools.combinations(_means(assembly, setting.codes[1]), 2):
            assembly.linear.append(Linear(a.plus(b, -1.0), -tolerance, tolerance))
    if rng.uniform() < 0.3:
        both = np.unique(setting.codes[0] * 8 + setting.codes[1], return_inverse=True)[1].astype(np.int64).reshape(-1)
        if both.max() < 12:
            _range(assembly, both, tolerance * 2.0)


def strata_rows(assembly: Assembly, setting: Setting, rng: Generator, tolerance: float) -> None:
    """Equalised odds: one range in each stratum of the label."""
    for stratum in (setting.label, ~setting.label):
        _range(assembly, setting.codes[0], tolerance, stratum)
    if not assembly.ranges:
        range_rows(assembly, setting, rng, tolerance)


def mixture_rows(assembly: Assembly, setting: Setting, rng: Generator, tolerance: float) -> None:
    """Two or three of the others joined, on either attribute."""
    names = [name for name in BUILDERS if name not in ("ratio_range", "mixture")]
    for name in rng.choice(len(names), int(rng.integers(2, 4)), replace=False):
        codes = setting.codes if rng.uniform() < 0.5 else setting.codes[::-1]
        other = Setting(codes, setting.label, setting.targets, setting.continuous, setting.constant, setting.scale)
        BUILDERS[names[int(name)]](assembly, other, rng, tolerance)


BUILDERS: dict[str, Callable[[Assembly, Setting, Generator, float], None]] = {
    "range": range_rows,
    "pairs": pair_rows,
    "overall": overall_rows,
    "reference": reference_rows,
    "ratio": ratio_rows,
    "bound": bound_rows,
    "residual": residual_rows,
    "residual_range": residual_range_rows,
    "covariance": covariance_rows,
    "overlap": overlap_rows,
    "strata": strata_rows,
    "ratio_range": ratio_range_rows,
    "mixture": mixture_rows,
}
STRUCTURES = tuple(BUILDERS)


def add_structure(name: str, assembly: Assembly, setting: Setting, rng: Generator, tolerance: float) -> None:
    BUILDERS[name](assembly, setting, rng, tolerance)
