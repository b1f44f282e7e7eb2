"""The fuzzer in small: draws with a fixed seed, and a judge that catches every planted wrong answer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import fairopt as fo
from tests.fuzz.draw import Draw, describe
from tests.fuzz.judge import Verdict, examine
from tests.fuzz.rows import blocks_of, feasible, violation
from tests.fuzz.witness import feasible_point
from tests.fuzz.workers import judged, verdicts

SEED = 20_260


def faults_of(seed: int, count: int, jobs: int = 1) -> list[str]:
    """One line a fault, with the number that replays it: ``python tests/fuzz/run.py --replay SEED:NUMBER``."""
    found = [(i, kind, words) for i, verdict, _ in verdicts(seed, 0, count, 0.0, jobs) for kind, words in verdict.faults]
    return [f"{seed}:{i} {kind}: {words[:200]}" for i, kind, words in sorted(found)]


def test_300_draws() -> None:
    found = faults_of(SEED, 300)
    assert not found, "\n".join(found)


@pytest.mark.slow
def test_10000_draws() -> None:
    found = faults_of(SEED + 1, 10_000, jobs=2)
    assert not found, "\n".join(found)


def test_a_draw_is_made_from_its_number_alone() -> None:
    first = [repr(describe(3, i)) for i in range(40)]
    assert [repr(describe(3, i)) for i in reversed(range(40))] == first[::-1]
    assert len(set(first)) == 40


# the judge, where the answer is known -----------------------------------------------------------------------------------------


def plain(notion: dict[str, Any], scores: list[float], groups: list[Any], **more: Any) -> Draw:
    n = len(scores)
    d: Draw = {
        "seed": -1, "index": -1, "n": n, "dtype": "float64", "scores": scores, "column": False, "grad": True, "learn": False,
        "features": {"g": groups},
        "groups": None, "targets": None, "parts": [{"members": [notion], "soft": None}], "bounds": None, "weights": None, "witness": None,
        "on_infeasible": "raise", "backend": "auto",
    }  # fmt: skip
    return {**d, **more}


def parity(tolerance: float) -> dict[str, Any]:
    return {"name": "DemographicParity", "attribute": "g", "tolerance": tolerance, "to": "pairs", "given": None}


def test_violations_are_exact() -> None:
    d = plain(parity(0.1), [0.1, 0.2, 0.3], ["a", "a", "b"])
    (block,) = blocks_of(d)
    a, b = (Fraction(0.1) + Fraction(0.2)) / 2, Fraction(0.3)
    assert violation(block.constraints[0], d["scores"]) == b - a - Fraction(0.1)


def test_a_feasible_point_is_found_where_only_one_free_sample_meets_the_row() -> None:
    box = [[0.125, -17.375, 2.375], [0.125, 17.375, 2.375]]
    d = plain(parity(0.0), [0.125, -0.5, 2.375], ["a", "b", "b"], bounds=box)
    found = feasible_point(d, blocks_of(d))
    assert found.point is not None
    assert feasible(d, blocks_of(d), found.point)
    assert found.point[1] == Fraction(-17, 8)


@pytest.mark.parametrize("box", [[[0.0, 2.0], [1.0, 3.0]], [[-math.inf, 2.0], [1.0, math.inf]]])
def test_infeasibility_is_proved(box: list[Any]) -> None:
    d = plain(parity(0.5), [0.0, 2.0], ["a", "b"], bounds=box)
    found = feasible_point(d, blocks_of(d))
    assert found.point is None
    assert found.proved


# planted wrong answers --------------------------------------------------------------------------------------------------------

Wrong = Callable[[torch.Tensor, Any, dict[str, Any]], Any]


def honest(scores: torch.Tensor, notion: Any, arguments: dict[str, Any]) -> Any:
    return fo.project(scores, notion, **arguments)


def lied(scores: torch.Tensor, notion: Any, arguments: dict[str, Any], change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The honest solution with other scores, CERTIFIED, everything else as it was."""
    s = honest(scores, notion, arguments)
    return SimpleNamespace(scores=change(s.scores), status=fo.Status.CERTIFIED, certificate=s.certificate)


def box_in(arguments: dict[str, Any], n: int) -> tuple[torch.Tensor, torch.Tensor]:
    sides = arguments["bounds"] or (None, None)
    ends = [
        torch.as_tensor(e if b is None else b, dtype=torch.float64).expand(n) for b, e in zip(sides, (-math.inf, math.inf), strict=True)
    ]
    return ends[0], ends[1]


def moved(scores: torch.Tensor, notion: Any, arguments: dict[str, Any]) -> Any:
    """One score moved by a millionth of the largest, inside its box."""

    def change(y: torch.Tensor) -> torch.Tensor:
        lb, ub = box_in(arguments, y.numel())
        flat = y.detach().reshape(-1).double()
        step = 1e-6 * float(flat.abs().max())
        room = torch.nonzero((flat + step <= ub) & (flat - step >= lb)).reshape(-1)
        shift = torch.zeros_like(flat)
        shift[room[:1]] = step
        return y + shift.view(y.shape)

    return lied(scores, notion, arguments, change)


def clipped_only(scores: torch.Tensor, notion: Any, arguments: dict[str, Any]) -> Any:
    lb, ub = box_in(arguments, scores.numel())
    return lied(scores, notion, arguments, lambda y: torch.minimum(torch.maximum(scores.view(-1), lb), ub).view(scores.shape))


def constant_instead(scores: torch.Tensor, notion: Any, arguments: dict[str, Any]) -> Any:
    """Feasible, but not nearest."""
    return lied(scores, notion, arguments, lambda y: torch.full_like(y, float(y.detach().mean())) + 0.0 * scores)


def outside(scores: torch.Tensor, notion: Any, arguments: dict[str, Any]) -> Any:
    """The first bounded score one ulp outside."""

    def change(y: torch.Tensor) -> torch.Tensor:
        _, ub = box_in(arguments, y.numel())
        flat = y.detach().reshape(-1).clone()
        i = int(torch.nonzero(torch.isfinite(ub))[0])
        flat[i] = torch.nextafter(ub[i], torch.tensor(math.inf, dtype=ub.dtype)).to(flat.dtype)
        return flat.view(y.shape) + 0.0 * scores

    return lied(scores, notion, arguments, change)


def not_a_number(scores: torch.Tensor, notion: Any, arguments: dict[str, Any]) -> Any:
    return lied(scores, notion, arguments, lambda y: y * math.nan)


def other_dtype(scores: torch.Tensor, notion: Any, arguments: dict[str, Any]) -> Any:
    return lied(scores, notion, arguments, lambda y: y.to(torch.float32))


def raising(scores: torch.Tensor, notion: Any, arguments: dict[str, Any]) -> Any:
    raise ValueError("singular matrix")


def refusing(scores: torch.Tensor, notion: Any, arguments: dict[str, Any]) -> Any:
    raise fo.InputError("scores: got numbers, expected others")


def infeasible_without_reason(scores: torch.Tensor, notion: Any, arguments: dict[str, Any]) -> Any:
    raise fo.InfeasibleError("no scores inside the bounds meet these constraints")


def warning(scores: torch.Tensor, notion: Any, arguments: dict[str, Any]) -> Any:
    with np.errstate(all="warn"):
        np.float64(1e308) * np.float64(10.0)
    return honest(scores, notion, arguments)


def writing(scores: torch.Tensor, notion: Any, arguments: dict[str, Any]) -> Any:
    s = honest(scores, notion, arguments)
    with torch.no_grad():
        scores.view(-1)[0] += 1.0
    return s


def wrong_box_number(scores: torch.Tensor, notion: Any, arguments: dict[str, Any]) -> Any:
    s = honest(scores, notion, arguments)
    numbers = {**s.certificate.to_dict(), "bounds_violation": 1e-30}
    certificate = SimpleNamespace(to_dict=lambda: numbers, max_violation=s.certificate.max_violation, kkt_bound=s.certificate.kkt_bound)
    return SimpleNamespace(scores=s.scores, status=s.status, certificate=certificate)


def without_gradient(scores: torch.Tensor, notion: Any, arguments: dict[str, Any]) -> Any:
    return lied(scores, notion, arguments, Spoiled.apply)


class Spoiled(torch.autograd.Function):
    """The identity, whose gradient is NaN."""

    @staticmethod
    def forward(ctx: Any, y: torch.Tensor) -> torch.Tensor:
        return y.clone()

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return g * math.nan


PLANTED: list[tuple[Wrong, str]] = [
    (moved, "CERTIFIED, broken row|not nearest"),
    (clipped_only, "CERTIFIED, broken row"),
    (constant_instead, "not nearest"),
    (outside, "outside its box"),
    (not_a_number, "not finite"),
    (other_dtype, "shape or dtype"),
    (raising, "foreign exception"),
    (refusing, "valid input refused"),
    (infeasible_without_reason, "refuted infeasibility"),
    (warning, "foreign warning"),
    (writing, "input modified"),
    (wrong_box_number, "certificate"),
    (without_gradient, "gradient not finite"),
]


def subjects() -> Iterator[Draw]:
    """Draws with a hard parity row that binds at the optimum, with and without boxes and weights."""
    rng = np.random.default_rng(5)
    for k in range(12):
        n = int(rng.integers(6, 20))
        groups = [("a", "b", "c")[int(g)] for g in [0, 1, *rng.integers(0, 2 + k % 2, n - 2)]]
        z = (rng.normal(size=n) + np.array([3.0 * (g == "a") for g in groups])) * 10.0 ** float(rng.integers(-20, 20))
        top = float(np.abs(z).max())
        box = [None, [-top, 0.9 * top], [(-top * rng.uniform(1, 2, n)).tolist(), (top * rng.uniform(0.8, 2, n)).tolist()]][k % 3]
        weights = None if k % 2 else (10.0 ** rng.uniform(-2, 2, n)).tolist()
        yield plain(parity(0.1 * top), z.tolist(), groups, bounds=box, weights=weights)


@pytest.mark.parametrize(("wrong", "kind"), PLANTED, ids=[w.__name__ for w, _ in PLANTED])
def test_planted_wrong_answers_are_caught(wrong: Wrong, kind: str) -> None:
    tried = 0
    for d in subjects():
        if wrong in (outside,) and d["bounds"] is None:
            continue
        tried += 1
        verdict = examine(d, lambda scores, notion, **arguments: wrong(scores, notion, arguments))
        words = [k for k, _ in verdict.faults]
        assert any(any(k.startswith(w) for w in kind.split("|")) for k in words), (d, verdict)
    assert tried >= 8


def test_honest_answers_to_the_same_draws_pass() -> None:
    for d in subjects():
        verdict = examine(d)
        assert verdict == Verdict([], [], "CERTIFIED"), (d, verdict)


END = float(torch.finfo(torch.float64).max)
LOW, HIGH = 0.469437425340979, 0.4694382233736099  # a box whose lower end alone meets the row below
ROW = {"terms": [[1e6, "group", "a"], [7.0, "group", "b"]], "constant": 0.0, "op": "le", "limit": 469440.7114029564}
TWO = [
    {"terms": [[-1.0, "group", "a"]], "constant": -1.4433394921834, "op": "ge", "limit": 0.05},
    {"terms": [[1e6, "group", "a"]], "constant": 0.0, "op": "ge", "limit": -0.3},
]


def custom_rows(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"name": "custom", "attribute": "g", "rows": list(rows)}


EDGES: dict[str, tuple[Draw, list[float]]] = {  # a draw, and scores that are feasible but not nearest; none where nothing else is
    # unbounded scores still end where the dtype does: a point beyond it is no better answer
    "the end of the dtype": (plain(parity(0.0), [-3.4e307, -END, -END], ["b", "a", "b"]), [-END, -END, -END]),
    # every score at a bound: the displacements of free samples tell no price
    "no free sample": (plain(custom_rows(ROW), [0.52, 0.87], ["a", "b"], bounds=[LOW, HIGH]), []),
    # the limit is a single point; what is nearer to the scores breaks it
    "one feasible point": (
        plain(custom_rows({"terms": [[1.0, "all"]], "constant": 0.0, "op": "le", "limit": 0.0}), [4.8e-31], ["a"], bounds=[0.0, 3e-30]),
        [],
    ),
    # two rows of a budget tie at the optimum, one a million times as steep
    "a tie in a budget": (
        {**plain(custom_rows(*TWO), [0.018257139782143494, 0.5739928177930936], ["a", "a"]),
         "parts": [{"members": [custom_rows(*TWO)], "soft": ["budgeted", 100.0]}]},
        [0.018257139782143494 - 0.29, 0.5739928177930936 - 0.29],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDGES)
def test_the_judge_calls_no_nearest_answer_far_and_still_sees_others(name: str) -> None:
    d, other = EDGES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fo.FairoptWarning)
        assert examine(d).faults == []
        wrong = torch.tensor(other, dtype=torch.float64)
        if not other:
            return
        verdict = examine(d, lambda scores, notion, **arguments: lied(scores, notion, arguments, lambda _: wrong))
    assert any(kind.startswith("not nearest") for kind, _ in verdict.faults), verdict


def test_a_hang_is_caught() -> None:
    def endless(*_: Any, **__: Any) -> None:
        while True:
            pass

    verdict = judged(next(subjects()), 0.2, endless)
    assert [kind for kind, _ in verdict.faults] == ["hang"]


def test_a_status_of_its_own_is_asked_for_where_nothing_is_feasible() -> None:
    """on_infeasible='closest' that says CERTIFIED."""
    d = plain(parity(0.5), [0.0, 2.0], ["a", "b"], bounds=[[0.0, 2.0], [1.0, 3.0]], on_infeasible="closest")
    certificate = SimpleNamespace(
        to_dict=lambda: dict.fromkeys(
            ("max_violation", "kkt_residual", "rounding_bound", "moved_by_repair", "distance", "bounds_violation"), 0.0
        ),
        kkt_bound=0.0,
    )

    def lie(scores: torch.Tensor, *_: Any, **__: Any) -> Any:
        y = torch.tensor([1.0, 2.0], dtype=torch.float64) + 0.0 * scores
        return SimpleNamespace(scores=y, status=fo.Status.CERTIFIED, certificate=certificate)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verdict = examine(d, lie)
    assert any(kind.startswith("CERTIFIED, broken row") for kind, _ in verdict.faults)
