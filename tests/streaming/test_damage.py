"""Damaged databases: whatever was done to the files, nothing acknowledged is lost without a word, and a refusal leaves them as they are."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3

import pytest

import fairopt as fo
from fairopt.streaming import Cumulative, DurableStream, Forget, PooledParity, Sliding, named, parity

STEPS = 60
MORE = 12


def make():
    """Late targets and keys fill every table but the window's."""
    return PooledParity(named("mean_residual", "race", 0.05), bounds=(0, 1))


def sliding():
    return PooledParity(parity("race", tolerance=0.05), bounds=(0, 1), window=Sliding(10))


MAKERS = {"late": make, "sliding": sliding}


def send(store, start, stop):
    """Steps number ``start`` to ``stop``; every fifth step's target comes two steps later, every third never."""
    late = store.controller.plan.needs_targets
    for i in range(start, stop):
        z = (i * 37 % 101) / 101
        store.step(z, sensitive_features="ab"[i % 2], key=f"k{i}", offset=i, writes=lambda s: [("out", f"{s.scores!r}\n")])
        if late and i % 3 == 2:
            store.observe(f"k{i - 2}", z)


@pytest.fixture(scope="module", params=["late", "sliding"])
def run(request, tmp_path_factory):
    """(maker, folder of a run that was killed, folder of the same run closed, state after STEPS, after MORE, the output)."""
    maker = MAKERS[request.param]
    root = tmp_path_factory.mktemp(request.param)
    (root / "live").mkdir()
    (root / "early").mkdir()
    store = DurableStream(maker(), root / "live" / "run.db")
    send(store, 0, STEPS // 2)
    for name in os.listdir(root / "live"):
        shutil.copy(root / "live" / name, root / "early" / name)
    send(store, STEPS // 2, STEPS)
    state = store.controller.state_dict()
    shutil.copytree(root / "live", root / "killed")
    store.close()
    shutil.copytree(root / "live", root / "closed")
    with DurableStream(maker(), root / "live" / "run.db") as store:
        send(store, STEPS, STEPS + MORE)
        later = store.controller.state_dict()
        store.reconcile("out", root / "out.csv")
    return maker, root, state, later, (root / "out.csv").read_bytes()


def files(folder):
    """All that says something: an empty log says nothing."""
    found = {name: (folder / name).read_bytes() for name in os.listdir(folder) if not name.endswith("-shm")}
    return {name: content for name, content in found.items() if content or not name.endswith("-wal")}


def outcome(run, folder):
    """Open what is in ``folder``: 'refused', with nothing changed, or 'whole', with every acknowledged step there and going on."""
    maker, _, state, later, output = run
    before = files(folder)
    try:
        store = DurableStream(maker(), folder / "run.db")
    except fo.FairoptError as error:
        words = str(error)
        if str(folder / "run.db") not in words or files(folder) != before:
            raise AssertionError("a refusal without the path, or one that changed the files") from error
        return "refused"
    with store:
        assert store.resumed
        assert store.controller.state_dict() == state
        assert all(store.seen(f"k{i}") for i in range(STEPS))
        z = (37 * (STEPS - 1) % 101) / 101
        again = store.step(z, sensitive_features="ab"[(STEPS - 1) % 2], key=f"k{STEPS - 1}")
        assert repr(again.scores).encode() == output.splitlines()[STEPS - 1]
        send(store, STEPS, STEPS + MORE)
    with DurableStream(maker(), folder / "run.db") as store:
        assert store.controller.state_dict() == later
        store.reconcile("out", folder / "out.csv")
        assert (folder / "out.csv").read_bytes() == output
    return "whole"


def copy(run, kind, tmp_path, name="here"):
    folder = tmp_path / name
    shutil.copytree(run[1] / kind, folder)
    return folder


def cut(name, size):
    def damage(folder, run):
        os.truncate(folder / name, size(os.path.getsize(folder / name)))

    return damage


def overwrite(name, where, value):
    def damage(folder, run):
        with (folder / name).open("r+b") as file:
            file.seek(where)
            file.write(value)

    return damage


def sql(*statements):
    def damage(folder, run):
        db = sqlite3.connect(folder / "run.db", isolation_level=None)
        for statement in statements:
            db.execute(statement)
        db.close()

    return damage


def remove(*names):
    def damage(folder, run):
        for name in names:
            (folder / name).unlink()

    return damage


def put(name, source):
    """A file of the same run's first half ('early/...'), or of another run ('other/...')."""

    def damage(folder, run):
        if source.startswith("other"):
            other = folder.parent / "other"
            other.mkdir()
            store = DurableStream(run[0](), other / "run.db")
            send(store, 0, STEPS + 7)
            for path in list(other.iterdir()):
                shutil.copy(path, folder.parent / f"kept-{path.name}")
            store.close()
            shutil.copy(folder.parent / f"kept-{source.removeprefix('other/')}", folder / name)
        else:
            shutil.copy(run[1] / source, folder / name)

    return damage


BOTH = ("killed", "closed")
# name: (damage, the states of the file in which it must be refused, those in which it must be harmless)
DAMAGES = {
    "cut to nothing": (cut("run.db", lambda n: 0), BOTH, ()),
    "cut in the header": (cut("run.db", lambda n: 60), BOTH, ()),
    "cut after a page": (cut("run.db", lambda n: 1024), ("closed",), ()),
    "cut in half": (cut("run.db", lambda n: n // 2), ("closed",), ()),
    "last byte gone": (cut("run.db", lambda n: n - 1), (), ()),  # it may belong to nothing
    "header overwritten": (overwrite("run.db", 0, b"\0" * 100), BOTH, ()),
    "run number changed": (overwrite("run.db", 60, b"\1\2\3\4"), BOTH, ()),
    "zeroed": (overwrite("run.db", 0, b"\0" * 40000), BOTH, ()),
    "table of keys dropped": (sql("DROP TABLE request"), BOTH, ()),
    "table of state dropped": (sql("DROP TABLE state"), BOTH, ()),
    "state row deleted": (sql("DELETE FROM state"), BOTH, ()),
    "run row deleted": (sql("DELETE FROM run"), BOTH, ()),
    "a key deleted": (sql("DELETE FROM request WHERE seq = 9"), BOTH, ()),
    "last key deleted": (sql("DELETE FROM request WHERE seq = (SELECT MAX(seq) FROM request)"), BOTH, ()),
    "a key renamed": (sql("UPDATE request SET key = '\"other\"' WHERE seq = 9"), BOTH, ()),
    "an answer changed": (sql("UPDATE request SET answer = x'0000000000000000' WHERE seq = 9"), BOTH, ()),
    "an output changed": (sql("UPDATE outbox SET text = '0.75\n' WHERE seq = 9"), BOTH, ()),
    "a count negative": (sql("UPDATE state SET payload = replace(payload, '\"samples\":60', '\"samples\":-60')"), BOTH, ()),
    "a sum NaN": (sql('UPDATE state SET payload = replace(payload, \'"distortion":\', \'"distortion":NaN,"x":\')'), BOTH, ()),
    "payload no JSON": (sql("UPDATE state SET payload = substr(payload, 1, 100)"), BOTH, ()),
    "payload a number": (sql("UPDATE state SET payload = 3"), BOTH, ()),
    "payload a blob": (sql("UPDATE state SET payload = CAST(payload AS BLOB)"), BOTH, ()),
    "setting changed": (sql("UPDATE run SET setting = replace(setting, '0.05', '0.06')"), BOTH, ()),
    "facts changed": (sql('UPDATE run SET facts = \'{"input": "x"}\''), BOTH, ()),
    "format newer": (sql("UPDATE state SET format = 99"), BOTH, ()),
    "format none": (sql("UPDATE state SET format = NULL"), BOTH, ()),
    "format older": (sql("UPDATE state SET format = 1"), BOTH, ()),
    "curve cut": (sql("DELETE FROM curve WHERE seq > 5"), BOTH, ()),
    "curve point changed": (sql("UPDATE curve SET payload = '[1, 2, 3, 4]' WHERE seq = 3"), BOTH, ()),
    "another table": (sql("CREATE TABLE more (x)"), BOTH, ()),
    "a trigger": (sql("CREATE TRIGGER t AFTER UPDATE ON state BEGIN DELETE FROM request; END"), BOTH, ()),
    "another program's database": (lambda folder, run: (remove("run.db")(folder, run), sql("CREATE TABLE t (x)")(folder, run)), BOTH, ()),
    "text": (lambda folder, run: (folder / "run.db").write_text("no database at all" * 100), BOTH, ()),
    "another run's database": (put("run.db", "other/run.db"), ("killed",), ()),
    "log gone": (lambda folder, run: (folder / "run.db-wal").unlink(missing_ok=True), ("killed",), ("closed",)),
    "log and witness gone": (lambda folder, run: [p.unlink() for p in folder.glob("run.db-*")], ("killed",), ("closed",)),
    "log emptied": (lambda folder, run: (folder / "run.db-wal").write_bytes(b""), ("killed",), ("closed",)),
    "log of another run": (put("run.db-wal", "other/run.db-wal"), BOTH, ()),
    "log from half-way": (put("run.db-wal", "early/run.db-wal"), BOTH, ()),
    "witness gone": (lambda folder, run: (folder / "run.db-commits").unlink(missing_ok=True), (), BOTH),
    "witness of another run": (put("run.db-commits", "other/run.db-commits"), BOTH, ()),
    "database gone": (remove("run.db"), ("killed",), ()),
    "a journal beside": (lambda folder, run: (folder / "run.db-journal").write_bytes(b"x" * 600), BOTH, ()),
    "nothing": (lambda folder, run: None, (), BOTH),
}


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_refused_or_harmless(name, kind, run, tmp_path):
    damage, refused, harmless = DAMAGES[name]
    if name == "database gone" and kind == "closed":
        return  # nothing is left of the run: a new one begins
    folder = copy(run, kind, tmp_path)
    damage(folder, run)
    told = outcome(run, folder)
    if kind in refused:
        assert told == "refused"
    if kind in harmless:
        assert told == "whole"


def flips(run, kind, name, tmp_path, positions):
    told = {"refused": 0, "whole": 0}
    rng = random.Random(0)
    for position in positions:
        folder = copy(run, kind, tmp_path, "flip")
        with (folder / name).open("r+b") as file:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ rng.randrange(1, 256)]))
        told[outcome(run, folder)] += 1
        shutil.rmtree(folder)
    return told


def drawn(run, kind, name, count, seed=1):
    size = os.path.getsize(run[1] / kind / name)
    if count is None:
        return range(size)
    return [*range(0, 100, 7), *random.Random(seed).sample(range(size), count)]


@pytest.mark.parametrize(("kind", "name"), [("closed", "run.db"), ("killed", "run.db-wal"), ("killed", "run.db")])
@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_flipped_byte_is_found_or_harmless(kind, name, count, run, tmp_path):
    size = os.path.getsize(run[1] / kind / name)
    told = flips(run, kind, name, tmp_path, drawn(run, kind, name, min(count, size)))
    assert told["refused"] > 0 or (kind, name) == ("killed", "run.db")


@pytest.mark.parametrize(("kind", "name"), [("closed", "run.db"), ("killed", "run.db-wal"), ("killed", "run.db")])
@pytest.mark.parametrize("step", [9001, pytest.param(2048, marks=pytest.mark.slow)])
def test_a_file_cut_anywhere_is_found_or_harmless(kind, name, step, run, tmp_path):
    size = os.path.getsize(run[1] / kind / name)
    for keep in range(0, size, step):
        folder = copy(run, kind, tmp_path, "cut")
        os.truncate(folder / name, keep)
        assert outcome(run, folder) == "refused" or (kind, name) == ("killed", "run.db")
        shutil.rmtree(folder)


def test_a_state_of_another_controller_is_refused(tmp_path):
    notion = parity("race", tolerance=0.05)
    with DurableStream(PooledParity(notion, bounds=(0, 1)), tmp_path / "run.db") as store:
        send(store, 0, 10)
        state = store.controller.state_dict()
    others = [
        Cumulative(notion, bounds=(0, 1)),
        PooledParity(notion, bounds=(0, 2)),
        PooledParity(notion, bounds=(0, 1), window=Forget(10)),
        PooledParity(notion, bounds=(0, 1), kappa=0.5),
        PooledParity(parity("race", tolerance=0.06), bounds=(0, 1)),
        PooledParity(parity("sex", tolerance=0.05), bounds=(0, 1)),
    ]
    for other in others:
        with pytest.raises(fo.InputError, match=r"state: "):
            DurableStream(other, tmp_path / "run.db")
    with DurableStream(PooledParity(notion, bounds=(0, 1)), tmp_path / "run.db") as store:
        assert store.controller.state_dict() == state


def test_what_was_lost_with_the_machine_is_a_warning(run, tmp_path):
    """durable='normal' promises the process, not the machine: the state before the loss is whole and is used, with a word."""
    folder = copy(run, "killed", tmp_path)
    log = folder / "run.db-wal"
    os.truncate(log, os.path.getsize(log) - 20000)
    raw = bytearray((folder / "run.db-commits").read_bytes())
    raw[24:60] = b"another start of the machine".ljust(36, b"\0")
    (folder / "run.db-commits").write_bytes(raw)
    if not os.path.exists("/proc/sys/kernel/random/boot_id"):
        pytest.skip("the system does not tell its starts apart")
    with pytest.warns(fo.FairoptWarning, match="went down"):
        store = DurableStream(run[0](), folder / "run.db")
    assert 0 < store.controller.samples < STEPS
    store.close()


def test_to_go_on_without_the_lost_steps_is_said_by_hand(run, tmp_path):
    folder = copy(run, "killed", tmp_path)
    log = folder / "run.db-wal"
    os.truncate(log, os.path.getsize(log) - 20000)
    with pytest.raises(fo.InputError, match="to go on without them delete"):
        DurableStream(run[0](), folder / "run.db")
    (folder / "run.db-commits").unlink()
    with DurableStream(run[0](), folder / "run.db") as store:
        assert 0 < store.controller.samples < STEPS
