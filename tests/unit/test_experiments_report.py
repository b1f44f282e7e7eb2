"""Figures of held-out probabilities, what is said of a row beside the references, and the training loop."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from fairopt.errors import InputError
from fairopt.experiments.data.tabular import Dataset, Part, Parts, split
from fairopt.experiments.fit import Recipe, fit, network
from fairopt.experiments.measure import Measured, measure
from fairopt.experiments.report import Row, difference_by_seed, remark


@given(n=st.integers(6, 40), seed=st.integers(0, 10_000), tolerance=st.sampled_from([0.0, 0.05, 2.0]))
def test_measured_figures_equal_plain_loops(n: int, seed: int, tolerance: float) -> None:
    generator = np.random.default_rng(seed)
    p = generator.integers(1, 8, n) / 8  # ties, and 0.5 itself
    y = np.concatenate([[0.0, 1.0], generator.integers(0, 2, n - 2)])
    group = np.concatenate([["a", "b", "c"], generator.choice(["a", "b", "c"], n - 3)])
    found = measure(torch.from_numpy(p), torch.from_numpy(y), group, tolerance)
    right = sum((a >= 0.5) == (b == 1) for a, b in zip(p, y, strict=True)) / n
    wins = [(a > b) + 0.5 * (a == b) for a, t in zip(p, y, strict=True) if t for b, s in zip(p, y, strict=True) if not s]
    means = {g: sum(p[group == g]) / sum(group == g) for g in "abc"}
    rates = {g: sum(p[group == g] >= 0.5) / sum(group == g) for g in "abc"}
    assert found.accuracy == pytest.approx(right)
    assert found.auc == pytest.approx(sum(wins) / len(wins))
    assert found.log_loss == pytest.approx(-sum(math.log(a if b else 1 - a) for a, b in zip(p, y, strict=True)) / n)
    assert found.score_gap == pytest.approx(max(means.values()) - min(means.values()))
    assert found.decision_gap == pytest.approx(max(rates.values()) - min(rates.values()))
    assert found.means == pytest.approx(means)
    assert found.violation == pytest.approx(max(0, found.score_gap - tolerance))


def test_lengths_that_differ_are_an_error() -> None:
    with pytest.raises(InputError, match="lengths 3, 2, 3"):
        measure(torch.zeros(3), torch.zeros(2), np.array(["a", "b", "b"]), 0.1)


def _measured(accuracy: float, auc: float, violation: float = 0.0, certified: bool | None = None, seconds: float | None = None) -> Measured:
    return Measured(accuracy, auc, 0.3, 0.1, 0.2, {"a": 0.5, "b": 0.6}, violation, certified, seconds)


@pytest.mark.parametrize(
    ("accuracy", "auc", "violation", "said"),
    [
        (0.90, 0.80, 0.0, ""),  # ahead of the fair reference; the unfair one is no rival
        (0.90, 0.60, 0.0, ""),  # ahead in one figure
        (0.80, 0.70, 0.0, "no better than fair"),
        (0.85, 0.75, 0.0, "no better than fair"),  # a tie is not ahead
        (0.80, 0.70, 0.1, "no better than fair, unfair"),  # not fair itself: both are rivals
        (0.90, 0.80, 0.1, "no better than unfair"),
    ],
)
def test_a_row_that_loses_says_so(accuracy: float, auc: float, violation: float, said: str) -> None:
    references = (Row("fair", (_measured(0.85, 0.75),), True), Row("unfair", (_measured(0.95, 0.85, 0.2),), True))
    assert remark(Row("ours", (_measured(accuracy, auc, violation),)), references) == said


def test_means_spreads_and_paired_differences() -> None:
    first = Row("a", tuple(_measured(v, 0.5, seconds=1.0) for v in (0.7, 0.8, 0.9)))
    second = Row("b", tuple(_measured(v, 0.5) for v in (0.6, 0.8, 0.7)))
    assert first.mean("accuracy") == pytest.approx(0.8)
    assert first.spread("accuracy") == pytest.approx(0.1)
    assert (first.mean("seconds"), second.mean("seconds")) == (1.0, None)
    mean, error = difference_by_seed(first, second, "accuracy")
    assert mean == pytest.approx(0.1)
    assert error == pytest.approx(0.1 / 3**0.5)
    alone = Row("c", first.runs[:1])
    assert alone.spread("accuracy") is None
    assert difference_by_seed(alone, alone, "accuracy") == (0.0, None)
    reference = Row("d", (_measured(0.5, 0.5),), reference=True)
    mean, error = difference_by_seed(first, reference, "accuracy")
    assert mean == pytest.approx(0.3)
    assert error == pytest.approx(0.1 / 3**0.5)
    with pytest.raises(ValueError, match="shorter"):
        difference_by_seed(first, alone, "accuracy")


def test_certified_counts_the_runs_and_the_worst_violation_is_shown() -> None:
    row = Row("a", (_measured(0.7, 0.5, 0.0, True), _measured(0.7, 0.5, 1e-9, False)))
    assert row.certified() == (1, 2)
    assert row.worst_violation() == 1e-9
    assert not row.fair()
    assert Row("b", (_measured(0.7, 0.5),)).certified() is None


@pytest.fixture(scope="module")
def parts() -> Parts:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 4))
    group = generator.choice(["a", "b"], 300)
    target = (x[:, 0] + 0.5 * generator.normal(size=300) > 0).astype(np.float64)
    return split(Dataset("drawn", x, ("p", "q", "r", "s"), target, group, "g"), 0)


RECIPE = Recipe(hidden=(8,), epochs=15, batch_size=32, learning_rate=1e-2)


def _fitted(parts: Parts, seed: int, recipe: Recipe = RECIPE) -> tuple[Tensor, float, list[int]]:
    model = network(4, recipe, seed)

    def forward(part: Part, rows: Tensor) -> Tensor:
        return torch.sigmoid(model(part.x[rows])[:, 0])

    heard: list[int] = []
    done = fit(model, forward, F.binary_cross_entropy, parts, recipe, seed, heard.append)
    with torch.no_grad():
        p = forward(parts.validation, torch.arange(len(parts.validation)))
    assert not model.training
    assert F.binary_cross_entropy(p, parts.validation.y).item() == pytest.approx(done.best_loss, rel=1e-6)
    return p, done.best_loss, heard


def test_training_learns_keeps_its_best_state_and_reports_each_epoch(parts: Parts) -> None:
    p, loss, heard = _fitted(parts, 0)
    assert heard == list(range(1, 16))
    assert loss < 0.5
    assert ((p >= 0.5) == (parts.validation.y == 1)).double().mean() > 0.75


def test_a_diverging_run_keeps_an_early_state(parts: Parts) -> None:
    _, loss, _ = _fitted(parts, 0, dataclasses.replace(RECIPE, learning_rate=1.0, epochs=40))
    assert loss < 1.0


def test_training_is_a_function_of_its_seed_and_leaves_the_global_generator_alone(parts: Parts) -> None:
    first = _fitted(parts, 3)[0]
    torch.manual_seed(77)
    before = torch.get_rng_state()
    second = _fitted(parts, 3)[0]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)
    assert not torch.equal(first, _fitted(parts, 4)[0])
