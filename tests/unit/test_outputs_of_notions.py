"""Notions that name outputs: ``batch.mean(event, output=c)``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import fairopt as fo
from fairopt.testing.claims import CHECKS, verify
from fairopt.testing.claims.subject import Layer

distances = pytest.mark.parametrize("distance", ["squared", "kl"])


@fo.notion
def parity_of(batch: Any, attribute: Any, output: int, tolerance: float) -> Any:
    """Demographic parity of one output."""
    for a, b in batch.pairs(attribute):
        yield abs(batch.mean(a, output=output) - batch.mean(b, output=output)) <= tolerance


@fo.notion
def spread_of(batch: Any, attribute: Any, output: int, tolerance: float) -> Any:
    yield batch.range(batch.groups(attribute), output=output) <= tolerance


@fo.notion
def parity_of_grade(batch: Any, attribute: Any, tolerance: float) -> Any:
    """The mean grade 1 p_1 + 2 p_2 of each group: about two outputs at once."""
    grades = [batch.mean(g, output=1) + 2 * batch.mean(g, output=2) for g in batch.groups(attribute)]
    yield batch.range(grades) <= tolerance


@fo.notion
def found_among(batch: Any, attribute: Any, tolerance: float) -> Any:
    """Output 2 among those whose target is 1."""
    for a, b in batch.pairs(attribute):
        true = batch.targets == 1
        yield abs(batch.mean(a & true, output=2) - batch.mean(b & true, output=2)) <= tolerance


@fo.notion
def as_often(batch: Any, attribute: Any, tolerance: float) -> Any:
    for g in batch.groups(attribute):
        yield abs(batch.mean(g, output=1) - batch.mean(g, of=batch.targets, output=1)) <= tolerance


@fo.notion
def half_named(batch: Any, attribute: Any, tolerance: float) -> Any:
    for a, b in batch.pairs(attribute):
        yield abs(batch.mean(a, output=1) - batch.mean(b)) <= tolerance


@fo.notion
def every_other(batch: Any, attribute: Any, wide: Any, tolerance: float) -> Any:
    """A boolean array (n,) of the user's own beside an output."""
    for a, b in batch.pairs(attribute):
        yield abs(batch.mean(a & wide, output=0) - batch.mean(b & wide, output=0)) <= tolerance


def batch(n: int = 90, C: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    g = torch.arange(n) % 3
    tilt = torch.linspace(0.7, -0.7, C, dtype=torch.float64)
    logits = torch.randn(n, C, dtype=torch.float64, generator=draw) + g[:, None] * tilt
    return torch.softmax(logits, 1), g, torch.randint(0, C, (n,), generator=draw)


def gap(means: list[Tensor]) -> float:
    return float((torch.stack(means).max() - torch.stack(means).min()).detach())


@distances
@pytest.mark.parametrize("outputs", ["simplex", "independent"])
def test_one_output_named_is_the_class_named(distance: str, outputs: Any) -> None:
    z, g, _ = batch()
    facts: dict[str, Any] = {"sensitive_features": g, "outputs": outputs, "distance": distance, "bounds": (0, 1)}
    weights = torch.rand(90, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5
    for w in (None, weights):
        named = fo.project(z, parity_of("g", output=1, tolerance=0.01), weights=w, return_solution=True, **facts)
        asked = fo.project(z, fo.DemographicParity("g", tolerance=0.01), classes=[1], weights=w, return_solution=True, **facts)
        assert named.status is fo.Status.CERTIFIED
        assert torch.allclose(named.scores, asked.scores, rtol=0, atol=1e-10)
        assert gap([named.scores[g == k, 1].mean() for k in range(3)]) <= 0.01 + 1e-15
    assert dict(named.certificate.problem.group_counts) == {"g=0": 30, "g=1": 30, "g=2": 30}
    spread = fo.project(z, spread_of("g", output=1, tolerance=0.01), **facts)
    assert torch.allclose(spread, fo.project(z, parity_of("g", output=1, tolerance=0.01), **facts), rtol=0, atol=1e-9)


@distances
def test_two_outputs_in_one_functional(distance: str) -> None:
    z, g, _ = batch()
    grade = z[:, 1] + 2 * z[:, 2]
    assert gap([grade[g == k].mean() for k in range(3)]) > 0.1
    logits = z.log().requires_grad_(True)
    prepared: Any = fo.compile(parity_of_grade("g", tolerance=0.02), sensitive_features=g, outputs="simplex", distance=distance)
    solution = prepared.project(torch.softmax(logits, 1), return_solution=True)
    assert solution.status is fo.Status.CERTIFIED
    found = solution.scores[:, 1] + 2 * solution.scores[:, 2]
    assert abs(gap([found[g == k].mean() for k in range(3)]) - 0.02) <= 1e-9  # no tighter than asked
    assert torch.autograd.gradcheck(lambda x: prepared.project(torch.softmax(x, 1)), logits, eps=1e-5, atol=1e-6, rtol=1e-5)


def test_targets_beside_an_output() -> None:
    z, g, targets = batch()
    facts: dict[str, Any] = {"sensitive_features": g, "targets": targets, "outputs": "simplex"}
    y = fo.project(z, found_among("g", tolerance=0.01), **facts)
    assert gap([y[(targets == 1) & (g == k), 2].mean() for k in range(3)]) <= 0.01 + 1e-12
    labels = torch.stack([targets == c for c in range(3)], 1).to(torch.int64)
    y = fo.project(z, as_often("g", tolerance=0.01), sensitive_features=g, targets=labels, outputs="independent", bounds=(0, 1))
    assert max(abs(float(y[g == k, 1].mean() - labels[g == k, 1].double().mean())) for k in range(3)) <= 0.01 + 1e-12
    wide = z[:, 0] > 0.2
    y = fo.project(z, every_other("g", wide=wide, tolerance=0.0), sensitive_features=g, outputs="simplex", distance="kl")
    assert gap([y[wide & (g == k), 0].mean() for k in range(3)]) <= 1e-15


def test_joined_with_a_notion_that_names_none() -> None:
    z, g, targets = batch()
    both = parity_of("g", output=1, tolerance=0.001) & fo.EqualizedOdds("g", tolerance=0.1)
    layer = fo.FairnessLayer(both, space="probability", outputs="simplex", distance="kl")
    solution: Any = layer.solution(z.log(), sensitive_features=g, targets=targets)
    y = solution.scores
    assert solution.status is fo.Status.CERTIFIED
    assert gap([y[g == k, 1].mean() for k in range(3)]) <= 0.001 + 1e-15
    for true in range(3):
        for c in range(3):
            assert gap([y[(targets == true) & (g == k), c].mean() for k in range(3)]) <= 0.1 + 1e-12
    soft = fo.project(z, both.parts[0].penalised(5.0), sensitive_features=g, outputs="simplex")  # type: ignore[attr-defined]
    assert gap([soft[g == k, 1].mean() for k in range(3)]) > 0.001


def test_refusals() -> None:
    z, g, _ = batch()
    named = parity_of("g", output=1, tolerance=0.01)
    cases: list[tuple[fo.Notion, Any, dict[str, Any], str]] = [
        (named, z[:, 0].contiguous(), {}, "names output 1"),
        (parity_of("g", output=3, tolerance=0.01), z, {"outputs": "simplex"}, "below 3"),
        (parity_of("g", output=-1, tolerance=0.01), z, {"outputs": "simplex"}, "whole number"),
        (half_named("g", tolerance=0.01), z, {"outputs": "simplex"}, "without output="),
        (named, z, {"outputs": "simplex", "classes": [1]}, "names its outputs"),
        (found_among("g", tolerance=0.1), z, {"outputs": "simplex"}, "targets"),
    ]
    for notion, scores, facts, words in cases:
        with pytest.raises(fo.InputError, match=words):
            fo.project(scores, notion, sensitive_features={"g": g}, **facts)
    above = fo.notion(lambda batch, attribute: [batch.mean(g, output=1) >= 1.5 for g in batch.groups(attribute)])
    with pytest.raises(fo.InfeasibleError, match="output 1"):
        fo.project(z, above("g"), sensitive_features=g, outputs="simplex")


@pytest.mark.parametrize(
    "notion", [parity_of("g", output=1, tolerance=0.05), parity_of_grade("g", tolerance=0.1), as_often("g", tolerance=0.4)]
)
def test_such_a_notion_is_verified(notion: fo.Notion) -> None:
    """``fairopt verify --notion``: the claims on problems of labels that do not exclude each other."""
    for outcome in verify(Layer(notion=notion), instances=3):
        assert outcome.holds, outcome
        assert outcome.instances == 3 or outcome.skipped
    assert len(CHECKS) > 3
