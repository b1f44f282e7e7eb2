"""Every installed backend passes the kit at its declared accuracy. FAIROPT_DRAWS sets the number of draws (`make conformance`: 300)."""

from __future__ import annotations

import os

import pytest

from fairopt.basics.errors import MissingExtraError
from fairopt.contract.registry import installed
from fairopt.testing import check_backend

DRAWS = int(os.environ.get("FAIROPT_DRAWS", "30"))
MEMBERS = {"qpsolvers": ("clarabel", "osqp", "piqp", "daqp", "highs", "scs")}
SLOW = {"theseus": 2, "qpth": 15, "unrolled": 10}  # draws in the short run: these take tens of milliseconds a solve
NAMES = [full for name in installed() for full in ([f"{name}:{m}" for m in MEMBERS[name]] if name in MEMBERS else [name])]


def check(name: str, draws: int) -> None:
    try:
        check_backend(name, draws=draws)
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", NAMES)
def test_passes(name: str) -> None:
    check(name, min(DRAWS, SLOW.get(name, DRAWS)) if "FAIROPT_DRAWS" not in os.environ else DRAWS)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name in SLOW])
def test_slow_ones_pass_at_full_length(name: str) -> None:
    check(name, DRAWS)


def test_the_shipped_ones_are_installed() -> None:
    expected = {"closed_form", "dual_newton", "unrolled", "cvxpylayers", "diffcp", "qpth", "theseus", "proxqp", "moreau", "qpsolvers"}
    assert expected <= set(installed())
