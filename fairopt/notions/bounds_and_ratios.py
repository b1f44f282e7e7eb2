"""Ratio, bound and covariance forms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from fairopt.basics.errors import InputError
from fairopt.notions.amount import amount, check_at_least, is_number
from fairopt.notions.batch import Batch
from fairopt.notions.functional import Constraint
from fairopt.notions.group_notion import GroupNotion


class ImpactRatio(GroupNotion):
    """The smallest group mean is at least ``ratio`` times the largest, 0 <= ratio <= 1 (the four-fifths rule at 0.8).

    For scores >= 0: with two or more groups and ratio < 1 it implies that every group mean is >= 0 (claim L2), a surprise on logits.
    ``attribute`` and ``given`` are as in ``DemographicParity``. InputError for a ratio outside [0, 1].
    One constraint in each stratum: ``ratio * largest mean - smallest mean <= 0``; what softness prices is how far that is above 0.

    Examples:
        >>> scores, sex = torch.tensor([0.2, 0.6]), ["f", "m"]
        >>> fo.project(scores, fo.ImpactRatio("sex", ratio=0.8), sensitive_features=sex)
        tensor([0.3707, 0.4634])
    """

    def __init__(self, attribute: str | tuple[str, ...], *, ratio: float = 0.8, given: str | tuple[str, ...] | None = None) -> None:
        super().__init__(attribute, given)
        if not is_number(ratio) or (isinstance(ratio, Tensor) and ratio.requires_grad) or not 0.0 <= float(ratio) <= 1.0:
            raise InputError(f"ratio of ImpactRatio must be a plain number in [0, 1], came {ratio!r}")
        self.ratio = float(ratio)

    @property
    def arguments(self) -> dict[str, Any]:
        return {"attribute": self.attribute, "ratio": self.ratio, "given": self.given}

    def constraints(self, batch: Batch) -> Iterator[Constraint]:
        for stratum, given in batch.strata(self.given):
            means = batch.group_means(self.attribute, stratum)
            if len(means) > 1:
                yield (batch.range(means, ratio=self.ratio) <= 0).tagged(self.words, given)


class GroupMeanBound(GroupNotion):
    """lower <= mean of the scores over each group <= upper; either may be None (open).

    attribute  a key of sensitive_features, or several: the groups are then their combinations;  given  the same in each of its strata

    InputError where both are None and for limits that cross.

    Examples:
        >>> scores, sex = torch.tensor([0.2, 0.6]), ["f", "m"]
        >>> fo.project(scores, fo.GroupMeanBound("sex", lower=0.3), sensitive_features=sex)
        tensor([0.3000, 0.6000])
    """

    def __init__(
        self, attribute: str | tuple[str, ...], *, lower: Any = None, upper: Any = None, given: str | tuple[str, ...] | None = None
    ) -> None:
        super().__init__(attribute, given)
        if lower is None and upper is None:
            raise InputError("GroupMeanBound needs lower, upper or both")
        for word, limit in (("lower", lower), ("upper", upper)):
            if limit is not None:
                check_at_least(limit, float("-inf"), f"{word} of GroupMeanBound")
        if lower is not None and upper is not None and amount(lower, "lower").value() > amount(upper, "upper").value():
            raise InputError(f"GroupMeanBound has lower {lower!r} > upper {upper!r}")
        self.lower, self.upper = lower, upper

    @property
    def arguments(self) -> dict[str, Any]:
        return {"attribute": self.attribute, "lower": self.lower, "upper": self.upper, "given": self.given}

    def constraints(self, batch: Batch) -> Iterator[Constraint]:
        lower = None if self.lower is None else amount(self.lower, "lower")
        upper = None if self.upper is None else amount(self.upper, "upper")
        for stratum, given in batch.strata(self.given):
            for g in batch.groups(self.attribute):
                mean = batch.mean((g & stratum).named(g.name))
                yield Constraint((mean,), lower=lower, upper=upper, attribute=self.words, given=given)


class ScoreCovariance(GroupNotion):
    """abs(1/n sum_i (s_i - mean s) y_i) <= tolerance for a continuous attribute s: a row with a weight of its own a sample.

    ``tolerance`` >= 0 in units of s times the scores. InputError where ``attribute`` is not one name.

    Examples:
        >>> notion = fo.ScoreCovariance("age", tolerance=0)
        >>> fo.project([0.1, 0.2, 0.6], notion, sensitive_features={"age": [20.0, 30.0, 40.0]})
        [0.35, 0.2, 0.35]
    """

    def __init__(self, attribute: str, *, tolerance: Any) -> None:
        super().__init__(attribute)
        if not isinstance(self.attribute, str):
            raise InputError(f"ScoreCovariance takes one continuous attribute, came {attribute!r}")
        self.tolerance = self.checked_tolerance(tolerance)

    @property
    def arguments(self) -> dict[str, Any]:
        return {"attribute": self.attribute, "tolerance": self.tolerance}

    def constraints(self, batch: Batch) -> Iterator[Constraint]:
        assert isinstance(self.attribute, str)
        s = batch.numbers(self.attribute)  # (n,)
        covariance = batch.weighted(s - s.mean(), centred=True).named("covariance")
        yield (abs(covariance) <= self.tolerance).tagged(self.words)
