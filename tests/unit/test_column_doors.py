"""The rest of the matrix of columns: what trains, serves and batches, and the commands, read what every other door reads."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import fairopt as fo
from fairopt.cli.app import build
from fairopt.training import FairRegressor, StratifiedBatches
from fairopt.training.lightning import pooled_gap
from tests.column_kinds import BOOLS, COLUMNS, INTS, MISSING, REFUSED, SCORES, TARGETS, WORDS

PARITY = fo.DemographicParity("g", tolerance=0.05)
Z = torch.tensor(SCORES, dtype=torch.float64)
FIT = pd.DataFrame({"u": np.random.default_rng(0).normal(size=60)})


def estimated(g: Any) -> Any:
    """Fitted on 60 rows whose groups are in the container that came."""
    model = FairRegressor(fo.DemographicParity, tolerance=0.05, epochs=1, members=1, hidden=(), random_state=0)
    model.fit(FIT, FIT["u"], sensitive_features={"g": g})
    return model.frozen_.keys, model.predict(FIT, sensitive_features={"g": g}).tolist()


def pooled(g: Any) -> Any:
    """What Lightning's callback makes of two validation batches."""
    batch = {"scores": Z, "sensitive_features": {"g": g}, "targets": TARGETS}
    return pooled_gap(fo.FairnessLayer(PARITY), [batch, batch])


def controlled(g: Any) -> Any:
    layer = fo.FairnessLayer(PARITY, bounds=(0, 1))
    layer(Z, sensitive_features={"g": g})
    return layer.groups, layer.controller().step(SCORES, sensitive_features={"g": g}).counts


DOORS: dict[str, tuple[int, Callable[[Any], Any]]] = {  # times that the values are repeated, the door
    "estimator": (5, estimated),
    "lightning": (1, pooled),
    "sampler": (1, lambda g: list(StratifiedBatches({"g": g}, 6, seed=1))),
    "controller": (1, controlled),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("make", "values"), COLUMNS)
def test_every_door_reads_the_same_groups_out_of_every_container(door: str, make: Callable[[list[Any]], Any], values: list[Any]) -> None:
    times, read = DOORS[door]
    assert read(make(values * times)) == read(values * times)


@pytest.mark.parametrize("door", ["sampler", "lightning"])
@pytest.mark.parametrize("column", MISSING.values(), ids=MISSING)
def test_a_missing_group_is_named_with_its_place(door: str, column: Any) -> None:
    doors = {
        "sampler": lambda: StratifiedBatches({"g": column}, 2),
        "lightning": lambda: pooled_gap(fo.FairnessLayer(PARITY), [{"scores": Z[:3], "sensitive_features": {"g": column}}]),
    }
    with pytest.raises(fo.InputError, match="missing value at position 1"):
        doors[door]()


@pytest.mark.parametrize(("column", "words"), REFUSED.values(), ids=REFUSED)
def test_what_names_no_groups_is_refused_by_a_sampler_too(column: Any, words: str) -> None:
    with pytest.raises(fo.InputError, match=words):
        StratifiedBatches({"g": column}, 2)


# The commands: one table, written in every way that people write one -----------------------------------------------------------


def text(separator: str = ",", end: str = "\n", decimal: str = ".", groups: list[Any] = WORDS) -> str:
    rows = [(repr(s).replace(".", decimal), g, t) for s, g, t in zip(SCORES, groups, TARGETS, strict=True)]
    return end.join(separator.join(map(str, row)) for row in [("score", "g", "y"), *rows]) + end


def parquet(groups: Any) -> bytes:
    out = io.BytesIO()
    pd.DataFrame({"score": SCORES, "g": groups, "y": TARGETS}).to_parquet(out)
    return out.getvalue()


WRITTEN: dict[str, tuple[str, bytes, tuple[str, ...]]] = {  # name of the file, its bytes, options
    "commas": ("a.csv", text().encode(), ()),
    "tabs": ("a.tsv", text("\t").encode(), ()),
    "bars": ("a.txt", text("|").encode(), ()),
    "semicolons and decimal commas": ("a.csv", text(";", decimal=",").encode(), ("--decimal", ",")),
    "a separator that is named": ("a.csv", text("^").encode(), ("--separator", "^")),
    "gzip": ("a.csv.gz", gzip.compress(text().encode()), ()),
    "gzip of tabs": ("a.tsv.gz", gzip.compress(text("\t").encode()), ()),
    "a mark before the header": ("a.csv", b"\xef\xbb\xbf" + text().encode(), ()),
    "a mark before a quoted header": ("a.csv", b"\xef\xbb\xbf" + text().replace("score", '"score"', 1).encode(), ()),
    "UTF-16": ("a.csv", text().encode("utf-16"), ()),
    "UTF-16, big end first": ("a.csv", b"\xfe\xff" + text().encode("utf-16-be"), ()),
    "UTF-16 of semicolons": ("a.csv", text(";").encode("utf-16"), ()),
    "CRLF": ("a.csv", text(end="\r\n").encode(), ()),
    "CR": ("a.csv", text(end="\r").encode(), ()),
    "no end of the last line": ("a.csv", text().rstrip("\n").encode(), ()),
    "blank lines": ("a.csv", text(end="\n\n").encode(), ()),
    "quoted cells": ("a.csv", text().replace("white", '"white"').encode(), ()),
    "latin-1": ("a.csv", text(groups=["é" if g == "white" else g for g in WORDS]).encode("latin-1"), ("--encoding", "latin-1")),
    "Parquet": ("a.parquet", parquet(WORDS), ()),
    "Parquet of categories": ("a.parquet", parquet(pd.Categorical(WORDS, categories=[*dict.fromkeys(WORDS), "unused"])), ()),
}


def audited(name: str, *options: str) -> Any:
    shown = CliRunner().invoke(
        build(), ["audit", name, "--score", "score", "--sensitive", "g", "--target", "y", "--draws", "100", "--json", "-", *options]
    )
    assert shown.exit_code == 0, shown.output
    return json.loads(shown.stdout)["tables"]["gaps"]


def streamed(name: str, *options: str) -> Any:
    Path("s.db").unlink(missing_ok=True)
    shown = CliRunner().invoke(
        build(),
        [
            "stream",
            "--input",
            name,
            "--sensitive",
            "g",
            "--state",
            "s.db",
            "--output",
            "o.csv",
            "--overwrite",
            "--json",
            "r.json",
            *options,
        ],
    )
    assert shown.exit_code == 0, shown.output
    told = json.loads(Path("r.json").read_text())
    return told["counts"], told["pooled_gaps"]


@pytest.mark.parametrize("kind", WRITTEN)
def test_the_commands_read_what_the_library_is_given(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, content, options = WRITTEN[kind]
    Path(name).write_bytes(content)
    groups = ["é" if g == "white" and kind == "latin-1" else g for g in WORDS]
    expected = json.loads(fo.audit(SCORES, PARITY, sensitive_features={"g": groups}, targets=TARGETS, draws=100).to_json())
    assert audited(name, *options) == expected["tables"]["gaps"]
    controller = fo.streaming.PooledParity(PARITY, bounds=(0, 1))
    for score, group in zip(SCORES, groups, strict=True):
        controller.step(score, sensitive_features=group)
    report = controller.report()
    assert streamed(name, *options) == (report.counts, report.pooled_gaps)


@pytest.mark.parametrize("values", [INTS, BOOLS, ["01", "1", "01", "1e3"] * 3, ["02134", "2134", "1000", "NA"] * 3], ids=str)
def test_cells_of_groups_are_text_in_every_command(values: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text(text(groups=values))
    words = {str(v) for v in values}
    assert {row[side] for row in audited("a.csv") for side in ("group_a", "group_b")} == words
    assert {group.removeprefix("g=") for counts in streamed("a.csv")[0].values() for group in counts} == words
