"""Data sets in files: what ``fairopt project`` costs beside reading and writing the same files, and on the American Community Survey.

    python tests/bench/shards.py made --rows 10000000 --shards 20
    python tests/bench/shards.py killed --rows 10000000 --shards 20
    python tests/bench/shards.py acs acs_income_2018_35states_rac5_mar2.csv.gz
    python tests/bench/shards.py passes

``made`` writes Parquet files of drawn people, copies them with pyarrow row group by row group (read, append a column, write), projects and
audits them in processes of their own: seconds, processor seconds and the largest resident set of each. ``killed`` ends such a run by
``kill -9`` at random moments, ``--kills`` of them, and calls it again until it is done. ``acs`` scores 898,610 people with a
logistic regression on four columns and projects over 35 states x 5 races, from Parquet and from CSV, with the seconds of each stage.
``passes`` counts those that 300 drawn problems of 20,000 rows take until the scores are proved. Folders go to ``--folder``, else to a
temporary one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

COPY = """
import sys, os, numpy as np, pyarrow as pa, pyarrow.parquet as pq
source, out = sys.argv[1:]
os.makedirs(out)
for name in sorted(os.listdir(source)):
    file = pq.ParquetFile(f"{source}/{name}")
    schema = file.schema_arrow.append(pa.field("copy", pa.float64()))
    with pq.ParquetWriter(f"{out}/{name}", schema) as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            writer.write_table(table.append_column("copy", pa.array(table["p"].to_numpy())))
"""
PROJECT = """
import sys, json, time, fairopt as fo
seen = {}
def told(now):
    seen.setdefault((now.passes, now.what), (time.perf_counter(), time.process_time()))
start = time.perf_counter()
notion = fo.DemographicParity(("race", "sex"), tolerance=0.02)
report = fo.project_dataset(sys.argv[1], sys.argv[2], notion, score="p", bounds=(0, 1), told=told)
ends = [*list(seen.values())[1:], (time.perf_counter(), time.process_time())]
stages = {f"{what}, pass {k}": (end[0] - begin[0], end[1] - begin[1]) for ((k, what), begin), end in zip(seen.items(), ends)}
print(json.dumps({"status": report.status, "passes": report.passes, "stages": stages, "told": str(report)}))
"""

AUDIT = """
import sys, fairopt as fo
notion = fo.DemographicParity(("race", "sex"), tolerance=0.02)
print(fo.audit_dataset(sys.argv[1], notion, score="p", rows_at_once=0))
"""


def make(folder: Path, rows: int, shards: int) -> None:
    """Parquet files of drawn people: id, race (5), sex (2), age, two more columns, and a score whose mean differs by group."""
    import pyarrow
    import pyarrow.parquet as parquet

    folder.mkdir(parents=True)
    for k in range(shards):
        n = rows // shards + (k < rows % shards)
        rng = np.random.default_rng(k)
        race, sex = rng.choice(5, n, p=[0.6, 0.2, 0.1, 0.07, 0.03]), rng.integers(0, 2, n)
        score = np.clip(rng.beta(2, 3, n) + 0.06 * race - 0.05 * sex, 0.0, 1.0)
        columns = {
            "id": np.arange(n) + k * n,
            "race": pyarrow.array(np.array(["a", "b", "c", "d", "e"])[race]),
            "sex": pyarrow.array(np.array(["f", "m"])[sex]),
            "age": rng.integers(18, 90, n),
            "x": rng.normal(size=n),
            "u": rng.normal(size=n),
            "p": score,
        }
        parquet.write_table(pyarrow.table(columns), folder / f"part-{k:05}.parquet", row_group_size=1 << 20)


def run(code: str, *arguments: str) -> tuple[str, float, float, float]:
    """(output, seconds, processor seconds, MiB resident at most) of a process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as child:
        output = child.stdout.read() if child.stdout is not None else ""
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"it ended with {child.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return output, time.perf_counter() - start, busy, used.ru_maxrss / 1024


def made(rows: int, shards: int, folder: Path) -> None:
    source = folder / f"made-{rows}-{shards}"
    if not source.exists():
        make(source, rows, shards)
    size = sum(p.stat().st_size for p in source.iterdir())
    print(f"{rows:,} rows in {shards} files, {size / 2**20:,.0f} MiB")
    tag = os.getpid()
    _, seconds, busy, most = run(COPY, str(source), str(folder / f"copy-{tag}"))
    print(f"copied by pyarrow     {seconds:8.1f} s  {busy:8.1f} s of processor  {most:8.0f} MiB")
    output, seconds2, busy2, most2 = run(PROJECT, str(source), str(folder / f"out-{tag}"))
    told = json.loads(output.splitlines()[-1])
    print(f"projected by fairopt  {seconds2:8.1f} s  {busy2:8.1f} s of processor  {most2:8.0f} MiB")
    print(f"times the copy        {seconds2 / seconds:8.2f}    {busy2 / busy:8.2f}")
    print(told["told"])
    for stage, (length, processor) in told["stages"].items():
        print(f"  {stage:30} {length:8.2f} s  {processor:8.2f} s of processor, {1e6 * processor / rows:7.4f} a million rows")
    output, seconds, busy, most = run(AUDIT, str(source))
    print(f"audited by fairopt    {seconds:8.1f} s  {busy:8.1f} s of processor  {most:8.0f} MiB: {output.splitlines()[0]}")


def killed(rows: int, shards: int, folder: Path, kills: int) -> None:
    """The same run killed ``kills`` times at random moments and called again each time: what is there after each, and at the end."""
    source = folder / f"made-{rows}-{shards}"
    if not source.exists():
        make(source, rows, shards)
    tag = os.getpid()
    whole, out = folder / f"whole-{tag}", folder / f"killed-{tag}"
    _, seconds, _, _ = run(PROJECT, str(source), str(whole))
    expected = digests(whole)
    print(f"{rows:,} rows in {shards} files: {seconds:.1f} s without a kill, {len(expected)} files", flush=True)
    rng = np.random.default_rng(tag)
    done = 0
    while done < kills:
        child = subprocess.Popen([sys.executable, "-c", PROJECT, str(source), str(out)], stdout=subprocess.DEVNULL)
        time.sleep(float(rng.uniform(0.02, 0.4)) * seconds)
        if child.poll() is not None:  # it came to its end before: once more from the beginning
            assert digests(out) == expected
            shutil.rmtree(out)
            continue
        child.kill()
        child.wait()
        done += 1
        there = digests(out) if out.exists() else {}
        wrong = [name for name, digest in there.items() if expected.get(name) != digest]
        print(f"  kill {done}: {len(there)} files in their place, {len(wrong)} of them other than without a kill {wrong[:3]}", flush=True)
    run(PROJECT, str(source), str(out))
    print("called once more: the same files, byte for byte" if digests(out) == expected else "called once more: OTHER FILES")


def digests(folder: Path) -> dict[str, str]:
    """Name -> digest of the files that are there under their own names."""
    from fairopt.datasets.survey import file_digest

    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts):
            found[str(file.relative_to(folder))] = file_digest(file)
    return found


def acs(file: Path, folder: Path) -> None:
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    import fairopt as fo

    frame = pd.read_csv(file)
    x = frame[["AGEP", "SCHL", "WKHP", "SEX"]].to_numpy(dtype=float)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(x[::20], frame["PINCP_gt50k"].to_numpy()[::20])
    frame["p"] = model.predict_proba(x)[:, 1]
    tag = os.getpid()
    frame.to_parquet(folder / f"acs-{tag}.parquet")
    frame.to_csv(folder / f"acs-{tag}.csv", index=False)
    notion = fo.DemographicParity(("ST", "RAC1P"), tolerance=0.05)
    for kind in ("parquet", "csv"):
        seen: dict[tuple[int, str], tuple[float, float]] = {}

        def told(now: Any, seen: dict[tuple[int, str], tuple[float, float]] = seen) -> None:
            seen.setdefault((now.passes, now.what), (time.perf_counter(), time.process_time()))

        report = fo.project_dataset(
            folder / f"acs-{tag}.{kind}", folder / f"fair-{tag}.{kind}", notion, score="p", bounds=(0, 1), told=told
        )
        ends = [*list(seen.values())[1:], (time.perf_counter(), time.process_time())]
        print(f"{kind}: {report}")
        for ((k, what), (begin, busy)), (end, used) in zip(seen.items(), ends, strict=True):
            print(f"  {what:20} pass {k}  {end - begin:7.2f} s  {used - busy:7.2f} s of processor")
        first = {what: when for (_, what), when in reversed(seen.items())}
        wall, busy = (w - s for w, s in zip(first["writing"], first["solving"], strict=True))
        print(f"  between reading and writing {wall:.2f} s, {busy:.2f} s of processor")
        read = pd.read_parquet if kind == "parquet" else pd.read_csv
        fair = read(folder / f"fair-{tag}.{kind}")["fair_score"].to_numpy()
        print(f"  at a bound: {np.mean((fair == 0) | (fair == 1)):.4%} of the fair scores")


def passes(folder: Path) -> None:
    """How many problems of each kind take how many passes; the first reading and the proof are two of them."""
    import pandas as pd

    import fairopt as fo

    found: dict[str, list[int]] = {}
    for k in range(300):
        rng = np.random.default_rng(k)
        n, groups = 20_000, int(rng.integers(2, 30))
        share = rng.dirichlet(np.full(groups, 0.7)) * 0.98 + 0.02 / groups
        race, sex, target = rng.choice(groups, n, p=share / share.sum()), rng.integers(0, 2, n), rng.integers(0, 2, n)
        scores = rng.beta(rng.uniform(0.3, 4.0), rng.uniform(0.3, 4.0), n) + rng.normal(0, 0.15, groups)[race]
        scores = np.clip(scores, 0, 1) if rng.random() < 0.7 else scores
        scores = np.round(scores, 2) if rng.random() < 0.2 else scores
        frame = pd.DataFrame({"race": race, "sex": sex, "y": target, "p": scores, "w": rng.uniform(0.3, 3.0, n)})
        frame.to_parquet(folder / "in.parquet")
        width = float(rng.choice([0.001, 0.01, 0.05]))
        notion = [
            fo.DemographicParity("race", tolerance=width),
            fo.DemographicParity(("race", "sex"), tolerance=width),
            fo.DemographicParity("race", tolerance=width) & fo.DemographicParity("sex", tolerance=width),
            fo.EqualizedOdds("race", tolerance=width),
            fo.DemographicParity("race", tolerance=width, to="overall"),
        ][k % 5]
        kind = ("both bounds", "both bounds", "both bounds, weights", "one bound", "no bounds")[k // 5 % 5]
        bounds = {"one bound": (0, None), "no bounds": None}.get(kind, (0, 1))
        report = fo.project_dataset(
            folder / "in.parquet", folder / "out.parquet", notion, score="p", bounds=bounds, overwrite=True,
            target="y" if notion.needs_targets else None, weights="w" if kind.endswith("weights") else None,
        )  # fmt: skip
        assert report.certified
        found.setdefault(kind, []).append(report.passes if report.certificate["road"] == "passes over shards" else 99)
    for kind, counts in sorted(found.items()):
        told = ", ".join(f"{counts.count(c)} in {c}" if c < 99 else f"{counts.count(c)} all rows at once" for c in sorted(set(counts)))
        print(f"{kind:22} {len(counts)} problems: {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["made", "killed", "acs", "passes"])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--rows", type=int, default=10**7)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        if asked.what == "made":
            made(asked.rows, asked.shards, folder)
        elif asked.what == "killed":
            killed(asked.rows, asked.shards, folder, asked.kills)
        elif asked.what == "passes":
            passes(folder)
        elif asked.file is None:
            parser.error("acs needs the file")
        else:
            acs(asked.file, folder)


if __name__ == "__main__":
    main()
