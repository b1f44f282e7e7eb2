"""A run over a data set that is killed: no output is ever half written, and the same call ends with the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fairopt as fo
from fairopt.datasets import project_dataset

NOTIONS = {
    "passes": lambda: fo.DemographicParity("race", tolerance=0.02) & fo.DemographicParity("sex", tolerance=0.01),
    "at once": lambda: fo.DemographicParity("race", tolerance=0.0),
}

# Kills itself at the k-th of the moments at which anything happens: rows, and both sides of a file that reaches the disk or gets its name.
CHILD = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {path!r}
from tests.unit.test_datasets_resume import NOTIONS
from fairopt.datasets import project_dataset
left = int(sys.argv[3])
def moment(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
def around(function):
    def called(*args, **kw):
        moment()
        try:
            return function(*args, **kw)
        finally:
            moment()
    return called
os.fsync, Path.replace, Path.unlink = around(os.fsync), around(Path.replace), around(Path.unlink)
project_dataset(sys.argv[1], sys.argv[2], NOTIONS[sys.argv[4]](), score="p", bounds=(0, 1), told=moment, threads=int(sys.argv[5]))
print(-left)
"""


def asked(source: Path, out: Path, notion: str) -> fo.DatasetReport:
    return project_dataset(source, out, NOTIONS[notion](), score="p", bounds=(0, 1))


def child(source: Path, out: Path, moment: int, notion: str, threads: int) -> Any:
    code = CHILD.format(path=[str(Path(__file__).parents[2]), *sys.path])
    arguments = [str(source), str(out), str(moment), notion, str(threads)]
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)


def files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("data")
    (root / "in").mkdir()
    for k, n in enumerate((300, 0, 500, 200)):
        race = rng.choice(["a", "b", "c"], n)
        scores = np.clip(rng.beta(2, 3, n) + 0.2 * (race == "a"), 0.0, 1.0)
        frame = pd.DataFrame({"race": race, "sex": rng.choice(["f", "m"], n), "p": scores})
        frame.to_parquet(root / "in" / f"part-{k}.parquet", row_group_size=90)
    for notion in NOTIONS:
        asked(root / "in", root / notion, notion)
    return root


def killed(data: Path, out: Path, rng: np.random.Generator, times: int) -> None:
    notion = "passes" if rng.random() < 0.75 else "at once"
    expected = files(data / notion)
    for _ in range(times):
        done = child(data / "in", out, int(rng.integers(1, 70)), notion, int(rng.integers(1, 4)))
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        there = {name: content for name, content in files(out).items() if not name.startswith(".")} if out.exists() else {}
        assert all(expected[name] == content for name, content in there.items())
    report = asked(data / "in", out, notion)
    assert files(out) == expected
    assert report.certified


@pytest.mark.parametrize("seed", range(3))
def test_killed_and_gone_on_with(seed: int, data: Path, tmp_path: Path) -> None:
    killed(data, tmp_path / "out", np.random.default_rng(seed), 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_killed_again_and_again(seed: int, data: Path, tmp_path: Path) -> None:
    killed(data, tmp_path / "out", np.random.default_rng(seed), 3)


class Stopped(Exception):
    """Stands for whatever ends a run."""


def stopped(data: Path, out: Path, notion: str, what: str) -> None:
    """A run that ends when it begins ``what``."""

    def told(now: Any) -> None:
        if now.what == what and now.rows > 0:
            raise Stopped

    with pytest.raises(Stopped):
        project_dataset(data / "in", out, NOTIONS[notion](), score="p", bounds=(0, 1), told=told, threads=1)


@pytest.mark.parametrize("threads", [1, 2])
def test_shards_get_their_names_one_by_one(threads: int, data: Path, tmp_path: Path) -> None:
    """What is written when a run is stopped is not written again."""
    out = tmp_path / "out"

    def told(now: Any) -> None:
        if now.what == "writing" and now.rows >= 950:
            raise Stopped

    with pytest.raises(Stopped):
        project_dataset(data / "in", out, NOTIONS["passes"](), score="p", bounds=(0, 1), told=told, threads=threads)
    done = {p.name: p.stat().st_mtime_ns for p in out.glob("part-*")}
    assert len(done) >= 2
    assert asked(data / "in", out, "passes").resumed
    assert done.items() <= {p.name: p.stat().st_mtime_ns for p in out.glob("part-*")}.items()
    assert files(out) == files(data / "passes")


def test_an_output_that_was_changed_is_an_error(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def told(now: Any) -> None:
        if now.what == "writing" and now.rows >= 350:
            raise Stopped

    with pytest.raises(Stopped):
        project_dataset(data / "in", out, NOTIONS["passes"](), score="p", bounds=(0, 1), told=told, threads=1)
    (out / "part-0.parquet").write_bytes(b"mine")
    with pytest.raises(fo.InputError, match="part-0.parquet was changed since this run wrote it"):
        asked(data / "in", out, "passes")
    assert (out / "part-0.parquet").read_bytes() == b"mine"
    (out / "part-0.parquet").unlink()
    assert asked(data / "in", out, "passes").resumed
    assert files(out) == files(data / "passes")


@pytest.mark.parametrize("notion", NOTIONS)
def test_what_was_found_is_not_looked_for_again(notion: str, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stopped(data, out, notion, "writing")
    assert list(out.iterdir()) == [out / ".fairopt"]
    heard: list[str] = []
    report = project_dataset(
        data / "in", out, NOTIONS[notion](), score="p", bounds=(0, 1), told=lambda now: heard.append(now.what), threads=1
    )
    assert report.resumed
    assert set(heard) == {"writing"}
    assert files(out) == files(data / notion)


def test_what_stopped_early_left_nothing(data: Path, tmp_path: Path) -> None:
    stopped(data, tmp_path / "out", "passes", "reading")
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_kind_is_not_gone_on_with(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stopped(data, out, "passes", "writing")
    with pytest.raises(fo.InputError, match="was asked for something else \\(settings differ\\)"):
        asked(data / "in", out, "at once")
    (out / "part-2.parquet").write_bytes(b"mine")
    with pytest.raises(fo.InputError, match="part-2.parquet is there already, and is not of this run"):
        asked(data / "in", out, "passes")
    assert (out / "part-2.parquet").read_bytes() == b"mine"
    (out / "part-2.parquet").unlink()
    with (out / ".fairopt" / "journal").open("ab") as journal:
        journal.write(b'{"shard": 0, "sha')  # cut off
    assert asked(data / "in", out, "passes").resumed
    assert files(out) == files(data / "passes")


def test_inputs_that_change_meanwhile_are_an_error(data: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for path in (data / "in").iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    stopped(tmp_path, out, "passes", "writing")
    frame = pd.read_parquet(source / "part-2.parquet")
    frame["p"] += np.where(np.arange(len(frame)) == 3, 1e-9, 0.0)
    frame.to_parquet(source / "part-2.parquet")
    with pytest.raises(fo.InputError, match="inputs differ"):
        asked(source, out, "passes")

    # while it is written: the sums of the scores say it
    def told(now: Any) -> None:
        if now.what == "writing" and now.rows == 0:
            (source / "part-2.parquet").write_bytes((source / "part-3.parquet").read_bytes())

    for path in (data / "in").iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    with pytest.raises(fo.InputError, match=r"has changed since it was first read"):
        project_dataset(source, out, NOTIONS["passes"](), score="p", bounds=(0, 1), told=told, threads=1, overwrite=True)
    assert not (out / "part-2.parquet").exists()


def test_scores_that_change_behind_the_clock_are_an_error(tmp_path: Path) -> None:
    """The same size and time, another digit: what is written is not what was proved."""
    source, out = tmp_path / "scores.csv", tmp_path / "fair.csv"
    source.write_text("race,p\n" + "".join(f"{'ab'[k % 2]},0.{k % 7}5\n" for k in range(100)))
    status = source.stat()

    def told(now: Any) -> None:
        if now.what == "writing" and now.rows == 0:
            source.write_text(source.read_text().replace("a,0.25", "a,0.26", 1))
            os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))

    with pytest.raises(fo.InputError, match="scores.csv: has changed since it was first read"):
        project_dataset(source, out, fo.DemographicParity("race", tolerance=0.001), score="p", told=told)
    assert not out.exists()


def test_two_processes_do_not_share_a_run(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def told(now: Any) -> None:
        if now.what == "writing" and now.rows == 0:
            done = child(data / "in", out, -1, "passes", 1)
            assert done.returncode == 1
            assert "in use by another process" in done.stderr

    project_dataset(data / "in", out, NOTIONS["passes"](), score="p", bounds=(0, 1), told=told)
    assert files(out) == files(data / "passes")
    assert os.listdir(tmp_path) == ["out"]
