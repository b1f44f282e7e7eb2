"""A cell: one candidate fitted on one seed, served on validation and test rows, with the time it took or why it has no figures."""

from __future__ import annotations

import json
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from fairopt.basics.errors import FairoptError, FairoptWarning, InputError, MissingExtraError, UnsupportedError
from fairopt.basics.files.writing import write_whole
from fairopt.experiments.data.tabular import Part
from fairopt.experiments.evidence.bases import NETWORK
from fairopt.experiments.evidence.candidates import PLAIN, Candidate, Ground, Made
from fairopt.experiments.evidence.parts import GROUP
from fairopt.experiments.evidence.protocol import LIMIT_S, VERSION, Task, code_mark

Floats = npt.NDArray[np.float64]
Status = Literal["done", "time", "absent", "refused", "failed"]
PARTS = ("validation", "test")


class OutOfTime(BaseException):
    """A setting used up its processor time. No Exception: a method may not swallow it."""


@dataclass(frozen=True, eq=False)
class Cell:
    """status    "done"; "time": over the limit; "absent": a package is; "refused": the method does not serve this; "failed": it ended so
    why       in words, where it is not done
    outputs   (row, serving, output) -> part -> (n,) float64 scores, or probabilities of the decision 1
    seconds   of processor time; the base is counted in the cell of the plain base alone
    code, version  what made it
    """

    status: Status
    why: str
    outputs: dict[tuple[str, str, str], dict[str, Floats]]
    seconds: float
    code: str
    version: int

    @property
    def stale(self) -> bool:
        """Made by other code, or under another protocol."""
        return self.code != code_mark() or self.version != VERSION


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """OutOfTime after so much processor time of this process; where the system has no such timer, at the end."""
    start = time.process_time()

    def stop(*_: object) -> None:
        raise OutOfTime

    timer = hasattr(signal, "setitimer")
    if timer:
        before = signal.signal(signal.SIGPROF, stop)
        signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        if timer:
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            signal.signal(signal.SIGPROF, before)
    if time.process_time() - start > seconds:
        raise OutOfTime


def make_cell(candidate: Candidate, ground: Ground, limit_s: float = LIMIT_S) -> Cell:
    """Fit and serve. What a method raises ends as a cell that says so."""
    for base in sorted({candidate.base, NETWORK} - {"-"}):
        ground.base(base)  # outside the limit: shared by many candidates, and a method inside training asks for the network's recipe
    start = time.process_time()
    status: Status = "done"
    why = ""
    outputs: dict[tuple[str, str, str], dict[str, Floats]] = {}
    try:
        with warnings.catch_warnings(), limited(limit_s):
            warnings.simplefilter("ignore", FairoptWarning)  # a small group is absent from a batch, or an answer is not certified
            outputs = {(m.row, m.serving, m.output): served(m, ground) for m in candidate.fit(ground)}
    except OutOfTime:
        status, why = "time", f"more than {limit_s:g} s of processor time"
    except MissingExtraError as error:
        status, why = "absent", str(error)
    except UnsupportedError as error:
        status, why = "refused", str(error)
    except FairoptError as error:
        status, why = "failed", str(error)
    except (ValueError, ArithmeticError, RuntimeError, AssertionError) as error:  # a rival's own
        status, why = "failed", f"{type(error).__name__}: {error}"
    if status != "done":
        outputs = {}
    elif not all(np.isfinite(values).all() for parts in outputs.values() for values in parts.values()):
        status, why, outputs = "failed", "scores that are not finite", {}
    seconds = time.process_time() - start + (ground.seconds[candidate.base] if candidate.method == PLAIN else 0.0)
    return Cell(status, why[:300], outputs, seconds, code_mark(), VERSION)


def served(made: Made, ground: Ground) -> dict[str, Floats]:
    """part -> (n,) what is said of its rows. No target is in reach."""
    found = {}
    for name, part in (("validation", ground.cut.validation), ("test", ground.cut.test)):
        seen = part if made.scored is None else ground.scores(made.scored, part)
        found[name] = np.asarray(made.predict(seen.x, seen.sensitive).double().numpy()).astype(np.float32).astype(np.float64)
    return found


# On disk ------------------------------------------------------------------------------------------------------------------------


def folder_of(root: Path, task: Task, seed: int) -> Path:
    return root / task.name.replace(" ", "-") / f"seed-{seed}"


def path_of(root: Path, task: Task, seed: int, candidate: Candidate) -> Path:
    return folder_of(root, task, seed) / (candidate.key.replace(", ", "--").replace(" ", "-") + ".npz")


def write_cell(path: Path, cell: Cell) -> None:
    """In full or not at all. Numbers are kept as float32, which is what ``served`` rounded them to."""
    arrays, names = {}, []
    for place, (key, parts) in enumerate(cell.outputs.items()):
        names.append(list(key))
        arrays.update({f"{part}{place}": values.astype(np.float32) for part, values in parts.items()})
    facts = {"status": cell.status, "why": cell.why, "seconds": cell.seconds, "code": cell.code, "version": cell.version, "outputs": names}
    _write(path, facts, arrays)


def read_cell(path: Path) -> Cell:
    """InputError for a file that is no cell."""
    facts, arrays = _read(path)
    outputs = {
        (row, serving, output): {part: arrays[f"{part}{place}"].astype(np.float64) for part in PARTS}
        for place, (row, serving, output) in enumerate(facts["outputs"])
    }
    return Cell(facts["status"], facts["why"], outputs, facts["seconds"], facts["code"], facts["version"])


@dataclass(frozen=True, eq=False)
class Rows:
    """What figures of a part are made of. rows (n,): places in the data set; y (n,); groups (n,); values: y is a number."""

    rows: npt.NDArray[np.int64]
    y: Floats
    groups: npt.NDArray[np.str_]
    values: bool


def write_rows(folder: Path, ground: Ground) -> None:
    arrays: dict[str, npt.NDArray[Any]] = {}
    parts: dict[str, Part] = {"validation": ground.cut.validation, "test": ground.cut.test}
    for name, part in parts.items():
        arrays[f"{name} rows"] = ground.cut.rows[name]
        arrays[f"{name} y"] = part.y.double().numpy()
        arrays[f"{name} groups"] = part.sensitive[GROUP]
    choices = {name: base.choice for name, base in ground.bases.items()}
    _write(folder / "rows.npz", {"values": ground.task.values, "code": code_mark(), "choices": choices}, arrays)


def read_rows(folder: Path) -> dict[str, Rows]:
    """part -> its rows."""
    facts, arrays = _read(folder / "rows.npz")
    return {p: Rows(arrays[f"{p} rows"], arrays[f"{p} y"], arrays[f"{p} groups"], facts["values"]) for p in PARTS}


def _write(path: Path, facts: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    target = BytesIO()
    np.savez_compressed(target, facts=np.array(json.dumps(facts, sort_keys=True)), **arrays)  # type: ignore[arg-type]
    write_whole(path, target.getvalue(), "cell")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files if name != "facts"}
            return json.loads(str(found["facts"])), arrays
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(f"cell: {path} is no finished cell or damaged ({error}); delete it to make it again") from error
