"""A table of features with a target and sensitive attributes: split into three parts and encoded for a network.

Everything that is learnt from data (medians, limits, levels that are too rare, means, spreads) is learnt from the training rows alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
# Attribute -> (n,) strings for groups, (n,) float64 for a continuous attribute.
Sensitive = dict[str, npt.NDArray[Any]]
Task = Literal["binary", "regression"]
# A stratum of fewer rows than this is pooled with the other small ones before a split.
SMALL_STRATUM = 10
# A level of a category held by a smaller share of the training rows is pooled.
RARE = 0.005


@dataclass(frozen=True, eq=False)
class Dataset:
    """One data set in file order.

    features    (n, d) float64 with NaN where missing; names (d,). Sensitive columns are no features unless the loader was asked for them
    target      (n,) float64: 0 or 1 (task "binary") or a number (task "regression")
    sensitive   attribute -> (n,) strings, or float64 where the attribute is continuous
    official    (n,) bool, True in the rows that the publisher set aside for testing; None where there are none
    categories  name of a column -> its levels: the column holds the index of the level, and the encoder makes indicators of it
    """

    name: str
    features: Floats
    names: tuple[str, ...]
    target: Floats
    sensitive: Sensitive
    task: Task = "binary"
    official: npt.NDArray[np.bool_] | None = None
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.target.shape[0])

    def take(self, rows: npt.NDArray[Any]) -> Dataset:
        """The data set with these rows alone (indices or a mask)."""
        official = None if self.official is None else self.official[rows]
        sensitive = {name: values[rows] for name, values in self.sensitive.items()}
        return replace(self, features=self.features[rows], target=self.target[rows], sensitive=sensitive, official=official)


@dataclass(frozen=True, eq=False)
class Part:
    """One part, encoded: x (n, d) float32, y (n,) float32, sensitive as in ``Dataset``."""

    x: Tensor
    y: Tensor
    sensitive: Sensitive

    def __len__(self) -> int:
        return int(self.y.shape[0])

    def take(self, rows: Tensor) -> Part:
        """The part with these rows (k,) alone, in this order."""
        return Part(self.x[rows], self.y[rows], {name: values[rows.numpy()] for name, values in self.sensitive.items()})


@dataclass(frozen=True, eq=False)
class Parts:
    """Training, validation and held-out part of one data set, with the encoder that was fitted on the first."""

    train: Part
    validation: Part
    held_out: Part
    encoder: Encoder
    name: str
    task: Task


@dataclass(frozen=True, eq=False)
class Encoder:
    """Numbers: median for a gap, an indicator of gaps, outliers cut at two quantiles. Categories: an indicator a level, rare ones pooled.
    Then mean 0 and spread 1; columns that are constant in the training rows are left out.

    numbers (a,) columns; median, low, high (a,); gaps (g,) numbers that had a gap, as places in ``numbers``;
    levels  (column, codes with an indicator of their own) a category; any other code, a gap and an unknown level count as "other"
    mean, spread (e,); kept (e,) bool; names of the kept columns, e = a + g + indicators.
    The cut matters where a data set writes "unknown" as 999999: uncut, such a column is two values and nothing else.
    """

    numbers: Indices
    median: Floats
    low: Floats
    high: Floats
    gaps: Indices
    levels: tuple[tuple[int, tuple[int, ...]], ...]
    mean: Floats
    spread: Floats
    kept: npt.NDArray[np.bool_]
    names: tuple[str, ...]

    @classmethod
    def fit(
        cls,
        features: Floats,
        names: tuple[str, ...],
        quantiles: tuple[float, float] = (0.005, 0.995),
        *,
        categories: Mapping[str, tuple[str, ...]] | None = None,
        rare: float = RARE,
    ) -> Encoder:
        """Learn from the training rows ``features`` (n, d), NaN where missing. A column with gaps alone is an InputError."""
        categories = categories or {}
        missing = np.isnan(features)
        empty = [name for k, name in enumerate(names) if missing[:, k].all()]
        if empty:
            raise InputError(f"features: no value at all in column(s) {', '.join(empty)}")
        numbers = np.array([k for k, name in enumerate(names) if name not in categories], dtype=np.int64)
        values, gone = features[:, numbers], missing[:, numbers]
        median = np.nanmedian(values, axis=0)
        low, high = np.quantile(np.where(gone, median, values), quantiles, axis=0)
        gaps = np.flatnonzero(gone.any(0))
        levels = tuple((k, _frequent(features[:, k], rare)) for k, name in enumerate(names) if name in categories)
        labels = [*(names[k] for k in numbers), *(f"{names[numbers[k]]} missing" for k in gaps)]
        labels += [label for k, codes in levels for label in _labels(names[k], categories[names[k]], codes)]
        whole = cls(numbers, median, low, high, gaps, levels, np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.bool_), ())
        filled = whole._fill(features)
        mean, spread = filled.mean(0), filled.std(0)
        indicators = np.arange(len(mean)) >= len(numbers) + len(gaps)
        kept = (spread > 0) & ~(indicators & (mean < rare))  # an "other" that hardly occurs would be a huge number where it does
        named = tuple(label for label, keep in zip(labels, kept, strict=True) if keep)
        return replace(whole, mean=mean, spread=spread, kept=kept, names=named)

    def encode(self, features: Floats) -> Tensor:
        """(n, d) with NaN -> (n, kept columns) float32."""
        filled = self._fill(features)[:, self.kept]
        return torch.from_numpy((filled - self.mean[self.kept]) / self.spread[self.kept]).to(torch.float32)

    def _fill(self, features: Floats) -> Floats:
        """(n, d) -> (n, e) without gaps, not yet standardised."""
        values = features[:, self.numbers]
        missing = np.isnan(values)
        blocks = [np.clip(np.where(missing, self.median, values), self.low, self.high), missing[:, self.gaps].astype(np.float64)]
        for column, codes in self.levels:
            own = features[:, column, None] == np.array(codes, dtype=np.float64)  # (n, codes)
            blocks.append(np.concatenate([own, ~own.any(1, keepdims=True)], axis=1).astype(np.float64))
        return np.concatenate(blocks, axis=1)


def _frequent(column: Floats, rare: float) -> tuple[int, ...]:
    """The codes that at least a share ``rare`` of the rows hold."""
    codes, counts = np.unique(column[~np.isnan(column)], return_counts=True)
    return tuple(int(code) for code in codes[counts >= rare * len(column)])


def _labels(name: str, levels: tuple[str, ...], codes: tuple[int, ...]) -> list[str]:
    return [*(f"{name}={levels[code]}" for code in codes), f"{name}=other"]


def split(
    data: Dataset,
    seed: int,
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2),
    stratify: tuple[str, ...] | None = None,
    *,
    official: bool = True,
) -> Parts:
    """Training, validation and held-out part, each with the same share of every stratum.

    A stratum is a combination of the attributes ``stratify`` (None: all that are groups; (): none) and, where the target is 0 or 1, the
    target. Strata of fewer than ten rows are pooled. Where the data set has official test rows and ``official`` is true, these are
    the held-out part, and the other rows are shared between training and validation.
    """
    try:
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise missing("splitting a data set needs scikit-learn", "experiments") from error
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise InputError(f"shares: got {shares}, expected three positive numbers that sum to 1")
    strata = _strata(data, stratify)
    everyone = np.arange(len(data))
    rest_share = shares[1] + shares[2]

    def cut(rows: Indices, share: float) -> tuple[Indices, Indices]:
        first, second = train_test_split(rows, test_size=share, random_state=seed, stratify=_pooled(strata[rows]))
        return first, second

    if data.official is not None and official:
        held_out = everyone[data.official]
        train, validation = cut(everyone[~data.official], shares[1] / (shares[0] + shares[1]))
    else:
        train, rest = cut(everyone, rest_share)
        validation, held_out = cut(rest, shares[2] / rest_share)
    encoder = Encoder.fit(data.features[train], data.names, categories=data.categories)

    def part(rows: Indices) -> Part:
        sensitive = {name: values[rows] for name, values in data.sensitive.items()}
        return Part(encoder.encode(data.features[rows]), torch.from_numpy(data.target[rows]).to(torch.float32), sensitive)

    return Parts(part(train), part(validation), part(held_out), encoder, data.name, data.task)


def _strata(data: Dataset, stratify: tuple[str, ...] | None) -> npt.NDArray[np.str_]:
    """(n,) the name of each row's stratum."""
    grouped = tuple(name for name, values in data.sensitive.items() if values.dtype.kind == "U")
    names = grouped if stratify is None else stratify
    strange = [name for name in names if name not in grouped]
    if strange:
        raise InputError(f"stratify: got {strange}, expected attributes with groups, of {list(grouped)}")
    columns = [data.sensitive[name] for name in names]
    if data.task == "binary":
        columns.append(data.target.astype(np.int64).astype(str))
    strata: npt.NDArray[np.str_] = np.full(len(data), "")
    for column in columns:
        strata = np.char.add(np.char.add(strata, "|"), column)
    return strata


def _pooled(strata: npt.NDArray[np.str_]) -> npt.NDArray[np.str_]:
    """The small strata as one; where that is small too, it joins the largest of the others."""
    names, inverse, counts = np.unique(strata, return_inverse=True, return_counts=True)
    small = counts < SMALL_STRATUM
    pool = "pooled"
    if 0 < counts[small].sum() < SMALL_STRATUM and not small.all():
        pool = str(names[counts.argmax()])
    return np.where(small[inverse], pool, strata)
