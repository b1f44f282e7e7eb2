"""An audit of more rows than are loaded at once: of sums over compositions, and what these do not tell is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fairopt.auditing import Audit, LocalLaw144, audit
from fairopt.auditing.fingerprint import Part, groups_of, hash_of
from fairopt.auditing.run import BINS, Intervals, distribution_table, edges_of, made_of, settings_of
from fairopt.auditing.sample import Groups, Sample, Totals, audited_attributes
from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.basics.files import Dialect
from fairopt.datasets.crew import Heard, Threads
from fairopt.datasets.find import Shard
from fairopt.datasets.job import Progress
from fairopt.datasets.kept import Rows
from fairopt.datasets.load import load
from fairopt.datasets.reading import Wanted
from fairopt.datasets.solving import Positions, positions_of, sorted_keys
from fairopt.datasets.survey import Asked, Survey, join
from fairopt.datasets.tables import few_rows
from fairopt.notions.algebra import Notion, constraints_on
from fairopt.notions.groups import Attribute, Missing, Vocabulary
from fairopt.solve.passes.whole_sums import UNIT


@dataclass(frozen=True)
class AuditJob:
    """What was asked for; see ``audit_dataset``."""

    shards: tuple[Shard, ...]
    dialect: Dialect
    wanted: Wanted
    notions: tuple[Notion, ...]
    law: LocalLaw144 | None
    attributes: tuple[Attribute, ...] | None
    threshold: float
    bounds: tuple[float, float] | None
    missing: Missing
    intervals: Intervals
    rows_at_once: int


def audited(job: AuditJob, threads: int, progress: Progress) -> Audit:
    """The audit: of the rows themselves where they are few, else of sums."""
    if few_rows(job.shards, job.rows_at_once):
        return _loaded(job)
    _refuse(job)
    with TemporaryDirectory(prefix="fairopt-audit-") as folder:
        crew = Threads(threads, progress.more)
        asked, survey = _surveyed(crew, job, Path(folder), progress)
        _inside(job.bounds, survey.least, survey.largest)
        positions = positions_of(survey, asked)
        sample = _sample(survey, positions, asked, job.missing)
        _refuse_dense(job, sample)
        shown, notes = audited_attributes(sample, job.notions, job.attributes)
        edges = edges_of(survey.least, survey.largest)
        progress.begin("counting scores", 2, survey.n)
        counts = _binned(crew, survey, edges)
        progress.begin("hashing", 3, None)
        hashed = hash_of(survey.n, _parts(crew, survey, asked))
    files = len(job.shards)
    what = f"{survey.n:,} rows of {files:,} file{'s'[: files != 1]} were summed"
    notes.append(f"{what}: there are no intervals of what is no rate; a larger rows_at_once= loads them all")
    return made_of(
        sample, job.notions, shown, job.intervals, settings=settings_of(sample, job.wanted.pos_label, job.intervals), notes=notes,
        distribution=distribution_table(edges, shown, [_by_group(groups, counts, positions) for groups in shown]), hashed=hashed,
    )  # fmt: skip


def _loaded(job: AuditJob) -> Audit:
    rows = load(job.shards, job.dialect, job.wanted)
    _inside(job.bounds, float(rows.scores.min()), float(rows.scores.max()))
    found = audit(
        rows.scores.astype(np.float64), job.notions, sensitive_features=rows.features, targets=rows.targets, decisions=rows.decisions,
        threshold=job.threshold, missing_group=job.missing, attributes=job.attributes, local_law=job.law, **vars(job.intervals),
    )  # fmt: skip
    return replace(found, settings={**found.settings, "pos_label": job.wanted.pos_label})


# -- what cannot be had ---------------------------------------------------------------------------------------------------------------


def _inside(bounds: tuple[float, float] | None, least: float, largest: float) -> None:
    if bounds is not None and not (bounds[0] <= least and largest <= bounds[1]):
        raise InputError(f"bounds: got scores from {least:g} to {largest:g}, outside {bounds[0]:g}, {bounds[1]:g}")


def _refuse(job: AuditJob) -> None:
    """UnsupportedError for what sums over groups do not tell."""
    for name in job.wanted.numeric:
        notion = next(one for one in job.notions if name in one.attributes)
        raise _unknown(f"{notion!r} weighs each row by {name!r}", job)
    if job.law is not None:
        raise _unknown("local_law needs the median of all scores", job)


def _refuse_dense(job: AuditJob, sample: Sample) -> None:
    for notion in job.notions:
        read = constraints_on(notion, sample.batch, written_out=True)
        if any(f.dense for _, constraint in read for f in constraint.functionals):
            raise _unknown(f"{notion!r} weighs each row on its own", job)


def _unknown(what: str, job: AuditJob) -> UnsupportedError:
    return UnsupportedError(
        f"{what}, which sums over groups do not tell, and there are more than {job.rows_at_once:,} rows; "
        "pass a larger rows_at_once= to load them all"
    )


# -- sums -----------------------------------------------------------------------------------------------------------------------------


def _surveyed(crew: Threads, job: AuditJob, folder: Path, progress: Progress) -> tuple[Asked, Survey]:
    """The sums, by targets too where there are few of them."""

    def survey(asked: Asked) -> Survey:
        progress.begin("reading", 1, None)
        return join(crew.survey(job.shards, job.dialect, asked, folder, strict=True), asked, sorted_keys)

    asked = Asked(job.wanted, job.wanted.target is not None, job.threshold, None, audit=True)
    try:
        return asked, survey(asked)
    except UnsupportedError:
        if not asked.by_target:
            raise
        asked = replace(asked, by_target=False)
        for left in folder.iterdir():
            left.unlink()
        found = survey(asked)
        if found.binary:  # rates need compositions by target
            raise
        return asked, found


def _sample(survey: Survey, positions: Positions, asked: Asked, missing: Missing) -> Sample:
    """Positions in place of rows."""

    def spread(sums: Sequence[int]) -> list[Fraction]:
        return positions.spread([Fraction(s, 1 << UNIT) for s in sums])

    decisions = np.array([key[-1] for key in survey.keys])[positions.owner]
    unit = survey.least >= 0.0 and survey.largest <= 1.0 and len(positions.copies) == len(survey.keys)
    totals = Totals(spread(survey.scores), spread(survey.residuals), spread(survey.squares), survey.binary, unit)
    given = asked.wanted.decision is not None
    return Sample(
        np.zeros(0), decisions, positions.targets, None if given else float(asked.threshold), "float64", positions.features, {}, missing,
        positions.batch(missing), totals,
    )  # fmt: skip


def _binned(crew: Threads, survey: Survey, edges: Array) -> IntArray:
    """(K, BINS) the scores of each composition between the edges."""
    total = np.zeros((len(survey.keys), BINS), dtype=np.int64)
    found = crew.each(bins_of, (edges,), [(len(one.tally.keys),) for one in survey.seen])
    for one, counts in zip(survey.seen, found, strict=True):
        np.add.at(total, survey.places(one.tally), counts)
    return total


def bins_of(rows: Iterable[Rows], edges: Array, compositions: int, heard: Heard) -> IntArray:
    """(compositions, BINS) the scores of a shard between the edges, as numpy counts them: one at the last edge is in the last bin."""
    counts = np.zeros(compositions * BINS, dtype=np.int64)
    for part in rows:
        place = np.minimum(np.searchsorted(edges, part.scores.astype(np.float64), "right") - 1, BINS - 1)
        counts += np.bincount(part.code.astype(np.int64) * BINS + place, minlength=counts.shape[0])
        heard(part.code.shape[0])
    return counts.reshape(compositions, BINS)


def _by_group(groups: Groups, counts: IntArray, positions: Positions) -> list[IntArray]:
    total = np.zeros((len(groups.values), BINS), dtype=np.int64)
    np.add.at(total, groups.codes[positions.first], counts)
    return list(total)


def _parts(crew: Threads, survey: Survey, asked: Asked) -> Iterator[Part]:
    """What ``fairopt.auditing.fingerprint`` hashes, rows in the order of the files."""
    names = asked.wanted.groups

    def pieces(of: Callable[[Rows, IntArray], Any]) -> Iterator[Any]:
        """A piece a block, of its rows and the composition (n,) of each."""
        for one, rows in zip(survey.seen, crew.kept, strict=True):
            places = survey.places(one.tally)
            for part in rows:
                yield of(part, places[part.code])

    def column(values: Sequence[Any]) -> Iterator[Any]:
        table = np.array(values)
        return pieces(lambda _, code: table[code])

    yield "scores", pieces(lambda part, _: part.scores.astype(np.float64))
    yield "decisions", column([key[-1] for key in survey.keys])
    if asked.wanted.target is None:
        yield "targets", []
    else:
        by_target = column([key[len(names)] for key in survey.keys])
        yield "targets", by_target if asked.by_target else pieces(lambda part, _: part.targets)
    for name in sorted(names):
        words = [key[names.index(name)] for key in survey.keys]
        vocabulary = Vocabulary.of(words, name=name)
        yield from groups_of(name, vocabulary.to_list(), column([vocabulary.index[word] for word in words]))
