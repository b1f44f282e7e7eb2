"""What a page may call a loss or a win: the table that stands first, and how an interval is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fairopt.basics.table import Table
from fairopt.experiments.evidence.bootstrap import Error
from fairopt.experiments.evidence.comparisons import Comparison
from fairopt.experiments.reproduce import Section

ORDER = {"loses": 0, "wins": 1}
MOST_DIGITS = 6
Named = tuple[tuple[Any, ...], Comparison]  # where the comparison was made, in the words of the columns ``heads``


def losses_and_wins(heads: tuple[str, ...], compared: Sequence[Named], quality: str = "accuracy") -> Section:
    """Losses first, then wins, then how often nothing was shown. ``heads``: titles of the columns that say where."""
    shown = sorted((c for c in compared if c[1].outcome in ORDER), key=lambda c: ORDER[c[1].outcome])
    rows = tuple(
        (c.outcome, *where, c.first, c.second, c.quality.estimate, interval(c.quality), c.gap.estimate, interval(c.gap), c.p)
        for where, c in shown
    )
    columns = (
        "outcome", *heads, "first", "second", f"{quality}, difference", "95 %", "gap, difference", "95 % of it", "p, corrected",
    )  # fmt: skip
    losses, wins = (sum(c.outcome == word for _, c in compared) for word in ORDER)
    unknown = sum(c.p is None for _, c in compared)
    said = f"{losses} losses, {wins} wins, {len(compared) - losses - wins - unknown} comparisons with no difference shown."
    if unknown:
        said += f" {unknown} without a verdict: too few seeds, or a figure that a draw has not."
    return Section("Losses and wins of the comparisons named beforehand", Table(columns, rows), verdicts=(said,))


def interval(error: Error) -> str | None:
    """None where there is none. Two digits of the width at least, and four decimals."""
    if error.low is None or error.high is None:
        return None
    width = error.high - error.low
    digits = 4 if not width > 0 else min(max(4, 1 - math.floor(math.log10(width))), MOST_DIGITS)
    return f"[{error.low:.{digits}f}, {error.high:.{digits}f}]"
