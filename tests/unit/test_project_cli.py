"""``fairopt project`` as a user sees it."""

from __future__ import annotations

import inspect
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

import fairopt as fo
from fairopt.cli import audit as audit_command
from fairopt.cli import in_options
from fairopt.cli import project as command
from fairopt.cli.app import build
from fairopt.cli.files import bars

RUNNER = CliRunner()
GIVEN = fo.DemographicParity("sex", tolerance=0.01)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    n = 400
    frame = pd.DataFrame({"sex": rng.choice(["f", "m"], n), "race": rng.choice(["01", "1", "NA"], n), "y": rng.integers(0, 2, n)})
    frame["p"] = np.clip(rng.beta(2, 3, n) + 0.2 * (frame["race"] == "01"), 0.0, 1.0)
    frame["w"] = rng.uniform(1, 2, n)
    frame.to_csv(tmp_path / "scores.csv", index=False)
    return tmp_path / "scores.csv"


def call(*words: str | Path) -> Any:
    return RUNNER.invoke(build(), ["project", *map(str, words)])


def test_the_audit_before_and_after(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "fair.csv"
    done = call(file, "--score", "p", "--sensitive", "race", "--sensitive", "sex,race", "--bounds", "0,1", "--output", out)
    assert done.exit_code == 0, done.output
    read = pd.read_csv(out, dtype=str, keep_default_na=False)
    scores, features = read["fair_score"].astype(float).to_numpy(), {name: read[name].tolist() for name in ("sex", "race")}
    for attribute in ("race", ("sex", "race")):
        gaps = fo.gaps(scores, fo.DemographicParity(attribute, tolerance=0.05), sensitive_features=features)
        assert set(gaps["status"]) == {"met"}
        assert max(gaps["gap"]) > 0.049
    assert "400 rows in 1 file: CERTIFIED" in done.output
    assert "The worst comparison of each notion, before and after" in done.output
    assert "sex & race" in done.output
    assert "certificate: " in done.output
    told = json.loads((tmp_path / "fair.csv.certificate.json").read_text())
    assert max(row["after"] for row in told["gaps"]) <= 0.05 < max(row["before"] for row in told["gaps"])
    audited = RUNNER.invoke(build(), ["audit", str(out), "--score", "fair_score", "--sensitive", "race", "--strict"])
    assert audited.exit_code == 0, audited.output


def test_every_option_of_a_notion(file: Path, tmp_path: Path) -> None:
    common = (file, "--score", "p", "--bounds", "0,1")
    cases: list[tuple[tuple[str, ...], fo.Notion]] = [
        (("--sensitive", "sex", "--given", "race", "--tolerance", "0.02"), fo.DemographicParity("sex", tolerance=0.02, given="race")),
        (("--sensitive", "race", "--notion", "equalized_odds", "--target", "y"), fo.EqualizedOdds("race", tolerance=0.05)),
        (("--sensitive", "race", "--notion", "group_mean_bound", "--lower", "0.4"), fo.GroupMeanBound("race", lower=0.4)),
        (("--sensitive", "sex", "--notion", "impact-ratio", "--ratio", "0.99"), fo.ImpactRatio("sex", ratio=0.99)),
        (("--sensitive", "sex", "--notion", f"{__name__}:GIVEN"), GIVEN),
    ]
    for k, (words, notion) in enumerate(cases):
        out = tmp_path / f"{k}.csv"
        done = call(*common, *words, "--output", out)
        assert done.exit_code == 0, done.output
        assert json.loads((tmp_path / f"{k}.csv.certificate.json").read_text())["settings"]["notion"] == repr(notion)


def test_a_box_that_was_forgotten_is_mentioned(file: Path, tmp_path: Path) -> None:
    words = "note: all scores lie between 0 and 1; fair ones may not: --bounds 0,1 keeps them there"
    for score, bounds, said in (("p", [], True), ("p", ["--bounds", "0,1"], False), ("w", [], False)):
        done = call(file, "--score", score, "--sensitive", "race", *bounds, "--output", tmp_path / f"{score}{len(bounds)}.csv")
        assert done.exit_code == 0, done.output
        assert (words in done.output) == said
        told = json.loads((tmp_path / f"{score}{len(bounds)}.csv.certificate.json").read_text())
        scores = pd.read_csv(file)[score]
        assert told["scores"] == [scores.min(), scores.max()]


def test_decisions_that_still_break_the_tolerance_are_spoken_of(tmp_path: Path) -> None:
    """Means that are alike, of a wide group and a narrow one."""
    rng = np.random.default_rng(0)
    wide = rng.random(400) < 0.5
    p = np.concatenate([0.45 + 0.02 * rng.random(400), np.where(wide, 0.9, 0.02)])
    pd.DataFrame({"race": np.repeat(["a", "b"], 400), "p": p}).to_csv(tmp_path / "in.csv", index=False)
    done = call(tmp_path / "in.csv", "--score", "p", "--sensitive", "race", "--bounds", "0,1", "--output", tmp_path / "fair.csv")
    assert done.exit_code == 0, done.output
    audited = RUNNER.invoke(build(), ["audit", str(tmp_path / "fair.csv"), "--score", "fair_score", "--sensitive", "race"])
    (words,) = [line for line in audited.output.splitlines() if "the gap of decisions is" in line]
    assert words.startswith("note: DemographicParity(race)")
    assert words in done.output.splitlines()


def test_exit_codes(file: Path, tmp_path: Path) -> None:
    asked = ("--score", "p", "--sensitive", "race", "--bounds", "0,1")
    out = tmp_path / "fair.csv"
    assert call(file, *asked, "--output", out).exit_code == 0
    again = call(file, *asked, "--output", out)  # it is done already
    assert again.exit_code == 0, again.output
    with_other = subprocess.run(
        [sys.executable, "-m", "fairopt", "project", str(file), *asked, "--tolerance", "0.01", "--output", str(out)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert with_other.returncode == 2
    assert with_other.stderr.startswith("fairopt: output: ")
    assert "is there already, and is not of this run" in with_other.stderr
    assert with_other.stderr.rstrip().endswith("or pass --overwrite to lose it")
    assert call(file, *asked, "--tolerance", "0.01", "--output", out, "--overwrite").exit_code == 0
    one = tmp_path / "one.csv"
    one.write_text("race,p\na,0.5\na,0.25\n")
    vacuous = call(one, *asked, "--output", tmp_path / "two.csv")
    assert vacuous.exit_code == 1
    assert "vacuous" in vacuous.output
    for words in (("--score", "q"), ("--weights", "nobody"), ("--bounds", "1,0"), ("--target", "y,p"), ("--pos-label", "1")):
        done = call(file, *asked, *words, "--output", tmp_path / "three.csv")
        assert isinstance(done.exception, fo.InputError), words
    assert not (tmp_path / "three.csv").exists()


def test_bad_rows_are_named_or_left_out(file: Path, tmp_path: Path) -> None:
    lines = file.read_text().splitlines()
    lines[3] = lines[3].replace("f,", ",").replace("m,", ",")
    file.write_text("\n".join(lines) + "\n")
    asked = (file, "--score", "p", "--sensitive", "sex", "--output", tmp_path / "fair.csv")
    done = call(*asked)
    assert isinstance(done.exception, fo.InputError)
    words = in_options(str(done.exception))
    assert "scores.csv: line 4: column 'sex' is missing (--missing-group own makes that a group) (1 such rows of the first 400)" in words
    assert words.endswith("or pass --rejects FILE to leave them out and write them there")
    done = call(*asked, "--rejects", tmp_path / "rejects.csv")
    assert done.exit_code == 0
    assert "1 rows left out" in done.output
    assert len(pd.read_csv(tmp_path / "rejects.csv")) == 1


def test_the_options_are_those_of_audit() -> None:
    """One name, one meaning: what both commands take is the same annotation."""
    mine, theirs = (inspect.signature(f).parameters for f in (command.project, audit_command.audit))
    shared = {
        "score", "sensitive", "target", "pos_label", "notion", "tolerance", "ratio", "lower", "upper", "given", "separator", "decimal",
        "encoding", "threshold", "missing_group",
    }  # fmt: skip
    assert shared <= mine.keys() & theirs.keys()
    for name in shared:
        assert mine[name].annotation == theirs[name].annotation, name
        assert mine[name].default == theirs[name].default, name


def test_a_bar_on_a_terminal_alone(file: Path, tmp_path: Path) -> None:
    with bars(Console(file=io.StringIO())) as told:
        assert told is None
    screen = io.StringIO()
    with bars(Console(file=screen, force_terminal=True, width=140)) as told:
        assert told is not None
        notion = fo.DemographicParity("race", tolerance=0.05)
        fo.project_dataset(file, tmp_path / "fair.csv", notion, score="p", bounds=(0, 1), told=told)
    assert "writing" in screen.getvalue()
    assert "400 of 400 rows" in screen.getvalue()


def test_an_interrupt_says_how_to_go_on(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **kw: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "project_dataset", interrupted)
    done = call(file, "--score", "p", "--sensitive", "race", "--output", tmp_path / "fair.csv")
    assert done.exit_code == 130
    assert "the same command goes on from there" in done.stderr
