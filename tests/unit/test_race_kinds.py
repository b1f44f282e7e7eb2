"""The race of "kl" and of class probabilities: drawn problems bind, the judge's gradient is that of an independent reference, and its
figures see an error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fairopt.basics.errors import InputError
from fairopt.race import Cell, Grid, compare
from fairopt.race.cells import Subject
from fairopt.race.draw import draw, in_positions
from fairopt.race.judge import Judge, make_reference
from fairopt.race.measure import Measured, measure
from fairopt.race.settings import Settings
from fairopt.testing.cone_oracle import cone_gradient, cone_reference

pytest.importorskip("clarabel")
pytestmark = pytest.mark.xdist_group("race")
QUICK = Settings(repeats=3, seconds=0.05)
NOTIONS = ("demographic_parity", "equal_opportunity", "equalized_odds", "two_attributes", "mean_residual", "impact_ratio")
SUBJECTS = [
    *(Subject("demographic_parity", 40, 3, "float64", box, "kl") for box in ("none", "inactive", "active")),
    *(Subject(notion, 40, 3, "float64", "none", "kl") for notion in NOTIONS[1:]),  # type: ignore[arg-type]
    *(Subject(notion, 40, 2, "float64", "none", distance, 4) for notion in NOTIONS for distance in ("squared", "kl")),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_drawn_problems_bind_and_the_references_agree(subject: Subject) -> None:
    drawn = draw(subject, 2)
    best = make_reference(drawn)
    z, c = (in_positions(v).numpy() for v in (drawn.scores[0], drawn.cotangent))
    assert best.source == "oracle"
    assert np.abs(best.y - z).max() > 1e-3, "no row binds"
    assert 0.0 < z.min() < z.max() < 1.0
    clamped = int(((best.y <= 0.1) | (best.y >= 0.9)).sum())
    assert subject.box != "active" or clamped > 0
    x = drawn.scores[0].clone().requires_grad_(True)
    y = drawn.prepare().project(x, backend="dual_newton")
    torch.autograd.backward(y, drawn.cotangent)
    assert x.grad is not None
    ours = Measured("ok", y=in_positions(y.detach()).numpy(), gradient=in_positions(x.grad).numpy(), fingerprint=drawn.fingerprint)
    judged = Judge(2).judge(subject, ours)
    assert judged.violation == 0.0
    assert judged.y_error < 1e-10
    assert best.gradient is not None, "the draw is at a kink"
    assert judged.gradient_error is not None
    assert judged.gradient_error < 1e-8
    direction = np.random.default_rng(0).normal(size=(subject.classes, subject.n))
    direction = (direction - direction.mean(axis=0) if subject.classes > 1 else direction).reshape(-1)
    ends = [cone_reference(z + side * direction, best.problem) for side in (1e-6, -1e-6)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert best.gradient @ direction == pytest.approx(float(c @ (ends[0].y - ends[1].y)) / 2e-6, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("subject", [SUBJECTS[2], SUBJECTS[-1]], ids=str)
def test_the_judge_sees_a_small_error_of_each_kind(subject: Subject) -> None:
    judge, best = Judge(0), make_reference(draw(subject, 0))
    assert best.gradient is not None
    good = Measured("ok", y=best.y, gradient=best.gradient, raw=best.y, fingerprint=best.fingerprint)
    right = judge.judge(subject, good)
    assert (right.y_error, right.solver_y_error, right.gradient_error) == (0.0, 0.0, 0.0)
    off = judge.judge(subject, replace(good, y=best.y + 1e-5, raw=best.y - 1e-3, gradient=1.01 * best.gradient))
    assert off.y_error == pytest.approx(1e-5, rel=1e-3)
    assert off.solver_y_error == pytest.approx(1e-3, rel=1e-3)
    assert off.gradient_error == pytest.approx(0.01, rel=1e-6)
    far = judge.judge(subject, replace(good, y=np.where(np.arange(best.y.size) % 2, 1.0, 0.0)))
    assert far.violation > 1e-3


def test_at_a_kink_no_gradient_is_judged() -> None:
    """Two classes of which one is at 0 exactly where it would begin to count: the projection onto the simplex has two derivatives."""
    subject = Subject("demographic_parity", 16, 2, "float64", "none", "squared", 3)
    drawn = draw(subject, 0)
    problem = drawn.problem(drawn.prepare())
    z, c = (in_positions(v).numpy().copy() for v in (drawn.scores[0], drawn.cotangent))
    found = cone_gradient(z, problem, c, 1e-7)
    assert found is not None
    assert found[1] is not None
    still = np.repeat(np.array([[0.5], [0.5], [0.0]]), 16, axis=1).reshape(-1)  # all rows hold, and the last class is at the kink
    found = cone_gradient(still, problem, c, 1e-7)
    assert found is not None
    assert found[1] is None
    assert np.abs(found[0].y - still).max() < 1e-9


def test_a_race_of_every_kind() -> None:
    """As fo.compare is called, with a solver that takes them all and one that takes none."""
    asked: dict[str, Any] = {"n": [32], "boxes": ["none"], "distances": ["squared", "kl"], "classes": [1, 3], "settings": QUICK}
    race = compare(["dual_newton", "closed_form"], **asked)
    rows = list(race.table())
    assert len(rows) == 8
    for row in rows:
        if row["backend"] == "dual_newton" or (row["distance"], row["classes"]) == ("squared", 1):
            assert (row["outcome"], row["status"], row["violation"], row["reference"]) == ("ok", "CERTIFIED", 0.0, "oracle")
            assert max(row["y_error"], row["solver_y_error"], row["gradient_error"]) < 1e-8
        else:
            assert row["outcome"] == "unsupported"
    assert {(row["distance"], row["classes"]) for row in rows} == {("squared", 1), ("kl", 1), ("squared", 3), ("kl", 3)}


@pytest.mark.parametrize("name", ["unrolled", "proxqp", "cvxpylayers"])
def test_other_solvers_are_measured_by_themselves(name: str) -> None:
    pytest.importorskip("fairopt_backends")
    subject = Subject("equalized_odds", 24, 2, "float64", "none", "squared", 3)
    found = measure(Cell(name, subject), name, QUICK, 0)
    assert (found.outcome, found.status) == ("ok", "CERTIFIED"), found.message
    judged = Judge(QUICK.seed).judge(subject, found)
    assert judged.y_error < 1e-8
    assert judged.solver_y_error is not None
    assert 0.0 < judged.solver_y_error < 1e-2, "the solver's own answer, before the front door polishes it"


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="distances: got 'euclid', expected some of squared, kl"):
        Grid(distances=("euclid",))
    with pytest.raises(InputError, match="classes: got 0, expected whole numbers >= 1"):
        Grid(classes=(0,))
    with pytest.raises(InputError, match="boxes: got none, active beside several classes, expected none"):
        Grid(boxes=("none", "active"), classes=(3,))
    with pytest.raises(InputError, match="gradients: got native beside several classes, expected implicit"):
        Grid(gradients=("native",), classes=(1, 3))
    with pytest.raises(InputError, match="n: got 16, expected at least twice the largest number of groups times that of classes, 20"):
        Grid(n=(16,), classes=(5,))
    assert {s.box for s, _ in Grid(classes=(3,)).subjects()} == {"none"}
    assert {s.box for s, _ in Grid(distances=("kl",)).subjects()} == {"none", "active"}
