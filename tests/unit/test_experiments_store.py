"""The file of finished cells: a run that was killed and resumed ends as one in one go; nothing else is taken for its own."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairopt.basics.errors import InputError
from fairopt.experiments.store import Store

SETTINGS = {"recipe": {"hidden": (32,), "rate": 0.1}}
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
records = st.dictionaries(st.text(max_size=4), plain, max_size=4)


class Killed(BaseException):
    """Ctrl-C, in a test."""


def _run(path: Path | None, work: list[dict[str, Any]], stop: int | None = None) -> tuple[list[dict[str, Any]], list[int]]:
    """All records, and which cells were worked out; killed inside cell ``stop``."""
    worked: list[int] = []

    def make(k: int) -> dict[str, Any]:
        if k == stop:
            raise Killed
        worked.append(k)
        return work[k]

    with Store(path, "test") as store:
        store.hold(SETTINGS)
        return [store.cell({"seed": k, "method": "a"}, partial(make, k)) for k in range(len(work))], worked


@settings(max_examples=30)
@given(work=st.lists(records, min_size=1, max_size=6), data=st.data())
def test_killed_and_resumed_is_as_run_in_one_go(work: list[dict[str, Any]], data: st.DataObject) -> None:
    stop = data.draw(st.integers(0, len(work) - 1))
    torn = data.draw(st.sampled_from([b"", b"{", b'{"cell": {"seed": 99}, "rec', b'{"cell"\xff']))
    with tempfile.TemporaryDirectory() as folder:
        path, whole = Path(folder) / "a.jsonl", Path(folder) / "b.jsonl"
        with pytest.raises(Killed):
            _run(path, work, stop)
        with path.open("ab") as file:
            file.write(torn)
        resumed, worked = _run(path, work)
        assert worked == list(range(stop, len(work)))
        at_once, _ = _run(whole, work)
        assert resumed == at_once == _run(None, work)[0] == json.loads(json.dumps(work))
        assert path.read_bytes() == whole.read_bytes()
        again, worked = _run(path, work)
        assert (again, worked) == (at_once, [])


@settings(max_examples=40)
@given(cut=st.integers(1, 10_000))
def test_cut_anywhere_the_file_goes_on_from_whole_lines(cut: int) -> None:
    work = [{"x": k / 7} for k in range(5)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        _run(path, work)
        whole = path.read_bytes()
        kept = whole[: cut % len(whole)]
        path.write_bytes(kept)
        found, worked = _run(path, work)
        assert found == work
        assert len(worked) == 5 - max(0, kept.count(b"\n") - 1)
        assert path.read_bytes() == whole


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    _run(tmp_path / "a.jsonl", [{"x": 1.0}])
    return tmp_path / "a.jsonl"


def test_a_record_may_be_changed_by_its_reader(finished: Path) -> None:
    with Store(finished, "test") as store:
        store.hold(SETTINGS)
        key = {"method": "a", "seed": 0}  # the order of the keys does not matter
        assert key in store
        store.cell(key, dict)["x"] = 2.0
        assert store.cell(key, dict) == {"x": 1.0}
        assert list(store) == [(key, {"x": 1.0})]
        assert len(store) == 1


def test_cells_of_other_settings_are_refused(finished: Path) -> None:
    with pytest.raises(InputError, match=r"other settings \(\{'recipe'.*0\.1.*now \{'recipe'.*0\.2.*--fresh"):
        Store(finished, "test").hold({"recipe": {"hidden": (32,), "rate": 0.2}})
    with pytest.raises(InputError, match=r"other settings \(\{'more': None\}, now \{'more': 1\}\)"):
        Store(finished, "test").hold({**SETTINGS, "more": 1})
    with pytest.raises(InputError, match="cells of 'test', expected 'other'"):
        Store(finished, "other").hold(SETTINGS)


def test_a_newer_format_and_other_files_are_refused(finished: Path) -> None:
    lines = finished.read_text().splitlines()
    finished.write_text(lines[0].replace('"format": 1', '"format": 2') + "\n")
    with pytest.raises(InputError, match="format 2, this fairopt reads 1"):
        Store(finished, "test").hold(SETTINGS)
    for other, said in (("accuracy,gap\n", "line 1 is no JSON"), ('{"kind": "fairopt race"}\n', "expected a file of finished cells")):
        finished.write_text(other)
        with pytest.raises(InputError, match=said):
            Store(finished, "test").hold(SETTINGS)
        assert finished.read_text() == other
    finished.write_text(lines[0] + '\n{"seed": 1}\n')
    with pytest.raises(InputError, match="line 2 is no finished cell"):
        Store(finished, "test").hold(SETTINGS)


def test_fresh_forgets(finished: Path) -> None:
    with Store(finished, "test", fresh=True) as store:
        store.hold({"other": 1})
        assert {"seed": 0, "method": "a"} not in store


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_what_json_cannot_hold_is_an_error_and_no_line(tmp_path: Path, value: Any) -> None:
    with Store(tmp_path / "a.jsonl", "test") as store:
        store.hold(SETTINGS)
        before = (tmp_path / "a.jsonl").read_bytes()
        with pytest.raises(InputError, match="plain JSON values without NaN"):
            store.cell({"seed": 0}, lambda: {"x": value})
        assert {"seed": 0} not in store
        assert (tmp_path / "a.jsonl").read_bytes() == before


def test_hold_comes_once_and_first(tmp_path: Path) -> None:
    store = Store(None, "test")
    with pytest.raises(InputError, match="call of hold"):
        store.cell({}, dict)
    store.hold({})
    with pytest.raises(InputError, match="called twice"):
        store.hold({})
    with pytest.raises(InputError, match="the folder does not exist"):
        Store(tmp_path / "no" / "a.jsonl", "test")
