"""Gaps by class, and what an audit says of class probabilities and of groups known in probability."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo


def drawn(seed: int) -> tuple[Any, Any, Any]:
    """Probabilities (n, C), groups and true classes."""
    rng = np.random.default_rng(seed)
    n, C = int(rng.integers(6, 60)), int(rng.integers(2, 6))
    return rng.dirichlet(np.ones(C), n), np.append([0, 1], rng.integers(0, 3, n - 2)), rng.integers(0, C, n)


def mean(values: Any) -> Fraction:
    return sum((Fraction(float(v)) for v in values), Fraction(0)) / len(values)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_every_class_by_the_definition(seed: int) -> None:
    z, g, true = drawn(seed)
    table = fo.gaps(z, fo.DemographicParity("g", tolerance=0.05), sensitive_features={"g": g}, outputs="simplex")
    groups = sorted(set(g.tolist()))
    assert len(table) == z.shape[1] * len(groups) * (len(groups) - 1) // 2
    for row in table:
        c = int(row["class"].removeprefix("class "))
        a, b = (mean(z[g == int(row[side]), c]) for side in ("group_a", "group_b"))
        assert row["gap"] == float(abs(a - b))
        assert row["status"] == ("met" if abs(a - b) <= Fraction(0.05) else "broken")
    odds = fo.gaps(z, fo.EqualizedOdds("g", tolerance=0.1), sensitive_features={"g": g}, targets=true, outputs="simplex")
    for row in odds:
        c, k = (int(word) for word in row["class"].removeprefix("class ").split(" among true class "))
        inside = [(true == k) & (g == int(row[side])) for side in ("group_a", "group_b")]
        if all(m.any() for m in inside):
            assert row["gap"] == float(abs(mean(z[inside[0], c]) - mean(z[inside[1], c])))
        else:
            assert row["status"] == "absent"


@fo.notion
def grades(batch: Any, attribute: Any, tolerance: Any) -> Any:
    yield batch.range([batch.mean(m, output=0) + 2 * batch.mean(m, output=1) for m in batch.groups(attribute)]) <= tolerance


@pytest.mark.parametrize("outputs", ["simplex", "independent"])
@pytest.mark.parametrize("name", ["parity", "odds", "opportunity", "grades", "joined"])
def test_what_is_projected_is_met(outputs: Any, name: str) -> None:
    z, g, true = drawn(3)
    labels = true if outputs == "simplex" else np.eye(z.shape[1])[true]
    notion = {
        "parity": fo.DemographicParity("g", tolerance=0.02),
        "odds": fo.EqualizedOdds("g", tolerance=0.1),
        "opportunity": fo.EqualOpportunity("g", tolerance=0.02),
        "grades": grades("g", tolerance=0.02),
        "joined": grades("g", tolerance=0.02) & fo.DemographicParity("g", tolerance=0.05),
    }[name]
    how: dict[str, Any] = {"sensitive_features": {"g": g}, "targets": labels, "outputs": outputs}
    fair = fo.project(torch.from_numpy(z), notion, bounds=None if outputs == "simplex" else (0, 1), **how)
    assert {row["status"] for row in fo.gaps(fair, notion, **how)} <= {"met", "absent"}
    assert "broken" in {row["status"] for row in fo.gaps(z, notion, **how)}


def test_some_classes_and_other_containers() -> None:
    z, g, _ = drawn(5)
    notion = fo.DemographicParity("g", tolerance=0.0)
    whole = fo.gaps(z, notion, sensitive_features={"g": g}, outputs="simplex")
    for given_ in (z.tolist(), torch.from_numpy(z)):
        assert list(fo.gaps(given_, notion, sensitive_features={"g": g}, outputs="simplex")) == list(whole)
    one = fo.gaps(z, notion, sensitive_features={"g": g}, outputs="simplex", classes=[1])
    assert list(one) == [row for row in whole if row["class"] == "class 1"]


def test_what_cannot_be_read_says_so() -> None:
    z, g, _ = drawn(7)
    notion, features = fo.DemographicParity("g", tolerance=0.1), {"g": g}
    with pytest.raises(fo.InputError, match="outputs='simplex'"):
        fo.gaps(z, notion, sensitive_features=features)
    with pytest.raises(fo.InputError, match="shape"):
        fo.gaps(z[:, 0], notion, sensitive_features=features, outputs="simplex")
    with pytest.raises(fo.InputError, match="row 0"):
        fo.gaps(np.where(np.arange(len(z))[:, None] == 0, np.nan, z), notion, sensitive_features=features, outputs="simplex")
    with pytest.raises(fo.InputError, match="pos_label"):
        fo.gaps(z, notion, sensitive_features=features, outputs="simplex", pos_label=1)
    with pytest.raises(fo.InputError, match="numbers"):
        fo.gaps([["a", "b"]], notion, sensitive_features={"g": [0]}, outputs="simplex")


def test_an_audit_says_what_to_do_instead() -> None:
    z, g, _ = drawn(9)
    notion = fo.DemographicParity("g", tolerance=0.1)
    with pytest.raises(fo.InputError, match=r"scores\[:, c\].*fo.gaps"):
        fo.audit(z, notion, sensitive_features={"g": g})
    soft = fo.Soft(np.random.default_rng(0).dirichlet([1.0, 1.0], len(z)), ["a", "b"])
    with pytest.raises(fo.UnsupportedError, match=r"fo.gaps"):
        fo.audit(z[:, 0], notion, sensitive_features={"g": soft})
    values = np.array(["a", "b"])[g % 2]
    certain = fo.Soft((values[:, None] == np.array(["a", "b"])).astype(float), ["a", "b"])
    hard, same = (fo.audit(z[:, 0], notion, sensitive_features={"g": column}, draws=100) for column in (values, certain))
    assert list(hard.gaps) == list(same.gaps)
    assert list(hard.groups) == list(same.groups)
