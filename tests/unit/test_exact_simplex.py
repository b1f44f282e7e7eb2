"""Bounded linear forms decided in fractions, against an LP; contradictions are recomputed here."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairopt.basics.exact_simplex import End, Forms, decide

linprog = pytest.importorskip("scipy.optimize").linprog


def interval(rng: np.random.Generator, low: float, high: float) -> tuple[End, End]:
    a, b = sorted(Fraction(round(float(v) * 4), 4) for v in rng.uniform(low, high, 2))
    if rng.random() < 0.2:
        b = a
    return (None if rng.random() < 0.2 else a), (None if rng.random() < 0.2 else b)


def drawn(rng: np.random.Generator) -> Forms:
    asked = Forms()
    n = int(rng.integers(1, 7))
    for _ in range(n):
        asked.variable(*interval(rng, -2, 2))
    for _ in range(int(rng.integers(1, 9))):
        form = {int(j): Fraction(int(rng.integers(-3, 4)), int(rng.integers(1, 4))) for j in range(n) if rng.random() < 0.6}
        asked.ask(form, *interval(rng, -4, 4))
    return asked


def agrees_with_lp(asked: Forms) -> bool:
    a, b = [], []
    for form, bottom, top in zip(asked.forms, asked.bottom, asked.top, strict=True):
        line = np.array([float(form.get(j, 0)) for j in range(len(asked.value))])
        a += [line] * (top is not None) + [-line] * (bottom is not None)
        b += [float(top)] * (top is not None) if top is not None else []
        b += [-float(bottom)] if bottom is not None else []
    box = [(None if x is None else float(x), None if y is None else float(y)) for x, y in zip(asked.low, asked.high, strict=True)]
    n = len(asked.value)
    return bool(linprog(np.zeros(n), A_ub=np.array(a).reshape(-1, n), b_ub=b, bounds=box).status == 0)


@given(st.integers(0, 2**32 - 1))
def test_it_decides_as_an_lp_does(seed: int) -> None:
    asked = drawn(np.random.default_rng(seed))
    feasible = agrees_with_lp(asked)
    answer = decide(asked, 10**6)
    assert (answer.point is None) != (answer.contradiction is None)
    assert (answer.point is not None) == feasible
    if answer.point is not None:
        x = answer.point
        values = [sum((a * x[j] for j, a in form.items()), Fraction(0)) for form in asked.forms]
        for v, low, high in [*zip(x, asked.low, asked.high, strict=True), *zip(values, asked.bottom, asked.top, strict=True)]:
            assert low is None or v >= low
            assert high is None or v <= high
        return
    assert answer.contradiction is not None
    weight: dict[int, Fraction] = {}
    most = Fraction(0)
    for i, q in answer.contradiction.items():
        end = asked.top[i] if q > 0 else asked.bottom[i]
        assert end is not None
        most += q * end
        for j, a in asked.forms[i].items():
            weight[j] = weight.get(j, Fraction(0)) + q * a
    least = Fraction(0)
    for j, w in weight.items():
        if w:
            end = asked.low[j] if w > 0 else asked.high[j]
            assert end is not None
            least += w * end
    assert least > most


def test_too_much_work_is_left_undecided() -> None:
    spent = Forms()
    x, y = spent.variable(None, None), spent.variable(None, None)
    spent.ask({x: Fraction(1), y: Fraction(1)}, Fraction(1), None)
    spent.ask({x: Fraction(1), y: Fraction(-1)}, Fraction(1), None)
    spent.ask({x: Fraction(-1)}, Fraction(1), None)
    undecided = decide(spent, 0)
    assert undecided.point is None
    assert undecided.contradiction is None
