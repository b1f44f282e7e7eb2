"""What a race returns: its records, as a tidy table, a summary, and files."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing
from fairopt.basics.table import Table
from fairopt.race.store import Record

COLUMNS = (
    "backend", "notion", "n", "groups", "dtype", "box", "gradient", "outcome", "status",
    "forward_s", "forward_spread_s", "backward_s", "backward_spread_s", "total_s", "total_q1_s", "total_q3_s", "solver_s", "setup_s",
    "import_s", "calls", "memory_mb", "violation", "distance", "solver_distance", "gradient_error", "reference", "iterations", "message",
)  # fmt: skip
SHOWN = (
    "notion", "n", "groups", "dtype", "box", "gradient", "backend", "outcome", "forward_ms", "spread_ms", "backward_ms", "setup_ms",
    "memory_mb", "violation", "distance", "solver_distance", "gradient_error",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Race:
    """``records``: one a cell, as in the file of finished cells; ``header``: settings, machine, versions."""

    records: tuple[Record, ...]
    header: Record

    @cached_property
    def _tidy(self) -> Table:
        return Table(COLUMNS, tuple(_row(record) for record in self.records))

    def table(self) -> Table:
        """One row a cell. Times are medians in seconds, spreads the range between the quartiles (q1, q3); absent figures are None."""
        return self._tidy

    def shown(self) -> Table:
        """The same for the eye: milliseconds, sorted by problem and then by time."""
        rows = sorted(self._tidy, key=lambda r: (*_problem(r), r["total_s"] is None, r["total_s"] or 0.0, r["backend"]))
        return Table(SHOWN, tuple(_shown(row) for row in rows))

    def failures(self) -> Table:
        """The cells without an answer, or with one that is neither certified nor within rounding, and why; equal ones together."""
        kinds: dict[tuple[str, str, str], int] = {}
        for r in self.records:
            word = failure_of(r)
            if word:
                key = (r["backend"], word, r["message"])
                kinds[key] = kinds.get(key, 0) + 1
        return Table(("backend", "what", "cells", "message"), tuple((b, w, count, m) for (b, w, m), count in kinds.items()))

    def save(self, folder: str | Path, *, form: str = "parquet") -> list[Path]:
        """Write cells.parquet (or .csv), the pictures and report.html into ``folder``; returns the paths. MissingExtraError without the
        packages of ``fairopt[race]``."""
        from fairopt.race.pictures import draw_pictures
        from fairopt.race.report import write_report

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = [self.save_table(folder / f"cells.{form}"), *draw_pictures(self, folder)]
        return [*written, write_report(self, written[1:], folder / "report.html")]

    def save_table(self, path: str | Path) -> Path:
        """The tidy table as .parquet or .csv."""
        path = Path(path)
        if path.suffix not in (".parquet", ".csv"):
            raise InputError(f"{path.name}: expected a name that ends in .parquet or .csv")
        try:
            frame = self._tidy.to_pandas()
            if path.suffix == ".csv":
                frame.to_csv(path, index=False)
            else:
                frame.to_parquet(path, index=False)
        except ImportError as error:
            raise missing("the race's table needs pandas and pyarrow", "race") from error
        return path


def failure_of(record: Record) -> str:
    """ "" for a good answer, else the outcome, or the status of an answer that is off."""
    if record["outcome"] != "ok":
        return str(record["outcome"])
    status = str(record["status"])
    return "" if status in ("CERTIFIED", "WITHIN_ROUNDING") else status.lower().replace("_", " ")


def _row(record: Record) -> tuple[object, ...]:
    forward, backward = record["forward_seconds"], record["backward_seconds"]
    total = [a + b for a, b in zip(forward, backward, strict=True)]
    memory = record["memory_bytes"]
    return (
        *(record[name] for name in ("backend", "notion", "n", "groups", "dtype", "box", "gradient", "outcome")), record["status"] or None,
        _median(forward), _spread(forward), _median(backward), _spread(backward), _median(total), *_quartiles(total),
        _median(record["solver_seconds"]), record["setup_seconds"], record["import_seconds"], len(forward),
        None if memory is None else memory / 1e6,
        *(record[name] for name in ("violation", "distance", "solver_distance", "gradient_error", "reference", "iterations", "message")),
    )  # fmt: skip


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _spread(values: Sequence[float]) -> float | None:
    """Between the quartiles; None for fewer than two calls."""
    low, high = _quartiles(values)
    return None if low is None or high is None else high - low


def _quartiles(values: Sequence[float]) -> tuple[float | None, float | None]:
    if len(values) < 2:
        return None, None
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def _problem(row: Record) -> tuple[object, ...]:
    return tuple(row[name] for name in ("notion", "dtype", "box", "gradient", "groups", "n"))


def _shown(row: Record) -> tuple[object, ...]:
    word = row["outcome"] if row["outcome"] != "ok" else (row["status"] or "ok").lower().replace("_", " ")
    times = tuple(None if row[c] is None else row[c] * 1e3 for c in ("forward_s", "forward_spread_s", "backward_s", "setup_s"))
    return (
        *(row[name] for name in ("notion", "n", "groups", "dtype", "box", "gradient", "backend")), word, *times,
        *(row[name] for name in ("memory_mb", "violation", "distance", "solver_distance", "gradient_error")),
    )  # fmt: skip
