"""Who is compared with whom, fixed beforehand, and what counts as a win."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fairopt.experiments.evidence.bases import BOOSTING, NETWORK
from fairopt.experiments.evidence.bootstrap import Drawn, Error, difference, holm
from fairopt.experiments.evidence.candidates import KL, SQUARED
from fairopt.experiments.evidence.protocol import GAP_MARGIN, LEVEL, Serving

Outcome = Literal["wins", "loses", "no difference shown"]


@dataclass(frozen=True)
class Comparison:
    """first minus second. p: of the quality, corrected over the table; None: nothing is known."""

    first: str
    second: str
    quality: Error
    gap: Error
    p: float | None

    @property
    def outcome(self) -> Outcome:
        """A win needs a quality that is shown to be better and a gap that is shown not to be larger by the margin."""
        if self.p is None or not self.p < LEVEL or self.gap.low is None or self.gap.high is None:
            return "no difference shown"
        if self.quality.estimate > 0 and self.gap.high < GAP_MARGIN:
            return "wins"
        if self.quality.estimate < 0 and -self.gap.low < GAP_MARGIN:
            return "loses"
        return "no difference shown"

    @property
    def outcome_or_none(self) -> Outcome | None:
        """None where there were too few seeds to say anything."""
        return None if self.p is None else self.outcome


def pairs(rows: Sequence[str], serving: Serving, values: bool) -> list[tuple[str, str]]:
    """The comparisons of a table with these rows."""
    if values:
        ours = f"{'FairPostprocessor' if serving == 'known' else 'projection of the batch'}, {BOOSTING}"
    else:
        ours = {
            "known": f"FairDecisions, {BOOSTING}",
            "unknown": f"{SQUARED}, alone",
            "batch": f"FairDecisions in the batch, {BOOSTING}",
        }[serving]
    found = [(ours, row) for row in rows if row != ours] if ours in rows else []
    if serving == "known" and not values:
        behind = f"FairDecisions, {NETWORK}"
        inside = [f"{layer}, frozen FairDecisions" for layer in (SQUARED, KL)]
        found += [(row, behind) for row in inside if row in rows and behind in rows]
    return found


def compare(drawn: Drawn, serving: Serving, values: bool) -> tuple[Comparison, ...]:
    """All comparisons of a table, corrected together."""
    asked = pairs(tuple(drawn.estimate["quality"]), serving, values)
    found = [(a, b, difference(drawn, "quality", a, b), difference(drawn, "gap", a, b)) for a, b in asked]
    corrected = holm([quality.p for _, _, quality, _ in found])
    return tuple(Comparison(*one, p) for one, p in zip(found, corrected, strict=True))
