"""The families of a notion object, and back. This module imports the notions, and with them torch; the single-row path does not."""

from __future__ import annotations

from collections.abc import Sequence

from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.notions import (
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    GroupMeanBound,
    MeanResidual,
    Notion,
    PredictiveEquality,
    ResidualParity,
)
from fairopt.streaming.families import Family, anchored, parity
from fairopt.streaming.from_constraints import derived_families

_INFINITY = float("inf")


def families_of(notion: object) -> tuple[Family, ...]:
    """One family a constraint kind. Notions of one's own are read off their constraints.

    UnsupportedError for soft notions, ``to=`` other than pairs, and forms that are no group means.
    """
    if not isinstance(notion, Notion):
        raise InputError(f"notion: expected a fairopt notion or a streaming Family, got {notion!r}")
    out: list[Family] = []
    for leaf in notion.leaves():
        if leaf.kind != "hard":
            raise UnsupportedError(f"a stream chooses its own softness; pass {leaf.notion!r} without .priced/.budgeted/.penalised")
        out.extend(_families(leaf.notion))
    return tuple(dict.fromkeys(out))


def _families(notion: Notion) -> list[Family]:
    if isinstance(notion, (DemographicParity, EqualOpportunity, PredictiveEquality, EqualizedOdds)):
        if notion.to != "pairs":
            raise UnsupportedError(f"{notion!r}: streams compare all pairs of groups; to={notion.to!r} has no proved controller")
        return [
            parity(notion.attribute, tolerance=float(notion.tolerance), given=notion.given or (), name=notion.name, condition=event)
            for event in notion.events
        ]
    if isinstance(notion, ResidualParity):
        return [parity(notion.attribute, tolerance=float(notion.tolerance), given=notion.given or (), name=notion.name, residual=True)]
    if isinstance(notion, MeanResidual):
        t = float(notion.tolerance)
        return [anchored(notion.attribute, lower=-t, upper=t, given=notion.given or (), name=notion.name, residual=True)]
    if isinstance(notion, GroupMeanBound):
        lower = -_INFINITY if notion.lower is None else float(notion.lower)
        upper = _INFINITY if notion.upper is None else float(notion.upper)
        return [anchored(notion.attribute, lower=lower, upper=upper, given=notion.given or (), name=notion.name)]
    return derived_families(notion)


def notion_of(families: Sequence[Family], *, tolerance: float | None = None) -> Notion:
    """The notion of range families, for the general solver; ``tolerance`` replaces every family's own."""
    joined: Notion | None = None
    by_condition = {None: DemographicParity, 1: EqualOpportunity, 0: PredictiveEquality}
    for family in families:
        attribute = family.attribute[0] if len(family.attribute) == 1 else family.attribute
        given = None if not family.given else family.given[0] if len(family.given) == 1 else family.given
        limit = family.upper if tolerance is None else tolerance
        part: Notion
        if family.kind == "anchored" and not family.residual:
            lower, upper = (v if abs(v) < _INFINITY else None for v in (family.lower, family.upper))
            part = GroupMeanBound(attribute, lower=lower, upper=upper, given=given)
        elif family.kind == "anchored":
            part = MeanResidual(attribute, tolerance=limit, given=given)
        elif family.residual:
            part = ResidualParity(attribute, tolerance=limit, given=given)
        else:
            part = by_condition[family.condition](attribute, tolerance=limit, given=given)
        joined = part if joined is None else joined & part
    if joined is None:
        raise InputError("notion: it holds no constraint")
    return joined
