"""``fairopt verify``: claims measured on a backend and on a notion; a wrong backend is found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fairopt as fo
from fairopt.basics.errors import InputError
from fairopt.cli.app import build
from fairopt.contract.backend import Backend, Capabilities, RawSolution
from fairopt.contract.problem import ProjectionProblem
from fairopt.notions.named import SHIPPED, notion_named
from fairopt.testing.claims import CHECKS, Layer, check_claim, verify


def test_a_backend_and_a_notion_pass() -> None:
    result = CliRunner().invoke(build(), ["verify", "--backend", "dual_newton", "--notion", "EqualizedOdds", "--instances", "4"])
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
    for words in (["--notion", "Parity"], ["--notion", "math:pi"], ["--claims", "L99"], ["--backend", "nobody"]):
        assert isinstance(CliRunner().invoke(build(), ["verify", *words]).exception, InputError)


def test_what_a_claim_is_not_about_is_left_out_not_passed() -> None:
    outcome = check_claim("N3", Layer(notion=fo.GroupMeanBound("a", lower=0.2, upper=0.5)), instances=2, seed=0)
    assert outcome.instances == 0
    assert outcome.skipped.startswith("left out: N3 is about differences")


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("spelled", [str, lambda word: SHIPPED[word].__name__], ids=["snake", "camel"])
def test_every_shipped_notion_is_known_by_both_its_names(name: str, spelled: Callable[[str], str]) -> None:
    made = notion_named(spelled(name), "a", tolerance=0.05, ratio=0.8, lower=0.3, upper=0.6)
    assert type(made) is SHIPPED[name]
    assert made.attributes == ("a",)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_claim_is_measured_on_every_shipped_notion(name: str) -> None:
    layer = Layer(notion=notion_named(name, "a", tolerance=0.05, ratio=0.8, lower=0.3, upper=0.6))
    found = list(verify(layer, instances=6))
    assert len(found) == len(CHECKS) - 2  # L6 and L7 bring their own notion
    assert all(o.holds for o in found), [(o.claim, o.worst) for o in found if not o.holds]
    assert all(o.instances == 6 or o.skipped for o in found)


STRANGERS = """
import os
import fairopt as fo
from fairopt.contract.backend import Backend, Capabilities, RawSolution

@fo.notion
def equal_opportunity(batch, attribute, tolerance):
    for a, b in batch.pairs(attribute):
        yield abs(batch.mean(a & (batch.targets == 1)) - batch.mean(b & (batch.targets == 1))) <= tolerance

@fo.notion
def needy(batch, attribute, cost):
    yield batch.mean() <= cost

made = equal_opportunity("sex", tolerance=0.1)

class Aborting(Backend):
    name = "aborting"
    capabilities = Capabilities(prices=False)
    def solve(self, scores, problem):
        os.abort()

class Raising(Backend):
    name = "raising"
    capabilities = Capabilities(prices=False)
    def solve(self, scores, problem):
        raise KeyError("stranger")
"""


@pytest.fixture
def strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a module of notions and an installed distribution that offers two bad backends and a notion."""
    (tmp_path / "strangers.py").write_text(STRANGERS)
    facts = tmp_path / "strangers-0.1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 0.1\n")
    (facts / "entry_points.txt").write_text(
        "[fairopt.backends]\naborting = strangers:Aborting\nraising = strangers:Raising\n"
        "[fairopt.notions]\nopportunity-of-a-stranger = strangers:equal_opportunity\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    return tmp_path


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", MAIN, "verify", *words], capture_output=True, text=True, timeout=300, check=False)


MAIN = "import sys\nfrom fairopt.cli import main\nsys.argv[0] = 'fairopt'\nif __name__ == '__main__':\n    main()"


def test_a_notion_of_the_working_directory_or_of_a_package_is_measured(strangers: Path) -> None:
    for words in ("strangers:equal_opportunity", "strangers:made", "OpportunityOfAStranger"):
        found = run("--notion", words, "--instances", "3", "--claims", "L1,L8")
        assert found.returncode == 0, found.stderr
        assert found.stdout.count("holds") == 2
    lacking = run("--notion", "strangers:needy")
    assert "needs cost too" in lacking.stderr


def test_a_backend_that_aborts_or_raises_fails_its_claims_and_the_table_is_shown(strangers: Path) -> None:
    found = run("--backend", "aborting", "--instances", "2", "--claims", "L1,L3")
    assert found.returncode == 1, found.stderr
    assert found.stdout.count("fails") == 2
    assert "the process was aborted" in found.stdout
    found = run("--backend", "raising", "--instances", "2", "--claims", "L1,L12")
    assert found.returncode == 1, found.stderr
    assert "fails" in found.stdout
