"""The forecast of the pooled rule: the plain rule on shifted scores, in every container of a run; its figures on the streams."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairopt.basics.errors import InputError
from fairopt.experiments.data.streams import KINDS
from fairopt.streaming import Forget, PooledParity, Sliding, parity
from fairopt.streaming.families import Family, named
from tests.bench.predicted_streams import CASES, TARGETS, WIDE, compare


def controller(families: object, *, predict: bool = True, **options: Any) -> PooledParity:
    return PooledParity(families, bounds=(0, 1), predict=predict, **options)


def notion(kind: str, eps: float) -> tuple[Family, ...]:
    return (parity("g", tolerance=eps),) if kind == "range" else named("mean_residual", "g", eps)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from(["range", "residual"]),
    st.integers(2, 4),
    st.sampled_from([0.0, 0.05]),
    st.sampled_from([1, 7, 64]),
)
def test_it_is_the_plain_rule_on_shifted_scores(seed: int, kind: str, groups: int, eps: float, batch: int) -> None:
    """The forecast is the only difference: a plain controller fed with the shifted scores sends the same, and its bound is the same."""
    rng = np.random.default_rng(seed)
    ours, plain = controller(notion(kind, eps)), controller(notion(kind, eps), predict=False)
    shifted = False
    for _ in range(max(4, 400 // batch)):
        codes = rng.integers(0, groups, batch)
        z = np.clip(rng.normal(0.3 + 0.2 * codes, 0.2), -0.2, 1.2)
        targets = rng.random(batch) if kind == "residual" else None
        one = batch == 1 and kind == "range"
        step = ours.step(float(z[0]) if one else z, sensitive_features=int(codes[0]) if one else codes, targets=targets)
        (component,) = ours._components.values()
        assert component.forecast is not None
        shifts = np.array([component.forecast.shifts[component.index[int(g)]] for g in codes])
        shifted |= bool(shifts.any())
        same = plain.step(np.clip(np.clip(z, 0, 1) - shifts, 0, 1), sensitive_features=codes, targets=targets)
        np.testing.assert_allclose(np.atleast_1d(step.scores), same.scores, atol=1e-12)
        if same.pooled_gaps and ours.report().bound is not None:
            assert ours.report().bound == pytest.approx(plain.report().bound, abs=1e-12)
    assert shifted


@pytest.mark.parametrize("batch", [1, 16])
def test_a_saved_run_goes_on_with_the_same_bits(batch: int) -> None:
    rng = np.random.default_rng(batch)
    ours = controller(notion("range", 0.05))

    def feed(one: PooledParity, seed: int) -> list[float]:
        draw = np.random.default_rng(seed)
        out: list[float] = []
        for _ in range(600 // batch):
            codes = draw.integers(0, 2, batch)
            z = np.clip(draw.normal(0.3 + 0.3 * codes, 0.1), 0, 1)
            sent = one.step(float(z[0]), sensitive_features=int(codes[0])) if batch == 1 else one.step(z, sensitive_features=codes)
            out += np.atleast_1d(np.asarray(sent.scores)).tolist()
        return out

    feed(ours, int(rng.integers(100)))
    again = controller(notion("range", 0.05))
    again.load_state_dict(json.loads(json.dumps(ours.state_dict())))
    assert any(any(c.forecast.shifts) for c in again._components.values() if c.forecast)
    assert feed(copy.deepcopy(ours), 7) == feed(again, 7) == feed(ours, 7)
    assert ours.state_dict()["components"] == again.state_dict()["components"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: f.pop("due"), lambda f: f.update(due=-1.0), lambda f: f.update(shifts=[float("nan"), 0.0]),
        lambda f: f.update(shifts=[0.0]),
        lambda f: f.update(counts=[0.0, 0.0, 0.0]), lambda f: f.update(old_counts=[[-1.0], [0.0]]), lambda f: f.update(old_sums=[[], []]),
        lambda f: f.update(sums=None),
    ],
)  # fmt: skip
def test_a_damaged_forecast_is_refused(damage) -> None:
    ours = controller(notion("range", 0.05))
    ours.step(np.linspace(0, 1, 40), sensitive_features=np.arange(40) % 2)
    state = json.loads(json.dumps(ours.state_dict()))
    damage(state["components"][0]["forecast"])
    fresh = controller(notion("range", 0.05))
    with pytest.raises(InputError, match="forecast"):
        fresh.load_state_dict(state)
    assert fresh.samples == 0


def test_a_state_of_the_other_rule_is_refused() -> None:
    ours = controller(notion("range", 0.05))
    with pytest.raises(InputError, match="options"):
        controller(notion("range", 0.05), predict=False).load_state_dict(ours.state_dict())


def test_merging_in_any_order_gives_the_same_forecast() -> None:
    crew = []
    for k in range(4):
        rng = np.random.default_rng(k)
        one = controller(notion("range", 0.05), groups=["a", "b"])
        for _ in range(5):
            one.step(rng.random(30), sensitive_features=rng.choice(["a", "b"], 30).tolist())
        crew.append(one)

    def joined(order: list[int]) -> object:
        first, *rest = (copy.deepcopy(crew[k]) for k in order)
        for other in rest:
            first.merge(other)
        (component,) = first._components.values()
        assert component.forecast is not None
        told = component.forecast.to_dict()
        return {g: (told["old_counts"][k], told["old_sums"][k], component.counts[k]) for g, k in component.index.items()}

    assert joined([0, 1, 2, 3]) == joined([3, 1, 0, 2]) == joined([2, 3, 1, 0])


def test_a_failed_step_leaves_the_forecast_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = controller(notion("range", 0.05))
    rng = np.random.default_rng(0)
    for _ in range(200):
        ours.step(float(rng.random()), sensitive_features=int(rng.integers(2)))
    before = ours.state_dict()
    for scores, codes in ((0.4, 1), (rng.random(9), rng.integers(0, 2, 9))):
        with monkeypatch.context() as patch:
            patch.setattr(type(ours._curve), "add", lambda *a: (_ for _ in ()).throw(RuntimeError("planted")))
            patch.setattr(ours._curve, "stride", 1)
            with pytest.raises(RuntimeError, match="planted"):
                ours.step(scores, sensitive_features=codes)
        assert ours.state_dict()["components"] == before["components"]


def test_where_there_is_none() -> None:
    two = [parity("a", tolerance=0.1), parity("b", tolerance=0.1)]
    for made in (
        controller(two),
        controller(notion("range", 0.1), window=Sliding(50)),
        controller(notion("range", 0.1), window=Forget(50.0)),
    ):
        assert all(c.forecast is None for c in made._components.values())
    with pytest.raises(InputError, match="predict: expected True or False, got 1"):
        controller(notion("range", 0.1), predict=1)  # type: ignore[arg-type]


def test_late_targets_reach_the_forecast() -> None:
    """Targets observed later leave the sums that targets given with the step do."""
    rng = np.random.default_rng(3)
    now, later = controller(notion("residual", 0.05)), controller(notion("residual", 0.05))
    z, t, codes = rng.random(40), rng.random(40), rng.integers(0, 2, 40)
    now.step(z, sensitive_features=codes, targets=t)
    later.step(z, sensitive_features=codes, key=list(range(40)))
    later.observe(list(range(40)), t)
    (a,), (b,) = now._components.values(), later._components.values()
    assert a.forecast is not None
    assert b.forecast is not None
    np.testing.assert_allclose(a.forecast.sums, b.forecast.sums, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_streams_end_nearer_to_the_tolerance(kind: str) -> None:
    for found in compare(kind, seeds=(0, 1, 2)):
        assert found.end <= 0.05 + TARGETS.end
        assert found.worst <= 0.05 + TARGETS.worst
        assert found.cost <= found.plain_cost * (1 + TARGETS.cost)
        assert found.end < found.plain_end


@pytest.mark.parametrize("name", CASES)
def test_wide_boxes_end_near_the_tolerance(name: str) -> None:
    found = WIDE[name](0)
    assert found.end <= CASES[name]
    assert found.plain_end > CASES[name]
