"""Data files: found, held to their checksum, or refused with the call that fetches them. The loaders, where the data are given."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fairopt.basics.errors import InputError
from fairopt.experiments.data import acs, adult, communities, compas, credit, german, law, student
from fairopt.experiments.data.files import VARIABLE, Source, find, present, read
from fairopt.experiments.data.frames import dataset
from fairopt.experiments.data.tabular import Dataset, split

CONTENT = b"a,b\n1,2\n"
SOURCE = Source("folder", "table.csv", (hashlib.sha256(CONTENT).hexdigest(),), "curl -O https://example.org/table.csv")


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "given" not in request.fixturenames:
        monkeypatch.delenv(VARIABLE, raising=False)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["file", "folder", "root", "variable"])
def test_a_file_is_found_packed_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool, place: str) -> None:
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / ("table.csv.gz" if packed else "table.csv")
    file.write_bytes(gzip.compress(CONTENT) if packed else CONTENT)
    monkeypatch.setenv(VARIABLE, str(tmp_path) if place == "variable" else "/nowhere")
    given = {"file": file, "folder": file.parent, "root": tmp_path, "variable": None}[place]
    assert find(SOURCE, given) == file
    assert read(SOURCE, given) == CONTENT
    assert present(SOURCE, given)


def test_an_absent_file_says_what_to_set_and_what_to_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"(?s)the path of table.csv or FAIROPT_DATA=FOLDER.*curl -O https://example.org/table.csv"):
        read(SOURCE)
    assert not present(SOURCE)
    with pytest.raises(InputError, match=rf"(?s)no table.csv \(or .gz\) in {tmp_path}.*curl -O"):
        read(SOURCE, tmp_path)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=rf"no table.csv \(or .gz\) in FAIROPT_DATA={tmp_path}"):
        read(SOURCE)


def test_another_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(CONTENT + b"3,4\n")
    with pytest.raises(InputError, match=rf"(?s){file} has sha256 [0-9a-f]{{64}}, expected {SOURCE.sha256[0]}.*curl -O"):
        read(SOURCE, tmp_path)
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(CONTENT)[:-9])
    with pytest.raises(InputError, match="damaged gzip"):
        read(SOURCE, tmp_path / "table.csv.gz")


def test_columns_of_text_become_codes_and_sensitive_ones_only_when_asked() -> None:
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"n": [1.0, np.nan, 3.0], "t": ["y", None, "x"], "c": [7, 5, 7]})
    sensitive = {"sex": np.array(["m", "f", "f"]), "share": np.array([0.1, 0.2, 0.3])}
    target = np.array([True, False, True])
    plain = dataset("drawn", table, target, sensitive, categories=("c",))
    assert plain.names == ("n", "t", "c")
    assert plain.categories == {"t": ("x", "y"), "c": ("5", "7")}
    np.testing.assert_array_equal(plain.features, [[1, 1, 1], [np.nan, np.nan, 0], [3, 0, 1]])
    np.testing.assert_array_equal(plain.target, [1, 0, 1])
    more = dataset("drawn", table, target, sensitive, categories=("c",), with_sensitive=True)
    assert more.names == ("n", "t", "c", "sensitive sex", "sensitive share")
    assert more.categories["sensitive sex"] == ("f", "m")
    np.testing.assert_array_equal(more.features[:, 3:], [[1, 0.1], [0, 0.2], [0, 0.3]])


@pytest.fixture
def given() -> None:
    if not os.environ.get(VARIABLE):
        pytest.skip("FAIROPT_DATA is not set")


# loader, rows, features, mean of the target, groups of each attribute
KNOWN: list[tuple[Callable[[], Dataset], int, int, float, dict[str, int]]] = [
    (adult.load, 48_842, 10, 0.2393, {"sex": 2, "race": 5}),
    (acs.load, 31_306, 8, 0.4144, {"sex": 2, "race": 9}),
    (compas.load, 6_172, 9, 0.4551, {"race": 4, "sex": 2, "age_cat": 3}),
    (lambda: compas.load(two_races=True), 5_278, 9, 0.4704, {"race": 2, "sex": 2, "age_cat": 3}),
    (communities.load, 1_994, 96, 0.2380, {"black": 2}),
    (law.load, 21_791, 2, 0.0964, {"race": 8, "race4": 4, "sex": 2}),
    (german.load, 1_000, 18, 0.7, {"sex": 2, "age_over_25": 2, "foreign": 2}),
    (credit.load, 30_000, 20, 0.2212, {"sex": 2, "education": 4, "marriage": 3}),
    (student.load, 395, 27, 10.4152, {"sex": 2, "address": 2, "school": 2}),
]


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize(("load", "rows", "features", "mean", "groups"), KNOWN)
def test_the_known_tables(load: Callable[[], Dataset], rows: int, features: int, mean: float, groups: dict[str, int]) -> None:
    data = load()
    assert data.features.shape == (rows, features) == (len(data), len(data.names))
    assert data.target.mean() == pytest.approx(mean, abs=1e-4)
    assert {name: len(np.unique(data.sensitive[name])) for name in groups} == groups
    for name in groups:
        assert data.sensitive[name].dtype.kind == "U"
        assert name not in data.names
    parts = split(data, 0)
    assert all(torch.isfinite(part.x).all() for part in (parts.train, parts.validation, parts.held_out))
    filled = parts.train.x.numpy()[:, parts.train.x.numpy().std(0) > 0]
    with np.errstate(invalid="ignore"):
        answers = np.corrcoef(filled.T, parts.train.y.numpy())[-1, :-1]
    assert np.abs(answers).max() < 0.9  # no feature holds the answer


@pytest.mark.usefixtures("given")
def test_the_official_test_rows_of_adult_are_held_out() -> None:
    data = adult.load()
    assert data.official is not None
    assert int(data.official.sum()) == 16_281
    first, second = split(data, 0), split(data, 1)
    assert len(first.held_out) == len(second.held_out) == 16_281
    assert torch.equal(first.held_out.y, second.held_out.y)
    assert not torch.equal(first.train.y, second.train.y)
    assert len(split(data, 0, official=False).held_out) == 9_769


@pytest.mark.usefixtures("given")
def test_acs_is_the_same_table_in_any_order_of_its_rows(tmp_path: Path) -> None:
    import pandas as pd

    data = acs.load()
    table = pd.read_csv(find(acs.COLORADO))
    other = tmp_path / acs.COLORADO.file
    table.sample(frac=1, random_state=0).to_csv(other, index=False)
    again = acs.load(other)
    np.testing.assert_array_equal(data.features, again.features)
    np.testing.assert_array_equal(data.sensitive["race"], again.sensitive["race"])
    table["AGEP"] += (table.index == 5).astype(int)
    table.to_csv(other, index=False)
    with pytest.raises(InputError, match="has sha256"):
        acs.load(other)


def test_adult_wants_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "adult.data"
    file.write_text("")
    with pytest.raises(InputError, match="expected the folder that holds adult.data and adult.test"):
        adult.load(file)


def test_propublica_s_own_columns_are_read_too() -> None:
    """The stay in days from its two dates, and the publisher's filter: one row a reason to leave out."""
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame(
        {
            "c_jail_in": ["2013-01-01 12:00:00"] * 6,
            "c_jail_out": ["2013-01-03 18:00:00"] * 6,
            "days_b_screening_arrest": [0.0, 31.0, 0.0, 0.0, 0.0, np.nan],
            "is_recid": [1, 1, -1, 1, 1, 1],
            "c_charge_degree": ["F", "F", "F", "O", "M", "M"],
            "score_text": ["Low", "Low", "Low", "Low", None, "Low"],
        }
    )
    assert compas._with_stay(table)["length_of_stay_days"].tolist() == [2.25] * 6
    assert compas._kept(table).tolist() == [True, False, False, False, False, False]
