"""``fairopt verify``: claims measured on a backend and on a notion; a wrong backend is found."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import fairopt as fo
from fairopt.cli.app import build
from fairopt.contract.base import Backend, Capabilities, RawSolution
from fairopt.errors import InputError
from fairopt.problem import ProjectionProblem
from fairopt.testing.claims import CHECKS, Layer, check_claim, verify


def test_a_backend_and_a_notion_pass() -> None:
    result = CliRunner().invoke(build([]), ["verify", "--backend", "dual_newton", "--notion", "EqualizedOdds", "--instances", "4"])
    assert result.exit_code == 0, result.output
    assert "holds" in result.output
    assert "L6" not in result.output  # brings its own notion


def test_every_claim_runs_on_the_drawn_problems() -> None:
    found = list(verify(Layer("dual_newton"), instances=3))
    assert [o.claim for o in found] == list(CHECKS)
    assert all(o.holds and o.instances == 3 for o in found)


class Lazy(Backend):
    """Returns the scores as they came, and says that this is the solution."""

    name = "lazy"
    capabilities = Capabilities(prices=False, exact=True)

    def solve(self, scores, problem: ProjectionProblem) -> RawSolution:
        return RawSolution(scores.clone())


def test_a_backend_that_does_nothing_fails() -> None:
    outcome = check_claim("L1", Layer(Lazy()), instances=30, seed=0)
    assert not outcome.holds


def test_unknown_names_are_errors() -> None:
    with pytest.raises(InputError, match="claims"):
        list(verify(Layer(), claims=["L99"]))
    for words in (["--notion", "Parity"], ["--notion", "math:pi"], ["--claims", "L99"]):
        assert isinstance(CliRunner().invoke(build([]), ["verify", *words]).exception, InputError)


def test_what_a_claim_is_not_about_is_left_out_not_passed() -> None:
    outcome = check_claim("N3", Layer(notion=fo.GroupMeanBound("a", lower=0.2, upper=0.5)), instances=2, seed=0)
    assert outcome.instances == 0
    assert outcome.skipped.startswith("left out: N3 is about differences")
