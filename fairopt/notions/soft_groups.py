"""The groups of a batch that are known in probability alone: their events, and the means over these."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

from fairopt.basics.arrays import IntArray
from fairopt.basics.columns import numbers
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.basics.soft import Soft
from fairopt.basics.table import joined_words
from fairopt.notions.amount import amount
from fairopt.notions.events import Column, Mask, Registry, columns_of, evaluate
from fairopt.notions.functional import Functional
from fairopt.notions.groups import Attribute, Vocabulary
from fairopt.notions.labels import Targets
from fairopt.notions.soft_events import SoftMask, shares


class Reads(Registry, Protocol):
    """What is needed of the batch."""

    n: int
    outputs: int | None
    copies: IntArray | None
    everyone: Mask
    columns: list[Column]

    @property
    def vocabularies(self) -> Mapping[str, Vocabulary]: ...
    def groups(self, attribute: Attribute, /) -> tuple[Mask, ...]: ...
    def mean(self, mask: Any = None, of: Any = None) -> Functional: ...
    def _feature(self, name: str) -> Any: ...
    def _encoded(self, name: str, values: Any) -> tuple[IntArray, Vocabulary]: ...
    def _values_index(self, values: Any, total: float | None = None) -> int: ...


def soft_of(batch: Reads, name: str) -> Soft | None:
    """The attribute's probabilities, where it came as such and they are not all 0 or 1."""
    feature = batch._feature(name)
    return feature if isinstance(feature, Soft) and not feature.is_certain else None


def is_soft(batch: Reads, attribute: Attribute) -> bool:
    """Whether an attribute, or one of a combination, is known in probability alone."""
    return any(soft_of(batch, name) is not None for name in ([attribute] if isinstance(attribute, str) else attribute))


def soft_groups(batch: Reads, attribute: Attribute) -> tuple[Mask, ...]:
    """The groups of an attribute, or of a combination, of which one is known in probability."""
    names = (attribute,) if isinstance(attribute, str) else attribute
    found: list[Mask] = [batch.everyone]
    for name in names:
        soft = soft_of(batch, name)
        own = batch.groups(name) if soft is None else _events(batch, name, soft)
        found = [a & b for a in found for b in own]
    if isinstance(attribute, str):
        return tuple(found)
    words = itertools.product(*(batch.vocabularies[name].names for name in names))
    return tuple(mask.named(joined_words(w)) for mask, w in zip(found, words, strict=True))


def _events(batch: Reads, name: str, soft: Soft) -> list[Mask]:
    if len(soft) != batch.n:
        raise InputError(f"sensitive_features[{name!r}] has probabilities of {len(soft)} samples for {batch.n} samples")
    codes, vocabulary = batch._encoded(name, list(soft.values))
    of_groups = shares(soft.probabilities, codes, len(vocabulary))
    return [SoftMask(batch, p, name, batch.everyone, k, vocabulary.names[k]) for k, p in enumerate(of_groups)]


def soft_mean(batch: Reads, event: SoftMask, of: Any) -> Functional:
    """sum_i p_i y_i / sum_i p_i over the samples of the event; of values instead of scores a constant."""
    if batch.outputs is not None:
        raise UnsupportedError(f"groups of {event.attribute!r} known in probability: not supported for several scores a sample")
    if batch.copies is not None:
        raise UnsupportedError(f"groups of {event.attribute!r} known in probability: not supported where samples are counted")
    key = event.among.key
    inside = evaluate(key, {j: batch.columns[j].codes for j in columns_of(key)}, batch.n)
    share = np.where(inside, event.share, 0.0)
    total = float(share.sum())  # what rounding leaves is taken out of the weights
    if not total > 0.0:
        return batch.mean((~batch.everyone).named(event.name), of)  # nobody
    if of is None:
        weights = torch.from_numpy(share * (batch.n / total))
        return Functional(dense=((1.0, batch._values_index(weights, 1.0)),), name=event.name)
    values = of.tensor if isinstance(of, Targets) else numbers(of, batch.n, "the values of a mean")
    if values.requires_grad:
        raise UnsupportedError(f"values that carry gradients: not supported over groups of {event.attribute!r} known in probability")
    mean = float((share * values.detach().cpu().double().numpy()).sum()) / total
    return Functional(constant=amount(mean, "a mean of values"), name=event.name)
