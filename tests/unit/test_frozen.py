"""Freezing: the frozen layer equals the layer on its calibration data, serves single rows, exports, and its population bound covers."""

from __future__ import annotations

import copy
import json
import pickle
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.layer.frozen import FrozenLayer

seeds = st.integers(0, 2**32 - 1)


def data(seed, n=300, k=3):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, k, n)
    other = rng.choice(["x", "y"], n)
    z = torch.from_numpy(np.clip(0.3 + 0.15 * groups + 0.1 * (other == "x") + rng.normal(0, 0.2, n), 0, 1))
    return z, {"g": groups, "h": other}, torch.from_numpy((rng.random(n) < 0.5).astype(float))


NOTIONS = {
    "pairs": lambda: fo.DemographicParity("g", tolerance=0.05),
    "overall": lambda: fo.DemographicParity("g", tolerance=0.05, to="overall"),
    "strata": lambda: fo.DemographicParity("g", tolerance=0.05, given="h"),
    "two": lambda: fo.DemographicParity("g", tolerance=0.05) & fo.DemographicParity("h", tolerance=0.02),
    "intersection": lambda: fo.DemographicParity(("g", "h"), tolerance=0.05),
    "residual": lambda: fo.MeanResidual("g", tolerance=0.03),
    "ratio": lambda: fo.ImpactRatio("g", ratio=0.9),
}


@settings(max_examples=15)
@given(seeds, st.sampled_from(sorted(NOTIONS)))
def test_on_the_calibration_data_it_is_the_layer(seed, name):
    z, features, targets = data(seed)
    notion = NOTIONS[name]()
    features = {k: features[k] for k in notion.attributes}
    targets = targets if notion.needs_targets else None
    layer = fo.FairnessLayer(notion, bounds=(0, 1))
    frozen = layer.freeze(z, sensitive_features=features, targets=targets)
    expected = layer(z, sensitive_features=features, targets=targets)
    got = frozen.predict(z, sensitive_features=features)
    assert (got - expected).abs().max() <= 1e-9
    for i in range(0, 300, 97):
        one = frozen.predict(float(z[i]), sensitive_features={k: v[i] for k, v in features.items()})
        assert one == pytest.approx(float(expected[i]), abs=1e-9)


@pytest.mark.parametrize("space", ["value", "probability", "logit"])
def test_spaces_and_dtypes(space):
    z, features, _ = data(0)
    logits = (z * 6 - 3).to(torch.float32)
    layer = fo.FairnessLayer(NOTIONS["pairs"](), bounds=None if space != "value" else (-2, 2), space=space)
    features = {"g": features["g"]}
    frozen = layer.freeze(logits, sensitive_features=features)
    got = frozen.predict(logits, sensitive_features=features)
    assert got.dtype == torch.float32
    assert (got - layer(logits, sensitive_features=features)).abs().max() <= 2e-6


def frozen_by(g, **options):
    z = torch.linspace(0.1, 0.9, len(g), dtype=torch.float64)
    return fo.FairnessLayer(NOTIONS["pairs"](), bounds=(0, 1)).freeze(z, sensitive_features={"g": g}, **options)


@pytest.mark.parametrize("groups", [["lo", "hi"], [1, 2], [True, False]])
def test_one_row_of_one_attribute_needs_no_name(groups):
    frozen = frozen_by(groups * 4)
    for value in groups:
        assert frozen.predict(0.5, sensitive_features=value) == frozen.predict(0.5, sensitive_features={"g": value})
    with pytest.raises(fo.InputError, match="expected 2 values"):
        frozen.predict([0.5, 0.4], sensitive_features=groups[0])


def test_an_unknown_group_is_an_error_or_gets_no_shift_by_choice():
    z, features, _ = data(1)
    layer = fo.FairnessLayer(NOTIONS["pairs"](), bounds=(0, 1))
    frozen = layer.freeze(z, sensitive_features={"g": features["g"]}, on_unknown="pass")
    assert frozen.index({"g": [0, 99, "a", None]}).tolist() == [0, frozen.unknown, frozen.unknown, frozen.unknown]
    assert frozen.predict(0.4, sensitive_features={"g": 99}) == 0.4
    assert frozen.predict(0.4, sensitive_features={"g": 0}) != 0.4
    assert len(frozen.table()) == 3
    with pytest.raises(fo.InputError, match="no 'g'"):
        frozen.index({"h": [1]})
    strict = layer.freeze(z, sensitive_features={"g": features["g"]})
    assert strict.codes({"g": [0, 99]}).tolist() == [0, strict.unknown]
    for value in (99, "a", None, float("nan")):
        with pytest.raises(fo.InputError, match=r"row 1 .*calibration had not.*on_unknown='pass'"):
            strict.index({"g": [0, value]})
        with pytest.raises(fo.InputError, match="row 0"):
            strict.predict(0.4, sensitive_features={"g": value})
    with pytest.raises(fo.InputError, match="holds 0.5"):
        strict.index({"g": [0, 0.5]})
    with pytest.raises(fo.InputError, match="on_unknown"):
        layer.freeze(z, sensitive_features={"g": features["g"]}, on_unknown="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("groups", "value", "near"),
    [([1, 0], "1", "1"), (["1", "0"], 1, "'1'"), (["M", "F"], "M ", "'M'"), (["M", "F"], "m", "'M'"), ([True, False], "true", "True")],
)
def test_a_near_match_is_unknown_and_named(groups, value, near):
    with pytest.raises(fo.InputError, match=rf"g={value!r}.*calibration had {near}, which is another value"):
        frozen_by(groups * 4).predict(0.5, sensitive_features={"g": value})


@pytest.mark.parametrize(("groups", "value"), [([1, 0], True), ([True, False], 1)])
def test_true_is_not_one(groups, value):
    with pytest.raises(fo.InputError, match="calibration had not"):
        frozen_by(groups * 4).index({"g": [value]})
    assert frozen_by([1, 0] * 4).index({"g": [1.0, np.int64(0)]}).tolist() == [1, 0]


OTHERS = {
    "names": (lambda: frozen_by(["aa", "zz"] * 4), "keys"),
    "order": (lambda: FrozenLayer(("g",), [("lo",), ("hi",)], [0.0, 0.0], lb=0, ub=1, space="value", guarantees=()), "keys"),
    "types": (lambda: FrozenLayer(("g",), [(1,), (True,)], [0.0, 0.0], lb=0, ub=1, space="value", guarantees=()), "keys"),
    "more": (lambda: frozen_by(["hi", "lo", "mid"] * 3), "keys"),
    "attribute": (lambda: FrozenLayer(("h",), [("hi",), ("lo",)], [0.0, 0.0], lb=0, ub=1, space="value", guarantees=()), "attributes"),
    "box": (lambda: FrozenLayer(("g",), [("hi",), ("lo",)], [0.0, 0.0], lb=0, ub=2, space="value", guarantees=()), "box"),
    "open": (lambda: FrozenLayer(("g",), [("hi",), ("lo",)], [0.0, 0.0], lb=0, ub=float("inf"), space="value", guarantees=()), "box"),
    "space": (lambda: FrozenLayer(("g",), [("hi",), ("lo",)], [0.0, 0.0], lb=0, ub=1, space="probability", guarantees=()), "space"),
}


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", sorted(OTHERS))
def test_a_state_of_other_groups_box_or_space_is_refused_and_changes_nothing(name, strict, assign):
    state = frozen_by(["hi", "lo"] * 4).state_dict()
    other, what = OTHERS[name][0](), OTHERS[name][1]
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(fo.InputError, match=f"state: {what} is .* this layer has"):
        other.load_state_dict(state, strict=strict, assign=assign)
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())


def test_another_tolerance_is_refused_unless_not_strict():
    z, groups = torch.linspace(0, 1, 8, dtype=torch.float64), {"g": ["hi", "lo"] * 4}
    one, two = (
        fo.FairnessLayer(fo.DemographicParity("g", tolerance=t), bounds=(0, 1)).freeze(z, sensitive_features=groups) for t in (0.0, 0.1)
    )
    with pytest.raises(fo.InputError, match=r"state: notion is .*0\.0.*this layer has .*0\.1"):
        two.load_state_dict(one.state_dict())
    two.load_state_dict(one.state_dict(), strict=False)
    assert (two.notion, two.shifts.tolist()) == (one.notion, one.shifts.tolist())
    assert two.state_dict()["setting"].tolist() == one.state_dict()["setting"].tolist()


@pytest.mark.parametrize("told", [None, torch.zeros(3, dtype=torch.uint8), torch.zeros(3), torch.tensor(list(b"[1]"), dtype=torch.uint8)])
def test_a_setting_that_is_missing_or_cannot_be_read(told):
    frozen = frozen_by(["hi", "lo"] * 4)
    state = {"shifts": frozen.shifts.clone() + 1.0, **({} if told is None else {"setting": told})}
    with pytest.raises(fo.InputError, match=r"state:? setting"):
        frozen.load_state_dict(state)
    if told is None:
        frozen.load_state_dict(state, strict=False)
        assert torch.equal(frozen.shifts, state["shifts"])
    for bad in (torch.zeros(4, dtype=torch.float64), torch.full((3,), float("nan"), dtype=torch.float64)):
        with pytest.raises(fo.InputError, match="finite numbers"):
            frozen.load_state_dict({**frozen.state_dict(), "shifts": bad})


def test_the_state_holds_tensors_alone_and_travels(tmp_path):
    frozen = frozen_by(["hi", "lo"] * 4, on_unknown="pass")
    assert all(isinstance(v, torch.Tensor) for v in frozen.state_dict().values())
    for twin in (copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen))):
        assert twin.predict(0.4, sensitive_features={"g": "lo"}) == frozen.predict(0.4, sensitive_features={"g": "lo"})
        assert (twin.on_unknown, twin.guarantees, twin.notion) == ("pass", frozen.guarantees, frozen.notion)
        twin.load_state_dict(frozen.state_dict())
    ema = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    for options in ({}, {"use_buffers": True, "multi_avg_fn": ema}):
        network = torch.nn.ModuleDict({"first": torch.nn.Linear(1, 1), "fair": frozen})
        averaged = torch.optim.swa_utils.AveragedModel(network, **options)
        for _ in range(3):
            averaged.update_parameters(network)
        network.load_state_dict(averaged.module.state_dict())
    frozen.load_state_dict({k: 0.9 * v + 0.1 * v for k, v in frozen.state_dict().items()})
    assert frozen.state_dict()["setting"].dtype == torch.uint8
    assert frozen.bounds is frozen.guarantees


def test_what_needs_labels_cannot_be_frozen():
    z, features, targets = data(2)
    for notion in (fo.EqualOpportunity("g", tolerance=0.01), fo.EqualizedOdds("g", tolerance=0.01)):
        with pytest.raises(fo.UnsupportedError, match="label"):
            fo.FairnessLayer(notion, bounds=(0, 1)).freeze(z, sensitive_features={"g": features["g"]}, targets=targets)
    with pytest.raises(fo.UnsupportedError, match="weight of its own"):
        fo.FairnessLayer(fo.ScoreCovariance("g", tolerance=0.01), bounds=(0, 1)).freeze(
            z, sensitive_features={"g": features["g"].astype(float)}
        )
    with pytest.raises(fo.InputError, match="confidence"):
        fo.FairnessLayer(NOTIONS["pairs"](), bounds=(0, 1)).freeze(z, sensitive_features={"g": features["g"]}, confidence=1.0)


def test_freezing_leaves_the_layer_as_it_was():
    z, features, _ = data(3)
    layer = fo.FairnessLayer(NOTIONS["pairs"](), bounds=(0, 1)).eval()
    before = layer.groups
    layer.freeze(z, sensitive_features={"g": features["g"]})
    assert layer.groups == before
    assert not layer.training


def test_saving_and_loading(tmp_path):
    z, features, _ = data(4)
    frozen = fo.FairnessLayer(NOTIONS["two"](), bounds=(0, 1)).freeze(z, sensitive_features=features)
    torch.save(frozen.state_dict(), tmp_path / "f.pt")
    twin = FrozenLayer(frozen.attributes, frozen.keys, [0.0] * len(frozen.keys), lb=0, ub=1, space="value", guarantees=frozen.bounds)
    twin.load_state_dict(torch.load(tmp_path / "f.pt", weights_only=True))
    assert torch.equal(twin.predict(z, sensitive_features=features), frozen.predict(z, sensitive_features=features))


@pytest.mark.parametrize("space", ["value", "probability"])
def test_torch_export_has_a_free_batch_size(space):
    z, features, _ = data(5)
    frozen = fo.FairnessLayer(NOTIONS["pairs"](), bounds=(0.1, 0.9), space=space).freeze(z, sensitive_features={"g": features["g"]})
    program = frozen.export().module()
    for n in (1, 3, 300):
        scores, groups = z[:n].float(), frozen.index({"g": features["g"][:n]})
        groups[0] = frozen.unknown
        assert torch.equal(program(scores, groups), frozen(scores, groups))


def test_onnx_runs_the_same(tmp_path):
    z, features, _ = data(6)
    frozen = fo.FairnessLayer(NOTIONS["pairs"](), bounds=(0, 1)).freeze(z, sensitive_features={"g": features["g"]})
    try:
        import onnxruntime
    except ImportError:
        with pytest.raises(fo.MissingExtraError, match="fairopt\\[export\\]"):
            frozen.to_onnx(tmp_path / "f.onnx")
        return
    frozen.to_onnx(tmp_path / "f.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "f.onnx"))
    told = session.get_modelmeta().custom_metadata_map
    assert (told["fairopt.unknown"], told["fairopt.on_unknown"]) == (str(frozen.unknown), "error")
    assert json.loads(told["fairopt.setting"])["keys"] == [[0], [1], [2]]
    for n in (1, 7, 300):
        scores, groups = z[:n].float(), frozen.index({"g": features["g"][:n]})
        (got,) = session.run(None, {"scores": scores.numpy(), "groups": groups.numpy()})
        assert np.abs(got - frozen(scores, groups).numpy()).max() <= 1e-6


def population_gaps(frozen, rng, draw, attributes):
    """Gap of the frozen scores by constraint on a large sample of the population."""
    z, features = draw(rng, 200_000)
    y = frozen.predict(torch.from_numpy(z), sensitive_features=features).numpy()
    out = []
    for name in attributes:
        means = [y[features[name] == v].mean() for v in np.unique(features[name])]
        out.append(max(means) - min(means))
    return out


def draw_disjoint(rng, n):
    g = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    return (rng.random(n) < 0.3 + 0.2 * g).astype(float), {"g": g}


def draw_overlapping(rng, n):
    g, h = rng.integers(0, 2, n), rng.integers(0, 2, n)
    return (rng.random(n) < 0.2 + 0.3 * g + 0.2 * h).astype(float), {"g": g, "h": h}


@pytest.mark.parametrize("draw", [draw_disjoint, draw_overlapping])
def test_the_population_bound_covers_and_is_no_formality(draw):
    rng = np.random.default_rng(0)
    names = ["g"] if draw is draw_disjoint else ["g", "h"]
    notion: fo.Notion = fo.DemographicParity("g", tolerance=0.02)
    if len(names) > 1:
        notion = notion & fo.DemographicParity("h", tolerance=0.02)
    ratios = []
    for _ in range(40):
        z, features = draw(rng, 150)
        frozen = fo.FairnessLayer(notion, bounds=(0, 1)).freeze(torch.from_numpy(z), sensitive_features=features, confidence=0.9)
        for gap, bound in zip(population_gaps(frozen, rng, draw, names), frozen.guarantees, strict=True):
            assert bound.gap <= 0.02 + 1e-9
            ratios.append(gap / bound.bound)
            assert bound.held_out_margin is not None
            assert bound.margin is not None
            assert bound.held_out_margin < bound.margin
    assert max(ratios) <= 1.0  # 90 % was promised, the bound is loose
    assert max(ratios) > 0.15  # but not empty


def test_without_bounds_there_is_no_population_bound():
    z, features, _ = data(7)
    frozen = fo.FairnessLayer(NOTIONS["pairs"]()).freeze(z, sensitive_features={"g": features["g"]})
    assert [b.bound for b in frozen.guarantees] == [None]


ONE_VALUES = [0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), torch.tensor(0.5), Decimal("0.5"), Fraction(1, 2)]


@pytest.mark.parametrize("score", ONE_VALUES, ids=lambda v: f"{type(v).__name__} {v}")
@pytest.mark.parametrize("group", [1, 1.0, np.int8(1), np.array(1), torch.tensor(1), Decimal(1)], ids=lambda v: type(v).__name__)
def test_one_score_and_one_group_of_any_kind_are_one_row(score, group):
    frozen = FrozenLayer(["g"], [(1,), (2,)], [0.25, -0.25], lb=0, ub=1, space="value", guarantees=())
    answer = frozen.predict(score, sensitive_features={"g": group})
    assert type(answer) is float
    assert answer == 0.25


@pytest.mark.parametrize(
    "score", [float("nan"), None, "0.5", np.float32("inf"), torch.tensor([float("nan")]), torch.tensor([0.5, float("inf")])]
)
def test_a_score_that_is_no_number_is_refused_when_served(score):
    frozen = FrozenLayer(["g"], [(1,), (2,)], [0.25, -0.25], lb=0, ub=1, space="value", guarantees=())
    groups = [1] * len(score) if isinstance(score, torch.Tensor) else 1
    with pytest.raises(fo.InputError, match="scores"):
        frozen.predict(score, sensitive_features={"g": groups})


@pytest.mark.parametrize("index", [[-1], [3], [0, -3], [100]])
def test_an_index_that_is_none_is_refused(index):
    frozen = FrozenLayer(["g"], [(1,), (2,)], [0.25, -0.25], lb=0, ub=1, space="value", guarantees=())
    with pytest.raises(fo.InputError, match="groups: got .*expected 0 to 2"):
        frozen(torch.full((len(index),), 0.5), torch.tensor(index))
    with pytest.raises(fo.InputError, match="int64"):
        frozen(torch.tensor([0.5]), torch.tensor([1.0]))


def calibrated(**freezing):
    rng = np.random.default_rng(0)
    sex = rng.choice(["f", "m"], 4000)
    layer = fo.FairnessLayer(fo.DemographicParity("sex", tolerance=0.1), bounds=(0, 1))
    return layer.freeze(np.clip(rng.beta(5, 5, 4000) + 0.1 * (sex == "m"), 0, 1), sensitive_features={"sex": sex}, **freezing)


def test_a_layer_of_a_state_alone_serves_the_same_bits_and_keeps_its_promises(tmp_path):
    pytest.importorskip("scipy")
    for frozen in (calibrated(guarantee=0.95, on_unknown="pass"), calibrated()):
        torch.save(frozen.state_dict(), tmp_path / "rule.pt")
        again = fo.FrozenLayer.from_state(torch.load(tmp_path / "rule.pt", weights_only=True))
        assert again.guarantees == frozen.guarantees != ()
        assert (again.notion, again.on_unknown, again.outside, again.keys) == (
            frozen.notion,
            frozen.on_unknown,
            frozen.outside,
            frozen.keys,
        )
        for z in (0.1, 0.5371, 0.93):
            assert again.predict(z, sensitive_features="m") == frozen.predict(z, sensitive_features="m")
        by_hand = FrozenLayer(frozen.attributes, frozen.keys, [0.0, 0.0], lb=0, ub=1, space="value")
        by_hand.load_state_dict(frozen.state_dict())
        assert by_hand.guarantees == frozen.guarantees
        by_hand.load_state_dict({"shifts": torch.zeros(3, dtype=torch.float64)}, strict=False)
        assert by_hand.guarantees == ()  # of other shifts
    open_box = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.0)).freeze([1.0, 2.0, 4.0], sensitive_features={"g": [1, 2, 3]})
    again = fo.FrozenLayer.from_state(open_box.state_dict())
    assert (again.lb, again.ub, again.keys) == (-float("inf"), float("inf"), open_box.keys)
    wrong: Any
    for wrong in ({}, {"shifts": torch.zeros(1)}, 3):
        with pytest.raises(fo.InputError, match="expected a FrozenLayer's state_dict"):
            fo.FrozenLayer.from_state(wrong)


def test_scores_outside_the_box_that_calibration_kept_to_are_no_silent_clip():
    pytest.importorskip("scipy")
    guaranteed, plain = calibrated(guarantee=0.95), calibrated()
    with pytest.raises(fo.InputError, match=r"row 0 is 1.2, expected numbers in \[0, 1\].*the guarantee assumes it"):
        guaranteed.predict(1.2, sensitive_features="m")
    with pytest.raises(fo.InputError, match="row 1 is -0.5"):
        guaranteed.predict([0.5, -0.5], sensitive_features=["m", "f"])
    with pytest.warns(fo.FairoptWarning, match="row 0 is 1.2.*it is clipped"):
        assert plain.predict(1.2, sensitive_features="m") == 1.0
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.0), bounds=(0, 1))
    wide = layer.freeze([-0.5, 0.5, 1.5, 1.0], sensitive_features={"g": [1, 1, 2, 2]})
    assert wide.predict(1.5, sensitive_features=1) == 1.0  # calibration had such scores
    wrong: Any = "hope"
    with pytest.raises(fo.InputError, match="outside: got 'hope'"):
        FrozenLayer(["g"], [(1,)], [0.0], lb=0, ub=1, space="value", outside=wrong)
