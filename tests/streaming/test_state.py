"""Loading a state: all or nothing, with an error of ours that names what is wrong, whatever is wrong with it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.streaming import AllTime, Controller, Cumulative, Forget, PooledParity, PrimalDual, Sliding, named, parity

DP = parity("g", tolerance=0.05)
STRATA = [parity(("g", "h"), tolerance=0.05, given="k"), parity("h", tolerance=0.1, given="k")]

MAKERS: dict[str, Callable[[], Controller]] = {
    "pooled": lambda: PooledParity(DP, bounds=(0, 1)),
    "strata": lambda: PooledParity(STRATA, bounds=(0, 1)),
    "sliding": lambda: PooledParity(DP, bounds=(0, 1), window=Sliding(6)),
    "forget": lambda: PooledParity(DP, bounds=(0, 1), window=Forget(5)),
    "late": lambda: PooledParity(named("mean_residual", "g", 0.05), bounds=(0, 1), window=Forget(9)),
    "paper": lambda: PrimalDual(DP, bounds=(0, 1)),
    "cumulative": lambda: Cumulative(DP, bounds=(0, 1)),
    "worker": lambda: PooledParity(DP, bounds=(0, 1)),
}


def begun(name: str) -> Controller:
    controller = MAKERS[name]()
    rng = np.random.default_rng(0)
    for k in range(8):
        extra = {"key": [f"{k}a", f"{k}b", k]} if name == "late" else {}
        controller.step(rng.random(3), sensitive_features={c: rng.choice(["a", "b"], 3) for c in controller.columns}, **extra)
    if name == "worker":
        other = controller.fork()
        other.step(0.5, sensitive_features="c")
        controller.merge(other)
        controller = controller.fork()
    return controller


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested dicts and lists (of a long list its first and last)."""
    out = [path] if path else []
    if isinstance(value, dict):
        for k in value:
            out += places(value[k], (*path, k))
    elif isinstance(value, list):
        for k in sorted({0, len(value) - 1} & set(range(len(value)))):
            out += places(value[k], (*path, k))
    return out


def put(state: Any, path: tuple[Any, ...], value: Any, *, drop: bool = False) -> Any:
    out = copy.deepcopy(state)
    inner = out
    for k in path[:-1]:
        inner = inner[k]
    if drop:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return out


BAD = [None, float("nan"), -1.0, float("inf"), "x", [], {}, [None], 10**400, True, 1.5, object()]


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(sorted(MAKERS)), st.data())
def test_a_damaged_state_changes_nothing(name: str, data: st.DataObject) -> None:
    """Any value at any place: refused by an InputError and nothing has changed; or it is a state, and it can be gone on with."""
    state = json.loads(json.dumps(begun(name).state_dict()))
    path = data.draw(st.sampled_from(places(state)))
    bad = data.draw(st.sampled_from(BAD))
    controller = MAKERS[name]()
    controller.step(
        [0.2, 0.3], sensitive_features={c: ["a", "b"] for c in controller.columns}, **({"key": ["p", "q"]} if name == "late" else {})
    )
    before = controller.state_dict()
    try:
        controller.load_state_dict(put(state, path, bad))
    except fo.InputError:
        assert controller.state_dict() == before
    else:
        json.dumps(controller.state_dict())
        controller.report()
    controller.step(
        [0.2, 0.3], sensitive_features={c: ["a", "b"] for c in controller.columns}, **({"key": ["r", "s"]} if name == "late" else {})
    )


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_missing_field_is_named(name: str) -> None:
    state = json.loads(json.dumps(begun(name).state_dict()))
    controller = MAKERS[name]()
    before = controller.state_dict()
    for field in state:
        with pytest.raises(fo.InputError, match=rf"state: {field} is missing|state: curve|state: format"):
            controller.load_state_dict(put(state, (field,), None, drop=True))
    for field in state["components"][0]:
        with pytest.raises(fo.InputError, match=rf"components\[0\].*{field} is missing"):
            controller.load_state_dict(put(state, ("components", 0, field), None, drop=True))
    assert controller.state_dict() == before
    controller.load_state_dict(state)
    assert json.loads(json.dumps(controller.state_dict())) == state


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("components", 0, "counts"), [1.0], "counts"),
        (("components", 0, "counts", 0), float("nan"), r"counts\[0\] is nan"),
        (("components", 0, "counts", 0), -1.0, r"counts\[0\] is -1"),
        (("components", 0, "counts", 0), 2.5, "whole"),
        (("components", 0, "counts", 0), 0.0, "sums"),
        (("components", 0, "sums", 0, 0), float("inf"), "sums"),
        (("components", 0, "sums", 0), [], "sums"),
        (("components", 0, "groups"), ["a", "a"], "twice"),
        (("components", 0, "groups"), [1, True], "twice|mix"),
        (("components", 0, "groups"), [1, "b"], "mix"),
        (("components", 0, "groups"), [1.0, 2.0], "float"),
        (("components", 0, "family"), 1, "families"),
        (("components", 0, "stratum"), ["x"], "stratum"),
        (("components",), [], "none of family 0"),
        (("samples",), -1, "samples"),
        (("samples",), 1.5, "samples"),
        (("steps",), 0, "steps"),
        (("distortion",), float("nan"), "distortion"),
        (("proved",), 1, "proved"),
        (("curve", "stride"), 0, "curve"),
        (("pending",), [["k", [[0, [], 5, 0]], 0.5]], "pending"),
        (("recent",), [[[[0, [], 0, 0]], [0.5]]], "recent"),
        (("format",), 2, "newer"),
        (("format",), "1", "format"),
        (("bounds",), [0.0, 2.0], "bounds"),
        (("window",), {"kind": "sliding", "n": 5}, "window"),
        (("controller",), "Cumulative", "controller"),
        (("options", "kappa"), 1.0, "options"),
        (("families", 0, "upper"), 0.1, "families"),
        (("families", 0, "attribute"), ["h"], "families"),
    ],
)  # fmt: skip
def test_what_differs_is_named(path: tuple[Any, ...], value: Any, words: str) -> None:
    state = json.loads(json.dumps(begun("pooled").state_dict()))
    controller = begun("pooled")
    before = controller.state_dict()
    with pytest.raises(fo.InputError, match=words):
        controller.load_state_dict(put(state, path, value))
    assert controller.state_dict() == before


def test_what_is_no_state_at_all() -> None:
    controller = begun("pooled")
    nothing: list[Any] = [None, [], "state", 5, {}, {"format": 1}, {"format": True}]
    for state in nothing:
        with pytest.raises(fo.InputError, match="state"):
            controller.load_state_dict(state)


@pytest.mark.parametrize("window", [AllTime(), Sliding(6), Forget(5)])
def test_a_state_of_before_lineages_still_loads(window: Any) -> None:
    """The layout as it was: sums and counts for every window, places without a time, no grain and no lineage."""
    controller = PooledParity(DP, bounds=(0, 1), window=window)
    rng = np.random.default_rng(1)
    for _ in range(9):
        controller.step(float(rng.random()), sensitive_features=str(rng.choice(["a", "b"])))
    state = json.loads(json.dumps(controller.state_dict()))
    c = controller._components[0, ()]
    state["components"][0] = {**state["components"][0], "counts": list(c.counts), "total": c.total,
                              "sums": [list(s) for s in c.sums] if c.exact else [[h] for h in c.heads]}  # fmt: skip
    state["recent"] = [[[spot[:3] for spot in spots], values] for spots, values in state["recent"]]
    del state["grain"], state["lineage"]
    twin = PooledParity(DP, bounds=(0, 1), window=window)
    twin.load_state_dict(state)
    for _ in range(9):
        z, g = float(rng.random()), str(rng.choice(["a", "b"]))
        assert twin.step(z, sensitive_features=g).scores == pytest.approx(controller.step(z, sensitive_features=g).scores, abs=1e-12)
    del state["components"][0]["counts"]
    with pytest.raises(fo.InputError, match="layout before"):
        twin.load_state_dict(state)
    far = PooledParity(DP, bounds=(5, 6))
    old = {k: v for k, v in far.state_dict().items() if k not in ("grain", "lineage")}
    with pytest.raises(fo.InputError, match="older fairopt"):
        far.load_state_dict(old)
