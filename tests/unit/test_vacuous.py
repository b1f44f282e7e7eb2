"""A batch in which nothing is left to ask for says so: it must not look like a good certificate."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

import fairopt as fo

PARITY = fo.DemographicParity("g", tolerance=0.05)
ODDS = fo.EqualizedOdds("g", tolerance=0.05)
Z = torch.tensor([0.1, 0.9, 0.4], dtype=torch.float64)
ONE = {"g": ["a", "a", "a"]}
TWO = {"g": ["a", "b", "a"]}


@pytest.mark.parametrize(
    ("notion", "features", "targets"),
    [
        (PARITY, ONE, None),
        (ODDS, TWO, [0, 1, 0]),  # each label has one group
        (fo.DemographicParity("g", tolerance=0.05, given="h"), {**TWO, "h": [0, 1, 0]}, None),
        (fo.DemographicParity("g", tolerance=0.05, to=fo.Reference("z")), ONE, None),
    ],
)
def test_nothing_left_to_ask_is_said_in_certificate_and_warning(notion: Any, features: Any, targets: Any) -> None:
    with pytest.warns(fo.FairoptWarning, match="vacuous: nothing is asked"):
        solution = fo.project(Z, notion, sensitive_features=features, targets=targets, return_solution=True)
    assert solution.certificate.vacuous
    assert solution.certificate.to_dict()["vacuous"] is True
    assert torch.equal(solution.scores, Z)


def test_a_constraint_that_was_checked_is_not_vacuous() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = fo.project(Z, PARITY, sensitive_features=TWO, return_solution=True)
        always_met = fo.project(Z, fo.DemographicParity("g", tolerance=2.0), sensitive_features=TWO, bounds=(0, 1), return_solution=True)
        partly = fo.project(
            Z, fo.DemographicParity("g", tolerance=0.05), sensitive_features=TWO, groups={"g": ["a", "b", "c"]}, return_solution=True
        )
    assert not kept.certificate.vacuous
    assert not always_met.certificate.vacuous
    assert not partly.certificate.vacuous
    assert partly.certificate.dropped


def test_a_layer_warns_once() -> None:
    layer = fo.FairnessLayer(PARITY)
    with pytest.warns(fo.FairoptWarning, match="vacuous"):
        layer(Z, sensitive_features=ONE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(Z, sensitive_features=ONE)
        layer(Z, sensitive_features=TWO)
    assert layer.certificate is not None
    assert not layer.certificate.vacuous
    with pytest.warns(fo.FairoptWarning, match="vacuous"):  # each layer has its own word
        fo.FairnessLayer(PARITY)(Z, sensitive_features=ONE)
