"""The records of a race as tables: tidy (a row a cell, seconds), for the eye (milliseconds, sorted), and what failed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from fairopt.basics.finished_cells import Record
from fairopt.basics.table import Table

PROBLEM = ("notion", "n", "groups", "classes", "distance", "dtype", "box", "gradient")
COLUMNS = (
    "backend", *PROBLEM, "outcome", "status",
    "forward_s", "forward_spread_s", "backward_s", "backward_spread_s", "total_s", "total_q1_s", "total_q3_s", "solver_s", "setup_s",
    "import_s", "calls", "memory_mb", "violation", "y_error", "solver_y_error", "gradient_error", "reference", "iterations", "message",
)  # fmt: skip
SHOWN = (
    *PROBLEM, "backend", "outcome", "forward_ms", "spread_ms", "backward_ms", "setup_ms",
    "memory_mb", "violation", "y_error", "solver_y_error", "gradient_error",
)  # fmt: skip


def tidy(records: Iterable[Record]) -> Table:
    """One row a cell. Times are medians in seconds, spreads the range between the quartiles (q1, q3); absent figures are None."""
    return Table(COLUMNS, tuple(_row(record) for record in records))


def shown(table: Table) -> Table:
    """The tidy table for the eye: milliseconds, sorted by problem and then by time."""
    rows = sorted(table, key=lambda r: (*_problem(r), r["total_s"] is None, r["total_s"] or 0.0, r["backend"]))
    return Table(SHOWN, tuple(_shown(row) for row in rows))


def failures(records: Iterable[Record]) -> Table:
    """The cells without an answer, or with one that is neither certified nor within rounding, and why; equal ones together."""
    kinds: dict[tuple[str, str, str], int] = {}
    for r in records:
        word = failure_of(r)
        if word:
            key = (r["backend"], word, r["message"])
            kinds[key] = kinds.get(key, 0) + 1
    return Table(("backend", "what", "cells", "message"), tuple((b, w, count, m) for (b, w, m), count in kinds.items()))


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
        *(record[name] for name in ("backend", *PROBLEM, "outcome")), record["status"] or None,
        _median(forward), _spread(forward), _median(backward), _spread(backward), _median(total), *_quartiles(total),
        _median(record["solver_seconds"]), record["setup_seconds"], record["import_seconds"], len(forward),
        None if memory is None else memory / 1e6,
        *(record[name] for name in ("violation", "y_error", "solver_y_error", "gradient_error", "reference", "iterations", "message")),
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
    return tuple(row[name] for name in ("notion", "classes", "distance", "dtype", "box", "gradient", "groups", "n"))


def problem_words(row: Record, *, n: bool) -> str:
    """The problem of a row, with or without its n."""
    size = f", n = {row['n']}" if n else ""
    classes = f", {row['classes']} classes" if row["classes"] > 1 else ""
    distance = f", {row['distance']}" if row["distance"] != "squared" else ""
    native = "" if row["gradient"] == "implicit" else ", native gradient"
    return f"{row['notion']}{size}, {row['groups']} groups{classes}{distance}, {row['dtype']}, box {row['box']}{native}"


def _shown(row: Record) -> tuple[object, ...]:
    word = row["outcome"] if row["outcome"] != "ok" else (row["status"] or "ok").lower().replace("_", " ")
    times = tuple(None if row[c] is None else row[c] * 1e3 for c in ("forward_s", "forward_spread_s", "backward_s", "setup_s"))
    return (
        *(row[name] for name in (*PROBLEM, "backend")), word, *times,
        *(row[name] for name in ("memory_mb", "violation", "y_error", "solver_y_error", "gradient_error")),
    )  # fmt: skip
