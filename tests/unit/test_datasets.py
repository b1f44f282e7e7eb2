"""Data sets in files: the scores of ``fo.project`` on all rows together, whatever the files, the threads and the memory."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.datasets import in_memory, kept, project_dataset
from fairopt.solve.passes.whole_sums import UNIT, exact_sums, joined, scale_of, whole_clipped_sums


def people(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": np.arange(n),
            "race": rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1]),
            "sex": rng.choice(["f", "m"], n),
            "code": rng.integers(3, 6, n),
            "y": rng.integers(0, 2, n),
            "age": rng.normal(40.0, 9.0, n),
            "income": rng.uniform(0.2, 0.8, n),
            "w": rng.uniform(0.5, 2.0, n),
            "note": ["x, y" if k % 7 else 'say "so"' for k in range(n)],
        }
    )
    frame["p"] = np.clip(rng.beta(2, 3, n) + 0.2 * (frame.race == "a") - 0.1 * (frame.sex == "f"), 0.0, 1.0)
    return frame


def write_parts(frame: pd.DataFrame, folder: Path, cuts: list[int], kind: str = "parquet") -> Path:
    """Files of the rows between the cuts."""
    folder.mkdir(parents=True)
    for k, (a, b) in enumerate(zip([0, *cuts], [*cuts, len(frame)], strict=True)):
        part = frame.iloc[a:b]
        if kind == "parquet":
            part.to_parquet(folder / f"part-{k:03}.parquet", row_group_size=97)
        else:
            part.to_csv(folder / f"part-{k:03}.csv", index=False)
    return folder


def read_parts(folder: Path) -> pd.DataFrame:
    files = sorted(p for p in folder.iterdir() if not p.name.startswith((".", "_")))
    exact: dict[Any, Any] = dict.fromkeys(("p", "w", "age", "income", "fair_score"), float)
    return pd.concat([pd.read_parquet(p) if p.suffix == ".parquet" else pd.read_csv(p, converters=exact) for p in files])


def reference(frame: pd.DataFrame, notion: fo.Notion, **kw: Any) -> Any:
    features = {name: frame[name].to_numpy() for name in notion.attributes}
    more = {"targets": frame[kw["target"]].to_numpy()} if "target" in kw else {}
    more |= {"weights": frame[kw["weights"]].to_numpy()} if "weights" in kw else {}
    return fo.project(frame.p.to_numpy(), notion, sensitive_features=features, bounds=kw.get("bounds"), **more)


CASES: dict[str, tuple[Callable[[], fo.Notion], dict[str, Any]]] = {
    "parity": (lambda: fo.DemographicParity("race", tolerance=0.03), {"bounds": (0, 1)}),
    "no box": (lambda: fo.DemographicParity("race", tolerance=0.03), {}),
    "half a box": (lambda: fo.DemographicParity("race", tolerance=0.03), {"bounds": (0.1, None)}),
    "overall": (lambda: fo.DemographicParity("race", tolerance=0.02, to="overall"), {"bounds": (0, 1)}),
    "reference": (lambda: fo.DemographicParity("race", tolerance=0.02, to=fo.Reference("b")), {"bounds": (0, 1)}),
    "whole numbers": (lambda: fo.DemographicParity("code", tolerance=0.001), {"bounds": (0, 1)}),
    "intersection": (lambda: fo.DemographicParity(("sex", "race"), tolerance=0.05), {"bounds": (0, 1)}),
    "strata": (lambda: fo.DemographicParity("sex", tolerance=0.02, given="race"), {"bounds": (0, 1)}),
    "two": (lambda: fo.DemographicParity("sex", tolerance=0.02) & fo.DemographicParity("race", tolerance=0.04), {"bounds": (0, 1)}),
    "opportunity": (lambda: fo.EqualOpportunity("race", tolerance=0.03), {"bounds": (0, 1), "target": "y"}),
    "predictive": (lambda: fo.PredictiveEquality("race", tolerance=0.03), {"bounds": (0, 1), "target": "y"}),
    "odds": (lambda: fo.EqualizedOdds(("race", "sex"), tolerance=0.05), {"bounds": (0, 1), "target": "y"}),
    "residual": (lambda: fo.MeanResidual("race", tolerance=0.02), {"bounds": (0, 1), "target": "y"}),
    "summed targets": (lambda: fo.ResidualParity("race", tolerance=0.02), {"bounds": (0, 1), "target": "income"}),
    "mean bound": (lambda: fo.GroupMeanBound("race", lower=0.4, upper=0.45), {"bounds": (0, 1)}),
    "ratio of two": (lambda: fo.ImpactRatio("sex", ratio=0.98), {"bounds": (0, 1)}),
    "priced": (lambda: fo.DemographicParity("race", tolerance=0.01).priced(0.5), {"bounds": (0, 1)}),
    "penalised": (lambda: fo.DemographicParity("race", tolerance=0.01).penalised(50.0), {"bounds": (0, 1)}),
    "weights": (lambda: fo.DemographicParity("race", tolerance=0.03), {"bounds": (0, 1), "weights": "w"}),
    "weights, no box": (lambda: fo.EqualizedOdds("sex", tolerance=0.01), {"weights": "w", "target": "y"}),
    "nothing to do": (lambda: fo.DemographicParity("race", tolerance=0.9), {"bounds": (0, 1)}),
}


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("case", CASES)
def test_the_scores_of_one_projection(case: str, kind: str, tmp_path: Path) -> None:
    make, kw = CASES[case]
    frame = people(500)
    source = write_parts(frame, tmp_path / "in", [100, 333], kind)
    report = project_dataset(source, tmp_path / "out", make(), score="p", **kw)
    assert report.certified
    assert report.certificate["road"] == "passes over shards"
    assert report.passes <= 6
    found = read_parts(tmp_path / "out")
    assert list(found.columns) == [*frame.columns, "fair_score"]
    pd.testing.assert_frame_equal(found[frame.columns].reset_index(drop=True), frame, check_exact=True)
    assert np.abs(found.fair_score.to_numpy() - reference(frame, make(), **kw)).max() <= 1e-12
    assert report.certificate["kkt_residual"] <= report.certificate["kkt_bound"]
    told = pd.DataFrame(report.certificate["gaps"])
    facts: dict[str, Any] = {
        "sensitive_features": frame[list(make().attributes)],
        "targets": frame[kw["target"]] if "target" in kw else None,
    }
    for word, scores in (("before", frame.p), ("after", found.fair_score)):
        exact = fo.gaps(scores.to_numpy(), make(), **facts).to_pandas()
        assert told[word].tolist() == exact.gap.tolist()
        assert told["status_before" if word == "before" else "status"].tolist() == exact.status.tolist()


@pytest.mark.parametrize("case", ["parity", "no box", "weights", "weights, no box", "half a box"])
def test_groups_that_are_only_shown(case: str, tmp_path: Path) -> None:
    """Attributes beside the notion's tell compositions apart, and change no score."""
    make, kw = CASES[case]
    frame = people(500)
    source = write_parts(frame, tmp_path / "in", [100])
    report = project_dataset(source, tmp_path / "out", make(), score="p", attributes=["code", ("race", "sex")], **kw)
    fair = read_parts(tmp_path / "out").fair_score.to_numpy()
    assert np.abs(fair - reference(frame, make(), **kw)).max() <= 1e-12
    assert report.certificate["road"] == "passes over shards"
    for attribute, columns in (("code", ["code"]), ("race & sex", ["race", "sex"])):
        told = [row for row in report.audited.groups if row["attribute"] == attribute]
        by = frame.assign(after=fair, chosen=frame.p >= 0.5, kept=fair >= 0.5).groupby(columns)
        assert [row["n"] for row in told] == by.size().tolist()
        for word, column in (("mean_before", "p"), ("mean_after", "after"), ("selected_before", "chosen"), ("selected_after", "kept")):
            assert np.allclose([row[word] for row in told], by[column].mean().to_numpy(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("case", ["parity", "weights", "two", "half a box"])
def test_single_precision(case: str, tmp_path: Path) -> None:
    make, kw = CASES[case]
    frame = people(500).astype({"p": np.float32})
    source = write_parts(frame, tmp_path / "in", [100])
    report = project_dataset(source, tmp_path / "out", make(), score="p", **kw)
    found = read_parts(tmp_path / "out").fair_score
    assert report.certified
    assert found.dtype == np.float32
    assert np.abs(found.to_numpy() - reference(frame, make(), **kw)).max() <= 3e-7


@given(cuts=st.lists(st.integers(0, 300), max_size=5), threads=st.integers(1, 4), scratch=st.booleans(), case=st.sampled_from(list(CASES)))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_bits_for_any_split(
    cuts: list[int], threads: int, scratch: bool, case: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Sums are whole numbers: neither the files, nor the threads, nor where rows are kept change a bit of a score."""
    make, kw = CASES[case]
    frame = people(300, 1)
    alone, parts = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("parts")
    one = project_dataset(write_parts(frame, alone / "in", []), alone / "out", make(), score="p", **kw)
    with pytest.MonkeyPatch.context() as patch:
        if scratch:
            patch.setattr(kept.Room, "take", lambda self, size: False)
        several = project_dataset(write_parts(frame, parts / "in", sorted(cuts)), parts / "out", make(), score="p", threads=threads, **kw)
    assert read_parts(alone / "out").fair_score.tolist() == read_parts(parts / "out").fair_score.tolist()
    assert one.certificate["prices"] == several.certificate["prices"]
    assert one.certificate["violation"] == several.certificate["violation"]
    assert several.certificate["road"] == "passes over shards"
    assert not (parts / "out" / ".fairopt").exists()


@pytest.mark.parametrize(
    ("notion", "kw"),
    [
        (lambda: fo.DemographicParity("race", tolerance=0.0), {"bounds": (0, 1)}),
        (lambda: fo.ImpactRatio("race", ratio=0.95), {"bounds": (0, 1)}),
        (lambda: fo.ScoreCovariance("age", tolerance=0.01), {"bounds": (0, 1)}),
        (lambda: fo.ScoreCovariance("age", tolerance=0.01) & fo.EqualizedOdds("sex", tolerance=0.01), {"target": "y", "weights": "w"}),
        (lambda: (fo.DemographicParity("race", tolerance=0.01) & fo.DemographicParity("sex", tolerance=0.01)).budgeted(0.2), {}),
    ],
)  # fmt: skip
def test_what_passes_cannot_certify_is_projected_at_once(notion: Any, kw: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    frame = people(400)
    source = write_parts(frame, tmp_path / "in", [0, 150])
    report = project_dataset(source, tmp_path / "out", notion(), score="p", **kw)
    assert report.certificate["road"] == "all rows at once"
    assert report.certified
    assert read_parts(tmp_path / "out").fair_score.tolist() == reference(frame, notion(), **kw).tolist()
    monkeypatch.setattr(in_memory, "MOST_ROWS", 399)
    with pytest.raises(fo.UnsupportedError, match="400 rows are more than the 399 that are loaded at once"):
        project_dataset(source, tmp_path / "other", notion(), score="p", **kw)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("case", "passes"), [("parity", 4), ("no box", 2), ("half a box", 5), ("weights", 5), ("two", 4), ("overall", 4)])
def test_histograms_save_passes(case: str, passes: int, tmp_path: Path) -> None:
    make, kw = CASES[case]
    source = write_parts(people(4000), tmp_path / "in", [1000])
    assert project_dataset(source, tmp_path / "out", make(), score="p", **kw).passes <= passes


def test_the_certificate_names_files_by_their_hashes(tmp_path: Path) -> None:
    import hashlib

    source = write_parts(people(300), tmp_path / "in", [100])
    report = project_dataset(source, tmp_path / "out", fo.DemographicParity("race", tolerance=0.03), score="p", bounds=(0, 1))
    told = json.loads((tmp_path / "out" / "_certificate.json").read_text())
    assert told == report.certificate
    for folder, listed in (("in", told["inputs"]), ("out", told["outputs"])):
        for one in listed:
            data = (tmp_path / folder / one["file"]).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (one["bytes"], one["sha256"])
    assert [one["rows"] for one in told["outputs"]] == [100, 200]
    assert (told["rows"], told["rejected"], told["status"]) == (300, 0, "CERTIFIED")
    assert str(tmp_path) not in json.dumps(told)


def test_bad_rows_are_an_error_or_left_out(tmp_path: Path) -> None:
    frame = people(200)
    bad = frame.copy()
    bad.loc[[3, 150], "p"] = [np.nan, np.inf]
    bad.loc[7, "race"] = None
    bad.loc[160, "w"] = -1.0
    source = write_parts(bad, tmp_path / "in", [100])
    asked: dict[str, Any] = {"score": "p", "bounds": (0, 1), "weights": "w"}
    notion = fo.DemographicParity("race", tolerance=0.03)
    with pytest.raises(
        fo.InputError, match=r"part-000.parquet: row 4: column 'p' .*; row 8: column 'race' is .*2 such rows of the first 100"
    ):
        project_dataset(source, tmp_path / "out", notion, **asked)
    assert not (tmp_path / "out").exists()
    report = project_dataset(source, tmp_path / "out", notion, rejects=tmp_path / "rejects.csv", **asked)
    assert (report.rows, report.rejected) == (196, 4)
    told = pd.read_csv(tmp_path / "rejects.csv")
    assert told[["file", "row"]].values.tolist() == [["part-000.parquet", 4], ["part-000.parquet", 8], ["part-001.parquet", 51],
                                                     ["part-001.parquet", 61]]  # fmt: skip
    assert "not finite" in told.reason[2]
    assert "expected a weight > 0" in told.reason[3]
    found = read_parts(tmp_path / "out")
    left = frame.drop(index=[3, 7, 150, 160])
    assert found.id.tolist() == left.id.tolist()
    assert np.abs(found.fair_score.to_numpy() - reference(left, notion, bounds=(0, 1), weights="w")).max() <= 1e-12


def test_bad_lines_of_text(tmp_path: Path) -> None:
    text = "id;race;p\n1;a;0,5\n2;b;0.5\n3;;0,25\n4;b\n5;b;1_0\n6;b;0,75\n7;a;1e-3\n"
    (tmp_path / "scores.csv").write_text(text)
    report = project_dataset(
        tmp_path / "scores.csv", tmp_path / "fair.csv", fo.DemographicParity("race", tolerance=0.1), score="p", decimal=",",
        rejects=tmp_path / "rejects.csv",
    )  # fmt: skip
    assert (report.rows, report.rejected) == (3, 4)
    told = pd.read_csv(tmp_path / "rejects.csv")
    assert told.row.tolist() == [3, 4, 5, 6]
    assert told.content.tolist() == ["2;b;0.5", "3;;0,25", "4;b", "5;b;1_0"]
    lines = (tmp_path / "fair.csv").read_text().splitlines()
    assert lines[0] == "id;race;p;fair_score"
    assert [line.rsplit(";", 1)[0] for line in lines[1:]] == ["1;a;0,5", "6;b;0,75", "7;a;1e-3"]
    scores = [float(line.rsplit(";", 1)[1].replace(",", ".")) for line in lines[1:]]
    assert abs(abs((scores[0] + scores[2]) / 2 - scores[1]) - 0.1) < 1e-12


def test_text_is_text(tmp_path: Path) -> None:
    """Cells of groups as written, in gzip and latin-1, with a byte order mark or without; rows as they came."""
    text = 'name,g,p\n"é, x",01,0.5\n"a ""b""",1,0.25\nNA,01,0.75\n  z,1,0\n'
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode("latin-1")))
    report = project_dataset(
        tmp_path / "a.csv.gz", tmp_path / "b.csv.gz", fo.DemographicParity("g", tolerance=0.1), score="p", encoding="latin-1"
    )
    assert {row["group"]: row["n"] for row in report.certificate["groups"]} == {"01": 2, "1": 2}
    back = gzip.decompress((tmp_path / "b.csv.gz").read_bytes()).decode("latin-1").splitlines()
    assert [line.rsplit(",", 1)[0] for line in back] == text.splitlines()


def test_a_cell_of_two_lines_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('g,p\na,0.5\nb,"0.25\n0.5"\na,0.75\nb,1\n')
    asked: dict[str, Any] = {"score": "p", "rejects": tmp_path / "rejects.csv"}
    report = project_dataset(tmp_path / "a.csv", tmp_path / "b.csv", fo.DemographicParity("g", tolerance=0.1), **asked)
    assert (report.rows, report.rejected) == (3, 1)
    assert pd.read_csv(tmp_path / "rejects.csv").row.tolist() == [3]
    assert (tmp_path / "b.csv").read_text().count("\n") == 4


@pytest.mark.parametrize("codec", ["utf-16", "utf-32-be", "utf-8-sig"])
def test_encodings_of_several_bytes(codec: str, tmp_path: Path) -> None:
    text = "g,p\né,0.5\nü,0.25\né,1\n"
    mark = b"\x00\x00\xfe\xff" if codec == "utf-32-be" else b""
    (tmp_path / "a.csv").write_bytes(mark + text.encode(codec))
    for name in ("b", "c"):  # what was written can be read again
        source, score = ("a", "p") if name == "b" else ("b", "fair_score")
        report = project_dataset(
            tmp_path / f"{source}.csv",
            tmp_path / f"{name}.csv",
            fo.DemographicParity("g", tolerance=0.1),
            score=score,
            name=name * 2 if name == "c" else "fair_score",
        )
        assert {row["group"] for row in report.certificate["groups"]} == {"é", "ü"}


def test_a_name_that_the_encoding_lacks(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("g,p\né,0.5\nü,0.25\n".encode("latin-1"))
    with pytest.raises(fo.InputError, match="name: got 'gerecht→', which ISO8859-1 cannot write"):
        project_dataset(
            tmp_path / "a.csv", tmp_path / "b.csv", fo.DemographicParity("g", tolerance=0.1), score="p", name="gerecht→", encoding="latin-1"
        )
    assert not (tmp_path / "b.csv").exists()


def test_columns_of_every_type_are_kept(tmp_path: Path) -> None:
    import datetime
    import decimal

    import pyarrow as pa
    import pyarrow.parquet as pq

    n = 300
    rng = np.random.default_rng(0)
    race = pd.Categorical(rng.choice(["a", "b"], n), categories=["b", "a", "nobody"])
    table = pa.table(
        {
            "race": pa.array(race),
            "when": pa.array([datetime.datetime(2020, 1, 1) + datetime.timedelta(hours=k) for k in range(n)]),
            "many": pa.array([[k, None] if k % 3 else None for k in range(n)]),
            "deep": pa.array([{"x": k, "y": "z"} for k in range(n)]),
            "exact": pa.array([decimal.Decimal(k).scaleb(-2) for k in range(n)]),
            "raw": pa.array([bytes([k % 256]) for k in range(n)]),
            "p": pa.array([decimal.Decimal(int(v)).scaleb(-3) for v in rng.integers(0, 1000, n)]),
        }
    )
    (tmp_path / "in").mkdir()
    for k, codec in enumerate(("zstd", "none")):
        pq.write_table(table.slice(150 * k, 150), tmp_path / "in" / f"{k}.parquet", compression=codec, row_group_size=40)
    notion = fo.DemographicParity("race", tolerance=0.001)
    report = project_dataset(tmp_path / "in", tmp_path / "out", notion, score="p", bounds=(0, 1))
    assert {row["group"] for row in report.certificate["groups"]} == {"a", "b"}  # a level without rows is no group
    back = pa.concat_tables([pq.read_table(tmp_path / "out" / f"{k}.parquet") for k in range(2)])
    assert back.select(table.column_names).to_pylist() == table.to_pylist()
    assert back.schema.remove(len(table.schema)).equals(pq.read_table(tmp_path / "in" / "0.parquet").schema)
    for k, codec in enumerate(("ZSTD", "UNCOMPRESSED")):
        facts = pq.ParquetFile(tmp_path / "out" / f"{k}.parquet").metadata
        assert facts.num_row_groups == 4
        assert {facts.row_group(0).column(j).compression for j in range(facts.num_columns)} == {codec}
    scores = np.array([float(v) for v in table["p"].to_pylist()])
    expected = fo.project(scores, notion, sensitive_features={"race": np.asarray(race)}, bounds=(0, 1))
    assert np.abs(back["fair_score"].to_numpy() - expected).max() <= 1e-12


@fo.notion
def late(batch: Any, attribute: Any, tolerance: Any) -> Any:
    """Looks at targets for a group that comes late, and sums them for every one."""
    groups = batch.groups(attribute)
    if len(groups) > 2:
        yield abs(batch.mean(groups[2] & (batch.targets > 0.5)) - batch.mean(groups[0])) <= tolerance
    for group in groups:
        yield abs(batch.mean(group) - batch.mean(group, of=batch.targets)) <= 0.2


def test_a_notion_that_compares_targets_late(tmp_path: Path) -> None:
    frame = people(300).sort_values("race", kind="stable").reset_index(drop=True)
    source = write_parts(frame, tmp_path / "in", [100, 200])
    report = project_dataset(source, tmp_path / "out", late("race", tolerance=0.01), score="p", target="y", bounds=(0, 1))
    expected = reference(frame, late("race", tolerance=0.01), target="y", bounds=(0, 1))
    assert report.certificate["road"] == "passes over shards"
    assert np.abs(read_parts(tmp_path / "out").fair_score.to_numpy() - expected).max() <= 1e-12


def test_missing_groups_may_be_a_group(tmp_path: Path) -> None:
    frame = people(200)
    frame.loc[::5, "race"] = None
    source = write_parts(frame, tmp_path / "in", [100])
    notion = fo.DemographicParity("race", tolerance=0.01)
    report = project_dataset(source, tmp_path / "out", notion, score="p", bounds=(0, 1), missing_group="own")
    features = {"race": frame.race.tolist()}
    expected = fo.project(frame.p.to_numpy(), notion, sensitive_features=features, bounds=(0, 1), missing_group="own")
    assert np.abs(read_parts(tmp_path / "out").fair_score.to_numpy() - expected).max() <= 1e-12
    assert "missing" in [row["group"] for row in report.certificate["groups"]]


def broken_file(folder: Path) -> None:
    path = folder / "part-001.parquet"
    path.write_bytes(path.read_bytes()[:-200])


def broken_page(folder: Path) -> None:
    path = folder / "part-001.parquet"
    data = bytearray(path.read_bytes())
    data[100:900] = bytes(800)
    path.write_bytes(bytes(data))


def changed(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "part-001.parquet"
        change(pd.read_parquet(path)).to_parquet(path)

    return apply


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (broken_file, "part-001.parquet: cannot be read as Parquet"),
        (broken_page, "part-001.parquet: cannot be read as Parquet"),
        (changed(lambda f: f.drop(columns="note")), "part-001.parquet: other columns than .*part-000.parquet: it lacks 'note'"),
        (changed(lambda f: f.assign(more=1)), "part-001.parquet: other columns than .*: it has 'more' more"),
        (changed(lambda f: f[f.columns[::-1]]), "part-001.parquet: other columns than .* in another order"),
        (changed(lambda f: f.drop(columns="p")), "part-001.parquet: has no column 'p'; it has 'id'"),
        (changed(lambda f: f.astype({"p": np.float32})), "part-001.parquet: column 'p' is float, but double in .*part-000.parquet"),
        (changed(lambda f: f.astype({"p": str})), "part-001.parquet: column 'p' has type (large_)?string, expected numbers"),
        (changed(lambda f: f.assign(race=np.arange(len(f)))), "part-001.parquet: column 'race' is int64, but"),
        (changed(lambda f: f.assign(race=f.p)), "part-001.parquet: column 'race' holds .* which is no int"),
        (lambda folder: (folder / "part-001.parquet").write_bytes(b""), "part-001.parquet: cannot be read as Parquet"),
        (lambda folder: (folder / "notes.md").write_text("x"), "holds notes.md, which is no table by its name"),
    ],
)  # fmt: skip
def test_spoiled_shards_are_clear_errors(spoil: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    source = write_parts(people(300), tmp_path / "in", [100, 200])
    spoil(source)
    for rejects in (None, tmp_path / "rejects.csv"):
        with pytest.raises(fo.InputError, match=words):
            project_dataset(source, tmp_path / "out", fo.DemographicParity("race", tolerance=0.03), score="p", rejects=rejects)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_shards_of_no_rows_and_lonely_groups(kind: str, tmp_path: Path) -> None:
    frame = people(300).sort_values("race", kind="stable").reset_index(drop=True)  # each group in a shard or two of its own
    source = write_parts(frame, tmp_path / "in", [0, 150, 150, 290, 300], kind)
    notion = fo.DemographicParity("race", tolerance=0.03)
    report = project_dataset(source, tmp_path / "out", notion, score="p", bounds=(0, 1))
    assert [one["rows"] for one in report.certificate["outputs"]] == [0, 150, 0, 140, 10, 0]
    assert np.abs(read_parts(tmp_path / "out").fair_score.to_numpy(dtype=float) - reference(frame, notion, bounds=(0, 1))).max() <= 1e-12
    for one in sorted((tmp_path / "out").glob("part*")):
        columns = (pd.read_parquet(one) if kind == "parquet" else pd.read_csv(one)).columns
        assert list(columns) == [*frame.columns, "fair_score"]


def test_no_rows_at_all(tmp_path: Path) -> None:
    source = write_parts(people(10).iloc[:0], tmp_path / "in", [0])
    with pytest.raises(fo.InputError, match="no rows that can be used in 2 files"):
        project_dataset(source, tmp_path / "out", fo.DemographicParity("race", tolerance=0.03), score="p")


def test_what_is_there_is_not_lost(tmp_path: Path) -> None:
    source = write_parts(people(200), tmp_path / "in", [100])
    notion, out = fo.DemographicParity("race", tolerance=0.03), tmp_path / "out"
    out.mkdir()
    (out / "part-001.parquet").write_bytes(b"mine")
    with pytest.raises(fo.InputError, match=r"output: .*part-001.parquet is there already, and is not of this run"):
        project_dataset(source, out, notion, score="p")
    assert (out / "part-001.parquet").read_bytes() == b"mine"
    assert sorted(p.name for p in out.iterdir()) == ["part-001.parquet"]
    first = project_dataset(source, out, notion, score="p", overwrite=True)
    written = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in out.iterdir()}
    again = project_dataset(source, out, notion, score="p")  # it has ended already
    assert again.resumed
    assert again.certificate == first.certificate
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in out.iterdir()} == written
    with pytest.raises(fo.InputError, match="is there already"):
        project_dataset(source, out, fo.DemographicParity("race", tolerance=0.02), score="p")
    for bad, words in (
        ({"name": "note"}, "has a column 'note' already"),
        ({"score": "q"}, "has no column 'q'"),
        ({"certificate": tmp_path / "new" / "part-000.parquet"}, "certificate: .* is an output as well"),
        ({"rejects": source / "part-000.parquet"}, "rejects: .* is a file of the input"),
        ({"bounds": (1, 0)}, "lower bound 1.0 is above"),
        ({"threads": 0}, "threads: got 0"),
    ):
        with pytest.raises(fo.InputError, match=words):
            project_dataset(source, tmp_path / "new", notion, **{"score": "p", **bad})  # type: ignore[arg-type]
        assert not (tmp_path / "new").exists()
    for place, words in ((source, "is a file of the input"), (source / "deep", "lies in a folder of the input")):
        with pytest.raises(fo.InputError, match=words):
            project_dataset(source, place, notion, score="p")


def test_patterns_and_nested_folders(tmp_path: Path) -> None:
    frame = people(300)
    write_parts(frame.iloc[:200], tmp_path / "in" / "2018", [100])
    write_parts(frame.iloc[200:], tmp_path / "in" / "2019", [])
    notion = fo.DemographicParity("race", tolerance=0.03)
    for given_, out in ((tmp_path / "in", "a"), (f"{tmp_path}/in/*/*.parquet", "b")):
        project_dataset(given_, tmp_path / out, notion, score="p", bounds=(0, 1))
        found = pd.concat([read_parts(tmp_path / out / year) for year in ("2018", "2019")])
        assert np.abs(found.fair_score.to_numpy() - reference(frame, notion, bounds=(0, 1))).max() <= 1e-12
    with pytest.raises(fo.InputError, match="no file fits this pattern"):
        project_dataset(f"{tmp_path}/in/*.csv", tmp_path / "c", notion, score="p")


def test_infeasible_leaves_nothing_behind(tmp_path: Path) -> None:
    source = write_parts(people(200), tmp_path / "in", [100])
    notion = fo.GroupMeanBound("race", lower=0.9) & fo.GroupMeanBound("sex", upper=0.1)
    with pytest.raises(fo.InfeasibleError):
        project_dataset(source, tmp_path / "out", notion, score="p", bounds=(0, 1))
    assert not (tmp_path / "out").exists()
    (tmp_path / "there").mkdir()  # a folder that was there stays
    for output in (tmp_path / "there", tmp_path / "there" / "fair.parquet"):
        with pytest.raises(fo.InfeasibleError):
            project_dataset(source if output.suffix == "" else source / "part-000.parquet", output, notion, score="p", bounds=(0, 1))
        assert list((tmp_path / "there").iterdir()) == []


def test_words_as_targets(tmp_path: Path) -> None:
    frame = people(300)
    frame["y"] = np.where(frame.y == 1, "yes", "no")
    source = write_parts(frame, tmp_path / "in", [100])
    notion = fo.EqualOpportunity("race", tolerance=0.02)
    project_dataset(source, tmp_path / "out", notion, score="p", target="y", pos_label="yes", bounds=(0, 1))
    expected = reference(frame.assign(y=(frame.y == "yes").astype(float)), notion, target="y", bounds=(0, 1))
    assert np.abs(read_parts(tmp_path / "out").fair_score.to_numpy() - expected).max() <= 1e-12


@given(
    values=st.lists(st.floats(-1e3, 1e3) | st.sampled_from([0.0, -0.0, 5e-324, 1e-300, 2.0**-1022]), min_size=1, max_size=60),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_whole_sums(values: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = np.array(values)
    code = rng.integers(0, 3, len(z)).astype(np.uint16)
    exact = exact_sums(z, code, 3)
    for c in range(3):
        assert Fraction(exact[c], 1 << UNIT) == sum((Fraction(v) for v in z[code == c].tolist()), Fraction(0))
    shift = rng.normal(size=3)
    scale = scale_of(1.0)
    found = []
    for order in (np.arange(len(z)), rng.permutation(len(z))):
        halves = [np.zeros(3, dtype=np.int64) for _ in range(4)]
        whole_clipped_sums(z[order], code[order], shift, -1.0, 0.5, scale, np.zeros(0), 1.0, *halves)
        found.append((joined(*halves[:2]), joined(*halves[2:])))
    assert found[0] == found[1]
    v = z - shift[code]
    for c in range(3):
        inside = v[code == c]
        assert abs(found[0][0][c] / scale - math.fsum(np.clip(inside, -1.0, 0.5))) <= 1e-15 * max(len(inside), 1)
        assert found[0][1][c] == int(((inside > -1.0) & (inside < 0.5)).sum())


def test_a_range_of_many_groups_is_told_by_its_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fairopt.datasets import before_after

    frame = people(400)
    source = write_parts(frame, tmp_path / "in", [100])
    notion = fo.DemographicParity(("race", "sex"), tolerance=0.05)
    every = project_dataset(source, tmp_path / "a", notion, score="p", bounds=(0, 1)).audited
    monkeypatch.setattr(before_after, "MOST_IN_PAIRS", 5)
    widest = project_dataset(source, tmp_path / "b", notion, score="p", bounds=(0, 1)).audited
    assert len(widest.gaps) <= 6 < len(every.gaps) == 15
    assert widest.largest == every.largest
    assert widest.worst.rows == every.worst.rows


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_columns_in_the_names_of_folders(kind: str, tmp_path: Path) -> None:
    """As pandas and Spark partition: the column is in the path, of the input and of the output."""
    frame = people(300).assign(race=lambda f: f.race.where(f.race != "c", "c d"))
    frame.loc[::11, "race"] = None
    rest = frame.drop(columns="race")
    for value, part in rest.groupby(frame.race.fillna("")):
        folder = tmp_path / "in" / f"race={str(value).replace(' ', '%20') or '__HIVE_DEFAULT_PARTITION__'}" / "code=1"
        folder.mkdir(parents=True)
        part = part.drop(columns="code")
        part.to_parquet(folder / "a.parquet") if kind == "parquet" else part.to_csv(folder / "a.csv", index=False)
    notion = fo.DemographicParity("race", tolerance=0.01)
    kw: dict[str, Any] = {"score": "p", "missing_group": "own"}
    report = project_dataset(tmp_path / "in", tmp_path / "out", notion, weights="code", bounds=(0, 1), **kw)
    expected = fo.project(frame.p.to_numpy(), notion, sensitive_features={"race": frame.race.tolist()}, bounds=(0, 1), missing_group="own")
    assert report.certified
    for value, part in frame.assign(fair=expected).groupby(frame.race.fillna("")):
        name = f"race={str(value).replace(' ', '%20') or '__HIVE_DEFAULT_PARTITION__'}/code=1/a.{kind}"
        path = tmp_path / "out" / name
        back = pd.read_parquet(path) if kind == "parquet" else pd.read_csv(path)
        assert list(back.columns) == [c for c in frame.columns if c not in ("race", "code")] + ["fair_score"]
        assert np.abs(back.fair_score.to_numpy() - part.fair.to_numpy()).max() <= 1e-12
    for limit in (0, 1000):
        found = fo.audit_dataset(tmp_path / "out", notion, rows_at_once=limit, **{**kw, "score": "fair_score"})
        assert found.holds
        assert {row["group"] for row in found.groups} == {"overall", "a", "b", "c d", "missing"}
    with pytest.raises(fo.InputError, match="score: 'race' stands in the names of folders"):
        project_dataset(tmp_path / "in", tmp_path / "other", notion, score="race")
    with pytest.raises(fo.InputError, match="name: .* has a column 'code' already"):
        project_dataset(tmp_path / "in", tmp_path / "other", notion, name="code", **kw)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("race=a/race=b/x", "name a column twice"),
        ("p=1/x", "stands in the file and in the name"),
        ("x", "other columns than .* it lacks 'race'"),
    ],
)
def test_folders_that_name_no_column(name: str, words: str, tmp_path: Path) -> None:
    for k, path in enumerate(("race=b/x", name)):
        (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        people(20 + k).drop(columns="race").to_csv(tmp_path / "in" / f"{path}.csv", index=False)
    if name == "p=1/x":
        (tmp_path / "in" / "race=b" / "x.csv").unlink()
    with pytest.raises(fo.InputError, match=words):
        project_dataset(tmp_path / "in", tmp_path / "out", fo.DemographicParity("sex", tolerance=0.1), score="p")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_files_that_are_cut_or_spoiled(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each is a clear error or, where nothing that counts was hit, a whole output; no file of the output is half of one.

    A column that only writing reads may be spoiled: then what was written before is there, whole.
    """
    folder, kind = tmp_path_factory.mktemp("spoiled"), data.draw(st.sampled_from(["parquet", "csv"]))
    source, out = write_parts(people(90), folder / "in", [30, 60], kind), folder / "out"
    path = source / f"part-00{data.draw(st.integers(0, 2))}.{kind}"
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(whole)
    rejects = data.draw(st.sampled_from([None, folder / "rejects.csv"]))
    notion = fo.DemographicParity("race", tolerance=0.05)
    said = ""
    try:
        project_dataset(source, out, notion, score="p", bounds=(0, 1), missing_group="own", rejects=rejects)
    except fo.FairoptError as error:
        said = str(error)
    written = sorted(p.name for p in out.iterdir() if not p.name.startswith(".")) if out.exists() else []
    if said:
        assert "part-00" in said
        assert "_certificate.json" not in written
    else:
        assert written == ["_certificate.json", *(f"part-00{k}.{kind}" for k in range(3))]
    for name in (name for name in written if name.endswith("parquet")):
        assert len(pd.read_parquet(out / name)) == 30 or rejects is not None


@pytest.mark.slow
def test_one_bad_row_of_ten_million(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    n, source = 10**7, tmp_path / "in"
    source.mkdir()
    rng = np.random.default_rng(0)
    for k in range(5):
        p = rng.random(n // 5)
        if k == 3:
            p[1_234_567] = np.nan
        pq.write_table(pa.table({"race": pa.array(rng.choice(["a", "b"], n // 5)), "p": p}), source / f"part-{k}.parquet")
    notion = fo.DemographicParity("race", tolerance=0.01)
    with pytest.raises(fo.InputError, match="part-3.parquet: row 1234568: column 'p' holds nan: not finite"):
        project_dataset(source, tmp_path / "out", notion, score="p", bounds=(0, 1))
    assert not (tmp_path / "out").exists()
    report = project_dataset(source, tmp_path / "out", notion, score="p", bounds=(0, 1), rejects=tmp_path / "rejects.csv")
    assert (report.rows, report.rejected, report.certified) == (n - 1, 1, True)
    assert (tmp_path / "rejects.csv").read_text().splitlines()[1].startswith("part-3.parquet,1234568,")
