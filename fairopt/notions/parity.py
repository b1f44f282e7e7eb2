"""Parity of group means: demographic parity, equal opportunity, predictive equality, equalized odds.

    DemographicParity     mean of the scores over each group
    EqualOpportunity      the same among samples with target 1
    PredictiveEquality    the same among samples with target 0
    EqualizedOdds         both

``to="pairs"``: every two groups within ``tolerance`` (one range constraint); ``"overall"``: every group within ``tolerance`` of the mean of
all; ``Reference(value)``: every group within ``tolerance`` of that one. ``given`` names an attribute: the same in each of its strata.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from fairopt.basics.errors import InputError
from fairopt.notions.batch import Batch
from fairopt.notions.events import Mask
from fairopt.notions.functional import Constraint
from fairopt.notions.group_notion import GroupNotion


@dataclass(frozen=True)
class Reference:
    """Compare every group with the group ``value`` (a tuple of values for an intersection of attributes).

    Examples:
        >>> notion = fo.DemographicParity("sex", tolerance=0, to=fo.Reference("m"))
        >>> fo.project([0.2, 0.6], notion, sensitive_features=["f", "m"])
        [0.4, 0.4]
    """

    value: Any


To = Literal["pairs", "overall"] | Reference


class Parity(GroupNotion):
    """Group means within a tolerance of each other, among the samples of each event."""

    events: ClassVar[tuple[int | None, ...]] = (None,)  # None: everyone; t: samples with that target

    def __init__(
        self, attribute: str | tuple[str, ...], *, tolerance: Any, to: To = "pairs", given: str | tuple[str, ...] | None = None
    ) -> None:
        super().__init__(attribute, given)
        self.tolerance = self.checked_tolerance(tolerance)
        if to not in ("pairs", "overall") and not isinstance(to, Reference):
            raise InputError(f"to must be 'pairs', 'overall' or fairopt.Reference(value), came {to!r}")
        self.to: To = to

    @property
    def arguments(self) -> dict[str, Any]:
        to = None if self.to == "pairs" else self.to
        return {"attribute": self.attribute, "tolerance": self.tolerance, "to": to, "given": self.given}

    @property
    def needs_targets(self) -> bool:
        return self.events != (None,)

    def constraints(self, batch: Batch) -> Iterator[Constraint]:
        if self.needs_targets:
            batch.targets.expect_binary(self.name)
        for target in self.events:
            event, words = (batch.everyone, "") if target is None else (batch.targets == target, f"target={target}")
            for stratum, given in batch.strata(self.given):
                context = ", ".join(w for w in (given, words) if w)
                yield from (c.tagged(self.words, context) for c in self._compared(batch, stratum & event))

    def _compared(self, batch: Batch, event: Mask) -> Iterator[Constraint]:
        if self.to == "pairs":
            yield batch.range(batch.group_means(self.attribute, event)) <= self.tolerance
            return
        groups = [(g & event).named(g.name) for g in batch.groups(self.attribute)]
        if isinstance(self.to, Reference):
            chosen = batch.group(self.attribute, self.to.value)
            # a reference that no vocabulary knows yet is an absent group: nobody
            nobody = (~batch.everyone).named(str(self.to.value))
            base = nobody if chosen is None else (chosen & event).named(chosen.name)
        else:
            base = event.named("overall")
        for group in groups:
            if group.key != base.key:
                yield abs(batch.mean(group) - batch.mean(base)) <= self.tolerance


class DemographicParity(Parity):
    """Group means of the scores within ``tolerance``.

    attribute  a key of sensitive_features, or several: the groups are then their combinations
    tolerance  >= 0, in units of the scores; a tensor may carry gradients
    to         what a group's mean is held to: every other group's ("pairs"), that of all ("overall"), or one group's, ``Reference(value)``
    given      an attribute, or several: the same in each of its strata

    InputError for a tolerance below 0 and a ``to`` that is none of these.

    Examples:
        >>> scores, sex = torch.tensor([0.2, 0.6]), ["f", "m"]
        >>> fo.project(scores, fo.DemographicParity("sex", tolerance=0.1), sensitive_features=sex)
        tensor([0.3500, 0.4500])
    """


class EqualOpportunity(Parity):
    """Group means among samples with target 1 within ``tolerance``.

    Arguments and errors as in ``DemographicParity``.

    Examples:
        >>> notion = fo.EqualOpportunity("sex", tolerance=0)
        >>> fo.project([0.2, 0.1, 0.6, 0.9], notion, sensitive_features=["f", "f", "m", "m"], targets=[1, 0, 1, 0])
        [0.4, 0.1, 0.4, 0.9]
    """

    events = (1,)


class PredictiveEquality(Parity):
    """Group means among samples with target 0 within ``tolerance``.

    Arguments and errors as in ``DemographicParity``.

    Examples:
        >>> notion = fo.PredictiveEquality("sex", tolerance=0)
        >>> fo.project([0.2, 0.1, 0.6, 0.9], notion, sensitive_features=["f", "f", "m", "m"], targets=[1, 0, 1, 0])
        [0.2, 0.5, 0.6, 0.5]
    """

    events = (0,)


class EqualizedOdds(Parity):
    """Equal opportunity and predictive equality.

    Arguments and errors as in ``DemographicParity``.

    Examples:
        >>> notion = fo.EqualizedOdds("sex", tolerance=0)
        >>> fo.project([0.2, 0.1, 0.6, 0.9], notion, sensitive_features=["f", "f", "m", "m"], targets=[1, 0, 1, 0])
        [0.4, 0.5, 0.4, 0.5]
    """

    events = (1, 0)
