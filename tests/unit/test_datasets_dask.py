"""Data sets on a Dask cluster: the bytes of a run on one machine, whoever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import fairopt as fo
from fairopt.cli.app import build

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
    with distributed.LocalCluster(**options) as made, distributed.Client(made) as client:
        yield client


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    (root / "in").mkdir()
    for k in range(6):
        n = 400 + 50 * k
        race = rng.choice(["a", "b", "c"], n)
        scores = np.clip(rng.beta(2, 3, n) + 0.2 * (race == "a"), 0.0, 1.0)
        frame = pd.DataFrame({"race": race, "age": rng.normal(size=n), "w": rng.uniform(0.5, 2.0, n), "p": scores})
        frame.to_parquet(root / "in" / f"part-{k}.parquet")
    return root


def files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


CASES: dict[str, tuple[fo.Notion, dict[str, Any]]] = {
    "box": (fo.DemographicParity("race", tolerance=0.02), {"bounds": (0, 1)}),
    "weights and half a box": (fo.DemographicParity("race", tolerance=0.02), {"bounds": (0, None), "weights": "w"}),
    "at once": (fo.ScoreCovariance("age", tolerance=0.001), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_bytes_of_one_machine(case: str, cluster: Any, data: Path, tmp_path: Path) -> None:
    notion, kw = CASES[case]
    fo.project_dataset(data / "in", tmp_path / "here", notion, score="p", **kw)
    fo.project_dataset(data / "in", tmp_path / "there", notion, score="p", client=cluster, **kw)
    assert files(tmp_path / "here") == files(tmp_path / "there")


def test_errors_of_workers_are_ours(cluster: Any, data: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for path in (data / "in").iterdir():
        frame = pd.read_parquet(path)
        frame["p"] = np.where((np.arange(len(frame)) == 7) & (path.name == "part-3.parquet"), np.nan, frame["p"])
        frame.to_parquet(source / path.name)
    notion = CASES["box"][0]
    with pytest.raises(fo.InputError, match=r"part-3.parquet: row 8: column 'p' is missing|part-3.parquet: row 8: column 'p' holds nan"):
        fo.project_dataset(source, tmp_path / "out", notion, score="p", client=cluster)
    assert not (tmp_path / "out").exists()


def test_by_the_address_of_a_scheduler(cluster: Any, data: Path, tmp_path: Path) -> None:
    notion, kw = CASES["box"]
    fo.project_dataset(data / "in", tmp_path / "here", notion, score="p", **kw)
    words = ["project", str(data / "in"), "--score", "p", "--sensitive", "race", "--tolerance", "0.02", "--bounds", "0,1"]
    done = CliRunner().invoke(build(), [*words, "--output", str(tmp_path / "there"), "--scheduler", cluster.scheduler.address])
    assert done.exit_code == 0, done.output
    assert files(tmp_path / "here") == files(tmp_path / "there")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["reading", "looking for prices", "proving the scores", "writing"])
def test_a_worker_that_dies_costs_its_tasks(what: str, data: Path, tmp_path: Path) -> None:
    notion, kw = CASES["box"]
    fo.project_dataset(data / "in", tmp_path / "here", notion, score="p", **kw)
    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
    with distributed.LocalCluster(**options) as made, distributed.Client(made) as client:
        victims = list(client.run(os.getpid).values())

        def told(now: Any) -> None:
            if now.what == what and now.rows > 0 and len(victims) == 2:
                os.kill(victims.pop(), signal.SIGKILL)

        fo.project_dataset(data / "in", tmp_path / "there", notion, score="p", client=client, told=told, **kw)
        assert len(victims) == 1
    assert files(tmp_path / "here") == files(tmp_path / "there")
