"""Parity of residuals y - target: no group is over- or under-predicted more than another, or at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fairopt.notions.batch import Batch
from fairopt.notions.functional import Constraint, Functional
from fairopt.notions.group_notion import GroupNotion


class _Residual(GroupNotion):
    def __init__(self, attribute: str | tuple[str, ...], *, tolerance: Any, given: str | tuple[str, ...] | None = None) -> None:
        super().__init__(attribute, given)
        self.tolerance = self.checked_tolerance(tolerance)

    @property
    def arguments(self) -> dict[str, Any]:
        return {"attribute": self.attribute, "tolerance": self.tolerance, "given": self.given}

    @property
    def needs_targets(self) -> bool:
        return True

    def _residuals(self, batch: Batch) -> Iterator[tuple[list[Functional], str]]:
        """mean over g of (y - target), for the groups g of each stratum."""
        targets = batch.targets
        for stratum, given in batch.strata(self.given):
            groups = [(g, g & stratum) for g in batch.groups(self.attribute)]
            yield [(batch.mean(e) - batch.mean(e, of=targets)).named(g.name) for g, e in groups], given


class MeanResidual(_Residual):
    """abs(mean over g of (y - target)) <= tolerance for each group g.

    Arguments and errors as in ``DemographicParity``.

    Examples:
        >>> notion = fo.MeanResidual("sex", tolerance=0)
        >>> fo.project([0.2, 0.4, 0.6], notion, sensitive_features=["f", "f", "m"], targets=[0, 1, 1])
        [0.4, 0.6, 1.0]
    """

    def constraints(self, batch: Batch) -> Iterator[Constraint]:
        for residuals, given in self._residuals(batch):
            for residual in residuals:
                yield (abs(residual) <= self.tolerance).tagged(self.words, given)


class ResidualParity(_Residual):
    """Range over the groups g of mean over g of (y - target) <= tolerance.

    Arguments and errors as in ``DemographicParity``.

    Examples:
        >>> scores, sex = torch.tensor([0.2, 0.4, 0.6]), ["f", "f", "m"]
        >>> fo.project(scores, fo.ResidualParity("sex", tolerance=0), sensitive_features=sex, targets=[0, 1, 1])
        tensor([0.1333, 0.3333, 0.7333])
    """

    def constraints(self, batch: Batch) -> Iterator[Constraint]:
        for residuals, given in self._residuals(batch):
            yield (batch.range(residuals) <= self.tolerance).tagged(self.words, given)
