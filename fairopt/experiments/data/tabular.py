"""A table of features with a binary target and a sensitive attribute: split into three parts and encoded for a network.

Everything that is learnt from data (medians, limits, means, spreads) is learnt from the training rows alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fairopt.errors import InputError, MissingExtraError

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """features (n, d) float64 with NaN where missing; names (d,); target (n,) 0 or 1; group (n,) strings, the attribute ``attribute``."""

    name: str
    features: Floats
    names: tuple[str, ...]
    target: Floats
    group: npt.NDArray[np.str_]
    attribute: str


@dataclass(frozen=True, eq=False)
class Part:
    """One part, encoded: x (n, d) float32, y (n,) float32, group (n,) strings."""

    x: Tensor
    y: Tensor
    group: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return int(self.y.shape[0])


@dataclass(frozen=True, eq=False)
class Parts:
    """Training, validation and held-out part of one data set, with the encoder that was fitted on the first."""

    train: Part
    validation: Part
    held_out: Part
    encoder: Encoder
    attribute: str


@dataclass(frozen=True, eq=False)
class Encoder:
    """Median for a gap, and an indicator column of gaps; outliers cut at two quantiles; mean 0 and spread 1; constant columns left out.

    median, low, high (d,); gaps (g,) columns that had a gap; mean, spread (d + g,); kept (d + g,) bool; names of the kept columns.
    The cut matters where a data set writes "unknown" as 999999: uncut, such a column is two values and nothing else.
    """

    median: Floats
    low: Floats
    high: Floats
    gaps: Indices
    mean: Floats
    spread: Floats
    kept: npt.NDArray[np.bool_]
    names: tuple[str, ...]

    @classmethod
    def fit(cls, features: Floats, names: tuple[str, ...], quantiles: tuple[float, float] = (0.005, 0.995)) -> Encoder:
        """Learn from the training rows ``features`` (n, d), NaN where missing. A column with gaps alone is an InputError."""
        missing = np.isnan(features)
        empty = [name for k, name in enumerate(names) if missing[:, k].all()]
        if empty:
            raise InputError(f"features: no value at all in column(s) {', '.join(empty)}")
        median = np.nanmedian(features, axis=0)
        low, high = np.quantile(np.where(missing, median, features), quantiles, axis=0)
        gaps = np.flatnonzero(missing.any(0))
        filled = _fill(features, median, low, high, gaps)
        spread = filled.std(0)
        kept = spread > 0
        labels = (*names, *(f"{names[k]} missing" for k in gaps))
        named = tuple(label for label, keep in zip(labels, kept, strict=True) if keep)
        return cls(median, low, high, gaps, filled.mean(0), spread, kept, named)

    def encode(self, features: Floats) -> Tensor:
        """(n, d) with NaN -> (n, kept columns) float32."""
        filled = _fill(features, self.median, self.low, self.high, self.gaps)[:, self.kept]
        return torch.from_numpy((filled - self.mean[self.kept]) / self.spread[self.kept]).to(torch.float32)


def _fill(features: Floats, median: Floats, low: Floats, high: Floats, gaps: Indices) -> Floats:
    missing = np.isnan(features)
    filled = np.clip(np.where(missing, median, features), low, high)
    return np.concatenate([filled, missing[:, gaps].astype(np.float64)], axis=1)


def split(data: Dataset, seed: int, shares: tuple[float, float, float] = (0.6, 0.2, 0.2)) -> Parts:
    """Training, validation and held-out part, each with the same share of every (group, target) pair."""
    try:
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise MissingExtraError("splitting a data set needs scikit-learn: pip install 'fairopt[experiments]'") from error
    strata = np.char.add(data.group, data.target.astype(np.int64).astype(str))
    everyone = np.arange(len(data.target))
    rest_share = shares[1] + shares[2]
    train, rest = train_test_split(everyone, test_size=rest_share, random_state=seed, stratify=strata)
    validation, held_out = train_test_split(rest, test_size=shares[2] / rest_share, random_state=seed, stratify=strata[rest])
    encoder = Encoder.fit(data.features[train], data.names)

    def part(rows: Indices) -> Part:
        return Part(encoder.encode(data.features[rows]), torch.from_numpy(data.target[rows]).to(torch.float32), data.group[rows])

    return Parts(part(train), part(validation), part(held_out), encoder, data.attribute)
