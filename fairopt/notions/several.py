"""Notions of several numbers a sample: class probabilities that sum to 1, and labels that do not exclude each other.

A notion speaks of one number a sample. Of class probabilities (n, C) it is asked for each class by itself, of labels (n, L) for each label:

    DemographicParity, GroupMeanBound, ImpactRatio   of the probability of class c
    EqualOpportunity                                 of the probability of class c among those whose true class is c
    PredictiveEquality                               of the probability of class c among all others
    EqualizedOdds                                    of the probability of class c among those of true class k, for each k
    MeanResidual, ResidualParity                     of the probability of class c, beside how often it is the true class

A notion that names outputs itself (``batch.mean(event, output=c)``) is asked as it is, of all classes at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.columns import numbers
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.notions.algebra import Joined, Notion
from fairopt.notions.batch import NamesOutput
from fairopt.notions.parity import EqualizedOdds, EqualOpportunity

Outputs = Literal["one", "simplex", "independent"]
Several = Literal["simplex", "independent"]
OUTPUTS: tuple[Outputs, ...] = ("one", "simplex", "independent")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Part:
    """Which class something is of (None: of all of them, n scores each), and what sets it apart from others of the same class."""

    index: int | None
    words: str = ""

    @property
    def name(self) -> str:
        """'class 2 among true class 0'; '' of all classes."""
        if self.index is None:
            return self.words
        return f"class {self.index} {self.words}".rstrip()


MakeOne = Callable[[Part, Notion, Any, int | None], Made]  # a part, its notion and targets, for one number a sample or so many


@dataclass(frozen=True)
class Classes:
    """How several numbers a sample are meant. outputs: "simplex" or "independent"; classes: those that the notion is about (None: all)."""

    outputs: Outputs
    classes: tuple[int, ...] | None
    distance: str


def read_classes(outputs: object, classes: Any, distance: str, bounds: Any) -> Classes | None:
    """The arguments, checked; None for one number a sample. InputError for what does not go together."""
    if outputs not in OUTPUTS:
        raise InputError(f"outputs: got {outputs!r}, expected 'one', 'simplex' or 'independent'")
    if outputs == "one":
        if classes is not None:
            raise InputError(f"classes: got {classes!r} beside outputs='one', expected None")
        return None
    if outputs == "simplex" and not (bounds is None or tuple(bounds) in {(0, 1), (None, None), (0, None), (None, 1)}):
        raise InputError(f"bounds: got {bounds!r} beside outputs='simplex', expected None: probabilities that sum to 1 lie in (0, 1)")
    if outputs == "simplex" and distance == "kl_positive":
        raise InputError("distance: got 'kl_positive' beside outputs='simplex', expected 'squared' or 'kl'")
    if classes is not None:
        ints = [c for c in classes if isinstance(c, (int, np.integer)) and not isinstance(c, bool) and c >= 0]
        if not ints or len(ints) != len(classes) or len(set(ints)) != len(ints):
            raise InputError(f"classes: got {classes!r}, expected different whole numbers from 0 on, as they stand in scores (n, C)")
        classes = tuple(int(c) for c in ints)
    return Classes(outputs, classes, distance)


def asked_of(notion: Notion, how: Classes, targets: Any, count: int, n: int) -> list[tuple[Part, Notion, Any]]:
    """(part, notion, targets (n,)) of one number a sample, for each problem that ``notion`` is of ``count`` numbers a sample."""
    named = range(count) if how.classes is None else how.classes
    if max(named) >= count:
        raise InputError(f"classes: got {max(named)}, expected numbers below {count}, for scores have {count} columns")
    if not notion.needs_targets:
        return [(Part(c), notion, None) for c in named]
    true = _read_targets(notion, how, targets, count, n)
    if how.outputs == "independent":
        return [(Part(c), notion, true[:, c]) for c in named]
    if isinstance(notion, EqualizedOdds):
        one = EqualOpportunity(notion.attribute, tolerance=notion.tolerance, to=notion.to, given=notion.given)
        return [
            (Part(c, f"among true class {k}"), one, (true == k).to(torch.float64))
            for c in named
            for k in range(count)
            if bool((true == k).any())
        ]
    if any(isinstance(leaf.notion, EqualizedOdds) for leaf in notion.leaves()):
        raise UnsupportedError("EqualizedOdds of several classes: not supported softened; ask for it by itself, or joined with &")
    return [(Part(c), notion, (true == c).to(torch.float64)) for c in named]


def _read_targets(notion: Notion, how: Classes, targets: Any, count: int, n: int) -> Tensor:
    """The true classes (n,), or one label a score (n, count)."""
    if targets is None:
        raise InputError(f"targets: got None, expected the true class of each sample, for {notion!r} is about labels")
    if how.outputs == "independent":
        table = torch.as_tensor(targets, device="cpu")
        if tuple(table.shape) != (n, count):
            raise InputError(
                f"targets: got shape {tuple(table.shape)}, expected ({n}, {count}): one label a score, for outputs='independent'"
            )
        return table
    true = numbers(targets, n, "targets").detach().to("cpu", torch.float64)
    if not bool(((true >= 0) & (true < count) & (true == true.round())).all()):
        raise InputError(
            f"targets: got {float(true.min())} to {float(true.max())}, expected whole numbers from 0 to {count - 1}, the true classes"
        )
    return true


def parts_of(notion: Notion, how: Classes, targets: Any, count: int, n: int, make: MakeOne[Made]) -> list[tuple[Part, Made]]:
    """What ``make`` makes of ``notion`` for each class by itself, or where it names classes, of all at once."""
    odds = any(isinstance(leaf.notion, EqualizedOdds) for leaf in notion.leaves())
    if isinstance(notion, Joined) and odds:  # which is another notion for each true class
        return _by_part(notion, how, targets, count, n, make)
    try:
        return [(part, make(part, one, own, None)) for part, one, own in asked_of(notion, how, targets, count, n)]
    except NamesOutput:
        if isinstance(notion, Joined):
            return _by_part(notion, how, targets, count, n, make)
    if how.classes is not None:
        raise InputError(f"classes: got {how.classes!r} beside {notion!r}, expected None: that notion names its outputs")
    true = _read_targets(notion, how, targets, count, n) if notion.needs_targets else None
    return [(Part(None), make(Part(None), notion, true.T.reshape(-1) if true is not None and true.dim() == 2 else true, count))]


def _by_part(notion: Joined, how: Classes, targets: Any, count: int, n: int, make: MakeOne[Made]) -> list[tuple[Part, Made]]:
    return [one for part in notion.parts for one in parts_of(part, how, targets, count, n, make)]
