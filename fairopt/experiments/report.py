"""Rows of an experiment's table: the runs of one method, and what is said about it beside the others."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Literal

from fairopt.experiments.measure import Measured

Figure = Literal["accuracy", "auc", "log_loss", "score_gap", "decision_gap", "violation", "seconds"]


@dataclass(frozen=True)
class Row:
    """A method and its runs, one a seed (one alone for a reference that has no seed)."""

    method: str
    runs: tuple[Measured, ...]
    reference: bool = False

    def values(self, figure: Figure) -> tuple[float, ...]:
        """The figure of every run that has it."""
        found = (getattr(run, figure) for run in self.runs)
        return tuple(float(v) for v in found if v is not None)

    def mean(self, figure: Figure) -> float | None:
        values = self.values(figure)
        return statistics.fmean(values) if values else None

    def spread(self, figure: Figure) -> float | None:
        """Standard deviation over the seeds; None for fewer than two runs."""
        values = self.values(figure)
        return statistics.stdev(values) if len(values) > 1 else None

    def worst_violation(self) -> float:
        return max(run.violation for run in self.runs)

    def certified(self) -> tuple[int, int] | None:
        """Certified runs, and all runs; None where the method promises nothing."""
        if any(run.certified is None for run in self.runs):
            return None
        return sum(bool(run.certified) for run in self.runs), len(self.runs)

    def fair(self) -> bool:
        """Whether every run met the tolerance: certified, or a plain gap inside it."""
        return all(run.violation == 0 for run in self.runs)


def remark(row: Row, references: tuple[Row, ...]) -> str:
    """The trivial references that do as well or better in accuracy and AUC at once, or "" where there are none.

    A reference that breaks the tolerance is no rival of a method that meets it.
    """
    better = [r.method for r in references if r is not row and (r.fair() or not row.fair()) and not _ahead(row, r)]
    return f"no better than {', '.join(better)}" if better else ""


def _ahead(row: Row, reference: Row) -> bool:
    """Whether ``row`` is ahead of the reference in accuracy or in AUC."""
    figures: tuple[Figure, ...] = ("accuracy", "auc")
    pairs = ((row.mean(f), reference.mean(f)) for f in figures)
    return any(ours is not None and theirs is not None and ours > theirs for ours, theirs in pairs)


def difference_by_seed(first: Row, second: Row, figure: Figure) -> tuple[float, float | None]:
    """Mean over the seeds of first - second, and its standard error (None for one seed).

    The runs must be of the same seeds; a reference with a single run stands against every seed.
    """
    ours, theirs = first.values(figure), second.values(figure)
    if second.reference and len(theirs) == 1:
        theirs *= len(ours)
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else None
    return statistics.fmean(differences), error
