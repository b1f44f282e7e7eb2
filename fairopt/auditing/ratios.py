"""Selection rates and their ratios, in two formats. They are arithmetic on the given decisions and no verdict of any kind.

Four-fifths: the rate of each group over the highest group's rate, and whether that is below 4/5, the comparison of the Uniform
Guidelines on Employee Selection Procedures, 29 CFR 1607.4(D).

Local Law 144: what the rules on automated employment decision tools of New York City (6 RCNY 5-300 and 5-301) have a bias audit calculate:
number of applicants, selection rate (or scoring rate: the share with a score above the median of the full sample) and impact ratio, for
sex, for race/ethnicity, and for their intersections. Individuals in an unknown category are counted and left out; a category of less than
2 % of the data may be left out of the impact ratios, and is still shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from fairopt.auditing.intervals import Estimator
from fairopt.auditing.sample import Groups, Sample, sizes_of
from fairopt.basics.arrays import Array, BoolArray
from fairopt.basics.columns import Value
from fairopt.basics.errors import InputError
from fairopt.basics.table import Table

FOUR_FIFTHS = ("attribute", "group", "n", "selected", "selection_rate", "low", "high", "ratio", "below_four_fifths", "note")
SELECTION = ("category", "applicants", "selected", "selection_rate", "impact_ratio", "note")
SCORING = ("category", "applicants", "above_median", "scoring_rate", "impact_ratio", "note")


@dataclass(frozen=True)
class LocalLaw144:
    """Which columns hold the categories. sex, race: names in sensitive_features; unknown: values that mean an unknown category, beside a
    missing one; exclude_below: share of the data below which a category is left out of the impact ratios (0: none is). InputError for a
    share outside [0, 1) and columns that are no names.

    Examples:
        >>> from fairopt.auditing import LocalLaw144
        >>> features = {"sex": ["f", "f", "m", "m"], "race": ["a", "b", "a", "b"]}
        >>> notion = fo.DemographicParity("sex", tolerance=0.1)
        >>> report = fo.audit([0.2, 0.8, 0.4, 0.9], notion, sensitive_features=features, local_law=LocalLaw144("sex", "race"))
        >>> list(report.local_law)[:3]
        ['selection, sex', 'selection, race/ethnicity', 'selection, intersectional']
    """

    sex: str
    race: str
    unknown: tuple[Value, ...] = ()
    exclude_below: float = 0.02

    def __post_init__(self) -> None:
        if not isinstance(self.sex, str) or not isinstance(self.race, str) or self.sex == self.race:
            raise InputError(f"local_law: got sex={self.sex!r}, race={self.race!r}, expected two names of sensitive_features")
        if not 0.0 <= self.exclude_below < 1.0:
            raise InputError(f"exclude_below: got {self.exclude_below!r}, expected a share in [0, 1)")


def read_local_law(given: Any) -> LocalLaw144 | None:
    """None, a LocalLaw144, or a pair (sex, race) of column names."""
    if given is None or isinstance(given, LocalLaw144):
        return given
    if isinstance(given, tuple | list) and len(given) == 2:
        return LocalLaw144(*given)
    raise InputError(f"local_law: got {given!r}, expected the names of the sex and race columns, e.g. ('sex', 'race')")


def four_fifths(sample: Sample, attributes: Sequence[Groups], estimator: Estimator) -> Table:
    """One row a group. ratio: selection rate over the highest; below_four_fifths is decided in whole numbers."""
    records: list[dict[str, Any]] = []
    for groups in attributes:
        sizes, selected = _counts(groups, sample.decisions)
        rates = [Fraction(s, n) if n else None for s, n in zip(selected, sizes, strict=True)]
        highest = max((r for r in rates if r is not None), default=Fraction(0))
        for k, name in enumerate(groups.names):
            rate = rates[k]
            interval = estimator.mean(groups.members(k), sample.decisions, "selection_rate")
            ratio = rate / highest if rate is not None and highest else None
            records.append(
                {
                    "attribute": groups.words, "group": name, "n": sizes[k], "selected": selected[k],
                    "selection_rate": None if rate is None else float(rate), "low": interval.low, "high": interval.high,
                    "ratio": None if ratio is None else float(ratio),
                    "below_four_fifths": None if ratio is None else ratio < Fraction(4, 5),
                    "note": _note(sizes, k, highest, interval.how),
                }
            )  # fmt: skip
    return Table.from_records(FOUR_FIFTHS, records)


def _note(sizes: list[int], k: int, highest: Fraction, how: str) -> str:
    if not sizes[k]:
        return "nobody in this group"
    if sum(size > 0 for size in sizes) == 1:
        return "the only group: nothing to compare"
    if not highest:
        return "nobody was selected in any group: no ratio"
    return "" if how.startswith("Clopper") else how


def local_law_tables(sample: Sample, law: LocalLaw144) -> dict[str, Table]:
    """Title -> table: selection rates and scoring rates, each by sex, by race/ethnicity and by both. The last row counts the unknown."""
    above = (sample.scores > np.median(sample.scores)).astype(np.float64)  # the median of the full sample, 6 RCNY 5-301(c)(1)
    forms: tuple[tuple[str, tuple[str, ...], Array], ...] = (("selection", SELECTION, sample.decisions), ("scoring", SCORING, above))
    titles: tuple[tuple[str, str | tuple[str, str]], ...] = (
        ("sex", law.sex),
        ("race/ethnicity", law.race),
        ("intersectional", (law.sex, law.race)),
    )
    return {
        f"{form}, {title}": _category_table(sample.groups(attribute), chosen, law, columns, f"{form} rate, {title} categories")
        for form, columns, chosen in forms
        for title, attribute in titles
    }


def _category_table(groups: Groups, chosen: Array, law: LocalLaw144, columns: tuple[str, ...], title: str) -> Table:
    sizes, selected = _counts(groups, chosen)
    n = sum(sizes)
    unknown = [any(v is None or v in law.unknown for v in value) for value in groups.values]
    few = [size < law.exclude_below * n for size in sizes]
    compared = [k for k in range(len(sizes)) if sizes[k] and not unknown[k] and not few[k]]
    highest = max((Fraction(selected[k], sizes[k]) for k in compared), default=Fraction(0))
    rows: list[tuple[Any, ...]] = []
    for k, name in enumerate(groups.names):
        if unknown[k]:
            continue
        rate = Fraction(selected[k], sizes[k]) if sizes[k] else None
        ratio = rate / highest if rate is not None and k in compared and highest else None
        note = "" if ratio is not None else "no one in this category" if rate is None else "nobody was selected: no ratio"
        if rate is not None and few[k]:
            note = f"less than {law.exclude_below:.0%} of the data: left out of the impact ratios"
        rows.append((name, sizes[k], selected[k], None if rate is None else float(rate), None if ratio is None else float(ratio), note))
    left_out = sum(size for size, is_unknown in zip(sizes, unknown, strict=True) if is_unknown)
    rows.append(("unknown category", left_out, None, None, None, "not in the calculations above"))
    return Table(columns, tuple(rows), title)


def _counts(groups: Groups, chosen: Array) -> tuple[list[int], list[int]]:
    """Samples and ones of each group."""
    ones: BoolArray = chosen == 1
    copies = None if groups.copies is None else groups.copies[ones]
    return groups.counts.tolist(), sizes_of(groups.codes[ones], len(groups.values), copies).tolist()
