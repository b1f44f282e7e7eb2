"""The judge's own constraints: plain loops over the samples of a description, in rational numbers. Nothing here knows fairopt.

Member      f = sum_j scale_j * mean(y over samples_j) + sum_i dense_i y_i + offset
Constraint  one member with lower <= f <= upper, or several with ratio * max f - min f <= width
Block       constraints that share a softness: "hard" (each alone), "priced" and "penalised" (each alone), "budgeted" (all of a part)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tests.fuzz.draw import Draw

F = Fraction
U64 = F(1, 2**53)
ZERO, ONE = F(0), F(1)


@dataclass
class Member:
    terms: list[tuple[Fraction, list[int]]] = field(default_factory=list)
    offset: Fraction = ZERO
    dense: list[Fraction] | None = None
    loose: list[Fraction] | None = None  # how far fairopt's float64 coefficient of each sample may be from the exact one

    def coefficients(self, n: int) -> list[Fraction]:
        a = [F(0)] * n if self.dense is None else list(self.dense)
        for scale, samples in self.terms:
            share = scale / len(samples)
            for i in samples:
                a[i] += share
        return a


@dataclass
class Constraint:
    members: list[Member]
    lower: Fraction | None = None
    upper: Fraction | None = None
    width: Fraction | None = None
    ratio: Fraction = ONE
    words: str = ""
    spec: tuple[dict[str, Any], int] | None = None  # the notion, and the number of a custom row


@dataclass
class Block:
    kind: str  # hard, priced, budgeted, penalised
    weight: float
    constraints: list[Constraint]


def blocks_of(d: Draw) -> list[Block]:
    """All constraints of a description that no absent group makes vacuous."""
    blocks: list[Block] = []
    for part in d["parts"]:
        found = [c for spec in part["members"] for c in constraints_of(spec, d)]
        kind, weight = part["soft"] or ("hard", math.inf)
        if kind == "budgeted":
            blocks += [Block(kind, weight, found)] if found else []
        else:
            blocks += [Block(kind, weight, [c]) for c in found]
    return blocks


def constraints_of(spec: dict[str, Any], d: Draw) -> list[Constraint]:
    name = spec["name"]
    found: list[Constraint | None]
    if name == "custom":
        found = [_custom(row, spec, k, d) for k, row in enumerate(spec["rows"])]
    elif name == "ScoreCovariance":
        found = [_covariance(spec, d)]
    else:
        found = [*(c for where in strata(spec.get("given"), d) for c in _grouped(spec, where, d))]
    result = []
    for c in found:
        if c is None:
            continue
        if c.width is not None:
            c.members = [m for m in c.members if all(s for _, s in m.terms)]
            if len(c.members) >= 2:
                result.append(c)
        elif all(s for _, s in c.members[0].terms):
            result.append(c)
    for c in result:
        c.spec = c.spec or (spec, -1)
        c.words = c.words or name
    return result


def values_of(attribute: Any, d: Draw) -> list[Any]:
    names = [attribute] if isinstance(attribute, str) else list(attribute)
    return [tuple(d["features"][a][i] for a in names) for i in range(d["n"])]


def groups_of(attribute: Any, d: Draw) -> list[tuple[Any, list[int]]]:
    """(value, samples) of every group that has samples."""
    where: dict[Any, list[int]] = {}
    for i, v in enumerate(values_of(attribute, d)):
        where.setdefault(v, []).append(i)
    return sorted(where.items(), key=lambda item: repr(item[0]))


def strata(given: Any, d: Draw) -> list[list[int]]:
    return [list(range(d["n"]))] if given is None else [samples for _, samples in groups_of(given, d)]


def _grouped(spec: dict[str, Any], where: list[int], d: Draw) -> list[Constraint]:
    name = spec["name"]
    if name in ("DemographicParity", "EqualOpportunity", "PredictiveEquality", "EqualizedOdds"):
        every: dict[str, list[float | None]] = {
            "DemographicParity": [None],
            "EqualOpportunity": [1.0],
            "PredictiveEquality": [0.0],
            "EqualizedOdds": [1.0, 0.0],
        }
        return [c for e in every[name] for c in _parity(spec, [i for i in where if e is None or d["targets"][i] == e], d)]
    inside = set(where)
    groups = [[i for i in samples if i in inside] for _, samples in groups_of(spec["attribute"], d)]
    if name in ("MeanResidual", "ResidualParity"):
        tol = F(spec["tolerance"])
        members = [Member([(F(1), g)], -exact_sum([d["targets"][i] for i in g]) / len(g) if g else F(0)) for g in groups]
        if name == "ResidualParity":
            return [Constraint(members, width=tol)]
        return [Constraint([m], lower=-tol, upper=tol) for m in members]
    if name == "ImpactRatio":
        return [Constraint([Member([(F(1), g)]) for g in groups], width=F(0), ratio=F(spec["ratio"]))]
    assert name == "GroupMeanBound"
    low, high = (None if spec[k] is None else F(spec[k]) for k in ("lower", "upper"))
    return [Constraint([Member([(F(1), g)])], lower=low, upper=high) for g in groups]


def _parity(spec: dict[str, Any], event: list[int], d: Draw) -> list[Constraint]:
    inside, tol = set(event), F(spec["tolerance"])
    named = [(v, [i for i in samples if i in inside]) for v, samples in groups_of(spec["attribute"], d)]
    if spec["to"] == "pairs":
        return [Constraint([Member([(F(1), g)]) for _, g in named], width=tol)]
    if spec["to"] == "overall":
        base, chosen = event, None
    else:
        value = spec["to"][0]
        chosen = tuple(value) if isinstance(value, list) else (value,)
        base = next((g for v, g in named if v == chosen), [])
    return [Constraint([Member([(F(1), g), (F(-1), base)])], lower=-tol, upper=tol) for v, g in named if v != chosen]


def _covariance(spec: dict[str, Any], d: Draw) -> Constraint:
    s = [F(v) for v in d["features"]["s"]]
    n = d["n"]
    mean = sum(s, F(0)) / n
    size = sum((abs(v) for v in s), F(0)) / n
    loose = [4 * U64 * (abs(v) + size) / n for v in s]  # s - mean(s) and its division by n in float64
    tol = F(spec["tolerance"])
    return Constraint([Member(dense=[(v - mean) / n for v in s], loose=loose)], lower=-tol, upper=tol)


def _custom(row: dict[str, Any], spec: dict[str, Any], k: int, d: Draw) -> Constraint | None:
    member = Member(offset=F(row["constant"]))
    for term in row["terms"]:
        c = F(term[0])
        if term[1] == "weighted":
            member.dense = [c * F(v) / d["n"] for v in term[2]]
            member.loose = [2 * U64 * abs(a) for a in member.dense]
        else:
            samples = list(range(d["n"]))
            if term[1] == "group":
                samples = [i for i in samples if d["features"]["g"][i] == term[2]]
            elif term[1] == "mask":
                samples = [i for i in samples if term[2][i]]
            member.terms.append((c, samples))
    if math.isinf(row["limit"]):  # open
        return None
    limit = F(row["limit"])
    low = {"abs": -limit, "ge": limit, "le": None}[row["op"]]
    high = {"abs": limit, "le": limit, "ge": None}[row["op"]]
    return Constraint([member], lower=low, upper=high, spec=(spec, k), words=f"custom row {k}")


# exact values -----------------------------------------------------------------------------------------------------------------


def exact_sum(values: Sequence[float]) -> Fraction:
    """The exact sum of floats: integers over one power of two."""
    if not values:
        return F(0)
    pairs = [float(v).as_integer_ratio() for v in values]
    bits = max(q.bit_length() for _, q in pairs) - 1
    return F(sum(p << (bits + 1 - q.bit_length()) for p, q in pairs), 1 << bits)


def member_value(m: Member, y: Sequence[Any]) -> Fraction:
    """The member at ``y``: floats or rationals."""
    total = m.offset
    floats = not y or isinstance(y[0], float)
    for scale, samples in m.terms:
        inside = exact_sum([y[i] for i in samples]) if floats else sum((y[i] for i in samples), F(0))
        total += scale * inside / len(samples)
    if m.dense is not None:
        total += sum((a * F(v) for a, v in zip(m.dense, y, strict=True)), F(0))
    return total


def looseness(m: Member, y: Sequence[Any]) -> Fraction:
    """What the rounding of fairopt's coefficients can change in the member's value at ``y``."""
    return F(0) if m.loose is None else sum((e * abs(F(v)) for e, v in zip(m.loose, y, strict=True)), F(0))


def violation(c: Constraint, y: Sequence[Any]) -> Fraction:
    """Signed: > 0 outside the limits, exactly. A side that is open does not count."""
    values = [member_value(m, y) for m in c.members]
    if c.width is not None:
        return c.ratio * max(values) - min(values) - c.width
    sides = [values[0] - c.upper] if c.upper is not None else []
    sides += [c.lower - values[0]] if c.lower is not None else []
    return max(sides)


def box_of(d: Draw) -> tuple[list[float], list[float]]:
    """(lb, ub) of every sample, infinite where open."""
    n = d["n"]
    if d["bounds"] is None:
        return [-math.inf] * n, [math.inf] * n
    low, high = d["bounds"]
    lb = low if isinstance(low, list) else [-math.inf if low is None else low] * n
    ub = high if isinstance(high, list) else [math.inf if high is None else high] * n
    return lb, ub


def in_box(d: Draw, y: Sequence[Any]) -> bool:
    lb, ub = box_of(d)
    return all(lo <= v <= hi for lo, v, hi in zip(lb, y, ub, strict=True))


def feasible(d: Draw, blocks: list[Block], y: Sequence[Any]) -> bool:
    """Whether ``y`` lies in the box and meets every hard row, exactly."""
    return in_box(d, y) and all(violation(c, y) <= 0 for b in blocks if b.kind == "hard" for c in b.constraints)


def widen(d: Draw, factor: float) -> bool:
    """Widen the limits of the hard notions so that the witness meets them; whether it does now."""
    y = d["witness"]
    for part in d["parts"]:
        if part["soft"] is not None:
            continue
        for spec in part["members"]:
            _widen(spec, [c for c in constraints_of(spec, d) if violation(c, y) > 0], y, factor)
    return feasible(d, blocks_of(d), y)


def _widen(spec: dict[str, Any], broken: list[Constraint], y: list[float], factor: float) -> None:
    if not broken:
        return
    if spec["name"] == "custom":
        for c in broken:
            assert c.spec is not None
            row = spec["rows"][c.spec[1]]
            value = member_value(c.members[0], y)
            row["limit"] = -up(-value, factor) if row["op"] == "ge" else up(abs(value) if row["op"] == "abs" else value, factor)
    elif spec["name"] == "GroupMeanBound":
        values = [member_value(c.members[0], y) for c in broken]
        if spec["lower"] is not None:
            spec["lower"] = min(spec["lower"], -up(-min(values), 1.0))
        if spec["upper"] is not None:
            spec["upper"] = max(spec["upper"], up(max(values), 1.0))
    elif spec["name"] == "ImpactRatio":
        spec["ratio"] = 0.0
    else:
        spec["tolerance"] = up(F(spec["tolerance"]) + max(violation(c, y) for c in broken), factor)


def up(v: Fraction, factor: float) -> float:
    """A float >= v, times about ``factor`` where v > 0."""
    try:
        x = float(v)
    except OverflowError:
        return 1.7e308 if v > 0 else -1.7e308
    if not math.isfinite(x):
        return 1.7e308 if v > 0 else -1.7e308
    if F(x) < v:
        x = math.nextafter(x, math.inf)
    return min(x * factor, 1.7e308) if x > 0 else x
