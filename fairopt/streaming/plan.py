"""All families of a notion, and what can be promised for them: the plan that a controller follows. Loading this loads no torch.

Source: claims N2 (neutral reply) and P6.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fairopt.basics.errors import FairoptWarning, InputError
from fairopt.streaming.families import Family


@dataclass(frozen=True)
class Plan:
    """All families. ``coupled``: a sample can count in several. ``neutral``: claim N2's neutral reply exists (or none is needed).

    InputError for no family.

    Examples:
        >>> from fairopt.streaming import Plan, parity
        >>> Plan((parity("sex", tolerance=0.1), parity("race", tolerance=0.2))).coupled
        True
    """

    families: tuple[Family, ...]

    def __post_init__(self) -> None:
        if not self.families:
            raise InputError("notion: it holds no constraint")

    @property
    def pairs(self) -> list[tuple[Family, Family]]:
        """Pairs of families in which one sample can count."""
        f = self.families
        return [(a, b) for i, a in enumerate(f) for b in f[i + 1 :] if not a.disjoint(b)]

    @property
    def coupled(self) -> bool:
        """Whether one sample can count in several families."""
        return bool(self.pairs)

    @property
    def mixed(self) -> bool:
        """Marginal and conditional families joined, or means of different things: no neutral reply (claim P6)."""
        return any(a.population != b.population or a.kind != b.kind or a.residual != b.residual for a, b in self.pairs)

    def neutral(self, lb: float, ub: float) -> bool:
        """Whether some reply in the box never makes anything worse (N2).

        Range of scores: the overall mean. Anchored residuals: the target, when 0 is inside the limits. Anchored scores: a point of
        all intervals in the box. A range of residuals has none: the reply target + mean residual may lie outside the box.
        """
        if self.mixed:
            return False
        if any(f.kind == "range" and f.residual for f in self.families):
            return False
        if any(f.kind == "anchored" and f.residual and not f.lower <= 0.0 <= f.upper for f in self.families):
            return False
        bounds = [f for f in self.families if f.kind == "anchored" and not f.residual]
        return max([lb, *(f.lower for f in bounds)]) <= min([ub, *(f.upper for f in bounds)])

    @property
    def needs_targets(self) -> bool:
        """Whether a family is about labels or residuals."""
        return any(f.residual or f.condition is not None for f in self.families)

    @property
    def labels(self) -> str:
        """The name of a family about the labels 0 and 1, '' where there is none, or where other labels are asked for by number."""
        asked = [f for f in self.families if f.condition is not None]
        return asked[0].name if asked and all(f.condition in (0, 1) for f in asked) else ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The sensitive features that are read, in order of first use."""
        return tuple(dict.fromkeys(name for f in self.families for name in (*f.attribute, *f.given)))

    def warn_if_mixed(self, controller: str) -> None:
        """Warn, in the name of ``controller``, where no bound is proved because families of different means are joined."""
        if self.mixed:
            warnings.warn(
                f"{controller}: marginal and conditional notions (or notions on different means) are joined; no reply is neutral for all "
                "of them, so the past can make the tolerance unreachable and no bound is proved (claim P6)",
                FairoptWarning,
                stacklevel=4,
            )

    def to_dict(self) -> list[dict[str, Any]]:
        """As plain data, for a state."""
        return [asdict(f) for f in self.families]


def plan_of(notion: object) -> Plan:
    """The plan of a notion object, a ``Family`` or several families; UnsupportedError for a notion that is no group-mean constraint."""
    if isinstance(notion, Plan):
        return notion
    if isinstance(notion, Family):
        return Plan((notion,))
    if isinstance(notion, (tuple, list)) and all(isinstance(f, Family) for f in notion):
        return Plan(tuple(notion))
    from fairopt.streaming.from_notion import families_of  # imports the notions, and with them torch: not on the single-row path

    return Plan(families_of(notion))


def plan_from_dict(families: Iterable[Mapping[str, Any]]) -> Plan:
    """The inverse of ``Plan.to_dict``."""
    rows = [{**f, "attribute": tuple(f["attribute"]), "given": tuple(f["given"])} for f in families]
    return Plan(tuple(Family(**row) for row in rows))


__all__ = ["Plan", "plan_from_dict", "plan_of"]
