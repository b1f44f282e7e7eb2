"""A run of rows: it knows its input and its output, and skips, repeats, overwrites and miscounts nothing."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest
from typer.testing import CliRunner

import fairopt as fo
from fairopt.basics.files import Dialect
from fairopt.cli.app import build
from fairopt.streaming import DurableStream, PooledParity, parity
from fairopt.streaming.durable import outputs as outputs_module
from fairopt.streaming.durable.run import Job, Run, facts
from fairopt.streaming.durable.sources import CsvSource, ParquetSource, open_source

ROWS = "".join(f'0.{i:02d},{"xyz"[i % 3]},"a, ""note""\n{i}"\n' for i in range(12))
TEXT = "score,race,note\n" + ROWS


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def controller():
    return PooledParity(parity("race", tolerance=0.05), bounds=(0, 1))


def go(folder, source, sync=False, warnings=None, **job):
    """One process's share, from the beginning or from where ``folder`` stands; the run."""
    folder.mkdir(exist_ok=True)
    state = folder / "run.db"
    asked = Job(**{"output": folder / "fair.csv", "rejects": folder / "bad.csv", "groups": ("race",), **job})
    with closing(source), DurableStream(controller(), state, facts=facts(source, asked, state)) as store:
        run = Run(source, store, asked, sync=sync, on_warning=(warnings if warnings is not None else []).append)
        run.go()
    return run


def file(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def bytes_of(folder):
    return {name: (folder / name).read_bytes() for name in ("fair.csv", "bad.csv")}


def call(*words, input=None):
    return CliRunner().invoke(build(), ["stream", *map(str, words)], input=input)


def command(*words, **how):
    code = "from fairopt.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, "stream", *map(str, words)], capture_output=True, check=False, **how)


# resuming -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 5])
def test_a_file_that_grows_is_streamed_once_whatever_byte_it_was_cut_at(tmp_path, batch):
    """At every byte: the same bytes as in one go, or a refusal that touches nothing."""
    text = "score,race,note\n" + "".join(f'0.{i}1,{"xy"[i % 2]},"n\n{i}"\r\n' for i in range(5)) + "oops\n0.5,x,\n"
    path = tmp_path / "in.csv"
    # as many rows a step as in one go, where a row is a step
    whole = bytes_of(go(tmp_path / "whole", CsvSource(file(path, text)), batch=batch).job.output.parent) if batch == 1 else None
    same = 0
    for cut in range(16, len(text)):
        folder = tmp_path / f"cut{cut}"
        try:
            first = go(folder, CsvSource(file(path, text[:cut])), batch=batch)
        except fo.InputError:  # cut inside a quoted cell: all before it is sent
            first = None
        before = bytes_of(folder)
        try:
            second = go(folder, CsvSource(file(path, text)), batch=batch)
        except fo.InputError:  # the last line was read, and goes on
            assert bytes_of(folder) == before
            assert text[cut - 1] not in "\r\n"
            continue
        same += 1
        if whole is not None:
            assert bytes_of(folder) == whole
        assert bytes_of(folder)["fair.csv"].startswith(before["fair.csv"])
        assert (second.tally.sent_in_all, second.tally.rejected_in_all) == (6, 1)
        if first is not None:
            assert first.tally.rows + second.tally.rows == 7
    assert same > 30


@pytest.mark.parametrize("kind", ["text", "gzip", "utf-16", "parquet"])
def test_a_run_goes_on_after_every_row(tmp_path, kind):
    path = tmp_path / ("in.parquet" if kind == "parquet" else "in.csv")

    def source():
        if kind == "parquet":
            return ParquetSource(path)
        return CsvSource(path)

    if kind == "parquet":
        pandas = pytest.importorskip("pandas")
        pandas.DataFrame({"score": [i / 20 for i in range(12)], "race": list("xyz") * 4, "id": range(12)}).to_parquet(path)
    else:
        file(path, {"text": TEXT.encode(), "gzip": gzip.compress(TEXT.encode()), "utf-16": TEXT.encode("utf-16")}[kind])
    expected = bytes_of(go(tmp_path / "whole", source()).job.output.parent)
    folder = tmp_path / "parts"
    for _ in range(13):
        stopped = StopAfter(source(), 1)
        try:
            go(folder, stopped)
        except KeyboardInterrupt:
            continue
    assert bytes_of(folder) == expected
    assert go(folder, source()).tally.rows == 0  # all of it was read


class StopAfter:
    """A source that is interrupted after so many rows."""

    def __init__(self, source, rows):
        self._source, self._left = source, rows

    def __getattr__(self, name):
        return getattr(self._source, name)

    def rows(self):
        for row in self._source.rows():
            if not self._left:
                raise KeyboardInterrupt
            self._left -= 1
            yield row


def refused(folder, source, **job):
    """The error of a run that must not be; nothing may have changed."""
    kept = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(fo.InputError) as error:
        go(folder, source, **job)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == kept
    return str(error.value)


def test_another_input_on_the_same_state_is_refused(tmp_path):
    path = file(tmp_path / "in.csv", TEXT)
    folder = tmp_path / "run"
    go(folder, CsvSource(path))
    for text, said in (
        (TEXT.replace("0.03,", "0.04,") + ROWS, "lines 1 to"),
        (TEXT[:-20], "is not the one that was read before"),
        ("score,race,note\n", "is not the one that was read before"),
        (TEXT.replace("note\n", "remark\n", 1), "the input's header was score, race, note, now score, race, remark"),
        (TEXT.replace("note\n", "note,more\n", 1), "the input's header was"),
        ("\ufeff" + TEXT, "is not the one that was read before"),
        (TEXT.replace("\n", "\r\n"), "is not the one that was read before"),
    ):
        assert said in refused(folder, CsvSource(file(tmp_path / "other.csv", text))), text
    assert "--encoding was 'utf-8', now 'utf-16-le'" in refused(folder, CsvSource(file(tmp_path / "other.csv", TEXT.encode("utf-16"))))
    assert "--separator was ',', now ';'" in refused(folder, CsvSource(file(path, "score;race;note\n0.5;x;\n")))


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"score": "note"}, "--score was 'score', now 'note'"),
        ({"groups": ("race", "note")}, "--sensitive was ['race'], now ['race', 'note']"),
        ({"target": "note"}, "--target was None, now 'note'"),
        ({"key": "note"}, "--key-column was None, now 'note'"),
        ({"batch": 2}, "--batch was 1, now 2"),
        ({"missing_group": True}, "--missing-group was False, now True"),
        ({"fair": "y"}, "the name of the fair scores was 'fair_score', now 'y'"),
    ],
)
def test_other_options_are_refused(tmp_path, job, said):
    path = file(tmp_path / "in.csv", TEXT)
    go(tmp_path / "run", CsvSource(path))
    assert said in refused(tmp_path / "run", CsvSource(file(path, TEXT + ROWS)), **job)


def test_another_output_is_refused_and_a_moved_folder_is_not(tmp_path):
    path = file(tmp_path / "in.csv", TEXT)
    folder = tmp_path / "run"
    go(folder, CsvSource(path))
    assert "--output was" in refused(folder, CsvSource(path), output=folder / "other.csv")
    assert "--rejects was" in refused(folder, CsvSource(path), rejects=folder / "other.csv")
    folder.rename(tmp_path / "moved")
    assert go(tmp_path / "moved", CsvSource(file(path, TEXT + ROWS))).tally.accepted == 12


def test_a_state_of_another_maker_is_refused(tmp_path):
    path = file(tmp_path / "in.csv", TEXT)
    (tmp_path / "run").mkdir()
    with DurableStream(controller(), tmp_path / "run" / "run.db") as store:
        store.step(0.5, sensitive_features="a")
    assert "not begun by fairopt stream" in refused(tmp_path / "run", CsvSource(path))


def test_a_resumed_pipe_with_another_header_is_refused(tmp_path):
    text = "id,score,race\n" + "".join(f"{i},0.{i},x\n" for i in range(5))

    def pipe(text):
        return CsvSource(None, io.BytesIO(text.encode()))

    folder = tmp_path / "run"
    go(folder, pipe(text), key="id")
    assert "header" in refused(folder, pipe(text.replace("id,score,race", "id,race,score")), key="id")
    assert "whether the input is a pipe was True, now False" in refused(folder, CsvSource(file(tmp_path / "in.csv", text)), key="id")
    run = go(folder, pipe(text + "5,0.7,y\n"), key="id")
    assert run.progress_counts() == (6, 1, 0, 5)
    assert run.tally.sent_in_all == 6
    keyless = tmp_path / "keyless"
    go(keyless, pipe(text))
    assert "key-column" in refused(keyless, pipe(text))


# outputs -------------------------------------------------------------------------------------------------------------------------


def test_what_is_there_before_the_run_is_not_touched(tmp_path):
    path = file(tmp_path / "in.csv", TEXT)
    for name in ("fair.csv", "bad.csv"):
        folder = tmp_path / name.split(".")[0]
        folder.mkdir()
        file(folder / name, "precious\n")
        with pytest.raises(fo.InputError, match="is there already, and is not of this run"):
            go(folder, CsvSource(path))
        assert (folder / name).read_text() == "precious\n"
        go(folder, CsvSource(path), overwrite=True)
        assert "precious" not in (folder / name).read_text()
    assert bytes_of(tmp_path / "fair") == bytes_of(tmp_path / "bad")


@pytest.mark.parametrize("damage", ["more", "edited", "gone", "short", "replaced"])
def test_an_output_that_changed_between_runs(tmp_path, damage):
    path = file(tmp_path / "in.csv", TEXT)
    folder, whole = tmp_path / "run", tmp_path / "whole"
    go(whole, CsvSource(file(tmp_path / "all.csv", TEXT + ROWS)))
    go(folder, CsvSource(path))
    output = folder / "fair.csv"
    right = output.read_bytes()
    file(path, TEXT + ROWS)
    if damage in ("more", "edited", "replaced"):
        changed = {"more": right + b"mine\n", "edited": right.replace(b"0.04", b"9.99", 1), "replaced": b"z" * len(right)}[damage]
        output.write_bytes(changed)
        with pytest.raises(fo.InputError, match="more than this run wrote" if damage == "more" else "was changed since this run wrote it"):
            go(folder, CsvSource(path))
        assert output.read_bytes() == changed
        if damage != "more":
            return
        go(folder, CsvSource(path), overwrite=True)
    else:
        output.unlink() if damage == "gone" else output.write_bytes(right[:100])
        go(folder, CsvSource(path))
    assert bytes_of(folder) == bytes_of(whole)


def test_an_output_that_is_gone_beyond_what_is_remembered_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("fairopt.streaming.durable.tables.OUTBOX_ROWS", 100)
    text = "score,race\n" + "".join(f"0.{i},x\n" for i in range(1100))
    folder = tmp_path / "run"
    go(folder, CsvSource(file(tmp_path / "in.csv", text)))
    (folder / "fair.csv").unlink()
    with pytest.raises(fo.InputError, match="no longer remembered"):
        go(folder, CsvSource(tmp_path / "in.csv"))


@pytest.mark.parametrize("act", ["deleted", "replaced", "cut"])
def test_an_output_that_goes_away_during_a_run_is_an_error_and_comes_back(tmp_path, act, monkeypatch):
    monkeypatch.setattr(outputs_module, "FLUSH_EVERY", 3)
    path = file(tmp_path / "in.csv", TEXT)
    folder, whole = tmp_path / "run", tmp_path / "whole"
    go(whole, CsvSource(path))

    class Meddling(StopAfter):
        def rows(self):
            for k, row in enumerate(self._source.rows()):
                if k == 6:
                    if act == "cut":
                        os.truncate(folder / "fair.csv", 0)
                    else:
                        (folder / "fair.csv").unlink()
                    if act == "replaced":
                        file(folder / "fair.csv", b"")
                yield row

    with pytest.raises(fo.InputError, match={"deleted": "was deleted", "replaced": "was replaced", "cut": "were written"}[act]):
        go(folder, Meddling(CsvSource(path), 0))
    if act == "cut":
        (folder / "fair.csv").unlink()
    go(folder, CsvSource(path))
    assert bytes_of(folder) == bytes_of(whole)


@pytest.mark.parametrize("partial", [0, 1, 40])
def test_a_full_disk_under_the_output_loses_nothing(tmp_path, partial, monkeypatch):
    monkeypatch.setattr(outputs_module, "FLUSH_EVERY", 3)
    path = file(tmp_path / "in.csv", TEXT)
    whole = tmp_path / "whole"
    go(whole, CsvSource(path))
    folder = tmp_path / "run"
    genuine = outputs_module._File.flush

    class Full:
        def __init__(self, file):
            self.file, self.room = file, 100

        def write(self, data):
            if len(data) > self.room:
                if partial:
                    taken, self.room = self.file.write(data[:partial]), 0
                    return taken
                raise OSError(errno.ENOSPC, "No space left on device")
            self.room -= len(data)
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    def flush(self, *, sync):
        if self.name == "output" and not isinstance(self._file, Full):
            self._file = Full(self._file)
        if partial and self.name == "output" and self._file.room == 0:
            raise OSError
        genuine(self, sync=sync)

    monkeypatch.setattr(outputs_module._File, "flush", flush)
    with pytest.raises((fo.InputError, OSError)) as error:
        go(folder, CsvSource(path), sync=True)
    if not partial:
        assert f"output: {folder / 'fair.csv'} cannot be written: No space left on device; mend that" in str(error.value)
    monkeypatch.setattr(outputs_module._File, "flush", genuine)
    go(folder, CsvSource(path))
    assert bytes_of(folder) == bytes_of(whole)


def test_the_columns_of_the_input_come_out_as_they_came(tmp_path):
    cells = ["=1+1", "-2", "@x", "+3", "a,b", 'q"q', "l\nl", "r\rr", " s ", "\t", "01", "NA", "é中"]
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([["score", "race", "=note"], *([0.5, "x", c] for c in cells)])
    go(tmp_path / "run", CsvSource(file(tmp_path / "in.csv", text.getvalue())))
    with (tmp_path / "run" / "fair.csv").open(newline="", encoding="utf-8") as out:
        rows = list(csv.reader(out))
    assert [r[2] for r in rows] == ["=note", *cells]


def test_rejected_rows_are_all_there_and_run_nothing(tmp_path):
    body = b'0.5,x,\n=1+1,x,\n-0.5\n0.5,\xff,\n\n0.5,x,\x00\n0.5,"x"y,\n0.6,y,\n'
    run = go(tmp_path / "run", CsvSource(file(tmp_path / "in.csv", b"score,race,note\n" + body)))
    with (tmp_path / "run" / "bad.csv").open(newline="") as out:
        rows = list(csv.DictReader(out))
    assert [r["line"] for r in rows] == ["3", "4", "5", "7", "8"]
    assert [r["row"] for r in rows] == ["'=1+1,x,", "-0.5", "0.5,\\xff,", "0.5,x,\x00", '0.5,"x"y,']
    assert run.progress_counts() == (7, 2, 5, 0)


# one reader ----------------------------------------------------------------------------------------------------------------------


def test_every_dialect_gives_the_same_scores(tmp_path):
    rows = [line.split(",") for line in ["score,race", "0.5,x", "0.25,é", "1e-1,x", ".75,é"]]

    def text(separator=",", end="\n", decimal="."):
        return "".join(separator.join([row[0].replace(".", decimal), row[1]]) + end for row in rows)

    found = []
    for k, (data, dialect) in enumerate(
        [
            (text().encode(), {}),
            (text(";").encode(), {}),
            (text("\t", "\r\n").encode("utf-16"), {}),
            (text("|", "\r").encode("utf-8-sig"), {}),
            (text(";", decimal=",").encode("latin-1"), {"decimal": ",", "encoding": "latin-1"}),
            (gzip.compress(text("\t").encode()), {}),
        ]
    ):
        source = open_source(str(file(tmp_path / f"{k}.csv", data)), sys.stdin.buffer, Dialect(**dialect), ["score", "race"])
        out = go(tmp_path / f"run{k}", source).job.output
        with out.open(newline="", encoding="utf-8") as opened:
            table = list(csv.reader(opened, delimiter=source.separator))
        found.append([[row[0].replace(",", "."), row[1], row[2].replace(",", ".")] for row in table])
    assert all(one == found[0] for one in found)
    assert len(found[0]) == 5


def test_an_audit_and_a_stream_read_the_same_groups(tmp_path):
    groups = ["01", "1", "1.0", "1e3", "1000", "NA", "nan", "True", " 1", "missing", "9007199254740993", "9007199254740992"]
    path = file(tmp_path / "in.csv", "score,race\n" + "".join(f"0.5,{g}\n" for g in groups))
    run = go(tmp_path / "run", CsvSource(path))
    counted = {g.removeprefix("race=").strip('"') for g in next(iter(run.store.report().counts.values()))}
    done = CliRunner().invoke(
        build(), ["audit", str(path), "--score", "score", "--sensitive", "race", "--draws", "100", "--json", "a.json"]
    )
    assert done.exit_code == 0, done.output
    audited = {r["group"].strip('"') for r in json.loads((tmp_path / "a.json").read_text())["tables"]["groups"] if r["attribute"]}
    assert counted == audited == set(groups)


# what must not be found out too late ----------------------------------------------------------------------------------------------


def test_scores_on_another_scale_warn_at_once_and_end_with_a_problem(tmp_path):
    path = file(tmp_path / "in.csv", "score,race\n" + "".join(f"{i},x\n" for i in range(0, 100, 5)))
    warnings: list[str] = []
    run = go(tmp_path / "run", CsvSource(path), warnings=warnings)
    assert warnings == [
        "line 3: score 5.0 lies outside the bounds 0, 1 and is sent clipped; are these scores on another scale? (--bounds, --clip)"
    ]
    assert run.tally.problems == ["19 of 20 scores lay outside the bounds and were sent clipped"]
    again = go(tmp_path / "run", CsvSource(path))  # still so when there is nothing left to read
    assert again.tally.problems == run.tally.problems
    quiet: list[str] = []
    assert go(tmp_path / "clip", CsvSource(path), warnings=quiet, clip=True).tally.problems == quiet == []


def test_a_group_of_which_no_row_was_sent_is_a_problem(tmp_path):
    rows = ["0.5,x", *(["0.3,y", "oops,y"] * 2), *["0,5;z"] * 0, *["none,caf\u00e9"] * 25, "0.5,"]
    path = file(tmp_path / "in.csv", "score,race\n" + "\n".join(rows) + "\n")
    warnings: list[str] = []
    run = go(tmp_path / "run", CsvSource(path), warnings=warnings)
    assert run.tally.problems == ["race 'caf\u00e9': every one of its 25 rows was rejected"]
    assert warnings[0].startswith("line 4 is rejected: score: 'oops' is no number")
    assert any("20 rows rejected and none sent so far" in w for w in warnings)
    file(path, path.read_text() + "0.5,caf\u00e9\n")
    assert go(tmp_path / "run", CsvSource(path)).tally.problems == []


def test_a_group_sent_before_the_resume_is_not_called_rejected(tmp_path):
    path = file(tmp_path / "in.csv", "score,race\n0.5,x\n0.5,missing\n")
    go(tmp_path / "run", CsvSource(path))
    file(path, path.read_text() + "a,x\nb,missing\n")
    assert go(tmp_path / "run", CsvSource(path)).tally.problems == []


def test_rows_in_another_encoding_are_told(tmp_path):
    path = file(tmp_path / "in.csv", "score,race\n0.5,x\n0.4,\u00e9\n0.4,\u00e9\n".encode("latin-1"))
    run = go(tmp_path / "run", CsvSource(path))
    assert run.tally.problems == ["race '\\xe9': every one of its 2 rows was rejected"]
    assert go(tmp_path / "right", CsvSource(path, dialect=Dialect(encoding="latin-1"))).tally.problems == []


# the command ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["in.csv", "link.csv", "hard.csv", "sub/../in.csv"])
@pytest.mark.parametrize("option", ["--output", "--rejects", "--state", "--report", "--picture"])
def test_no_output_is_the_input(tmp_path, name, option):
    path = file(tmp_path / "in.csv", TEXT)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.csv").symlink_to(path)
    os.link(path, tmp_path / "hard.csv")
    words = {"--output": "out.csv", "--state": "s.db", option: name}
    done = call("--input", path, "--group", "race", *(w for pair in words.items() for w in pair))
    assert isinstance(done.exception, fo.InputError)
    assert "is the same file as input" in str(done.exception)
    assert path.read_text() == TEXT
    assert not (tmp_path / "s.db").exists()
    assert not (tmp_path / "out.csv").exists()


def test_output_state_and_rejects_are_apart(tmp_path):
    file(tmp_path / "in.csv", TEXT)
    for words in (
        ["--output", "s.db"],
        ["--output", "s.db-wal"],
        ["--output", "o.csv", "--rejects", "o.csv"],
        ["--output", "o", "--report", "o"],
    ):
        done = call("--input", "in.csv", "--group", "race", "--state", "s.db", *words)
        assert "is the same file as" in str(done.exception), words
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.csv"]


def test_a_run_that_cannot_begin_leaves_nothing_behind(tmp_path):
    file(tmp_path / "in.csv", TEXT)
    file(tmp_path / "there.csv", "precious")
    (tmp_path / "folder").mkdir()
    kept = sorted(p.name for p in tmp_path.iterdir())
    for words, said in (
        (["--output", "there.csv"], "is there already"),
        (["--output", "o.csv", "--rejects", "there.csv"], "is there already"),
        (["--output", "o.csv", "--report", "there.csv"], "is no report of fairopt"),
        (["--output", "o.csv", "--picture", "there.csv"], "is no picture of fairopt"),
        (["--output", "folder"], "is a folder"),
        (["--output", "no/o.csv"], "its folder is not there"),
        (["--output", "o.csv", "--report", "no/r.json"], "its folder is not there"),
        (["--output", "o.csv", "--score", "p"], "has no column 'p'"),
        (["--output", "o.csv", "--target", "t"], "has no column 't'"),
        (["--output", "o.csv", "--separator", "xx"], "separator: got 'xx'"),
        (["--output", "o.csv", "--encoding", "xx"], "encoding: got 'xx'"),
        (["--output", "o.csv", "--bounds", "1_0,20"], "'1_0' is no number"),
        (["--output", "o.csv", "--bounds", "1,0"], "the least score first"),
        (["--output", "o.csv", "--notion", "x"], "--notion: got 'x'"),
        (["--output", "o.csv", "--window", "sliding:\u0661"], "whole number"),
        (["--output", "-", "--report", "-"], "standard output is the output's already"),
        (["--output", "o.csv", "--rejects", "-"], "rejects: expected a file"),
        (["--output", "o.csv.gz"], "output: got o.csv.gz, expected the name of a text file such as o.csv"),
        (["--output", "o.csv", "--rejects", "r.Parquet"], "rejects: got r.Parquet, expected the name of a text file such as r:"),
    ):
        done = call("--input", "in.csv", "--group", "race", "--state", "s.db", *words)
        assert isinstance(done.exception, fo.FairoptError), (words, done.output, done.exception)
        assert said in str(done.exception), words
        assert sorted(p.name for p in tmp_path.iterdir()) == kept, words
    assert (tmp_path / "there.csv").read_text() == "precious"


@pytest.mark.parametrize("after", [1, 5, 12])
def test_sigterm_writes_out_what_was_sent_and_the_run_goes_on(tmp_path, monkeypatch, after):
    file(tmp_path / "in.csv", TEXT)
    words = ("--input", "in.csv", "--group", "race", "--state", "s.db", "--output", "o.csv")
    seen, one, before = [], Run._one, signal.getsignal(signal.SIGTERM)

    def counted(self, batch, bad):
        one(self, batch, bad)
        seen.append(len(batch))
        if len(seen) == after:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "_one", counted)
        stopped = call(*words)
    assert (stopped.exit_code, len(seen)) == (143, after), stopped.output
    assert signal.getsignal(signal.SIGTERM) is before
    with (tmp_path / "o.csv").open() as rows:
        assert len(list(csv.reader(rows))) == 1 + after
    assert call(*words).exit_code == 0
    assert (tmp_path / "o.csv").read_text().startswith("score,race,note,fair_score\n")
    with (tmp_path / "o.csv").open() as rows:
        assert [row[0] for row in csv.reader(rows)][1:] == [f"0.{i:02d}" for i in range(12)]


def test_exit_codes(tmp_path):
    file(tmp_path / "in.csv", TEXT)
    file(tmp_path / "percent.csv", "score,race\n50,x\n60,y\n")
    usual = ("--group", "race", "--state", "s.db", "--output", "o.csv")
    assert command("--input", "in.csv", *usual).returncode == 0
    assert command("--input", "in.csv", *usual, "--report", "r.json").returncode == 0
    assert command("--input", "in.csv", *usual, "--json", "r.json").returncode == 0  # its own report is renewed
    other = command("--input", "percent.csv", *usual)
    assert (other.returncode, other.stderr.count(b"\n")) == (2, 1)
    assert other.stderr.startswith(b"fairopt: state: s.db was begun with another run: ")
    scale = command("--input", "percent.csv", "--group", "race", "--state", "t.db", "--output", "p.csv")
    assert scale.returncode == 2
    assert b"2 of 2 scores lay outside the bounds" in scale.stderr


def test_standard_output(tmp_path):
    file(tmp_path / "in.csv", "score,race\n0.5,x\n0.75,y\n")
    usual = ("--input", "in.csv", "--sensitive", "race", "--state", "s.db", "--output", "-")
    first = command(*usual)
    assert first.returncode == 0
    assert first.stdout.splitlines()[0] == b"score,race,fair_score"
    assert len(first.stdout.splitlines()) == 3
    file(tmp_path / "in.csv", "score,race\n0.5,x\n0.75,y\n0.6,x\n")
    second = command(*usual, "--notion", "DemographicParity", "--json", "r.json")
    assert (second.returncode, second.stdout.count(b"\n")) == (0, 1)
    assert json.loads((tmp_path / "r.json").read_text())["samples"] == 3
    assert (tmp_path / "s.rejects.csv").read_text() == "line,reason,row\n"
    reader, writer = os.pipe()
    os.close(reader)  # nobody listens
    closed = subprocess.Popen(
        [sys.executable, "-c", "from fairopt.cli import main; main()", "stream", *usual[:-4], "--state", "t.db", "--output", "-"],
        stdout=writer, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writer)
    said = closed.communicate(timeout=60)[1]
    assert closed.returncode == 2
    assert b"standard output was closed" in said
    assert b"Traceback" not in said
    third = command(*usual[:-4], "--state", "t.db", "--output", "-")
    assert third.returncode == 2
    assert b"how much of standard output was received is not known" in third.stderr


def test_names_with_commas_and_blanks(tmp_path):
    file(tmp_path / "in.csv", 'my score;"last, first";b c;y\n0.5;x;u;1\n0.25;y;v;0\n')
    names = ("--score", "my score", "--sensitive", "last, first", "--sensitive", 'b c,"last, first"', "--target", "y")
    done = call("--input", "in.csv", *names, "--state", "s.db", "--output", "o.csv", "--notion", "mean-residual")
    assert done.exit_code == 0, (done.output, done.exception)
    assert (tmp_path / "o.csv").read_text().startswith("my score;last, first;b c;y;fair_score\n0.5;x;u;1;")


def test_words_of_the_data_do_not_steer_the_terminal(tmp_path):
    file(tmp_path / "in.csv", "score,race\n0.5,x\n\x1b[31mzz,\x1b]0;title\x07\n")
    done = command("--input", "in.csv", "--group", "race", "--state", "s.db", "--output", "o.csv")
    assert b"\x1b" not in done.stderr
    assert b"\\x1b" in done.stderr
    missing = command("--input", "no\x1b[31m.csv", "--group", "race", "--state", "s.db", "--output", "o.csv")
    assert b"no\\x1b[31m.csv: there is no such file" in missing.stderr


def test_a_file_with_cr_alone_streams_and_a_broken_one_says_so(tmp_path):
    file(tmp_path / "in.csv", TEXT.replace('"a, ""note""\n', '"').replace("\n", "\r"))
    done = call("--input", "in.csv", "--group", "race", "--state", "s.db", "--output", "o.csv")
    assert done.exit_code == 0, done.exception
    assert (tmp_path / "o.csv").read_text().count("\n") == 13
    file(tmp_path / "open.csv", 'score,race\n0.5,x\n0.6,"y\n0.7,z\n')
    broken = call("--input", "open.csv", "--group", "race", "--state", "t.db", "--output", "p.csv")
    assert "line 3: a quoted cell is never closed" in str(broken.exception)
    assert (tmp_path / "p.csv").read_text().count("\n") == 2
    file(tmp_path / "open.csv", 'score,race\n0.5,x\n0.6,"y"\n0.7,z\n')  # mended, it goes on
    assert call("--input", "open.csv", "--group", "race", "--state", "t.db", "--output", "p.csv").exit_code == 0
    assert (tmp_path / "p.csv").read_text().count("\n") == 4
