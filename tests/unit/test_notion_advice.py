"""Each natural attempt inside a notion that is no affine constraint gets an answer that names the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import fairopt as fo

ATTEMPTS: dict[str, tuple[Callable[[Any, Any, Any], Any], str]] = {
    "scores": (lambda b, f, g: b.scores.mean() <= 1, r"sees no scores: batch\.mean\(event\)"),
    "labels": (lambda b, f, g: b.labels == 1, r"batch\.targets == 1"),
    "features": (lambda b, f, g: b.sensitive_features["g"], r"batch\.groups\(attribute\)"),
    "other names": (lambda b, f, g: b.median(), r"no 'median'; it offers groups, pairs"),
    "indexed targets": (lambda b, f, g: b.targets[0] == 1, r"batch\.targets == 1 is an event"),
    "text label": (lambda b, f, g: b.mean(b.targets == "yes") <= 1, r"pos_label='yes'"),
    "sum of abs": (lambda b, f, g: abs(f) + abs(g) <= 1, "sign pairs: yield f"),
    "scaled abs": (lambda b, f, g: 2 * abs(f) <= 1, r"abs\(c \* f\)"),
    "abs at least": (lambda b, f, g: abs(f) >= 1, "not convex"),
    "ratio": (lambda b, f, g: f / g >= 0.8, r"a - r \* b >= 0"),
    "number over mean": (lambda b, f, g: 1 / f <= 1, "not affine"),
    "power": (lambda b, f, g: f**2 <= 1, "not affine"),
    "product": (lambda b, f, g: f * g <= 1, "product of two functionals"),
    "chained": (lambda b, f, g: -1 <= f <= 1, r"abs\(f\) <= t"),
    "max": (lambda b, f, g: max(f, g) <= 1, r"batch\.range\(\.\.\.\)"),
    "min": (lambda b, f, g: min(f, g) >= 1, r"batch\.range\(\.\.\.\)"),
    "sorted": (lambda b, f, g: sorted([f, g]), r"batch\.range\(\.\.\.\)"),
    "equal": (lambda b, f, g: f == g, r"abs\(f - g\) <= 0"),
    "if": (lambda b, f, g: f if f else g, "no truth value"),
    "numpy's abs": (lambda b, f, g: np.abs(f) <= 1, r"ufuncs.*Python's abs"),
    "torch's abs": (lambda b, f, g: torch.abs(f) <= 1, r"abs\(\): argument.*Python's abs"),
    "a root": (lambda b, f, g: math.sqrt(f) <= 1, r"must be real number, not Functional; a functional is made of"),
    "a float": (lambda b, f, g: float(f) <= 1, "a functional is made of"),
    "rounded": (lambda b, f, g: round(f) <= 1, "a functional is made of"),
    "floor": (lambda b, f, g: f // 2 <= 1, "a functional is made of"),
    "remainder": (lambda b, f, g: f % 2 <= 1, "a functional is made of"),
    "number to its power": (lambda b, f, g: 2**f <= 1, "a functional is made of"),
    "minus abs": (lambda b, f, g: -abs(f) <= 1, "a functional is made of"),
    "length": (lambda b, f, g: f <= len(b), r"the groups are|The groups are"),
    "indexed batch": (lambda b, f, g: b["g"] == "a", r"The groups are batch\.groups\(attribute\)"),
    "indexed method": (lambda b, f, g: b.groups["g"], r"The groups are batch\.groups\(attribute\)"),
    "mean of targets": (lambda b, f, g: f <= b.targets.mean(), r"the labels batch\.targets == 1"),
    "and of events": (lambda b, f, g: b.mean(b.everyone and b.everyone), "&"),
}


@pytest.mark.parametrize(("attempt", "way"), ATTEMPTS.values(), ids=ATTEMPTS)
def test_the_answer_names_the_way_and_the_line(attempt: Callable[[Any, Any, Any], Any], way: str) -> None:
    @fo.notion
    def tried(batch: Any, attribute: Any) -> Any:
        first, second = batch.groups(attribute)
        yield attempt(batch, batch.mean(first), batch.mean(second))

    with pytest.raises(fo.InputError, match=way) as caught:
        fo.gaps([0.1, 0.2], tried("g"), sensitive_features=["a", "b"], targets=[0, 1])
    assert "test_notion_advice.py" in str(caught.value)


def test_the_sign_pairs_of_a_sum_of_absolute_values_are_that_sum() -> None:
    @fo.notion
    def spread(batch: Any, attribute: Any, tolerance: float) -> Any:
        a, b, c = (batch.mean(g) for g in batch.groups(attribute))
        for one in (1, -1):
            for two in (1, -1):
                yield one * (a - b) + two * (b - c) <= tolerance

    y = fo.project([0.0, 0.5, 1.0, 0.1, 0.9, 0.2], spread("g", tolerance=0.3), sensitive_features=list("abcabc"))
    means = [(y[k] + y[k + 3]) / 2 for k in range(3)]
    assert abs(means[0] - means[1]) + abs(means[1] - means[2]) == pytest.approx(0.3)


def test_looking_for_a_name_is_no_error() -> None:
    @fo.notion
    def asks(batch: Any, attribute: Any) -> Any:
        assert not hasattr(batch, "scores")
        yield batch.mean() <= 1

    assert len(fo.gaps([0.1, 0.2], asks("g"), sensitive_features=["a", "b"])) == 1


def test_an_error_of_the_notion_s_own_stays_what_it_is() -> None:
    @fo.notion
    def wrong(batch: Any, attribute: Any) -> Any:
        yield batch.mean() <= len(3)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="object of type 'int' has no len"):
        fo.gaps([0.1, 0.2], wrong("g"), sensitive_features=["a", "b"])
