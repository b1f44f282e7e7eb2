"""Figures of held-out scores, tables of runs, paired differences, and what is said of a method beside the references."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fairopt as fo
from fairopt.basics.errors import InputError
from fairopt.experiments.measure import measure, measure_values
from fairopt.experiments.report import Figure, Run, compared, of, paired, remarks, summary

ACCURACY, LOSS = Figure("accuracy", "accuracy", True), Figure("loss", "log loss", False)


@given(n=st.integers(6, 40), seed=st.integers(0, 10_000), tolerance=st.sampled_from([0.0, 0.05, 2.0]))
def test_measured_figures_equal_plain_loops(n: int, seed: int, tolerance: float) -> None:
    generator = np.random.default_rng(seed)
    p = generator.integers(1, 8, n) / 8  # ties, and 0.5 itself
    y = np.concatenate([[0.0, 1.0], generator.integers(0, 2, n - 2)])
    group = np.concatenate([["a", "b", "c"], generator.choice(["a", "b", "c"], n - 3)])
    notion = fo.DemographicParity("g", tolerance=tolerance)
    found = measure(torch.from_numpy(p), torch.from_numpy(y), {"g": group, "unasked": group}, notion)
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
    assert found.violation == pytest.approx(max(0, found.score_gap - tolerance), abs=1e-15)
    assert found.met == (found.violation == 0)


def test_a_gap_of_one_rounding_more_than_the_tolerance_is_not_met() -> None:
    """1/2 and 1/2 + 2^-40 differ by 2^-40, exactly."""
    scores = torch.tensor([0.5, 0.5 + 2.0**-40], dtype=torch.float64)
    sensitive = {"g": np.array(["a", "b"])}
    for tolerance, met in ((2.0**-40, True), (math.nextafter(2.0**-40, 0), False)):
        found = measure_values(scores, torch.tensor([0.0, 1.0]), sensitive, fo.DemographicParity("g", tolerance=tolerance))
        assert found.met is met
        assert found.gap == 2.0**-40
        assert (found.violation == 0) is met


def test_values_of_a_residual_notion_and_of_a_continuous_attribute() -> None:
    values, target = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 1.0, 1.0])
    found = measure_values(values, target, {"g": np.array(["a", "a", "b"])}, fo.MeanResidual("g", tolerance=1.0))
    assert [found.mse, found.gap, found.violation] == pytest.approx([10 / 3, 3.0, 2.0])
    assert not found.met
    share = np.array([0.0, 0.5, 1.0])
    found = measure_values(values, target, {"s": share}, fo.ScoreCovariance("s", tolerance=0.1))
    assert found.gap == pytest.approx(abs(np.mean((share - 0.5) * values.numpy())))
    assert not found.met


def test_lengths_that_differ_are_an_error() -> None:
    notion = fo.DemographicParity("g", tolerance=0.1)
    with pytest.raises(InputError, match="lengths 3, 2, 3"):
        measure(torch.zeros(3), torch.zeros(2), {"g": np.array(["a", "b", "b"])}, notion)
    with pytest.raises(InputError, match="shapes"):
        measure_values(torch.zeros(3), torch.zeros(2), {"g": np.array(["a", "b", "b"])}, notion)


def _runs(method: str, accuracy: tuple[float, ...], loss: tuple[float, ...] | None = None, met: bool = True) -> list[Run]:
    losses = loss or (0.5,) * len(accuracy)
    return [
        {"method": method, "seed": k, "accuracy": a, "loss": b, "met": met and k >= 0}
        for k, (a, b) in enumerate(zip(accuracy, losses, strict=True))
    ]


def test_means_standard_errors_and_counts() -> None:
    runs = _runs("a", (0.7, 0.8, 0.9)) + _runs("b", (0.5, 0.5, 0.5), met=False)
    table = summary(runs, {"accuracy": "acc"}, met="met")
    assert table.columns == ("method", "acc", "acc ±", "limits met")
    assert table.rows[0] == ("a", pytest.approx(0.8), pytest.approx(0.1 / 3**0.5), "3 of 3")
    assert table.rows[1] == ("b", 0.5, 0.0, "0 of 3")
    alone = summary(_runs("a", (0.7,)), {"accuracy": "acc"})
    assert (alone.columns, alone.rows) == (("method", "acc"), (("a", 0.7),))
    by = summary([{**run, "tolerance": t} for t in (0.1, 0.2) for run in runs], {"accuracy": "acc"}, by=("tolerance", "method"))
    assert [row[:2] for row in by.rows] == [(0.1, "a"), (0.1, "b"), (0.2, "a"), (0.2, "b")]


def test_differences_are_paired_by_seed() -> None:
    first, second = _runs("a", (0.7, 0.8, 0.9)), _runs("b", (0.6, 0.8, 0.7))
    mean, margin = paired(first, second[::-1], "accuracy")
    assert mean == pytest.approx(0.1)
    assert margin == pytest.approx(0.1 / 3**0.5)
    mean, margin = paired(first[:1], second[:1], "accuracy")
    assert mean == pytest.approx(0.1)
    assert margin is None
    for wrong in (second[:2], [*second, second[0]], []):
        with pytest.raises(InputError, match="expected the same, once each"):
            paired(first, wrong, "accuracy")


@pytest.mark.parametrize(
    ("accuracy", "loss", "said"),
    [
        ((0.9, 0.9), (0.5, 0.5), "accuracy +0.1000 ± 0.0000, log loss +0.0000 ± 0.0000"),
        ((0.9, 0.8), (0.9, 0.9), "accuracy +0.0500 ± 0.0500, log loss +0.4000 ± 0.0000"),
    ],
)
def test_differences_are_said_without_a_verdict(accuracy: tuple[float, ...], loss: tuple[float, ...], said: str) -> None:
    runs = _runs("ours", accuracy, loss) + _runs("rival", (0.8, 0.8))
    assert compared(runs, "ours", ("rival",), (ACCURACY, LOSS)) == (f"ours minus rival: {said}",)
    assert compared(of(runs, seed=0), "ours", ("rival",), (ACCURACY,)) == (
        f"ours minus rival: accuracy {accuracy[0] - 0.8:+.4f}, of one seed",
    )


@pytest.mark.parametrize(
    ("accuracy", "loss", "met", "rivals"),
    [
        (0.90, 0.30, True, ""),  # ahead of the fair reference; the unfair one is no rival
        (0.80, 0.30, True, ""),  # ahead in one figure
        (0.80, 0.50, True, "fair"),
        (0.85, 0.40, True, "fair"),  # a tie is not ahead
        (0.80, 0.50, False, "fair, unfair"),  # not fair itself: both are rivals
        (0.90, 0.30, False, "unfair"),
    ],
)
def test_a_method_that_loses_to_a_reference_says_so(accuracy: float, loss: float, met: bool, rivals: str) -> None:
    def said(seeds: int) -> tuple[str, ...]:
        runs = [
            *_runs("fair", (0.85,) * seeds, (0.4,) * seeds),
            *_runs("unfair", (0.95,) * seeds, (0.2,) * seeds, met=False),
            *_runs("ours", (accuracy,) * seeds, (loss,) * seeds, met=met),
        ]
        return remarks(runs, ("fair", "unfair"), (ACCURACY, LOSS))

    assert said(2) == ((f"ours: no better than {rivals} in accuracy or log loss",) if rivals else ())
    assert said(1) == ()  # one seed says nothing


def test_of_takes_what_has_all_the_values() -> None:
    runs: list[dict[str, Any]] = [{"a": 1, "b": 2}, {"a": 1, "b": 3}]
    assert of(runs, a=1, b=3) == runs[1:]
