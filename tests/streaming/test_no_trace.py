"""A step, an observation, a merge or a load that fails leaves no trace: bad input of every kind, and an exception at every line."""

from __future__ import annotations

import json
import linecache
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.streaming import Controller, Cumulative, Forget, PooledParity, PrimalDual, Sliding, named, parity

STREAMING = str(Path(fo.streaming.__file__).parent)
DP = parity("g", tolerance=0.05)
TWO = [parity("g", tolerance=0.05), parity("h", tolerance=0.02)]
STRATA = parity("g", tolerance=0.05, given="h")
RESIDUAL = named("mean_residual", "g", 0.05)

MAKERS: dict[str, Callable[[], Controller]] = {
    "pooled": lambda: PooledParity(DP, bounds=(0, 1)),
    "far box": lambda: PooledParity(DP, bounds=(1e15, 1e15 + 4)),
    "wide box": lambda: PooledParity(DP, bounds=(-1e40, 1e40)),
    "two": lambda: PooledParity(TWO, bounds=(0, 1)),
    "strata": lambda: PooledParity(STRATA, bounds=(0, 1)),
    "sliding": lambda: PooledParity(DP, bounds=(0, 1), window=Sliding(7)),
    "forget": lambda: PooledParity(TWO, bounds=(0, 1), window=Forget(5)),
    "late": lambda: PooledParity(RESIDUAL, bounds=(0, 1)),
    "late, forget": lambda: PooledParity(RESIDUAL, bounds=(0, 1), window=Forget(5)),
    "odds": lambda: PooledParity(named("equalized_odds", "g", 0.05), bounds=(0, 1)),
    "cumulative": lambda: Cumulative(TWO, bounds=(0, 1)),
    "paper": lambda: PrimalDual(DP, bounds=(0, 1), b_tau=4),
    "paper, two": lambda: PrimalDual([parity("g", tolerance=0.05), parity("h", tolerance=0.05)], bounds=(0, 1), b_tau=4),
}


def request(controller: Controller, n: int, seed: int, **changes: Any) -> dict[str, Any]:
    """A good step of n samples."""
    rng = np.random.default_rng(seed)
    lb, ub = controller.lb, controller.ub
    z = (lb + (ub - lb) * rng.random(n)).tolist()
    out: dict[str, Any] = {
        "scores": z if n > 1 else z[0],
        "sensitive_features": {c: rng.choice(["a", "b", "c"][: 2 + seed % 2], n).tolist() for c in controller.columns},
    }
    if n == 1:
        out["sensitive_features"] = {k: v[0] for k, v in out["sensitive_features"].items()}
    if controller.plan.needs_targets:
        if any(f.residual for f in controller.plan.families) and seed % 2:
            out["key"] = [f"{seed}-{i}" for i in range(n)]
        else:
            out["targets"] = rng.integers(0, 2, n).tolist()
    return {**out, **changes}


def begun(name: str, steps: int = 4) -> Controller:
    controller = MAKERS[name]()
    for k in range(steps):
        call = request(controller, 1 + 2 * (k % 2), k)
        controller.step(call.pop("scores"), **call)
    return controller


# -- bad input --------------------------------------------------------------------------------------------------------------------

BAD_SCORES = [float("nan"), float("inf"), "x", None, [], [[0.1, 0.2]], [0.1, None], [0.1, "b"], True, 1j, 10**400, [10**400],
              np.ma.array([0.1, 0.2], mask=[False, True]), np.zeros((2, 2)), torch.tensor([True]), torch.tensor([1j]), torch.zeros(2, 2),
              np.array(["0.5"]), {"a": 1}, object()]  # fmt: skip
BAD_FEATURES = [None, {}, {"other": "a"}, 5.5, object(), [1, "a"], [True, 1], [1.5, 2.5], [None, "a"], ["a"] * 9, [["a", "b"], ["c", "d"]],
                np.array([1.5]), [float("nan"), 1.0], [b"a", b"b"]]  # fmt: skip
BAD_TARGETS = [float("nan"), "yes", [0.0], [1, 2, 3, 4, 5, 6, 7], None, np.inf, 10**400, 1e200, [[0.0, 1.0], [1.0, 0.0]], object()]
BAD_KEYS = [["k", "k"], ["k"], [1.5, 2.5], None, [True, False], object(), ["0-0", "new"]]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(MAKERS)), st.sampled_from(["scores", "sensitive_features", "targets", "key"]), st.data())
def test_bad_input_is_an_error_of_ours_and_leaves_no_trace(name: str, what: str, data: st.DataObject) -> None:
    controller = begun(name, data.draw(st.sampled_from([0, 4])))
    pool = {"scores": BAD_SCORES, "sensitive_features": BAD_FEATURES, "targets": BAD_TARGETS, "key": BAD_KEYS}[what]
    bad = pool[data.draw(st.integers(0, len(pool) - 1))]
    call = request(controller, 2, data.draw(st.integers(10, 50)))
    if what == "sensitive_features" and not isinstance(bad, dict):
        last = list(controller.columns)[-1]  # the others are read before, and must be forgotten too
        bad = {**call["sensitive_features"], last: bad}
    call[what] = bad
    before = controller.state_dict()
    try:
        controller.step(call.pop("scores"), **call)
    except fo.FairoptError:
        assert controller.state_dict() == before
        call = request(controller, 2, 51)
        controller.step(call.pop("scores"), **call)  # and nothing is poisoned
    else:
        assert what in ("targets", "key") or isinstance(bad, dict)  # not every notion reads them


def test_a_rejected_step_does_not_choose_the_type_of_the_groups() -> None:
    for features in ([1, "a"], ["a", 1], [1.0, None], [True, "a"]):
        controller = PooledParity(DP, bounds=(0, 1))
        fresh = controller.state_dict()
        with pytest.raises(fo.InputError):
            controller.step([0.5, 0.6], sensitive_features=features)
        with pytest.raises(fo.InputError):
            controller.step([0.5], sensitive_features=[1, 2])
        assert controller.state_dict() == fresh
        controller.step([0.5, 0.5], sensitive_features=["a", "b"])


def test_a_dtype_without_a_number_in_the_box_is_refused_and_counts_nothing() -> None:
    controller = PooledParity(DP, bounds=(1e15, 1e15 + 4))
    before = controller.state_dict()
    for z in (np.array([1e15, 1e15], dtype=np.float32), torch.tensor([1e15, 1e15]), torch.tensor([1.0, 2.0], dtype=torch.float16)):
        with pytest.raises(fo.InputError, match="no number inside"):
            controller.step(z, sensitive_features=["a", "b"])
    assert controller.state_dict() == before


@pytest.mark.parametrize("name", ["late", "late, forget"])
def test_observations_are_all_or_nothing(name: str) -> None:
    controller = MAKERS[name]()
    controller.step([0.1, 0.5, 0.9], sensitive_features=["a", "b", "a"], key=["x", "y", 3])
    before = controller.state_dict()
    for keys, targets in ((["x", "z"], [0, 1]), (["x", "x"], [0, 1]), (["x", "y"], [0, float("nan")]), (["x", "y"], [1.0]), ("x", 1e200),
                          (["x", 3.0], [0, 1]), ([], [0.0]), (None, 1.0), (["x"], None)):  # fmt: skip
        with pytest.raises(fo.InputError):
            controller.observe(keys, targets)
        assert controller.state_dict() == before
    controller.observe(["x", 3], [0.0, 1.0])
    assert controller.report().pending == 1


# -- an exception at every line ---------------------------------------------------------------------------------------------------


class Struck(BaseException):
    """Stands for KeyboardInterrupt and MemoryError."""


def strike(call: Callable[[], object], at: int) -> bool:
    """Run ``call`` and raise at line event number ``at`` inside fairopt.streaming; False where it ended before.

    ``with`` and ``try`` lines are passed over: the second event of a ``with`` lies behind the step, when its answer is on its way to the
    caller, and a bare ``try`` is no instruction at which Python looks for signals (nor one that its table of handlers covers).
    """
    left = at

    def line(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if event == "line" and not linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith(("with ", "try:")):
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise Struck
        return line

    def enter(frame: FrameType, event: str, argument: object) -> Any:
        return line(frame, event, argument) if frame.f_code.co_filename.startswith(STREAMING) else None

    old = sys.gettrace()
    sys.settrace(enter)
    try:
        call()
    except Struck:
        return True
    finally:
        sys.settrace(old)
    return False


def strike_everywhere(controller: Controller, call: Callable[[Controller], object], *, start: int = 0, stride: int = 1) -> int:
    """The number of places; after each the state must be what it was, and in the end the call must do what it does undisturbed."""
    twin = pickle.loads(pickle.dumps(controller))
    before = controller.state_dict()
    at = start % stride
    while strike(lambda: call(controller), at):
        after = controller.state_dict()
        assert after == before, (at, {k: (before[k], after[k]) for k in before if before[k] != after[k]})
        at += stride
    call(twin)
    assert controller.state_dict() == twin.state_dict()
    return at


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_step_that_is_struck_leaves_no_trace(name: str, n: int) -> None:
    for seed in (11, 12):  # with a third group or without, with targets or a key
        controller = begun(name, 5 if name != "sliding" else 9)

        def step(c: Controller, seed: int = seed) -> None:
            call = request(c, n, seed)
            c.step(call.pop("scores"), **call)

        assert strike_everywhere(controller, step, start=seed, stride=5 if n == 1 else 23) > 30


@pytest.mark.parametrize("name", ["late", "late, forget"])
def test_an_observation_that_is_struck_leaves_no_trace(name: str) -> None:
    controller = MAKERS[name]()
    controller.step([0.1, 0.5, 0.9], sensitive_features=["a", "b", "a"], key=["x", "y", 3])
    assert strike_everywhere(controller, lambda c: c.observe(["y", "x"], [0.0, 1.0])) > 20


@pytest.mark.parametrize("name", ["pooled", "two", "strata", "late"])
def test_a_merge_that_is_struck_leaves_no_trace(name: str) -> None:
    controller = begun(name, 3)
    if controller._pending:
        controller.observe(list(controller._pending), [0.0] * len(controller._pending))
    worker = controller.fork()
    call = request(worker, 3, 14, **({"targets": [0, 1, 1]} if name == "late" else {}))
    worker.step(call.pop("scores"), **call)
    before = worker.state_dict()
    twin = pickle.dumps(worker)
    at = 0
    start = controller.state_dict()
    while strike(lambda: controller.merge(worker), at):
        assert controller.state_dict() == start
        assert worker.state_dict() == before
        at += 3
    assert at > 30
    undisturbed = begun(name, 0)
    undisturbed.load_state_dict(start)
    undisturbed.merge(pickle.loads(twin))
    assert undisturbed.state_dict() == controller.state_dict()


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_load_that_is_struck_leaves_no_trace(name: str) -> None:
    state = json.loads(json.dumps(begun(name, 6).state_dict()))
    assert strike_everywhere(begun(name, 2), lambda c: c.load_state_dict(state), stride=31) > 30
