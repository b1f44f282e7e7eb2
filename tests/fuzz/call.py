"""From a description to fairopt's arguments, through its public names alone; and the same call as source text."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

import fairopt as fo
from tests.fuzz.draw import DTYPES, PARITY, Draw


@fo.notion
def custom(batch, attribute, rows):
    """sum_j c_j mean_j + constant <=, >= or abs <= limit, one constraint a row."""
    words = {name: mask for mask in batch.groups(attribute) for name in (mask.name,)}
    for row in rows:
        total: Any = None
        for term in row["terms"]:
            if term[1] == "group":
                f = batch.mean(words[str(term[2])])
            elif term[1] == "mask":
                f = batch.mean(np.array(term[2], dtype=bool))
            elif term[1] == "all":
                f = batch.mean()
            else:
                f = batch.weighted(term[2])
            f = f if term[0] == 1.0 else term[0] * f
            total = f if total is None else total + f
        if row["constant"]:
            total = total + row["constant"]
        if row["op"] == "abs":
            yield abs(total) <= row["limit"]
        elif row["op"] == "le":
            yield total <= row["limit"]
        else:
            yield total >= row["limit"]


def notion_of(d: Draw, learned: list[Tensor] | None = None) -> Any:
    """The notion; with ``learned`` its tolerances are tensors, collected there."""
    joined: Any = None
    for part in d["parts"]:
        one: Any = None
        for spec in part["members"]:
            leaf = _leaf(spec, learned)
            one = leaf if one is None else one & leaf
        if part["soft"] is not None:
            kind, weight = part["soft"]
            one = getattr(one, kind)(weight)
        joined = one if joined is None else joined & one
    return joined


def _leaf(spec: dict[str, Any], learned: list[Tensor] | None) -> Any:
    name, attribute = spec["name"], spec["attribute"]
    attribute = tuple(attribute) if isinstance(attribute, list) else attribute
    given = {} if spec.get("given") is None else {"given": spec["given"]}
    if name == "custom":
        return custom(attribute, spec["rows"])
    tolerance: Any = spec.get("tolerance")
    if learned is not None and tolerance is not None:
        tolerance = torch.tensor(tolerance, dtype=torch.float64, requires_grad=True)
        learned.append(tolerance)
    if name in PARITY:
        to = spec["to"]
        if isinstance(to, list):
            value = tuple(to[0]) if isinstance(to[0], list) else to[0]
            to = fo.Reference(value)
        return getattr(fo, name)(attribute, tolerance=tolerance, to=to, **given)
    if name == "ImpactRatio":
        return fo.ImpactRatio(attribute, ratio=spec["ratio"], **given)
    if name == "GroupMeanBound":
        return fo.GroupMeanBound(attribute, lower=spec["lower"], upper=spec["upper"], **given)
    return getattr(fo, name)(attribute, tolerance=tolerance, **given)


def scores_of(d: Draw) -> Tensor:
    z = torch.tensor(d["scores"], dtype=torch.float64).to(DTYPES[d["dtype"]])
    z = z[:, None] if d["column"] else z
    return z.requires_grad_(True) if d["grad"] else z


def arguments_of(d: Draw) -> dict[str, Any]:
    bounds = d["bounds"]
    if bounds is not None:
        bounds = tuple(torch.tensor(b, dtype=torch.float64) if isinstance(b, list) else b for b in bounds)
    weights = None if d["weights"] is None else torch.tensor(d["weights"], dtype=torch.float64)
    return {
        "sensitive_features": {k: list(v) for k, v in d["features"].items()},
        "targets": None if d["targets"] is None else list(d["targets"]),
        "bounds": bounds,
        "weights": weights,
        "groups": d["groups"],
        "backend": d["backend"],
        "on_infeasible": d["on_infeasible"],
    }


def source_of(d: Draw) -> str:
    """The call as text, for a report."""
    used = {a for p in d["parts"] for m in p["members"] for key in ("attribute", "given") for a in _names(m.get(key))}
    told = "".join(words for key, words in (("column", " (n, 1)"), ("grad", " grad"), ("learn", " tensor tolerances")) if d[key])
    words = [f"scores {d['dtype']}{told} {d['scores']!r}", f"notion {notion_of(d)!r}"]
    words += [f"features { ({k: v for k, v in d['features'].items() if k in used})!r}"]
    words += [f"{k} {d[k]!r}" for k in ("targets", "bounds", "weights", "groups") if d[k] is not None]
    return "\n      ".join([*words, f"on_infeasible {d['on_infeasible']!r}, backend {d['backend']!r}, witness {d['witness']!r}"])


def _names(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)
