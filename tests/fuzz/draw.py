"""One draw of the fuzzer: a plain description, made from (seed, index) alone.

A description is a dict of lists, floats and words. ``call`` makes fairopt's arguments from it and ``rows`` the judge's constraints, so that
the two share the description and nothing else. Every number is one that may be passed: what comes back from fairopt is an answer, or an
InfeasibleError that is true, and nothing else.

    n, dtype, scores (n floats of that dtype), column (whether the scores are passed as (n, 1)), grad
    learn      whether tolerances are passed as float64 tensors that require grad
    features   name -> n values;  groups  declared vocabularies or None;  targets  n floats or None
    parts      [{"members": [notion, ...], "soft": None or [kind, weight]}, ...]: joined with &
    bounds     None or [lower, upper], each None, a float or n floats;  weights  None or n floats
    on_infeasible, backend
    witness    n floats that lie in the box and were meant to meet every hard row (the judge checks them), or None
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

Draw = dict[str, Any]
Rng = np.random.Generator

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LARGEST = {"float64": 1.797e308, "float32": 3.4e38, "bfloat16": 3.38e38, "float16": 65504.0}
PARITY = ("DemographicParity", "EqualOpportunity", "PredictiveEquality", "EqualizedOdds")


def describe(seed: int, index: int) -> Draw:
    """The draw number ``index`` of ``seed``."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    wild = float(rng.choice([0.0, 0.1, 0.35]))  # how often each choice is an extreme one
    exact = rng.random() < 0.15  # small dyadic numbers at scale 1: sums without rounding
    n = _size(rng, wild)
    dtype = "float64" if exact else str(rng.choice(list(DTYPES), p=[0.58, 0.24, 0.1, 0.08]))
    scale = 1.0 if exact else _scale(rng, wild, dtype)
    scores = _scores(rng, n, scale, wild, exact)
    scores = rounded(scores, dtype)
    features, groups = _features(rng, n, wild)
    targets = _targets(rng, n, scores, scale, exact)
    bounds, inside = _bounds(rng, scores, scale, wild, exact, dtype)
    d: Draw = {
        "seed": seed, "index": index, "n": n, "dtype": dtype, "scores": scores.tolist(), "column": bool(rng.random() < 0.1),
        "grad": bool(rng.random() < 0.7), "features": features, "groups": groups, "targets": targets, "bounds": bounds,
        "weights": _weights(rng, n, wild), "witness": None,
        "on_infeasible": str(rng.choice(["raise", "closest", "passthrough"], p=[0.7, 0.2, 0.1])), "backend": "auto",
    }  # fmt: skip
    d["parts"] = _parts(rng, d, scale, wild, exact)
    d["learn"] = bool(rng.random() < 0.08)
    if rng.random() < (0.9 if exact else 0.6):
        _admit(rng, d, inside, exact)
    d["backend"] = _backend(rng, d)
    return d


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """The nearest finite numbers of ``dtype``, as float64."""
    top = float(torch.finfo(DTYPES[dtype]).max)
    t = torch.from_numpy(np.clip(np.nan_to_num(values, nan=0.0, posinf=top, neginf=-top), -top, top)).to(DTYPES[dtype])
    return t.to(torch.float64).numpy().copy()


def _size(rng: Rng, wild: float) -> int:
    x = rng.random()
    if x < 0.55:
        return int(rng.integers(1, 13))
    if x < 0.97:
        return int(rng.integers(12, 61))
    return int(rng.integers(61, 400)) if x < 0.993 else int(rng.integers(400, 5001))


def _scale(rng: Rng, wild: float, dtype: str) -> float:
    if rng.random() >= wild:
        return 1.0
    top = LARGEST[dtype]
    extremes = {"float64": [1e-310, 5e-324, 1e-300, 1e150, 1e300, 1.7e308], "float16": [6e4, 6e-8, 1e-5]}.get(dtype, [3e38, 1e-38, 1e-42])
    if rng.random() < 0.25:
        return float(rng.choice(extremes))
    return min(top, 10.0 ** float(rng.uniform(-30, 30) if dtype != "float16" else rng.uniform(-6, 4.5)))


def _scores(rng: Rng, n: int, scale: float, wild: float, exact: bool) -> np.ndarray:
    if exact:
        return rng.integers(-32, 33, n) / 8.0
    kind = rng.choice(["normal", "uniform", "ties", "constant", "far", "two"], p=[0.35, 0.35, 0.12, 0.04, 0.07, 0.07])
    if kind == "normal":
        base = rng.normal(size=n)
    elif kind == "uniform":
        base = rng.random(n)
    elif kind == "ties":
        base = rng.choice(rng.normal(size=3), n)
    elif kind == "constant":
        base = np.full(n, rng.normal())
    elif kind == "two":
        base = rng.choice([0.0, 1.0], n)
    else:
        base = rng.normal(size=n) * 10.0 ** rng.uniform(-8, 8, n)
    if rng.random() < wild:
        base = base + float(rng.choice([1e8, -1e8, 1e3, 1e15]))
    with np.errstate(over="ignore", under="ignore"):
        return base * scale


def _features(rng: Rng, n: int, wild: float) -> tuple[dict[str, list[Any]], dict[str, list[Any]] | None]:
    features: dict[str, list[Any]] = {}
    groups: dict[str, list[Any]] = {}
    for name, most in (
        ("g", int(rng.choice([1, 2, 2, 2, 3, 3, 4, 6, max(1, min(n, 12)), max(1, min(n // 2, 50))]))),
        ("h", int(rng.choice([1, 2, 2, 3]))),
    ):
        kind = rng.choice(["int", "str", "bool"], p=[0.4, 0.5, 0.1])
        most = min(most, 2) if kind == "bool" else most
        p = rng.dirichlet(np.full(most, 0.5 if rng.random() < 0.3 else 5.0))
        codes = rng.choice(most, n, p=p).tolist()
        if rng.random() < 0.2 and n >= most:
            codes = [k % most for k in range(n)]
        kinds: dict[str, list[Any]] = {"int": list(range(most + 1)), "str": [chr(97 + k) for k in range(most + 1)], "bool": [False, True]}
        words = kinds[str(kind)]
        features[name] = [words[c] for c in codes]
        if rng.random() < 0.25:
            groups[name] = words  # the last one is absent
    size = float(rng.choice([1e-155, 1e155, 1e-30, 1e30, 1e8])) if rng.random() < wild else 1.0
    centre = float(rng.choice([0.0, 0.0, 40.0]))
    features["s"] = ((rng.normal(size=n) + centre) * size).tolist()
    return features, groups or None


def _targets(rng: Rng, n: int, scores: np.ndarray, scale: float, exact: bool) -> list[float]:
    if rng.random() < 0.6:
        return [float(t) for t in rng.integers(0, 2, n)]
    if exact:
        return [float(t) for t in rng.integers(-32, 33, n) / 8.0]
    factor, noise = rng.uniform(0.5, 1.5), rng.normal(size=n)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return [_finite(float(t)) for t in scores * factor + scale * noise]


def _weights(rng: Rng, n: int, wild: float) -> list[float] | None:
    if rng.random() < 0.55:
        return None
    width = 12.0 if rng.random() < wild else float(rng.choice([0.3, 1.0, 3.0]))
    if rng.random() < 0.1:
        return [float(w) for w in 2.0 ** rng.integers(-3, 4, n)]
    return [float(w) for w in 10.0 ** rng.uniform(-width, width, n)]


def _bounds(rng: Rng, z: np.ndarray, scale: float, wild: float, exact: bool, dtype: str) -> tuple[list[Any] | None, np.ndarray]:
    """The box, and a point inside it, finite ends within the range of the dtype (between two neighbouring numbers it may hold none)."""
    bounds, inside = _wide_bounds(rng, z, scale, wild, exact, dtype)
    if bounds is None:
        return None, inside
    top = float(torch.finfo(DTYPES[dtype]).max)

    def cut(v: Any) -> Any:
        if isinstance(v, list):
            return [cut(x) for x in v]
        return v if v is None or math.isinf(v) else 0.0 if math.isnan(v) else min(max(v, -top), top)

    return [cut(b) for b in bounds], np.clip(np.nan_to_num(inside), -top, top)


def _wide_bounds(rng: Rng, z: np.ndarray, scale: float, wild: float, exact: bool, dtype: str) -> tuple[list[Any] | None, np.ndarray]:
    n = int(z.shape[0])
    low, high = float(z.min()), float(z.max())
    spread = (high - low) if high > low and math.isfinite(high - low) else max(abs(high), scale)
    x = rng.random()
    step = (lambda v: np.round(v * 8) / 8) if exact else (lambda v: v)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if x < 0.35:
            return None, np.full(n, float(np.median(z)))
        if x < 0.65:  # uniform
            kind = rng.choice(["wide", "cross", "narrow", "one", "unit", "beside"])
            a, b = {
                "wide": (low - spread, high + spread),
                "cross": (low + 0.2 * spread, high - 0.3 * spread),
                "narrow": (low + 0.5 * spread, low + 0.5 * spread + 1e-6 * spread),
                "one": (low + 0.3 * spread, math.inf),
                "unit": (0.0, scale),
                "beside": (high + 0.5 * spread, high + spread),
            }[str(kind)]
            a, b = _finite(float(step(a))), _finite(float(step(b))) if b != math.inf else b
            a, b = min(a, b), max(a, b)
            inside = np.full(n, np.clip(float(np.median(z)), a, b))
            sides: list[Any] = [None if rng.random() < 0.1 else a, None if rng.random() < 0.1 or b == math.inf else b]
            return sides, inside
        centre = z if rng.random() < 0.6 else np.full(n, float(np.median(z)))
        inside = step(centre + spread * rng.normal(size=n) * float(rng.choice([0.0, 0.1, 1.0])))
        inside = np.clip(inside, -LARGEST[dtype], LARGEST[dtype])
        radius = np.abs(step(spread * rng.random(n) * float(rng.choice([1e-6, 0.3, 2.0]))))
        lb, ub = inside - radius, inside + radius * rng.random(n)
        if exact:
            ub = inside + radius
        pinned = rng.random(n) < float(rng.choice([0.0, 0.0, 0.3, 0.8, 1.0]))
        if rng.random() < 0.3 and n > 1 and pinned.all():
            pinned[int(rng.integers(n))] = False
        if rng.random() < 0.7:
            inside = rounded(inside, dtype)  # a pinned score is one that the dtype has
        lb, ub = np.where(pinned, inside, np.minimum(lb, inside)), np.where(pinned, inside, np.maximum(ub, inside))
        if rng.random() < 0.3:
            lb = np.where((rng.random(n) < 0.3) & ~pinned, -np.inf, lb)
            ub = np.where((rng.random(n) < 0.3) & ~pinned, np.inf, ub)
        lb, ub = np.where(lb == np.inf, 1.7e308, lb), np.where(ub == -np.inf, -1.7e308, ub)
    return [lb.tolist(), ub.tolist()], inside


def _finite(v: float) -> float:
    return min(max(v, -1.7e308), 1.7e308) if v == v else 0.0


# notions ----------------------------------------------------------------------------------------------------------------------


def _parts(rng: Rng, d: Draw, scale: float, wild: float, exact: bool) -> list[dict[str, Any]]:
    parts = []
    for _ in range(int(rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))):
        count = 2 if rng.random() < 0.12 else 1
        members = [_notion(rng, d, scale, wild, exact) for _ in range(count)]
        parts.append({"members": members, "soft": _soft(rng, scale, wild)})
    return parts


def _soft(rng: Rng, scale: float, wild: float) -> list[Any] | None:
    if rng.random() < 0.65:
        return None
    kind = str(rng.choice(["priced", "budgeted", "penalised"]))
    weight = float(rng.choice([1.0, 0.1, 10.0, 100.0]))
    if rng.random() < wild:
        weight = float(rng.choice([0.0, 1e-12, 1e12, 1e-300, 1e300, 1e6, 1e-30]))
    if kind == "penalised":
        weight = weight or 1e-6
    return [kind, weight]


def tolerance(rng: Rng, scale: float, wild: float, exact: bool) -> float:
    if exact:
        return float(rng.choice([0.0, 0.0, 0.125, 0.5, 2.0]))
    if rng.random() < wild:
        return float(rng.choice([0.0, 1e-300, 1e-9, 1.0, 1e300, 5e-324, 1e-9 * scale, 1e-12 * scale, 1e6 * min(scale, 1e300)]))
    return float(rng.choice([0.0, 0.01, 0.05, 0.3, 1.0, 1e-6])) * scale


def _notion(rng: Rng, d: Draw, scale: float, wild: float, exact: bool) -> dict[str, Any]:
    names = [*PARITY, "MeanResidual", "ResidualParity", "ImpactRatio", "GroupMeanBound", "ScoreCovariance", "custom"]
    name = str(rng.choice(names, p=[0.26, 0.06, 0.04, 0.06, 0.09, 0.07, 0.1, 0.1, 0.08, 0.14]))
    if name in PARITY and not set(d["targets"]) <= {0.0, 1.0}:
        name = "DemographicParity"  # the others are about labels
    attribute: Any = ["g", "h", ("g", "h")][int(rng.choice(3, p=[0.7, 0.15, 0.15]))]
    given = None if rng.random() < 0.8 else ("h" if attribute == "g" else ("g" if attribute == "h" else None))
    tol = tolerance(rng, scale, wild, exact)
    spec: dict[str, Any] = {"name": name, "attribute": attribute}
    if name in PARITY:
        to: Any = str(rng.choice(["pairs", "pairs", "overall", "reference"]))
        if to == "reference":
            row = int(rng.integers(d["n"]))
            to = [[d["features"][a][row] for a in attribute] if isinstance(attribute, tuple) else d["features"][attribute][row]]
        return {**spec, "tolerance": tol, "to": to, "given": given}
    if name in ("MeanResidual", "ResidualParity"):
        return {**spec, "tolerance": tol, "given": given}
    if name == "ImpactRatio":
        return {**spec, "ratio": float(rng.choice([0.8, 0.5, 1.0, 0.0, 0.9, 1e-9])), "given": given}
    if name == "GroupMeanBound":
        z = np.asarray(d["scores"])
        centre = float(z[int(rng.integers(d["n"]))])
        lower, upper = sorted((_finite(centre - tol), _finite(centre + tolerance(rng, scale, wild, exact))))
        sides = int(rng.integers(3))
        return {**spec, "lower": None if sides == 0 else lower, "upper": None if sides == 1 else upper, "given": given}
    if name == "ScoreCovariance":
        size = float(np.abs(d["features"]["s"]).max())
        with np.errstate(over="ignore"):
            return {"name": name, "attribute": "s", "tolerance": _finite(tol * size if rng.random() < 0.8 else tol)}
    return {"name": "custom", "attribute": "g", "rows": [_custom(rng, d, scale, wild, exact) for _ in range(int(rng.integers(1, 5)))]}


def _custom(rng: Rng, d: Draw, scale: float, wild: float, exact: bool) -> dict[str, Any]:
    """coefficients times means of groups, plus a constant, compared with a limit: sum_j c_j mean_j + constant <= / >= / abs <= limit."""
    n: int = d["n"]
    words = sorted(set(d["features"]["g"]))
    count = int(rng.integers(1, min(3, len(words)) + 1))
    chosen = rng.permutation(len(words))[:count].tolist()
    coefficients = [1.0, -1.0, 0.5] if exact or rng.random() < 0.7 else [0.1, -3.0, 7.0, 1e-3, 1e6]
    terms: list[Any] = [[float(rng.choice(coefficients)), "group", words[k]] for k in chosen]
    if count == 2 and rng.random() < 0.5:
        terms[0][0], terms[1][0] = 1.0, -1.0
    if rng.random() < 0.2:
        terms = [[float(rng.choice(coefficients)), "mask", [bool(b < 0.5) for b in rng.random(n).tolist()]]]
    elif rng.random() < 0.1:
        terms.append([float(rng.choice(coefficients)), "all"])
    elif rng.random() < 0.1 and not exact:
        terms = [[1.0, "weighted", (rng.normal(size=n) * float(rng.choice([1.0, 1e6, 1e-6]))).tolist()]]
    constant = 0.0 if rng.random() < 0.6 else (float(rng.integers(-8, 9)) / 8 if exact else float(rng.normal()) * scale)
    op = str(rng.choice(["le", "ge", "abs"]))
    limit = tolerance(rng, scale, wild, exact) * (1.0 if op == "abs" or rng.random() < 0.7 else -1.0)
    if rng.random() < 0.1 * wild:
        limit = -math.inf if op == "ge" else math.inf
    return {"terms": terms, "constant": _finite(constant), "op": op, "limit": limit}


def _backend(rng: Rng, d: Draw) -> str:
    x = rng.random()
    if x < 0.7:
        return "auto"
    notions = [m for p in d["parts"] for m in p["members"]]
    simple = len(notions) == 1 and notions[0]["name"] == "DemographicParity" and notions[0].get("given") is None and d["bounds"] is None
    return "closed_form" if simple and notions[0]["to"] == "pairs" else "dual_newton"


def _admit(rng: Rng, d: Draw, inside: np.ndarray, exact: bool) -> None:
    """Widen the limits of the hard rows until ``inside``, a point in the box, meets them: a draw with a known feasible point."""
    from tests.fuzz.rows import widen

    y = np.clip(np.nan_to_num(inside, nan=0.0, posinf=1.7e308, neginf=-1.7e308), -1.7e308, 1.7e308)
    if d["bounds"] is not None:
        lower, upper = d["bounds"]
        y = np.clip(y, -np.inf if lower is None else lower, np.inf if upper is None else upper)
    d["witness"] = [float(v) for v in y]
    if not widen(d, float(rng.choice([1.0, 1.0, 2.0]))):
        d["witness"] = None
