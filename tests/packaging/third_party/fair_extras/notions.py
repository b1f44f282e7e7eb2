"""A notion in three lines: one group's mean is at least another's, up to a tolerance."""

from __future__ import annotations

from collections.abc import Iterator

import fairopt as fo
from fairopt.notions import Batch, Constraint


@fo.notion
def no_worse_than(batch: Batch, attribute: str, tolerance: float) -> Iterator[Constraint]:
    """Every group's mean is at least the overall mean minus the tolerance: nobody is left behind, nobody is held back."""
    for group in batch.groups(attribute):
        yield batch.mean(group) >= batch.mean() - tolerance
