"""What a claim is: its statement and proof in words, a numeric check of fairopt's own code, mutants, an exact check, a tight instance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fairopt.basics.errors import FairoptError
from fairopt.testing.claims.measurement import Measurement, worst
from fairopt.testing.claims.verify import instance_rng

Generator = np.random.Generator
Kind = Literal["theorem", "bound", "counterexample"]
Check = Callable[[Generator, Any], Measurement]
ERRORS = (ArithmeticError, ValueError, RuntimeError, AssertionError, LookupError, TypeError, FairoptError)


@dataclass(frozen=True)
class Exact:
    """A proof by the SMT solver z3. ``prove(broken)`` returns whether the negation is unsatisfiable; with ``broken`` the formula under
    proof is falsified, and it must not be."""

    what: str
    prove: Callable[[bool], bool]


@dataclass(frozen=True, eq=False)
class Claim:
    """One claim.

    name, title        "P2", a line
    kind, whose        theorem (an identity or a property), bound (measured against a bound) or counterexample; "ours", "paper", "textbook"
    statement, proof   Markdown, every assumption named
    check, part        check(rng, part) measures one random or adversarial instance of ``part``, the code under check
    mutants            broken parts, on each of which the check must fail
    deviations         what -> part(size): the code off by ``size`` in one thing; the check must notice a tenth, and the run tells the least
                       size it notices
    tight, loose       an instance found by search that reaches at least half of the bound, or why none can (bounds only)
    exact              the SMT proof at small size, where there is one
    paper              what of it is proved on paper, in a word or two
    instances          of the full run
    """

    name: str
    title: str
    kind: Kind
    whose: str
    statement: str
    proof: str
    check: Check
    part: Any
    mutants: Mapping[str, Any]
    exact: Exact | None = None
    tight: Callable[[Any], Measurement] | None = None
    loose: str = ""
    instances: int = 1000
    open: str = ""
    paper: str = "proved"
    deviations: Mapping[str, Callable[[float], Any]] = field(default_factory=dict)

    def measure(self, seed: int, number: int, part: Any = None) -> Measurement:
        """Instance ``number``: the same for ever. An error in the code under check is a failure of the claim."""
        try:
            return self.check(instance_rng(self.name, seed, number), self.part if part is None else part)
        except ERRORS as error:
            return Measurement(float("inf"), 0.0, note=f"{type(error).__name__}: {error}")


__all__ = ["ERRORS", "Check", "Claim", "Exact", "Generator", "Kind", "Measurement", "worst"]
