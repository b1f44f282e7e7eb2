"""A failing draw made smaller while it fails in the same way: fewer parts, fewer samples, fewer options."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

from tests.fuzz.draw import Draw
from tests.fuzz.judge import Verdict

TRIES = 120


def shrunk(d: Draw, kind: str, judge: Callable[[Draw], Verdict]) -> tuple[Draw, str]:
    """The smallest draw found with a fault of ``kind``, and the fault's words. ``judge`` gives up early: a slow draw stays as it is."""
    words = next((w for k, w in judge(copy.deepcopy(d)).faults if k == kind), "")
    if not words:
        return d, "(too slow to be made smaller)"
    left = TRIES
    again = True
    while again and left > 0:
        again = False
        for smaller in candidates(d):
            left -= 1
            if left <= 0:
                break
            try:
                faults = judge(copy.deepcopy(smaller)).faults
            except Exception:
                continue
            found = next((w for k, w in faults if k == kind), None)
            if found is not None:
                d, words, again = smaller, found, True
                break
    return d, words


def candidates(d: Draw) -> Iterator[Draw]:
    for k in range(len(d["parts"])):
        if len(d["parts"]) > 1:
            yield {**d, "parts": d["parts"][:k] + d["parts"][k + 1 :]}
        members = d["parts"][k]["members"]
        for j in range(len(members)):
            if len(members) > 1:
                yield _part(d, k, {**d["parts"][k], "members": members[:j] + members[j + 1 :]})
            if members[j]["name"] == "custom" and len(members[j]["rows"]) > 1:
                for r in range(len(members[j]["rows"])):
                    fewer = {**members[j], "rows": members[j]["rows"][:r] + members[j]["rows"][r + 1 :]}
                    yield _part(d, k, {**d["parts"][k], "members": [*members[:j], fewer, *members[j + 1 :]]})
        if d["parts"][k]["soft"] is not None:
            yield _part(d, k, {**d["parts"][k], "soft": None})
    n = d["n"]
    for size in (n // 2, n // 4, 1):
        if size >= 1 and n > 1:
            for first in range(0, n, size):
                yield from _without(d, range(first, min(first + size, n)))
            if n > 12 and size < 4:
                break
    for key in ("weights", "groups", "bounds"):
        if d[key] is not None:
            yield {**d, key: None}
    if d["dtype"] != "float64":
        yield {**d, "dtype": "float64"}
    for key, plain in (("column", False), ("grad", False), ("learn", False), ("on_infeasible", "raise"), ("backend", "auto")):
        if d[key] != plain:
            yield {**d, key: plain}


def _part(d: Draw, k: int, part: dict) -> Draw:
    return {**d, "parts": [*d["parts"][:k], part, *d["parts"][k + 1 :]]}


def _without(d: Draw, gone: range) -> Iterator[Draw]:
    """The draw without some samples; a witness of fewer samples need not meet the rows, so it goes."""
    keep = [i for i in range(d["n"]) if i not in gone]
    if not keep:
        return

    def cut(v):
        return [v[i] for i in keep] if isinstance(v, list) else v

    parts = copy.deepcopy(d["parts"])
    for part in parts:
        for spec in part["members"]:
            for row in spec.get("rows", []):
                for term in row["terms"]:
                    if term[1] in ("mask", "weighted"):
                        term[2] = cut(term[2])
                row["terms"] = [t for t in row["terms"] if t[1] != "group" or t[2] in cut(d["features"]["g"])]
            if "rows" in spec:
                spec["rows"] = [r for r in spec["rows"] if r["terms"]]
                if not spec["rows"]:
                    return
    yield {
        **d,
        "n": len(keep),
        "scores": cut(d["scores"]),
        "features": {k: cut(v) for k, v in d["features"].items()},
        "targets": cut(d["targets"]),
        "bounds": None if d["bounds"] is None else [cut(b) for b in d["bounds"]],
        "weights": cut(d["weights"]),
        "witness": None,
        "parts": parts,
    }
