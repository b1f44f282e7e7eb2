"""Scores, targets and groups out of a CSV or Parquet file. Needs pandas (and pyarrow for Parquet)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairopt.arrays import Array
from fairopt.errors import InputError, MissingExtraError


@dataclass(frozen=True, eq=False)
class Frame:
    """scores, targets, decisions (n,) float64; sensitive: name -> n values."""

    scores: Array
    sensitive: dict[str, Any]
    targets: Array | None
    decisions: Array | None


def read_frame(path: Path, *, score: str, sensitive: Sequence[str], target: str | None = None, decision: str | None = None) -> Frame:
    """Read the named columns. Only an empty cell is a missing value: a group called "NA" or "None" stays what it is.

    InputError for a file that cannot be read, a column that is not there (with those that are), and a cell that is no number where one
    is needed, with its row.
    """
    frame = _read(path)
    if len(frame) == 0:
        raise InputError(f"{path.name}: got no rows, expected at least one")
    named = {"score": score, "target": target, "decision": decision}
    for option, column in [*((o, c) for o, c in named.items() if c is not None), *(("sensitive", c) for c in sensitive)]:
        if column not in frame.columns:
            raise InputError(f"--{option}: {path.name} has no column {column!r}; it has {', '.join(map(repr, map(str, frame.columns)))}")
    return Frame(
        scores=_numbers(frame, score, path),
        sensitive={name: frame[name] for name in sensitive},
        targets=None if target is None else _numbers(frame, target, path),
        decisions=None if decision is None else _numbers(frame, decision, path),
    )


def _read(path: Path) -> Any:
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError("reading a file of scores needs pandas: pip install 'fairopt[audit]'") from error
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pandas.read_parquet(path)
        return pandas.read_csv(path, keep_default_na=False, na_values=[""], low_memory=False)
    except ImportError as error:
        raise MissingExtraError("reading Parquet needs pyarrow: pip install 'fairopt[audit]'") from error
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError, UnicodeDecodeError, ValueError, OSError) as error:
        raise InputError(f"{path.name}: cannot be read as {path.suffix.lstrip('.') or 'CSV'}: {error}") from error


def _numbers(frame: Any, column: str, path: Path) -> Array:
    """One column as float64. InputError with the first row that holds no finite number (rows count from 1, the header not)."""
    import pandas

    raw = frame[column]
    if not isinstance(raw.dtype, np.dtype) and not pandas.api.types.is_numeric_dtype(raw.dtype):
        raw = raw.astype(object)
    values = pandas.to_numeric(raw, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        cell = raw.iloc[int(wrong[0])]
        shown = "an empty cell" if pandas.isna(cell) else repr(str(cell))
        where = f"row {int(wrong[0]) + 1}, expected a number ({wrong.size} such rows of {len(values)})"
        raise InputError(f"{path.name}: column {column!r} has {shown} in {where}")
    return np.asarray(values, dtype=np.float64)
