"""What a durable stream promises: nothing acknowledged is lost or counted twice, whatever fails, and every refusal is an error of ours."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import linecache
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fairopt as fo
from fairopt.streaming import DurableStream, PooledParity, Sliding, named, parity
from fairopt.streaming.durable.json_text import to_json
from fairopt.streaming.durable.witness import Witness

DP = parity("race", tolerance=0.05)
fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def make(**options):
    return PooledParity(DP, bounds=(0, 1), **options)


def residual():
    return PooledParity(named("mean_residual", "race", 0.05), bounds=(0, 1))


def send(store, i, **more):
    return store.step((i * 37 % 101) / 101, sensitive_features="ab"[i % 2], key=f"k{i}", **more)


def told(path, maker=make):
    """What the database says once it is opened again."""
    with DurableStream(maker(), path) as store:
        return store.controller.state_dict(), store.progress


def reference(folder, n, maker=make):
    with DurableStream(maker(), folder / "reference.db") as store:
        for i in range(n):
            send(store, i)
        return store.controller.state_dict()


# -- fork -------------------------------------------------------------------------------------------------------------------------


def in_child(work):
    """What ``work`` returned (JSON), or how the child died, in a forked process."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            answer = json.dumps(work())
        except BaseException as error:  # noqa: BLE001
            answer = json.dumps(repr(error))
        os.write(write, answer.encode())
        os.close(write)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = json.loads(pipe.read() or '"died"')
    os.waitpid(pid, 0)
    return answer


def refusal(call):
    """The text of the StateError that ``call`` raises."""
    try:
        call()
    except fo.StateError as error:
        return str(error)
    return "no error"


@fork
def test_a_forked_process_is_refused_everything(tmp_path):
    store = DurableStream(make(), tmp_path / "a.db", facts={"a": 1})
    send(store, 0)
    calls = [
        lambda: send(store, 1),
        lambda: store.observe("k0", 0.5),
        lambda: store.seen("k0"),
        lambda: store.report(),
        lambda: store.note(offset=1, writes=[]),
        lambda: store.reconcile("out", tmp_path / "out.csv"),
        lambda: store.close(),
    ]
    texts = in_child(lambda: [refusal(call) for call in calls])
    for text in texts:
        assert str(tmp_path / "a.db") in text
        assert f"opened by process {os.getpid()}" in text
        assert "Open it again in this process" in text
    assert not (tmp_path / "out.csv").exists()
    send(store, 1)
    store.close()
    assert told(tmp_path / "a.db")[0] == reference(tmp_path, 2)


ENDINGS = {
    "drops it": "del store; gc.collect()",
    "closes it": "\ntry: store.close()\nexcept fo.StateError: pass",
    "ends a with": "\nwith store: pass",
    "ends": "sys.exit(0)",
    "dies of an error": "raise ValueError",
}


@fork
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("when", ["while the parent goes on", "after the parent was killed"])
def test_a_childs_end_harms_no_parent(ending, when, tmp_path):
    """The child inherits the connection; SQLite would fold and delete the parent's log if it were closed there."""
    code = f"""
import gc, os, sys, time
import fairopt as fo
from fairopt.streaming import DurableStream, PooledParity, parity
store = DurableStream(PooledParity(parity("race", tolerance=0.05), bounds=(0, 1)), sys.argv[1])
def send(i): store.step((i * 37 % 101) / 101, sensitive_features="ab"[i % 2], key=f"k{{i}}")
for i in range(10): send(i)
r, w = os.pipe()
child = os.fork()
if child == 0:
    os.close(w)
    os.read(r, 1) if {when.startswith("after")} else None
    {ENDINGS[ending] if chr(10) not in ENDINGS[ending] else "exec(" + repr(ENDINGS[ending]) + ")"}
    sys.exit(0)
if {when.startswith("while")}:
    os.waitpid(child, 0)
for i in range(10, 20): send(i)
print("acknowledged", flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.db")], capture_output=True, text=True, check=False, timeout=60)
    assert "acknowledged" in done.stdout, done.stderr
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while True:  # the child of a killed parent may still be ending
        try:
            state = told(tmp_path / "a.db")[0]
            break
        except fo.InputError as error:
            if "in use" not in str(error) or time.monotonic() > deadline:
                raise
    assert state == reference(tmp_path, 20)


@fork
def test_a_child_opens_it_again_once_the_parent_has_closed(tmp_path):
    store = DurableStream(make(), tmp_path / "a.db")
    send(store, 0)
    closed, close = os.pipe()
    answers, answer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            words = "no error"
            try:
                DurableStream(make(), tmp_path / "a.db")
            except fo.InputError as error:
                words = str(error)
            os.write(answer, f"{words}\n".encode())
            os.read(closed, 1)
            with DurableStream(make(), tmp_path / "a.db") as again:
                send(again, 1)
                done = subprocess.run([sys.executable, "-c", SECOND, str(tmp_path / "a.db")], capture_output=True, text=True, check=False)
                os.write(answer, f"{again.controller.samples}\n{done.stdout}".encode())
        except BaseException as error:  # noqa: BLE001
            os.write(answer, f"{error!r}\n".encode())
        os._exit(0)
    os.close(answer)
    with os.fdopen(answers) as pipe:
        first = pipe.readline()
        store.close()
        os.write(close, b"x")
        rest = pipe.read().split("\n")
    os.waitpid(pid, 0)
    assert "in use by another process" in first
    assert rest[:2] == ["2", "in use"]
    assert told(tmp_path / "a.db")[0] == reference(tmp_path, 2)


# -- two writers ------------------------------------------------------------------------------------------------------------------

SECOND = """
import sys
import fairopt as fo
from fairopt.streaming import DurableStream, PooledParity, parity
try:
    store = DurableStream(PooledParity(parity("race", tolerance=0.05), bounds=(0, 1)), sys.argv[1])
except fo.InputError as error:
    print("in use" if "in use by another process" in str(error) else error)
else:
    print("opened")
"""


def test_a_second_writer_is_refused_and_the_first_loses_nothing(tmp_path):
    store = DurableStream(make(), tmp_path / "a.db")
    for i in range(10):
        send(store, i)
    done = subprocess.run([sys.executable, "-c", SECOND, str(tmp_path / "a.db")], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "in use"
    with pytest.raises(fo.InputError, match="in use by this process"):
        DurableStream(make(), tmp_path / "a.db")
    other = sqlite3.connect(tmp_path / "a.db", timeout=0.1)
    with pytest.raises(sqlite3.OperationalError, match="locked"):  # SQLite's own lock keeps other programs out
        other.execute("SELECT * FROM state").fetchall()
    other.close()
    for i in range(10, 20):
        send(store, i)
    store.close()
    done = subprocess.run([sys.executable, "-c", SECOND, str(tmp_path / "a.db")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "opened"
    assert told(tmp_path / "a.db")[0] == reference(tmp_path, 20)


def test_many_beginners_make_one_run(tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", SECOND + "    import time; time.sleep(4)", str(tmp_path / "a.db")], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    answers = sorted(p.communicate(timeout=60)[0].decode().strip() for p in processes)
    assert answers.count("opened") >= 1
    assert set(answers) <= {"opened", "in use"}
    assert os.listdir(tmp_path) == ["a.db"]


def test_a_killed_writers_lock_does_not_block(tmp_path):
    code = SECOND + "    store.step(0.5, sensitive_features='a', key='k')\n    import os; os.kill(os.getpid(), 9)"
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.db")], check=False)
        with DurableStream(make(), tmp_path / "a.db") as store:
            assert store.controller.samples == 1
            assert store.seen("k")


def test_a_beginner_whose_draft_was_swept_away_opens_the_run_of_the_faster_one(tmp_path, monkeypatch):
    link = os.link

    def slow(draft, real):
        """Between writing the draft and giving it its name another process begins the run, sends, and sweeps."""
        monkeypatch.setattr(os, "link", link)
        with DurableStream(make(), tmp_path / "a.db") as other:
            send(other, 0)
        assert not draft.exists()
        link(draft, real)

    monkeypatch.setattr(os, "link", slow)
    with DurableStream(make(), tmp_path / "a.db") as store:
        assert store.resumed
        assert store.controller.samples == 1
    assert os.listdir(tmp_path) == ["a.db"]


@fork
@pytest.mark.parametrize("kills", [36, pytest.param(900, marks=pytest.mark.slow)])
def test_a_kill_while_opening_or_closing_leaves_a_run(kills, tmp_path):
    """Short lives, one after the other on the same files: begun, resumed and closed, each killed at a random moment."""
    rng, acknowledged, begun = random.Random(kills), 0, 0
    path = tmp_path / "run0.db"
    for life in range(kills):
        if life % 6 == 0:  # begin another run, to be killed in its beginning
            path, acknowledged = tmp_path / f"run{life}.db", 0
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                with DurableStream(make(), path) as store:
                    for _ in range(rng.randrange(4)):
                        send(store, store.controller.samples)
                        os.write(write, b"k")
                os._exit(0)
            except BaseException as error:  # noqa: BLE001
                os.write(write, repr(error).encode())
                os._exit(1)
        rng.random()
        os.close(write)
        time.sleep(rng.uniform(0.0, 0.012))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        with os.fdopen(read, "rb") as pipe:
            told_of = pipe.read()
        assert set(told_of) <= set(b"k"), told_of
        acknowledged += len(told_of)
        begun += os.WIFSIGNALED(status)
        if life % 3 == 2:  # the lives between go on from what a kill left, the file unread in between
            with DurableStream(make(), path) as store:
                assert 0 <= store.controller.samples - acknowledged <= 3  # committed, and killed before it could say so: one a life
                acknowledged = store.controller.samples
                assert all(store.seen(f"k{i}") for i in range(acknowledged))
    assert begun > kills // 4


# -- failures inside a step -------------------------------------------------------------------------------------------------------


class Failing:
    """Stands for the connection's ``execute``: the ``at``-th statement fails, before it is done or (an ambiguous report) after."""

    def __init__(self, sql, at, error, *, after):
        self.sql, self.at, self.error, self.after, self.count = sql, at, error, after, 0

    def __call__(self, statement, *parameters):
        self.count += 1
        if self.count == self.at:
            if self.after:
                self.sql(statement, *parameters)
            raise self.error
        return self.sql(statement, *parameters)


def sqlite_error(code, words):
    error = sqlite3.OperationalError(words)
    error.sqlite_errorcode = code
    return error


ERRORS = {
    "full": lambda: sqlite_error(sqlite3.SQLITE_FULL, "database or disk is full"),
    "io": lambda: sqlite_error(sqlite3.SQLITE_IOERR_WRITE, "disk I/O error"),
    "busy": lambda: sqlite_error(sqlite3.SQLITE_BUSY, "database is locked"),
    "interrupt": KeyboardInterrupt,
    "memory": MemoryError,
}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", ERRORS)
def test_any_statement_may_fail(kind, after, tmp_path):
    """Every statement of a step in turn; then the step is sent again, and counted once."""
    store = DurableStream(make(window=Sliding(5)), tmp_path / "a.db")
    n, at = 0, 1
    while True:
        failing = store._tables.sql = Failing(store._tables.sql, at, ERRORS[kind](), after=after)
        before = store.controller.state_dict()
        try:
            send(store, n, writes=lambda s: [("out", f"{s.scores!r}\n")])
            if failing.count < at:
                break
            assert after  # a COMMIT that was reported as failed and stood
            assert kind in ("full", "io", "busy")
        except (fo.StateError, KeyboardInterrupt, MemoryError) as error:
            words = str(error)
            store._tables.sql = failing.sql
            stands = store.seen(f"k{n}")  # an interrupt just after the commit
            assert (store.controller.state_dict() == before) == (not stands)
            assert (not stands and str(tmp_path / "a.db") in words) or kind in ("interrupt", "memory")
        store._tables.sql = failing.sql
        send(store, n, writes=lambda s: [("out", f"{s.scores!r}\n")])
        n, at = n + 1, at + 1
        assert store.controller.samples == n
    assert at > 7
    n += 1
    expected = store.controller.state_dict()
    size = store.progress["files"]["out"]
    store.close()
    state, progress = told(tmp_path / "a.db", lambda: make(window=Sliding(5)))
    assert state == expected == reference(tmp_path, n, lambda: make(window=Sliding(5)))
    assert progress["files"]["out"] == size


class Tripwire:
    """Raises in the ``at``-th traced line of fairopt's streaming code, and once more ``again`` lines later: an interrupt at any point.

    Not in the lines of ``with`` (traced again when the block ends) and ``try:``: the interpreter takes no interrupt
    there, and a lock would stay.
    """

    def __init__(self, error, at, again=None):
        self.error, self.at, self.again, self.count, self.raised = error, at, again, 0, 0

    def __call__(self, frame, event, argument):
        if "fairopt/streaming" not in frame.f_code.co_filename:
            return None
        if event == "line" and not linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith(("with ", "try:")):
            self.count += 1
            if self.count == self.at or (self.again and self.count == self.at + self.again):
                self.raised += 1
                raise self.error
        return self


def interrupted(wire, call):
    sys.settrace(wire)
    try:
        return call()
    finally:
        sys.settrace(None)


def work_of(store, n):
    """One after the other: a step, a late target, a note; with the number of waiting samples after each, which tells whether it stands."""
    return [
        (lambda: send(store, n, offset=n), 2),
        (lambda: store.observe(f"k{n - 1}", 0.25), 1),
        (lambda: store.note(offset=-n, writes=[]), 1),
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("twice", [False, True])
def test_an_interrupt_at_any_line_parts_nothing(error, twice, tmp_path):
    """Single steps, late targets and notes, interrupted anywhere (and once more while that is put right), then sent again."""
    gc.collect()  # what other tests left is not to be interrupted
    rng = random.Random(0)
    store, n, at, raised = DurableStream(residual(), tmp_path / "a.db"), 0, 1, 1
    send(store, 0, offset=0)
    while raised:
        n, raised = n + 1, 0
        for number, (work, waiting) in enumerate(work_of(store, n)):
            wire = Tripwire(error, at, rng.randint(1, 60) if twice else None)
            with contextlib.suppress(error):
                interrupted(wire, work)
            raised += wire.raised
            done = store.report().pending == waiting  # an interrupt may come just after the commit
            if wire.raised and not (number == 1 and done):
                work()  # a step has a key, a note may stand twice, a target may not
            assert store.report().pending == waiting
            assert store.report().samples == n + 1
        at += rng.randint(1, 3)
    assert at > 150
    expected = store.controller.state_dict()
    store.close()
    state, progress = told(tmp_path / "a.db", residual)
    assert state == expected
    assert progress["offset"] == -n
    with DurableStream(residual(), tmp_path / "plain.db") as plain:
        send(plain, 0)
        for i in range(1, n + 1):
            send(plain, i)
            plain.observe(f"k{i - 1}", 0.25)
        assert plain.controller.state_dict() == expected


def test_where_the_disk_cannot_be_read_back_the_next_call_tries_again(tmp_path, monkeypatch):
    store = DurableStream(make(), tmp_path / "a.db")
    send(store, 0)
    broken = []

    def fails(*, opening):
        broken.append(opening)
        raise fo.StateError("state: gone for now")

    monkeypatch.setattr(store, "_load", fails)
    failing = store._tables.sql = Failing(store._tables.sql, 2, ERRORS["io"](), after=False)
    for call in (lambda: send(store, 1), lambda: send(store, 1), store.report, lambda: store.seen("k0")):
        with pytest.raises(fo.StateError, match="gone for now"):
            call()
    assert len(broken) == 4
    monkeypatch.undo()
    store._tables.sql = failing.sql
    assert store.report().samples == 1
    send(store, 1)
    store.close()
    assert told(tmp_path / "a.db")[0] == reference(tmp_path, 2)


@pytest.mark.parametrize("after", [False, True])
def test_a_commit_whose_fate_is_unknown_says_so(after, tmp_path, monkeypatch):
    """COMMIT fails and nothing can be read: the error says that it is not known, and the retry counts once either way."""
    store = DurableStream(make(), tmp_path / "a.db")

    def fails(*, opening):
        raise fo.StateError("state: gone for now")

    monkeypatch.setattr(store, "_load", fails)
    failing = store._tables.sql = Failing(store._tables.sql, 6, ERRORS["io"](), after=after)
    with pytest.raises(fo.StateError, match="not known"):
        send(store, 0)
    assert failing.count == 6
    monkeypatch.undo()
    store._tables.sql = failing.sql
    assert store.seen("k0") == after
    send(store, 0)
    assert store.report().samples == 1
    store.close()
    assert told(tmp_path / "a.db")[0] == reference(tmp_path, 1)


def test_a_witness_that_cannot_be_written_fails_no_step(tmp_path, monkeypatch):
    store = DurableStream(make(), tmp_path / "a.db")

    def refuse(*_):
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "pwrite", refuse)
    for i in range(5):
        send(store, i)
    store.close()
    assert told(tmp_path / "a.db")[0] == reference(tmp_path, 5)


def test_a_step_inside_a_step_is_refused(tmp_path):
    store = DurableStream(make(), tmp_path / "a.db")

    def nested(step):
        assert store.seen("k0") is True
        return [("out", str(send(store, 99).scores))]

    with pytest.raises(fo.StateError, match="inside a transaction"):
        send(store, 0, writes=nested)
    for i in range(3):
        send(store, i)
    store.close()
    assert told(tmp_path / "a.db")[0] == reference(tmp_path, 3)


def test_threads_lose_nothing(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    store = DurableStream(make(), tmp_path / "a.db")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: send(store, i % 60), range(240)))
    assert store.controller.samples == 60
    store.close()
    assert told(tmp_path / "a.db")[0]["samples"] == 60


def test_a_controller_with_a_past_keeps_it(tmp_path):
    for name, maker in (("late", residual), ("window", lambda: make(window=Sliding(4)))):
        past = maker()
        for i in range(9):
            past.step(i / 10, sensitive_features="ab"[i % 2], key=f"k{i}")
        expected = past.state_dict()
        with DurableStream(past, tmp_path / f"{name}.db") as store:
            assert store.controller.state_dict() == expected
        assert told(tmp_path / f"{name}.db", maker)[0] == expected


# -- no room ----------------------------------------------------------------------------------------------------------------------

FULL = """
import json, os, random, resource, sys
import fairopt as fo
from fairopt.streaming import DurableStream, PooledParity, parity
path, step, stop = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
make = lambda: PooledParity(parity("race", tolerance=0.05), bounds=(0, 1))
def limit(size): resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
def send(store, k): store.step((k * 37 % 101) / 101, sensitive_features="ab"[k % 2], key=f"k{k}", writes=lambda s: [("out", "x" * 200)])
out = []
for size in range(4096, stop, step):
    file, k, refused = f"{path}-{size}.db", 0, 0
    limit(size)
    store = None
    try:
        store = DurableStream(make(), file)
        while k < 300: send(store, k); k += 1
    except fo.FairoptError as error:
        refused += 1
        assert file in str(error), error
    if store is not None:
        before = store.report().samples
        assert before == k, (before, k)
        try: send(store, k); k += 1
        except fo.FairoptError: refused += 1
        if size % (3 * step) == 0: store.close()      # while there is no room
        else:
            limit(resource.RLIM_INFINITY)
            send(store, k); k += 1
            store.close() if size % (2 * step) == 0 else None
        del store
    limit(resource.RLIM_INFINITY)
    again = DurableStream(make(), file)
    assert again.controller.samples == k, (again.controller.samples, k)
    assert all(again.seen(f"k{i}") for i in range(k))
    out.append((refused, k))
    again.close()
    os.unlink(file)
print(json.dumps(out))
"""


@pytest.mark.parametrize(("step", "stop"), [(24576, 400_000), pytest.param(4096, 1_200_000, marks=pytest.mark.slow)])
def test_no_room_at_any_size(step, stop, tmp_path):
    """A limit on file sizes at every 4 KiB of growth: what was acknowledged stands, what was refused does not, memory agrees."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "a"), str(step), str(stop)], capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    assert len(out) == len(range(4096, stop, step))
    assert out[0][0] >= 1
    assert len({k for _, k in out}) > 5


@pytest.mark.slow
def test_a_full_file_system_at_every_4_kib(tmp_path):
    """The same with a file system of its own, filled by another file, and a kill instead of a close."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        told_of: list[str] = []
        for room in range(4096, 600_000, 4096):
            for path in place.iterdir():
                path.unlink()
            filler = place / "filler"
            filler.write_bytes(b"x" * (1_048_576 - room - 4096))
            store, k = None, 0
            try:
                store = DurableStream(make(), place / "a.db")
                while k < 300:
                    send(store, k, writes=lambda s: [("out", "x" * 200)])
                    k += 1
            except fo.FairoptError as error:
                told_of.append(str(error))
            filler.unlink()
            if store is not None:
                assert store.report().samples == k
                send(store, k)
                k += 1
                store.close()
            assert told(place / "a.db")[0]["samples"] == k
        assert told_of
        assert all(str(place / "a.db") in words for words in told_of)
    finally:
        subprocess.run(["umount", str(place)], check=True)


# -- keys -------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    with DurableStream(make(), tmp_path / "a.db") as one:
        one.step([0.1, 0.9], sensitive_features=["a", "b"], key=["x", "y"])
        one.step(0.5, sensitive_features="a", key="z")
        one.step([0.2, 0.3], sensitive_features=["a", "b"], key="both")
        yield one


BAD_KEYS = [True, 1.0, float("nan"), b"x", {"k": 1}, {"k"}, object(), np.float64(1), np.bool_(True), np.datetime64("2020-01-01"), 10**5000]


@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda k: type(k).__name__)
@pytest.mark.parametrize("many", [False, True])
def test_what_is_no_key_is_refused(key, many, store):
    before = store.controller.state_dict()
    for form in ([key, "n"], ("n", key)) if many else (key, [key], (key,)):
        scores, groups = ([0.4, 0.6], ["a", "b"]) if many else (0.4, "a")
        with pytest.raises(fo.InputError, match="key"):
            store.step(scores, sensitive_features=groups, key=form)
    with pytest.raises(fo.InputError, match="key"):
        store.seen(key)
    assert store.controller.state_dict() == before
    assert not store.seen("n")


@pytest.mark.parametrize(
    ("scores", "key", "words"),
    [
        ([0.4, 0.6], ["n", "n"], "twice"),
        ([0.4, 0.6], [1, np.int64(1)], "twice"),
        ([0.4, 0.6], ["n"], "expected 2 keys"),
        ([0.4, 0.6], ["n", "m", "o"], "expected 2 keys"),
        (0.4, ("n", "m"), "expected 1 keys"),
        (0.4, [], "expected 1 keys"),
        ([0.4, 0.6], ["n", None], "expected strings"),
        ([0.1, 0.6], ["x", "n"], "'x' was counted before and 'n' was not"),
        ([0.6, 0.9], ["n", "y"], "'y' was counted before and 'n' was not"),
        ([0.9, 0.1], ["y", "x"], "used before"),
        ([0.1, 0.5], ["x", "z"], "used before"),
        (0.1, "x", "used before"),
        ([0.2, 0.3], ["both", "n"], "was counted before"),
        (0.2, "both", "used before"),
        ([0.2, 0.4], "both", "used before"),
        (0.6, "z", "used before"),
    ],
)
def test_keys_that_do_not_fit_are_refused(scores, key, words, store):
    before, report = store.controller.state_dict(), store.report()
    with pytest.raises(fo.InputError, match=words):
        store.step(scores, sensitive_features=["a", "b"] if isinstance(scores, list) else "a", key=key)
    assert store.controller.state_dict() == before
    assert store.report() == report
    assert not store.seen("n")
    assert not store.seen(1)


def test_a_known_key_with_other_groups_or_targets_is_refused(store):
    for more in ({"sensitive_features": "b"}, {"sensitive_features": {"race": "b"}}, {"sensitive_features": "a", "targets": 1.0}):
        with pytest.raises(fo.InputError, match="used before"):
            store.step(0.5, key="z", **more)
    assert store.controller.samples == 5


def test_a_retry_is_known_in_any_container(store):
    """The numbers, groups and keys are what counts; the answer comes in the retry's form."""
    torch = pytest.importorskip("torch")
    for score in (0.5, np.float64(0.5), [0.5], np.array([0.5]), torch.tensor([0.5], dtype=torch.float64)):
        for groups in ("a", ["a"], {"race": "a"}, {"race": ["a"], "more": [3]}, np.array(["a"])):
            for key in ("z", ["z"], ("z",), np.array(["z"]), np.str_("z")):
                again = store.step(score, sensitive_features=groups, key=key)
                assert type(again.scores) is (float if isinstance(score, float) else type(score))
    for scores in ([0.1, 0.9], np.array([[0.1], [0.9]])):
        again = store.step(scores, sensitive_features=np.array([["a"], ["b"]]), key=np.array(["x", "y"]))
        assert np.asarray(again.scores).reshape(-1).tolist() == store.step([0.1, 0.9], sensitive_features=["a", "b"], key=["x", "y"]).scores
    assert store.controller.samples == 5


def test_whole_numbers_and_their_text_are_two_keys(tmp_path):
    with DurableStream(make(), tmp_path / "a.db") as store:
        for key in (1, "1", -1, 0, "", "\0", "\ud800", "é", 2**70, " 1"):
            assert not store.seen(key)
            store.step(0.5, sensitive_features="a", key=key)
            assert store.seen(key)
        assert store.controller.samples == 10
    with DurableStream(make(), tmp_path / "a.db") as store:
        assert store.seen([1, "1", np.int32(-1), "\ud800", 2**70])
        assert not store.seen([1, 2])


def test_late_targets_have_keys_of_their_own(tmp_path):
    with DurableStream(residual(), tmp_path / "a.db") as store:
        store.step([0.1, 0.9], sensitive_features=["a", "b"], key=["x", "y"])
        before = store.controller.state_dict()
        calls = [
            lambda: store.step([0.1, 0.9], sensitive_features=["a", "b"], key="one"),
            lambda: store.step([0.1, 0.9], sensitive_features=["a", "b"]),
            lambda: store.step([0.1, 0.2], sensitive_features=["a", "b"], key=["x", "n"]),
            lambda: store.observe(["x", "n"], [1.0, 1.0]),
            lambda: store.observe(["x", "x"], [1.0, 1.0]),
            lambda: store.observe(["x"], [float("nan")]),
            lambda: store.observe(True, 1.0),
        ]
        for call in calls:
            with pytest.raises(fo.InputError):
                call()
            assert store.controller.state_dict() == before
        store.step([0.1, 0.9], sensitive_features=["a", "b"], key=["x", "y"])
        store.observe(["y", "x"], [1.0, 0.0])
        with pytest.raises(fo.InputError, match="does not wait"):
            store.observe("x", 1.0)
        store.step([0.1, 0.9], sensitive_features=["a", "b"], key=["x", "y"])
        assert store.report().pending == 0
        assert store.controller.samples == 2


# -- the file and the system ------------------------------------------------------------------------------------------------------


def test_paths_that_can_hold_no_database(tmp_path):
    (tmp_path / "empty.db").touch()
    (tmp_path / "short.db").write_bytes(b"SQLite format 3\0")
    sqlite = sqlite3.connect(tmp_path / "other.db")
    sqlite.execute("CREATE TABLE state (id, format, setting, payload)")
    sqlite.close()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("x")
    cases = {
        tmp_path: "is a folder",
        tmp_path / "absent" / "a.db": "create it first",
        tmp_path / "file" / "a.db": "does not exist|[Nn]ot a directory",
        tmp_path / "empty.db": "delete it to begin",
        tmp_path / "short.db": "no fairopt database",
        tmp_path / "other.db": "no fairopt database",
        tmp_path / "pipe": "no plain file",
        Path("/dev/full"): "no plain file",
        tmp_path / "loop": "loop|[Ss]ymbolic",
        tmp_path / ("x" * 300): "too long",
        Path(f"{tmp_path}/a\0b"): "null",
        "": "is a folder",
    }
    for path, words in cases.items():
        with pytest.raises(fo.InputError, match=words):
            DurableStream(make(), path)
    for wrong in (None, 3, b"bytes"):
        with pytest.raises(fo.InputError, match="path"):
            DurableStream(make(), wrong)  # type: ignore[arg-type]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["empty.db", "short.db", "other.db", "pipe", "loop", "file"])


@pytest.mark.parametrize("name", ["a b.db", "a?b#c%20.db", "ü.db", ":memory:", "file:x.db", "'.db", "a&mode=ro.db"])
def test_any_name_is_a_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for n in range(2):
        with DurableStream(make(), name) as store:
            assert store.controller.samples == n
            send(store, n)
    assert os.listdir(tmp_path) == [name]
    (tmp_path / "link").symlink_to(name)
    with DurableStream(make(), tmp_path / "link") as store:
        assert store.controller.samples == 2


def as_nobody(work):
    """``work()`` in a child without root's rights, which ignore permissions."""

    def lowered():
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        return work()

    return in_child(lowered)


def attempt(path):
    try:
        with DurableStream(make(), path) as store:
            return store.controller.samples
    except fo.FairoptError as error:
        return f"{type(error).__name__}: {error}"


@fork
def test_what_may_not_be_written_is_refused(tmp_path):
    for folder in (p for p in (tmp_path, *tmp_path.parents) if p.stat().st_uid == os.getuid() and str(p) != "/" and str(p) != "/tmp"):
        folder.chmod(0o777)
    with DurableStream(make(), tmp_path / "a.db") as store:
        send(store, 0)
    (tmp_path / "a.db").chmod(0o444)
    assert "right to write" in as_nobody(lambda: attempt(tmp_path / "a.db"))
    (tmp_path / "a.db").chmod(0o000)
    assert "right to write" in as_nobody(lambda: attempt(tmp_path / "a.db"))
    (tmp_path / "a.db").chmod(0o666)
    tmp_path.chmod(0o555)
    assert "right to write" in as_nobody(lambda: attempt(tmp_path / "a.db"))
    assert "right to write" in as_nobody(lambda: attempt(tmp_path / "new.db"))
    tmp_path.chmod(0o777)
    assert os.listdir(tmp_path) == ["a.db"]
    assert as_nobody(lambda: attempt(tmp_path / "a.db")) == 1


def test_after_close_all_is_refused_but_the_report(tmp_path):
    store = DurableStream(make(), tmp_path / "a.db")
    send(store, 0)
    store.close()
    store.close()
    assert store.report().samples == 1
    for call in (lambda: send(store, 1), lambda: store.observe("k", 1.0), lambda: store.seen("k"), lambda: store.note(offset=1, writes=[])):
        with pytest.raises(fo.StateError, match="closed"):
            call()
    assert os.listdir(tmp_path) == ["a.db"]


def test_a_forgotten_close_is_made_up_for(tmp_path):
    store = DurableStream(make(), tmp_path / "a.db")
    send(store, 0)
    del store
    assert os.listdir(tmp_path) == ["a.db"]
    assert told(tmp_path / "a.db")[0] == reference(tmp_path, 1)


def test_what_is_no_json_or_no_text_is_refused(tmp_path):
    store = DurableStream(make(), tmp_path / "a.db")
    send(store, 0, offset=7)
    loop: list[object] = []
    loop.append(loop)
    for more in ({"offset": object()}, {"consumed": {1, 2}}, {"offset": loop}, {"writes": lambda s: [("out", "\ud800")]}):
        with pytest.raises(fo.InputError):
            send(store, 1, **more)
    assert store.progress == {"offset": 7, "consumed": None, "files": {}}
    assert store.controller.samples == 1
    store.close()


def test_the_fast_json_is_jsons():
    with pytest.raises(TypeError):
        to_json({"x": object()})
    values = [0.1, -0.0, 1e308, 5e-324, float("inf"), 2**70, True, None, '\ud800é"\\', [], {}, [[1.5]], {"a": {"b": [1, "2", {"c": (3,)}]}}]
    for value in ({"v": v} for v in values):
        assert to_json(value) == json.dumps(value, separators=(",", ":"))


def test_an_output_that_cannot_be_written_says_so(tmp_path):
    with DurableStream(make(), tmp_path / "a.db") as store:
        send(store, 0, writes=lambda s: [("out", "x\n")])
        for path in (tmp_path, tmp_path / "absent" / "out.csv"):
            with pytest.raises(fo.FairoptError, match="output"):
                store.reconcile("out", path)


def test_the_witness_waits_as_long_as_told(tmp_path):
    from fairopt.streaming.durable.witness import InUse

    one = Witness(tmp_path / "w", 0.0)
    start = time.monotonic()
    with pytest.raises(InUse):
        Witness(tmp_path / "w", 0.2)
    assert 0.2 <= time.monotonic() - start < 5
    one.release(remove=True)
    Witness(tmp_path / "w", 0.0).release(remove=True)
    assert not list(tmp_path.iterdir())
