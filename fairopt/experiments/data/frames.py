"""A data frame and the roles of its columns as a ``Dataset``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fairopt.experiments.data.tabular import Dataset, Floats, Task

if TYPE_CHECKING:
    import pandas as pd


def dataset(
    name: str,
    table: pd.DataFrame,
    target: npt.NDArray[Any],
    sensitive: Mapping[str, npt.NDArray[Any]],
    *,
    task: Task = "binary",
    categories: tuple[str, ...] = (),
    official: npt.NDArray[np.bool_] | None = None,
    with_sensitive: bool = False,
) -> Dataset:
    """All columns of ``table`` (n, ...) as features, in their order; columns of text and ``categories`` become codes, gaps NaN.

    with_sensitive  the sensitive attributes are features too, after the others and named "sensitive <attribute>"

    The vocabulary of a category is that of the whole file; which of its levels get an indicator is learnt
    from the training rows (``Encoder``).
    """
    columns: list[Floats] = []
    names: list[str] = []
    levels: dict[str, tuple[str, ...]] = {}
    for label in table.columns:
        column = table[label]
        names.append(str(label))
        if str(label) in categories or not _number(column):
            codes, vocabulary = _codes(column)
            levels[str(label)] = vocabulary
            columns.append(codes)
        else:
            columns.append(column.to_numpy(dtype=np.float64))
    if with_sensitive:
        for attribute, values in sensitive.items():
            label = f"sensitive {attribute}"
            names.append(label)
            if values.dtype.kind == "U":
                vocabulary_, codes_ = np.unique(values, return_inverse=True)
                levels[label] = tuple(str(v) for v in vocabulary_)
                columns.append(codes_.astype(np.float64))
            else:
                columns.append(values.astype(np.float64))
    return Dataset(
        name=name,
        features=np.stack(columns, axis=1),
        names=tuple(names),
        target=np.asarray(target, dtype=np.float64),
        sensitive={k: np.asarray(v, dtype=np.str_ if v.dtype.kind in "UO" else np.float64) for k, v in sensitive.items()},
        task=task,
        official=official,
        categories=levels,
    )


def _number(column: pd.Series[Any]) -> bool:
    return column.dtype.kind in "iufb"


def _codes(column: pd.Series[Any]) -> tuple[Floats, tuple[str, ...]]:
    """(n,) index of each value's level, NaN for a gap; the levels, sorted."""
    known = column.dropna().unique().tolist()
    vocabulary = sorted(known)
    place = {value: float(k) for k, value in enumerate(vocabulary)}
    codes = np.array([place.get(value, np.nan) for value in column.tolist()], dtype=np.float64)
    return codes, tuple(str(value) for value in vocabulary)


def words(column: pd.Series[Any], names: Mapping[Any, str]) -> npt.NDArray[np.str_]:
    """(n,) the codes of ``column`` as words; a code that has no word is a KeyError."""
    return np.array([names[value] for value in column.tolist()], dtype=np.str_)
