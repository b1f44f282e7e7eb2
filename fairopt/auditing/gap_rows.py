"""The gaps of scores and of decisions under a notion, each with its interval; and the exact check of every constraint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf, nextafter
from typing import Any

from fairopt.auditing.exact_means import ExactMeans
from fairopt.auditing.gap_table import COLUMNS, records
from fairopt.auditing.intervals import Estimator, Interval, gap_interval
from fairopt.auditing.sample import Sample, is_binary
from fairopt.basics.arrays import Array
from fairopt.basics.errors import InputError
from fairopt.basics.table import Table
from fairopt.notions.algebra import Leaf, Notion, constraints_on
from fairopt.notions.functional import Constraint

GAPS = ("quantity", *COLUMNS[:8], "low", "high", *COLUMNS[8:], "population", "interval")
SUMMARY = (
    "quantity", "notion", "attribute", "given", "comparisons", "met", "broken", "absent", "gap", "low", "high", "limit", "groups", "status",
)  # fmt: skip
ONE_GROUP, UNDEFINED, VACUOUS, NOTHING = "one group", "undefined", "vacuous", "vacuous: nothing to compare"


@dataclass(frozen=True)
class ExactCheck:
    """Whether a vector meets a notion, decided in exact rational arithmetic from the very numbers that were given.

    quantity      "score" or "decision";  notion  its words
    violation     constraint -> how far outside its limits (> 0) or inside (<= 0); None where a group is absent, so that nothing is asked
    max_violation the largest; None where no constraint could be checked
    holds         no constraint is broken (also where there is nothing to compare: see ``vacuous``)
    vacuous       ``checked`` is 0: nothing was asked, and nothing is certified
    verdict       "holds", "broken" or "vacuous"

    Examples:
        >>> features = {"sex": ["f", "m"]}
        >>> check, of_decisions = fo.audit([0.25, 0.75], fo.DemographicParity("sex", tolerance=0.25), sensitive_features=features).checks
        >>> check.verdict, check.max_violation
        ('broken', 0.25)
    """

    quantity: str
    notion: str
    violation: dict[str, float | None]
    checked: int

    @property
    def max_violation(self) -> float | None:
        """The largest violation; None where nothing could be checked."""
        return max((v for v in self.violation.values() if v is not None), default=None)

    @property
    def holds(self) -> bool:
        """Whether no constraint is broken."""
        return self.max_violation is None or self.max_violation <= 0

    @property
    def vacuous(self) -> bool:
        """Whether nothing was asked."""
        return not self.checked

    @property
    def verdict(self) -> str:
        """Says it in a word: "holds", "broken" or "vacuous"."""
        return VACUOUS if self.vacuous else "holds" if self.holds else "broken"

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {
            "quantity": self.quantity,
            "notion": self.notion,
            "verdict": self.verdict,
            "holds": self.holds,
            "vacuous": self.vacuous,
            "checked": self.checked,
            "max_violation": self.max_violation,
            "violation": dict(self.violation),
        }


Read = list[tuple[Leaf, Constraint]]


def read_constraints(sample: Sample, notion: Notion) -> Read:
    """The constraints of the sample under a notion. InputError for missing targets."""
    if notion.needs_targets and sample.targets is None:
        raise InputError(f"targets: got None, expected one a sample: {notion!r} is about targets")
    return constraints_on(notion, sample.batch, written_out=True)


Values = Array | Sequence[Fraction]  # of each sample, or sums over each position: what ``ExactMeans`` takes


def gap_rows(quantity: str, values: Values, sample: Sample, notion: Notion, read: Read, estimator: Estimator) -> list[dict[str, Any]]:
    """One row a pair of a range, or a linear constraint, with the interval of its gap.

    A notion, or a range, that has nothing to compare is a row that says so.
    """
    exact = ExactMeans(values, sample.batch, [c for _, c in read])
    asked = {id(leaf.notion) for leaf, _ in read}
    silent = [leaf for leaf in notion.leaves() if id(leaf.notion) not in asked]
    rows = [{**_silent(leaf), "quantity": quantity} for leaf in silent]
    for leaf, constraint in read:
        if quantity == "decision" and not _about_decisions(constraint, sample):
            rows.append({**_empty(leaf, constraint), "quantity": quantity, "status": UNDEFINED, "interval": "targets are not 0 or 1"})
            continue
        found = list(records(leaf, constraint, exact))
        if not found:
            rows.append({**_empty(leaf, constraint), "quantity": quantity, "status": ONE_GROUP, "interval": NOTHING})
            continue
        for record, interval in zip(found, _intervals(constraint, estimator), strict=True):
            rows.append({"quantity": quantity, **record, **_shown(record, interval)})
    return rows


def gap_table(rows: Sequence[dict[str, Any]]) -> Table:
    return Table.from_records(GAPS, rows)


def exact_check(quantity: str, values: Values, sample: Sample, read: Read, notion: Notion) -> ExactCheck:
    """The exact violation of every constraint."""
    exact = ExactMeans(values, sample.batch, [c for _, c in read])
    found: dict[str, float | None] = {}
    checked = 0
    for leaf, constraint in read:
        if quantity == "decision" and not _about_decisions(constraint, sample):
            continue
        violation = _violation(constraint, exact)
        label = _label(leaf, constraint)
        same = sum(known == label or known.startswith(f"{label} #") for known in found)
        found[f"{label} #{same + 1}" if same else label] = None if violation is None else _float(violation)
        checked += violation is not None
    return ExactCheck(quantity, repr(notion), found, checked)


def summary_table(gaps: Table) -> Table:
    """One row a quantity, notion, attribute and stratum: how many comparisons are met, and the worst of them with its interval.

    The worst is the one furthest beyond its limit; its interval is its own, not corrected for having been picked.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in gaps:
        groups.setdefault((row["quantity"], row["notion"], row["attribute"], row["given"]), []).append(row)
    return Table.from_records(SUMMARY, [_summary(key, rows) for key, rows in groups.items()])


def _summary(key: tuple[Any, ...], rows: list[dict[str, Any]]) -> dict[str, Any]:
    states = [row["status"] for row in rows]
    seen = [row for row in rows if row["gap"] is not None]
    worst = max(seen, key=lambda row: (row["gap"] - row["limit"], row["gap"]), default=None)
    status = VACUOUS if worst is None else "broken" if "broken" in states else "met"
    picked = dict.fromkeys(("gap", "low", "high", "limit")) if worst is None else {k: worst[k] for k in ("gap", "low", "high", "limit")}
    return {
        **dict(zip(SUMMARY[:4], key, strict=True)),
        "comparisons": len(seen),
        "met": states.count("met"),
        "broken": states.count("broken"),
        "absent": states.count("absent"),
        **picked,
        "groups": "" if worst is None else " / ".join(w for w in (worst["group_a"], worst["group_b"]) if w),
        "status": UNDEFINED if states and set(states) == {UNDEFINED} else status,
    }


def _intervals(constraint: Constraint, estimator: Estimator) -> list[Interval]:
    """Intervals of the gaps, in the order of ``records``."""
    if constraint.width is not None:
        return [gap_interval(one, 0.0, 0.0) for one in estimator.pairs(constraint.functionals)]
    lower = -inf if constraint.lower is None else constraint.lower.value()
    upper = inf if constraint.upper is None else constraint.upper.value()
    return [gap_interval(estimator.functional(constraint.functionals[0]), lower, upper)]


def _shown(record: dict[str, Any], interval: Interval) -> dict[str, Any]:
    """Columns of the interval. population: where the whole interval lies, inside the limit, outside it, or open."""
    low, high = interval.low, interval.high
    if record["gap"] is None:
        low = high = None
    if low is None or high is None:
        population = ""
    elif high <= record["limit"]:
        population = "inside"
    else:
        population = "outside" if low > record["limit"] else "open"
    return {"low": low, "high": high, "interval": interval.how, "population": population}


def _empty(leaf: Leaf, constraint: Constraint) -> dict[str, Any]:
    """A row about a constraint that compares nothing."""
    only = constraint.functionals[0].label() if len(constraint.functionals) == 1 else ""
    limit = next((a.value() for a in (constraint.width, constraint.upper, constraint.lower) if a is not None), None)
    return {
        **dict.fromkeys(GAPS),
        "notion": leaf.notion.name,
        "attribute": constraint.attribute,
        "given": constraint.given,
        "group_a": only,
        "group_b": "",
        "limit": limit,
        "population": "",
    }


def _silent(leaf: Leaf) -> dict[str, Any]:
    """A row about a notion that yields no constraint on this sample: pairs of groups where there is one group, for example."""
    words = dict.fromkeys(("given", "group_a", "group_b", "population"), "")
    attribute = " & ".join(leaf.notion.attributes)
    return {**dict.fromkeys(GAPS), **words, "notion": leaf.notion.name, "attribute": attribute, "interval": NOTHING, "status": ONE_GROUP}


def _about_decisions(constraint: Constraint, sample: Sample) -> bool:
    """A residual of decisions means something only where targets are 0 or 1 as well."""
    used = {v for f in constraint.functionals for _, _, v in f.constants}
    if used and sample.totals is not None and not sample.totals.binary:  # what stands for targets is any numbers of the same sum
        return False
    return all(is_binary(sample.batch.values[v].detach().to("cpu").double().numpy()) for v in used)


def _violation(constraint: Constraint, exact: ExactMeans) -> Fraction | None:
    values = [v for v in map(exact.value, constraint.functionals) if v is not None]
    if constraint.width is not None:
        return max(values) - min(values) - Fraction(constraint.width.value()) if len(values) > 1 else None
    if not values:
        return None
    lower, upper = constraint.lower, constraint.upper
    sides = [] if upper is None or upper.value() == inf else [values[0] - Fraction(upper.value())]
    sides += [] if lower is None or lower.value() == -inf else [Fraction(lower.value()) - values[0]]
    return max(sides, default=None)


def _label(leaf: Leaf, constraint: Constraint) -> str:
    where = ", ".join(w for w in (constraint.attribute, constraint.given) if w)
    own = "" if constraint.width is not None else f": {constraint.functionals[0].label()}"
    return f"{leaf.notion.name}({where}){own}"


def _float(violation: Fraction) -> float:
    """The nearest float64 that keeps the sign: a violation below the smallest float is still one."""
    near = float(violation)
    return nextafter(0.0, 1.0) if violation > 0 and near == 0.0 else near
