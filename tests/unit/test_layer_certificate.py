"""The certificate of a layer's last call is made when it is asked for; it says what ``solution`` says."""

import numpy as np
import pytest
import torch

import fairopt as fo


@pytest.mark.parametrize("distance", ["squared", "kl"])
@pytest.mark.parametrize("space", ["value", "probability"])
def test_calling_and_solution_have_the_same_certificate(space, distance):
    draw = np.random.default_rng(0)
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.02), bounds=(0, 1), space=space, distance=distance)
    groups = {"g": draw.choice(["a", "b", "c"], 60)}
    scores = torch.tensor(draw.random(60), requires_grad=True)
    assert layer.certificate is None
    fair = layer(scores, sensitive_features=groups)
    called = layer.certificate
    assert layer.certificate is called
    assert called is not None
    solution = layer.solution(scores, sensitive_features=groups)
    assert torch.equal(fair, solution.scores)
    assert called.to_dict() == solution.certificate.to_dict()
    other = torch.zeros(60, dtype=torch.float64)
    layer(other, sensitive_features=groups)
    assert layer.certificate is not called
    with torch.no_grad():
        scores.mul_(2.0)  # what the caller does to the scores afterwards is not in the numbers
    assert called.violation.max() <= 0.0


def test_a_notion_that_asks_nothing_is_told_on_the_short_road_too():
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.02), bounds=(0, 1))
    with pytest.warns(fo.FairoptWarning, match="vacuous"):
        layer(torch.rand(4), sensitive_features={"g": ["a"] * 4})


@pytest.mark.parametrize("how", [{"certify": False}, {"backend": "dual_newton"}, {"solver_tol": 1e-9}])
def test_settings_other_than_the_defaults_are_kept(how):
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.02), bounds=(0, 1), **how)
    scores = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layer(scores, sensitive_features={"g": ["a", "b"] * 25})
    assert layer.certificate is not None
    said = layer.certificate.to_dict()
    expected = layer.solution(scores, sensitive_features={"g": ["a", "b"] * 25}).certificate.to_dict()
    assert said == expected
    assert (said["status"] == "CERTIFIED") is how.get("certify", True)
