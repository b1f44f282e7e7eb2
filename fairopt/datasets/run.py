"""One run over a data set: surveyed, solved, written, certified; what a stopped one left is gone on with."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import fairopt.datasets.certificate as words
from fairopt.basics.errors import InputError
from fairopt.basics.files import csv_table, write_whole
from fairopt.basics.files.writing import unwritable
from fairopt.datasets.before_after import audited
from fairopt.datasets.cluster import Cluster
from fairopt.datasets.crew import Crew, Threads
from fairopt.datasets.in_memory import Whole, project_whole
from fairopt.datasets.job import Job, Progress, Told
from fairopt.datasets.journal import FORMAT, Journal, journal_in
from fairopt.datasets.shard_passes import Box
from fairopt.datasets.shard_solver import Solved, asked_of, solve_shards
from fairopt.datasets.solving import Found, Uses, box_of
from fairopt.datasets.survey import Asked, Survey, file_digest
from fairopt.datasets.tables import open_table
from fairopt.datasets.writing import Maker, part_of, publish, ready, write_part

REJECTS = ("file", "row", "reason", "content")


class Run:
    """A run of ``job``; ``told`` hears how far it is."""

    def __init__(self, job: Job, told: Callable[[Told], None] | None, client: Any = None) -> None:
        self.job, self._progress = job, Progress(told)
        heard = self._progress.more
        self._crew: Crew = Threads(job.threads, heard) if client is None else Cluster(client, heard)

    def go(self, *, overwrite: bool) -> tuple[dict[str, Any], bool]:
        """The certificate, and whether an earlier run had begun. Raises what ``project_dataset`` says."""
        places = self.job.places
        if overwrite:
            shutil.rmtree(places.work, ignore_errors=True)
        else:
            ended = self._ended()
            if ended is not None:
                shutil.rmtree(places.work, ignore_errors=True)
                return ended, True
            if not places.work.exists():
                self._expect_nothing()
        head = {"format": FORMAT, "versions": _versions(), "settings": self.job.settings(), "inputs": self._inputs()}
        with journal_in(places.work, head) as journal:
            resumed = journal.resumed
            if not overwrite:
                self._expect_ours(journal)
            maker = self._solved(journal)
            self._write(journal, maker, overwrite=overwrite)
            assert journal.solved is not None
            lines = [journal.written[k] for k in range(len(places.shards))]
            outputs = [
                {"file": shard.name, **{name: line[name] for name in ("rows", "bytes", "sha256")}}
                for shard, line in zip(places.shards, lines, strict=True)
            ]
            certificate = {**journal.solved["certificate"], "outputs": outputs}
            text = json.dumps(certificate, indent=1, allow_nan=False) + "\n"
            write_whole(places.certificate, text, "certificate")
            journal.remove()
        return json.loads(text), resumed

    # -- what stands there already ---------------------------------------------------------------------------------------------------

    def _inputs(self) -> list[list[Any]]:
        try:
            stats = [shard.path.stat() for shard in self.job.places.shards]
        except OSError as error:
            raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from error
        return [[shard.name, s.st_size, s.st_mtime_ns] for shard, s in zip(self.job.places.shards, stats, strict=True)]

    def _ended(self) -> dict[str, Any] | None:
        """The certificate of a run of just this job that had ended, its files unchanged; None where there is none."""
        places = self.job.places
        try:
            found = json.loads(places.certificate.read_bytes())
            if found["settings"] != self.job.settings() or found["versions"] != _versions():
                return None
            pairs = [(shard.path, one) for shard, one in zip(places.shards, found["inputs"], strict=True)]
            pairs += list(zip(places.outputs, found["outputs"], strict=True))
            same = all(path.stat().st_size == one["bytes"] and file_digest(path) == one["sha256"] for path, one in pairs)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if same else None

    def _expect_nothing(self) -> None:
        """InputError where a file is in the way."""
        places = self.job.places
        named = [("output", path) for path in places.outputs]
        named += [("certificate", places.certificate)]
        named += [("rejects", self.job.rejects)] if self.job.rejects is not None else []
        for option, path in named:
            if path.exists():
                raise InputError(
                    f"{option}: {path} is there already, and is not of this run; choose another place, move it away, or pass "
                    "overwrite=True to lose it"
                )

    def _expect_ours(self, journal: Journal) -> None:
        """InputError where an output stands there that the run that is gone on with has not written."""
        for k, path in enumerate(self.job.places.outputs):
            if path.exists() and k not in journal.written:
                raise InputError(
                    f"output: {path} is there already, and is not of this run; choose another place, move it away, or pass overwrite=True"
                )

    # -- the passes -------------------------------------------------------------------------------------------------------------------

    def _solved(self, journal: Journal) -> Maker:
        """What makes the scores: from the journal, or from passes over the data."""
        if journal.solved is not None:
            maker = self._restored(journal, journal.solved)
            if maker is not None:
                return maker
        self._check_name()
        solved = solve_shards(self.job.question, self._crew, journal.folder, self._progress)
        asked, found, cells = solved.asked, solved.survey, solved.cells
        whole = None
        if cells is None:
            self._progress.begin("solving with all rows at once", solved.passes, None)
            whole = project_whole(self.job.question, asked, found)
        maker, kept = _maker(asked, found, cells, whole, journal.folder)
        body = self._certificate(solved, whole)
        self._reject(found)
        kept |= {"certificate": body, "uses": [solved.uses.by_target, solved.uses.dense], "rows": found.n}
        if journal.solved is None:
            journal.keep_solved(kept)
        elif journal.solved["certificate"] != body:
            raise InputError(f"output: {journal.folder}: the same run found other scores; pass overwrite=True to begin anew")
        for left in journal.folder.glob("*.rows"):
            left.unlink()
        return maker

    def _check_name(self) -> None:
        """InputError where the new column's name is taken, in the first file: the others have the same."""
        job, shard = self.job, self.job.places.shards[0]
        table = open_table(shard, job.question.dialect, job.question.wanted.columns)
        table.close()
        if job.name in table.columns:
            raise InputError(f"name: {shard.path} has a column {job.name!r} already; give the new one another name")

    # -- what is written --------------------------------------------------------------------------------------------------------------

    def _certificate(self, solved: Solved, whole: Whole | None) -> dict[str, Any]:
        job, found, cells = self.job, solved.survey, solved.cells
        proof = words.of_cells(cells) if cells is not None else words.of_whole(whole) if whole is not None else {}
        after, chosen = (cells.proved.sums, cells.proved.chosen) if cells is not None else (whole.sums, whole.chosen)  # type: ignore[union-attr]
        notion = None if solved.uses.dense else job.question.notion
        tables = audited(notion, found, solved.positions, job.question.missing, job.attributes, job.question.wanted.groups, after, chosen)
        head = {"format": words.FORMAT, "versions": _versions(), "settings": job.settings()}
        counts = {
            "rows": found.n,
            "rejected": sum(len(one.rejects) for one in found.seen),
            "passes": solved.passes,
            "scores": [found.least, found.largest],
        }
        return {**head, **counts, **proof, **words.before_and_after(tables), "inputs": words.files(found)}

    def _reject(self, found: Survey) -> None:
        if self.job.rejects is None:
            return
        rows = [(one.shard.name, r.number, r.reason, r.content) for one in found.seen for r in one.rejects]
        write_whole(self.job.rejects, csv_table(REJECTS, rows), "rejects")

    def _restored(self, journal: Journal, solved: dict[str, Any]) -> Maker | None:
        """What the journal says of the prices; None where scores of all rows at once have to be made again."""
        asked = replace(asked_of(self.job.question, Uses(*solved["uses"])), histograms=None)
        expected = [int(total, 16) for total in solved["by_shard"]]
        if solved["whole"] is not None:
            path = journal.folder / "fair.npy"
            if not path.exists() or file_digest(path) != solved["whole"]:
                return None
            return Maker(asked, [], np.zeros(0), Box(0.0, 0.0, (0.0, 0.0)), expected, np.load(path, mmap_mode="r"), solved["starts"])
        keys = [tuple(key) for key in solved["keys"]]
        shift = np.array([float.fromhex(v) for v in solved["shift"]])
        return Maker(asked, keys, shift, box_of(self.job.question.bounds, solved["single"]), expected)

    def _write(self, journal: Journal, maker: Maker, *, overwrite: bool) -> None:
        job, places = self.job, self.job.places
        assert journal.solved is not None
        self._progress.begin("writing", int(journal.solved["certificate"]["passes"]), int(journal.solved["rows"]))
        try:
            for folder in {path.parent for path in places.outputs}:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(places.output, "output", error) from error
        if overwrite:
            for path in (*places.outputs, places.certificate):
                path.unlink(missing_ok=True)
        if self._inputs() != journal.head["inputs"]:
            raise InputError("input: it has changed since it was first read; run the command again with overwrite=True")

        calls = []
        for k, (shard, out) in enumerate(zip(places.shards, places.outputs, strict=True)):
            rows = ready(k, out, journal)
            if rows is None:
                calls.append((k, shard, part_of(k, journal), out, job.question.dialect, maker, job.name))
            else:
                self._progress.more(rows)
        for _, (k, facts) in self._crew.write(write_part, calls):
            publish(k, places.shards[k], places.outputs[k], facts, journal)


def _maker(
    asked: Asked, found: Survey, cells: Found | None, whole: Whole | None, folder: Path
) -> tuple[Maker, dict[str, Any]]:  # fmt: skip
    """What makes the scores, and what the journal keeps of it."""
    asked = replace(asked, histograms=None)
    if cells is not None:
        maker = Maker(asked, list(found.keys), cells.shift, cells.box, cells.proved.by_shard)
        shift = [float(v).hex() for v in cells.shift]
        kept: dict[str, Any] = {"keys": [list(key) for key in found.keys], "shift": shift, "single": found.single, "whole": None}
    else:
        assert whole is not None
        y = whole.solution.scores.detach().numpy()
        path = folder / "fair.npy"
        try:
            np.save(path, y)
        except OSError as error:
            raise unwritable(path, "output", error) from error
        maker = Maker(asked, [], np.zeros(0), Box(0.0, 0.0, (0.0, 0.0)), whole.by_shard, y, whole.starts)
        kept = {"whole": file_digest(path), "starts": whole.starts}
    return maker, {**kept, "by_shard": [hex(total) for total in maker.expected]}


def _versions() -> dict[str, str]:
    """Package -> version of those that the bytes of the output depend on."""
    found = {"python": platform.python_version()}
    for name in ("fairopt", "numpy", "torch", "pyarrow", "numba"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
