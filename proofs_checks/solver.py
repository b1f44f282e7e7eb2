"""Short words for z3."""

from __future__ import annotations

from typing import Any

TIMEOUT_MS = 60_000


def reals(*names: str) -> list[Any]:
    import z3

    return [z3.Real(n) for n in names]


def where(condition: Any, a: Any, b: Any) -> Any:
    import z3

    return z3.If(condition, a, b)


def number(numerator: int, denominator: int = 1) -> Any:
    import z3

    return z3.Q(numerator, denominator)


def largest(values: list[Any]) -> Any:
    out = values[0]
    for v in values[1:]:
        out = where(v > out, v, out)
    return out


def smallest(values: list[Any]) -> Any:
    return -largest([-v for v in values])


def proved(goal: Any, *assumptions: Any) -> bool:
    """Whether ``assumptions`` imply ``goal``: their conjunction with its negation has no model. Unknown is not proved."""
    import z3

    solver = z3.Solver()
    solver.set("timeout", TIMEOUT_MS)
    solver.add(*assumptions, z3.Not(goal))
    return bool(solver.check() == z3.unsat)


def all_of(*terms: Any) -> Any:
    import z3

    return z3.And(*terms)


def implies(a: Any, b: Any) -> Any:
    import z3

    return z3.Implies(a, b)
