"""Runs (one dict a method, setting and seed) as a table, and what is said of one method beside another.

Whatever is compared is paired: the same seeds mean the same split of the data. A difference is said with its standard error and no
verdict: seeds share rows, and the comparisons are many. Verdicts are those of the protocol alone (``fairopt.experiments.evidence``).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairopt.basics.errors import InputError
from fairopt.basics.table import Table
from fairopt.experiments.pareto import error

Run = Mapping[str, Any]
# A column with this ending holds the standard error of the column before it.
ERROR = " ±"


@dataclass(frozen=True)
class Figure:
    """A column of the runs: its name there, the word for it, and which way is better."""

    name: str
    word: str
    more_is_better: bool


def summary(runs: Sequence[Run], figures: Mapping[str, str], by: Sequence[str] = ("method",), *, met: str | None = None) -> Table:
    """One row a combination of ``by``, in the order of the runs: the mean of each figure and, for several runs, its standard error.

    figures  name in the runs -> title of the column
    met      name of a column that says whether a run kept its limits: the table counts "k of n"
    """
    cells: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        cells.setdefault(tuple(run[name] for name in by), []).append(run)
    several = any(len(found) > 1 for found in cells.values())
    columns = [*by, *(c for title in figures.values() for c in ((title, title + ERROR) if several else (title,)))]
    rows = []
    for key, found in cells.items():
        row: list[Any] = list(key)
        for name in figures:
            values = [float(run[name]) for run in found]
            row += [statistics.fmean(values), error(values)] if several else [statistics.fmean(values)]
        if met is not None:
            row.append(f"{sum(bool(run[met]) for run in found)} of {len(found)}")
        rows.append(tuple(row))
    return Table((*columns, *(() if met is None else ("limits met",))), tuple(rows))


def of(runs: Iterable[Run], **where: Any) -> list[Run]:
    """The runs with these values."""
    return [run for run in runs if all(run[name] == value for name, value in where.items())]


def paired(first: Sequence[Run], second: Sequence[Run], figure: str) -> tuple[float, float | None]:
    """Mean over the seeds of first - second, and its standard error (None for one seed). InputError where the seeds differ."""
    ours, theirs = ({run["seed"]: float(run[figure]) for run in runs} for runs in (first, second))
    if not ours or ours.keys() != theirs.keys() or len(ours) != len(first) or len(theirs) != len(second):
        raise InputError(
            f"runs: seeds {sorted(r['seed'] for r in first)} and {sorted(r['seed'] for r in second)}; expected the same, once each"
        )
    differences = [ours[seed] - theirs[seed] for seed in ours]
    return statistics.fmean(differences), error(differences) if len(differences) > 1 else None


def compared(runs: Sequence[Run], first: str, rivals: Sequence[str], figures: Sequence[Figure]) -> tuple[str, ...]:
    """A sentence a rival: "first minus rival: ...", the paired differences and no verdict."""
    said = []
    for rival in rivals:
        words = []
        for figure in figures:
            words.append(f"{figure.word} {shown(*paired(of(runs, method=first), of(runs, method=rival), figure.name))}")
        said.append(f"{first} minus {rival}: {', '.join(words)}")
    return tuple(said)


def shown(difference: float, margin: float | None, digits: int = 4) -> str:
    """A difference in words, with its standard error where there is one."""
    return f"{difference:+.{digits}f}, of one seed" if margin is None else f"{difference:+.{digits}f} ± {margin:.{digits}f}"


def certified(runs: Sequence[Run]) -> str | None:
    """How many runs have a certificate that every constraint holds; None where the method promises nothing."""
    marks = [run["certified"] for run in runs]
    return None if None in marks else f"{sum(marks)} of {len(marks)}"


def remarks(runs: Sequence[Run], references: Sequence[str], figures: Sequence[Figure], met: str = "met") -> tuple[str, ...]:
    """A sentence for each method that is ahead of a trivial reference in none of ``figures``: by means, ties are not ahead.

    A reference that breaks a limit in some run is no rival of a method that keeps it in all. One seed says nothing.
    """
    said: list[str] = []
    if len({run["seed"] for run in runs}) < 2:
        return ()
    for method in dict.fromkeys(run["method"] for run in runs):
        if method in references:
            continue
        ours = of(runs, method=method)
        better = []
        for name in references:
            theirs = of(runs, method=name)
            if theirs and (_kept(theirs, met) or not _kept(ours, met)) and not any(_ahead(ours, theirs, f) for f in figures):
                better.append(name)
        if better:
            said.append(f"{method}: no better than {', '.join(better)} in {' or '.join(f.word for f in figures)}")
    return tuple(said)


def _kept(runs: Sequence[Run], met: str) -> bool:
    return all(run[met] for run in runs)


def _ahead(ours: Sequence[Run], theirs: Sequence[Run], figure: Figure) -> bool:
    difference = statistics.fmean(r[figure.name] for r in ours) - statistics.fmean(r[figure.name] for r in theirs)
    return difference > 0 if figure.more_is_better else difference < 0
