"""The audit of a data set by its compositions: gaps and groups before and after, in exact arithmetic, whatever the number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from fairopt.auditing.apart import RATES, told_apart
from fairopt.auditing.exact_means import ExactMeans
from fairopt.auditing.gap_table import records
from fairopt.basics.arrays import IntArray
from fairopt.basics.table import Table, group_word, joined_words
from fairopt.datasets.report import GAPS, GROUPS, Audited
from fairopt.datasets.solving import Positions
from fairopt.datasets.survey import Survey
from fairopt.notions.algebra import Notion, constraints_on
from fairopt.notions.functional import Constraint
from fairopt.notions.groups import Missing, Vocabulary
from fairopt.solve.passes.whole_sums import UNIT

MOST_IN_PAIRS = 100  # groups of a range of which every pair is listed


def audited(
    notion: Notion | None, survey: Survey, positions: Positions, missing: Missing, attributes: Sequence[str | tuple[str, ...]],
    names: Sequence[str], after: Sequence[int], chosen: IntArray,
) -> Audited:  # fmt: skip
    """The tables, from exact sums ``after`` (K,) and decisions ``chosen`` (K,) of the compositions; ``names``: the attributes of a key.

    Without a notion no gaps: those of one that weighs each row are not told by compositions.
    """
    batch = positions.batch(missing)
    read = [] if notion is None else constraints_on(notion, batch, written_out=True)
    every = [c for _, c in read]
    exact = [ExactMeans(positions.spread([Fraction(s, 1 << UNIT) for s in sums]), batch, every) for sums in (survey.scores, after)]
    about = [(leaf, constraint) for leaf, constraint in read if leaf.notion.name in RATES]
    decided = ExactMeans(positions.spread([Fraction(int(ones)) for ones in chosen]), batch, [c for _, c in about])
    notes = told_apart(about, exact[1], decided) if about else []
    read = [(leaf, _widest(constraint, exact)) for leaf, constraint in read]
    both = [[row for leaf, constraint in read for row in records(leaf, constraint, means)] for means in exact]
    gaps = [{**b, "before": a["gap"], "after": b["gap"], "status_before": a["status"]} for a, b in zip(*both, strict=True)]
    rows = [row for attribute in attributes for row in _groups(attribute, survey, names, after, chosen)]
    return Audited(Table.from_records(GAPS, gaps), Table.from_records(GROUPS, rows), tuple(notes))


def _widest(constraint: Constraint, exact: Sequence[ExactMeans]) -> Constraint:
    """A range of many groups as one of those that are largest or smallest before or after: its widest gaps are theirs."""
    if constraint.width is None or len(constraint.functionals) <= MOST_IN_PAIRS:
        return constraint
    ends: dict[int, None] = {}
    for means in exact:
        known = [(value, k) for k, value in enumerate(map(means.value, constraint.functionals)) if value is not None]
        if known:
            ends |= dict.fromkeys((min(known)[1], max(known)[1]))
    return replace(constraint, functionals=tuple(constraint.functionals[k] for k in sorted(ends)))


def _groups(
    attribute: str | tuple[str, ...], survey: Survey, names: Sequence[str], after: Sequence[int], chosen: IntArray
) -> list[dict[str, Any]]:
    parts = (attribute,) if isinstance(attribute, str) else attribute
    places = [names.index(part) for part in parts]
    ranks = [Vocabulary.of({key[j] for key in survey.keys}, name=names[j]).index for j in places]
    members: dict[tuple[Any, ...], list[int]] = {}
    for k, key in enumerate(survey.keys):
        members.setdefault(tuple(key[j] for j in places), []).append(k)
    rows = []
    for values in sorted(members, key=lambda group: tuple(rank[v] for rank, v in zip(ranks, group, strict=True))):
        inside = members[values]
        n = int(survey.counts[inside].sum())
        sums = [float(Fraction(sum(column[k] for k in inside), n << UNIT)) for column in (survey.scores, after)]
        rates = [int(np.asarray(column)[inside].sum()) / n for column in (survey.chosen, chosen)]
        words = joined_words(group_word(v) for v in values) if len(values) > 1 else group_word(values[0])
        rows.append(dict(zip(GROUPS, (" & ".join(parts), words, n, *sums, *rates), strict=True)))
    return rows
