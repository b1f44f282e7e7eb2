"""What a controller keeps fair, as plain data: families of group means, without torch.

A *family* is one constraint on the means of one attribute's groups, per stratum: their range is at most ``tolerance`` (kind "range"),
or each lies in [lower, upper] ("anchored"). ``condition`` keeps only the samples with that target, ``residual`` takes means of
score minus target. Equalised odds is two families. A ``Plan`` is all families of a notion and what can be promised for them.

Source: DESIGN 4 (the notions), claims N2 (neutral reply) and P6.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fairopt.basics.errors import FairoptWarning, InputError

Kind = Literal["range", "anchored"]


@dataclass(frozen=True)
class Family:
    """One constraint on the group means of ``attribute`` (several names: their intersection), in each stratum of ``given``.

    lower, upper: "range" uses [0, tolerance] as the width (upper = tolerance, lower = 0); "anchored" the interval itself.
    """

    name: str
    attribute: tuple[str, ...]
    kind: Kind
    lower: float
    upper: float
    given: tuple[str, ...] = ()
    condition: int | None = None
    residual: bool = False

    @property
    def label(self) -> str:
        text = f"{self.name}({' & '.join(self.attribute)}"
        text += f", given {' & '.join(self.given)})" if self.given else ")"
        return text if self.condition is None else f"{text} | target={self.condition}"

    @property
    def width(self) -> float:
        """The tolerance on the range, or the width of the interval."""
        return self.upper - self.lower

    @property
    def limit_of_gap(self) -> float:
        """What the gap must not exceed: the tolerance, or half the width of an interval (0 where a side is open)."""
        if self.kind == "range":
            return self.upper
        return self.width / 2 if self.width != float("inf") else 0.0

    @property
    def population(self) -> tuple[tuple[str, ...], int | None]:
        """Which samples count: two families with the same strata and condition partition the same population."""
        return tuple(sorted(self.given)), self.condition

    def disjoint(self, other: Family) -> bool:
        """No sample counts in both."""
        return None not in (self.condition, other.condition) and self.condition != other.condition


def parity(attribute: str | tuple[str, ...], *, tolerance: float, given: str | tuple[str, ...] = (), name: str = "DemographicParity",
           condition: int | None = None, residual: bool = False) -> Family:  # fmt: skip
    """A range family: all group means within ``tolerance``. The torch-free twin of ``fo.DemographicParity``."""
    return Family(name, _names(attribute), "range", 0.0, _number(tolerance, "tolerance"), _names(given), condition, residual)


def anchored(attribute: str | tuple[str, ...], *, lower: float, upper: float, name: str = "GroupMeanBound",
             given: str | tuple[str, ...] = (), residual: bool = False) -> Family:  # fmt: skip
    """Each group mean in [lower, upper]. The torch-free twin of ``fo.GroupMeanBound`` and (residual) ``fo.MeanResidual``."""
    if not float(lower) <= float(upper):
        raise InputError(f"anchored: lower {lower!r} is above upper {upper!r}")
    return Family(name, _names(attribute), "anchored", float(lower), float(upper), _names(given), None, residual)


NOTIONS = ("demographic_parity", "equal_opportunity", "predictive_equality", "equalized_odds", "residual_parity", "mean_residual")


def named(notion: str, attribute: str | tuple[str, ...], tolerance: float, given: str | tuple[str, ...] = ()) -> tuple[Family, ...]:
    """The families of a notion given by its name, as on the command line: one of ``NOTIONS``."""
    if notion == "demographic_parity":
        return (parity(attribute, tolerance=tolerance, given=given),)
    if notion == "equal_opportunity":
        return (parity(attribute, tolerance=tolerance, given=given, name="EqualOpportunity", condition=1),)
    if notion == "predictive_equality":
        return (parity(attribute, tolerance=tolerance, given=given, name="PredictiveEquality", condition=0),)
    if notion == "equalized_odds":
        return tuple(parity(attribute, tolerance=tolerance, given=given, name="EqualizedOdds", condition=c) for c in (1, 0))
    if notion == "residual_parity":
        return (parity(attribute, tolerance=tolerance, given=given, name="ResidualParity", residual=True),)
    if notion == "mean_residual":
        t = _number(tolerance, "tolerance")
        return (anchored(attribute, lower=-t, upper=t, given=given, name="MeanResidual", residual=True),)
    raise InputError(f"notion: unknown name {notion!r}; known: {', '.join(NOTIONS)}")


@dataclass(frozen=True)
class Plan:
    """All families. ``coupled``: a sample can count in several. ``neutral``: claim N2's neutral reply exists (or none is needed)."""

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
        if self.mixed:
            warnings.warn(
                f"{controller}: marginal and conditional notions (or notions on different means) are joined; no reply is neutral for all "
                "of them, so the past can make the tolerance unreachable and no bound is proved (claim P6)",
                FairoptWarning,
                stacklevel=4,
            )

    def to_dict(self) -> list[dict[str, Any]]:
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


def _names(names: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    out = (names,) if isinstance(names, str) else tuple(names)
    if not all(isinstance(n, str) and n for n in out):
        raise InputError(f"attribute: expected a name or a tuple of names, got {names!r}")
    return out


def _number(number: object, what: str) -> float:
    try:
        out = float(number)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: expected a number, got {number!r}") from error
    if not 0.0 <= out < float("inf"):
        raise InputError(f"{what}: expected a finite number >= 0, got {number!r}")
    return out


__all__ = ["NOTIONS", "Family", "Plan", "anchored", "named", "parity", "plan_from_dict", "plan_of"]
