"""FairClassifier for three classes, and frozen shifts of class probabilities."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

import fairopt as fo

pytest.importorskip("sklearn")
from fairopt.training import FairClassifier

QUICK: dict[str, Any] = {"epochs": 15, "hidden": (8,), "members": 1, "random_state": 0}


def rows(n: int = 900, seed: int = 0) -> tuple[Any, Any, Any]:
    """Features (n, 4), labels of three words that hang on them and on the group, groups (n,)."""
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, 2, n), rng.normal(size=(n, 4))
    score = x[:, :3] * 1.5 + np.outer(g, [1.0, 0.0, -1.0]) + rng.gumbel(size=(n, 3))
    return x + g[:, None] * 0.5, np.array(["high", "low", "mid"])[score.argmax(1)], np.where(g == 1, "x", "y")


X, Y, G = rows()


@pytest.fixture(scope="module")
def model() -> FairClassifier:
    return FairClassifier(fo.DemographicParity("g", tolerance=0.02), **QUICK).fit(X, Y, sensitive_features={"g": G})


def gaps_of(p: Any, g: Any) -> Any:
    return np.abs(p[g == "x"].mean(0) - p[g == "y"].mean(0))


def test_probabilities_of_three_classes(model: FairClassifier) -> None:
    assert model.classes_.tolist() == ["high", "low", "mid"]
    p = model.predict_proba(X, sensitive_features={"g": G})
    assert p.shape == (900, 3)
    assert np.abs(p.sum(1) - 1.0).max() <= 1e-12
    assert (p > 0.0).all()
    at = model.shares_.calibration
    assert gaps_of(p[at], G[at]).max() <= 0.02 + 1e-9  # the notion holds on the calibration rows
    raw = torch.softmax(model.network_(torch.from_numpy(X)), 1).detach().numpy()
    assert gaps_of(raw[at], G[at]).max() > 0.03  # which it did not before
    assert (model.predict(X, sensitive_features={"g": G}) == model.classes_[p.argmax(1)]).all()
    assert model.score(X, Y, sensitive_features={"g": G}) > 0.5  # 1/3 by chance
    assert model.certificate_ is not None
    assert model.certificate_.status is fo.Status.CERTIFIED
    assert model.guarantees_ == ()


def test_a_batch_as_a_whole(model: FairClassifier) -> None:
    fresh, _, g = rows(200, 1)
    solution = model.transduce(fresh, sensitive_features={"g": g}, return_solution=True)
    assert solution.status is fo.Status.CERTIFIED
    p = model.transduce(fresh, sensitive_features={"g": g})
    assert gaps_of(p, g).max() <= 0.02 + 1e-12


def test_it_copies_and_repeats(model: FairClassifier) -> None:
    p = model.predict_proba(X[:20], sensitive_features={"g": G[:20]})
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert (other.predict_proba(X[:20], sensitive_features={"g": G[:20]}) == p).all()
    again = FairClassifier(fo.DemographicParity("g", tolerance=0.02), **QUICK).fit(X, Y, sensitive_features={"g": G})
    assert (again.predict_proba(X[:20], sensitive_features={"g": G[:20]}) == p).all()
    assert model.predict_proba(X[:1], sensitive_features={"g": G[:1]}) == pytest.approx(
        p[:1], abs=1e-6
    )  # a float32 network rounds one row in another way


def test_what_is_for_two_classes_is_refused(model: FairClassifier) -> None:
    beside: dict[str, Any] = {"sensitive_features": {"g": G}}
    for change in ({"space": "logit"}, {"bounds": (0.1, 0.9)}, {"thresholds": "groups"}, {"notion": fo.EqualizedOdds("g", tolerance=0.1)}):
        asked = {"notion": fo.DemographicParity("g", tolerance=0.02), **QUICK, **change}
        with pytest.raises(fo.UnsupportedError, match="classes"):
            FairClassifier(**asked).fit(X, Y, **beside)
    with pytest.raises(fo.UnsupportedError, match="two classes"):
        model.decide(X, **beside)
    with pytest.raises(fo.UnsupportedError, match="two classes"):
        model.gaps(X, **beside)
    with pytest.raises(fo.InputError, match="unknown value"):
        model.predict(X, sensitive_features={"g": np.full(900, "z")})


@pytest.mark.parametrize("distance", ["squared", "kl"])
@pytest.mark.parametrize("space", ["probability", "value"])
def test_frozen_shifts_are_the_projection(distance: str, space: Any) -> None:
    draw = torch.Generator().manual_seed(0)
    g = torch.arange(90) % 3
    logits = torch.randn(90, 4, dtype=torch.float64, generator=draw) + g[:, None] * torch.linspace(0.7, -0.7, 4, dtype=torch.float64)
    scores = logits if space == "probability" else torch.softmax(logits, 1)
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.01), space=space, outputs="simplex", distance=distance)
    fair = layer(scores, sensitive_features={"g": g})
    frozen = layer.freeze_classes(scores, sensitive_features={"g": g})
    served = frozen(scores, frozen.index({"g": g}))
    assert torch.allclose(served, fair, rtol=0, atol=1e-10)
    assert torch.allclose(frozen(scores[:1], frozen.index({"g": g[:1]})), fair[:1], rtol=0, atol=1e-10)
    x = scores.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda s: frozen(s, frozen.index({"g": g})), x, eps=1e-6, atol=1e-6)
    assert len(frozen.table()) == 3
    with pytest.raises(fo.InputError):
        frozen.index({"g": torch.tensor([7])})
    with pytest.raises(fo.InputError, match="shape"):
        frozen(scores[:, :2], frozen.index({"g": g}))
    with pytest.raises(fo.UnsupportedError, match="freeze_classes"):
        layer.freeze(scores, sensitive_features={"g": g})
    odds = fo.FairnessLayer(fo.EqualizedOdds("g", tolerance=0.1), space=space, outputs="simplex", distance=distance)
    with pytest.raises(fo.UnsupportedError, match="labels"):
        odds.freeze_classes(scores, sensitive_features={"g": g})
    with pytest.raises(fo.UnsupportedError, match="outputs='simplex'"):
        fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.1)).freeze_classes(scores, sensitive_features={"g": g})


@pytest.mark.parametrize("distance", ["squared", "kl"])
@pytest.mark.parametrize("space", ["probability", "value"])
def test_frozen_classes_run_in_onnx(distance: str, space: Any, tmp_path: Any) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    draw = torch.Generator().manual_seed(1)
    g = torch.arange(60) % 3
    logits = torch.randn(60, 4, generator=draw) * 2 + g[:, None] * torch.linspace(0.7, -0.7, 4)
    scores = logits if space == "probability" else torch.softmax(logits, 1)
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.01), space=space, outputs="simplex", distance=distance)
    frozen = layer.freeze_classes(scores, sensitive_features={"g": g})
    frozen.to_onnx(tmp_path / "f.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "f.onnx"))
    for rows in (slice(None), slice(0, 1), slice(3, 20)):
        groups = frozen.index({"g": g[rows]})
        (fair,) = session.run(None, {"scores": scores[rows].numpy(), "groups": groups.numpy()})
        assert np.abs(fair - frozen(scores[rows], groups).numpy()).max() <= 2e-6
        assert np.abs(fair.sum(1) - 1.0).max() <= 1e-6
    told = session.get_modelmeta().custom_metadata_map
    assert told["fairopt.keys"] == repr(frozen.keys)
    assert (told["fairopt.classes"], told["fairopt.distance"]) == ("4", distance)
