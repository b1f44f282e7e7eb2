"""What is audited: scores, decisions, targets and groups, read and checked once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
from torch import Tensor

from fairopt.auditing.apart import read_threshold
from fairopt.auditing.gap_table import read_scores
from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.basics.columns import Value, numbers, read_features
from fairopt.basics.containers import opened
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.basics.soft import Soft
from fairopt.basics.table import group_word, joined_words
from fairopt.notions.algebra import Notion
from fairopt.notions.batch import Batch, attribute_words, normal_attribute
from fairopt.notions.groups import Attribute, Missing, Vocabulary, declare, encode
from fairopt.notions.labels import read_targets

CLASSES = (
    "an audit is of one score; audit class c by scores[:, c] with decisions=(scores.argmax(1) == c), and see all classes at once by "
    "fo.gaps(scores, ..., outputs='simplex')"
)


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups of one attribute (of a tuple of names: their combinations). codes (n,) in 0 .. len(values) - 1; words for labels."""

    attribute: Attribute
    codes: IntArray
    values: tuple[tuple[Value, ...], ...]  # one value per name; None is missing
    copies: IntArray | None = None  # (n,) samples that each position stands for; None: one

    @property
    def words(self) -> str:
        return attribute_words(self.attribute)

    @property
    def names(self) -> tuple[str, ...]:
        if isinstance(self.attribute, str):
            return tuple(group_word(v) for (v,) in self.values)
        return tuple(joined_words(map(group_word, value)) for value in self.values)

    def members(self, group: int) -> BoolArray:
        """(n,) who belongs to the group."""
        return np.asarray(self.codes == group)

    @property
    def counts(self) -> IntArray:
        return sizes_of(self.codes, len(self.values), self.copies)


@dataclass(frozen=True, eq=False)
class Totals:
    """Samples that lie elsewhere, of which each position stands for many: exact sums (P,) over those, of scores and of what the group
    tables say of them. binary: whether all targets are 0 or 1; residuals, squares: of score - target, where there are targets; unit:
    all scores lie in [0, 1], and the sum of each position is that of its own samples."""

    scores: Sequence[Fraction]
    residuals: Sequence[Fraction]
    squares: Sequence[Fraction]
    binary: bool
    unit: bool


@dataclass(frozen=True, eq=False)
class Sample:
    """scores (n,) float64, decisions (n,) 0/1 as float64, targets (n,) float64 or None; ``batch`` is what notions read.

    Where positions stand for many samples (``copies`` of the batch) decisions and targets are alike in each, and ``totals`` are in place
    of scores, which are (0,).
    """

    scores: Array
    decisions: Array
    targets: Array | None
    threshold: float | None  # None: the decisions were given
    dtype: str
    features: Mapping[str, Any]
    vocabularies: Mapping[str, Vocabulary]
    missing: Missing
    batch: Batch
    totals: Totals | None = None

    @property
    def n(self) -> int:
        """Samples."""
        return self.positions if self.copies is None else int(self.copies.sum())

    @property
    def positions(self) -> int:
        """Places in the arrays: as many as samples, but where one stands for many."""
        return int(self.decisions.shape[0])

    @property
    def copies(self) -> IntArray | None:
        """(P,) samples that each position stands for; None: one."""
        return self.batch.copies

    @property
    def summed(self) -> Array | Sequence[Fraction]:
        """The scores, or their sums over each position."""
        return self.scores if self.totals is None else self.totals.scores

    @property
    def values(self) -> Array | None:
        """The scores; where positions stand for many samples, 0 or 1 where they are that in all of a position, None where sums do not
        say so: of numbers in [0, 1] they do where they are as small or as large as can be."""
        if self.totals is None:
            return self.scores
        sums, many = self.totals.scores, np.asarray(self.copies).tolist()
        if not self.totals.unit or any(s not in (0, n) for s, n in zip(sums, many, strict=True)):
            return None
        return np.array([float(s != 0) for s in sums])

    @property
    def binary(self) -> bool:
        """Whether targets are there and all of them 0 or 1."""
        return self.targets is not None and (is_binary(self.targets) if self.totals is None else self.totals.binary)

    def groups(self, attribute: Attribute) -> Groups:
        """The groups of a name or a tuple of names. InputError for an unknown name or a column that has no groups."""
        names = (attribute,) if isinstance(attribute, str) else attribute
        parts = [self._one(name) for name in names]
        codes = parts[0][0]
        for more, vocabulary in parts[1:]:
            codes = codes * len(vocabulary) + more
        values: list[tuple[Value, ...]] = [()]
        for _, vocabulary in parts:
            values = [(*value, v) for value in values for v in vocabulary.values]
        assert len(values) == prod(len(v) for _, v in parts)
        return Groups(attribute, codes, tuple(values), self.copies)

    def _one(self, name: str) -> tuple[IntArray, Vocabulary]:
        if name not in self.features:
            raise InputError(f"sensitive_features has no attribute {name!r}; it has {', '.join(map(repr, self.features))}")
        codes, vocabulary = encode(self.features[name], name=name, vocabulary=self.vocabularies.get(name), missing=self.missing)
        if codes.shape[0] != self.positions:
            raise InputError(f"sensitive_features[{name!r}] has {codes.shape[0]} values for {self.positions} samples")
        return codes, vocabulary


def read_sample(
    scores: Any,
    *,
    sensitive_features: Any,
    targets: Any,
    decisions: Any,
    threshold: float,
    groups: Mapping[str, Iterable[Any]] | None,
    missing_group: Missing,
    pos_label: Any = None,
    attributes: Sequence[str] | None = None,
) -> Sample:
    """Read and check everything. InputError for NaN, wrong lengths, decisions that are not 0 or 1, a threshold that is no number."""
    tensor = read_scores(scores, CLASSES)
    n = tensor.shape[0]
    vector = _numbers(tensor)
    features = read_features(sensitive_features, attributes)
    for name, column in features.items():
        if isinstance(column, Soft) and not column.is_certain:
            raise UnsupportedError(
                f"audit: sensitive_features[{name!r}]: got {column!r}, expected one value a sample, of which tables are made; "
                "fo.gaps(...) takes groups known in probability"
            )
    if missing_group not in ("error", "own"):
        raise InputError(f"missing_group: got {missing_group!r}, expected 'error' or 'own'")
    if decisions is None:
        threshold = read_threshold(threshold)
        chosen = (vector >= threshold).astype(np.float64)
    else:
        chosen = _numbers(numbers(decisions, n, "decisions"))
        if not is_binary(chosen):
            raise InputError(f"decisions: got {float(chosen[(chosen != 0) & (chosen != 1)][0])!r}, expected 0 or 1")
    known = declare(groups)
    unknown = [name for name in known if name not in features]
    if unknown:
        raise InputError(f"groups: got {unknown[0]!r}, expected names of sensitive_features: {', '.join(map(repr, features))}")
    return Sample(
        scores=vector,
        decisions=chosen,
        targets=None if targets is None else _numbers(read_targets(targets, n, pos_label)),
        threshold=float(threshold) if decisions is None else None,
        dtype=str(tensor.dtype).removeprefix("torch.") if isinstance(scores, Tensor) else str(getattr(scores, "dtype", "float64")),
        features=features,
        vocabularies=known,
        missing=missing_group,
        batch=Batch(n, features, targets, vocabularies=known, missing_group=missing_group, pos_label=pos_label),
    )


def read_notions(notions: Any) -> tuple[Notion, ...]:
    """One notion or several."""
    found = (notions,) if isinstance(notions, Notion) else tuple(notions) if isinstance(notions, Sequence) else ()
    wrong = [x for x in found if not isinstance(x, Notion)]
    if not found or wrong:
        came = wrong[0] if wrong else notions
        raise InputError(f"notion: got {came!r}, expected a notion such as DemographicParity('sex', tolerance=0.05), or a list of them")
    return found


def audited_attributes(sample: Sample, notions: Sequence[Notion], asked: Iterable[Any] | None) -> tuple[list[Groups], list[str]]:
    """The attributes that get group tables, and a note for each that has no groups.

    Asked for by name or tuple; else every one of sensitive_features, and every tuple that a notion compares.
    """
    notes: list[str] = []
    if asked is not None:
        return [sample.groups(a) for a in dict.fromkeys(normal_attribute(a) for a in asked)], notes
    wanted: dict[Attribute, None] = {}
    for name, column in sample.features.items():
        if is_continuous(column):
            notes.append(f"{name}: a continuous attribute has no groups, so it has no group table")
        else:
            wanted[name] = None
    for notion in notions:
        for leaf in notion.leaves():
            arguments = leaf.notion.arguments
            wanted.update({v: None for k, v in arguments.items() if k.startswith("attribute") and isinstance(v, tuple)})
    return [sample.groups(a) for a in wanted], notes


def is_continuous(column: Any) -> bool:
    """Whether the column holds floats that are no whole numbers."""
    plain = opened(column, "sensitive_features")
    if isinstance(plain, Tensor):
        if plain.is_complex():
            return False
        plain = plain.detach().cpu().double().numpy()
    array = np.asarray([v for v in plain if isinstance(v, float)] if isinstance(plain, list) else plain)
    if array.dtype.kind != "f":
        return False
    finite = array[np.isfinite(array)]
    return bool((finite != np.rint(finite)).any())


def residuals_of(scores: Array, targets: Array) -> tuple[Array, Array]:
    """(n,) score - target, and its square. InputError where that is beyond float64."""
    with np.errstate(over="ignore"):
        residuals = scores - targets
        squares = residuals**2
    if not np.isfinite(squares).all():
        i = int(np.flatnonzero(~np.isfinite(squares))[0])
        raise InputError(f"targets: got {targets[i]:g} for the score {scores[i]:g}, whose squared difference is beyond float64")
    return residuals, squares


def sizes_of(codes: IntArray, groups: int, copies: IntArray | None) -> IntArray:
    """(groups,) samples of each code (n,), where position i stands for ``copies[i]`` of them; None: for one."""
    found = np.zeros(groups, dtype=np.int64)
    np.add.at(found, codes, 1 if copies is None else copies)
    return found


def is_binary(values: Array) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def _numbers(tensor: Tensor) -> Array:
    return np.asarray(tensor.detach().to("cpu").double().numpy(), dtype=np.float64)
