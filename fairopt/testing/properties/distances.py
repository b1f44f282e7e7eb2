"""Other distances, and class probabilities: taken as declared, near the reference, refused where they are not declared."""

from __future__ import annotations

import numpy as np
import torch

from fairopt.basics.arrays import Array
from fairopt.basics.errors import UnsupportedError
from fairopt.contract.problem import Distance, Kind
from fairopt.solve import Solution
from fairopt.solve.choosing import choose
from fairopt.solve.simplex.front import solve_simplex
from fairopt.testing.cone_oracle import cone_reference
from fairopt.testing.other_draws import KINDS, OtherDraw, other_draws
from fairopt.testing.properties.accuracy import RAW, RAW_EXACT, SOLVED
from fairopt.testing.subject import Subject, fail, within

EACH = 4  # problems of a distance and kind of output
TRIED = 40


def other_distances(subject: Subject) -> None:
    """max |y - y*| within ``accuracy_y`` for every distance and output that is declared, the others refused with UnsupportedError."""
    for distance, kind in KINDS:
        if distance in subject.capabilities.distances and kind in subject.capabilities.outputs:
            _declared(subject, distance, kind)
        else:
            _refused(subject, distance, kind)


def _declared(subject: Subject, distance: Distance, kind: Kind) -> None:
    judged = 0
    for d in _draws(subject, distance, kind):
        reference = cone_reference(d.scores.numpy(), d.problem)
        if reference is None:
            continue
        _raw(subject, d, reference.y)
        solution = _project(subject, d)
        if solution.status not in SOLVED:
            fail("other_distances", subject, None, f"status {solution.status.name} at {d.words}, which is feasible: {solution.message}")
        y = solution.scores.T.reshape(-1).numpy() if kind == "simplex" else solution.scores.numpy()
        error = float(np.abs(y - reference.y).max())
        bound = subject.capabilities.accuracy_y * max(1.0, float(d.scores.max()))
        if not error <= bound:
            fail("other_distances", subject, None, f"|y - y*| = {error:.2e} at {d.words}, declared {bound:.2e}")
        judged += 1
        if judged == EACH:
            return
    if not judged:
        fail("other_distances", subject, None, f"distance={distance!r}, outputs={kind!r} declared, and no problem of these was within")


def _raw(subject: Subject, d: OtherDraw, y: Array) -> None:
    """The backend itself: scores near the reference and prices, unless it says that it did not solve it."""
    if not subject.takes_raw(d.problem):
        return
    raw = subject.backend.solve(d.scores.clone(), d.problem)
    if raw.status is not None:
        return
    if raw.prices is None:
        fail("other_distances", subject, None, f"no prices at {d.words}, which are needed beside another distance")
    bound = (RAW_EXACT if subject.capabilities.exact else RAW) * max(1.0, float(d.scores.max()))
    if raw.y is not None and not float(np.abs(raw.y.double().numpy() - y).max()) <= bound:
        fail("other_distances", subject, None, f"its own |y - y*| is beyond {bound:.0e} with no status at {d.words}")


def _refused(subject: Subject, distance: Distance, kind: Kind) -> None:
    for d in _draws(subject, distance, kind)[:3]:
        try:
            solution = _project(subject, d)
        except UnsupportedError:
            continue
        fail("other_distances", subject, None, f"not declared, and not refused: {solution.status.name} at {d.words}")


def _draws(subject: Subject, distance: Distance, kind: Kind) -> list[OtherDraw]:
    drawn = other_draws(TRIED, subject.seed, distance, kind)
    return [d for d in drawn if within(d.problem, subject.capabilities, boxed=False) and d.problem.m]


def _project(subject: Subject, d: OtherDraw) -> Solution:
    if d.problem.classes == 1:
        return subject.project(d.scores, d.problem)
    chosen = choose(subject.backend, d.problem, None)
    with torch.no_grad():
        return solve_simplex(d.table, d.problem, chosen, kl=d.problem.distance != "squared")
