"""What a controller keeps fair, as plain data: families of group means, without torch.

A *family* is one constraint on the means of one attribute's groups, per stratum: their range is at most ``tolerance`` (kind "range"),
or each lies in [lower, upper] ("anchored"). ``condition`` keeps only the samples with that target, ``residual`` takes means of
score minus target. Equalised odds is two families.

Source: DESIGN 4 (the notions).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fairopt.basics.errors import InputError

Kind = Literal["range", "anchored"]


@dataclass(frozen=True)
class Family:
    """One constraint on the group means of ``attribute`` (several names: their intersection), in each stratum of ``given``.

    name is for tables; kind "range" or "anchored"; condition: a label, then only samples with that target count; residual: of score -
    target.
    lower, upper: "range" uses [0, tolerance] as the width (upper = tolerance, lower = 0); "anchored" the interval itself.

    Examples:
        >>> from fairopt.streaming import parity
        >>> family = parity("sex", tolerance=0.1)
        >>> family.attribute, family.kind, family.width
        (('sex',), 'range', 0.1)
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
        """The constraint in words."""
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
    """A range family: all group means within ``tolerance``. The torch-free twin of ``fo.DemographicParity``.

    Other arguments as in ``Family``. InputError for a tolerance below 0.

    Examples:
        >>> from fairopt.streaming import PooledParity, parity
        >>> stream = PooledParity(parity("sex", tolerance=0.1), bounds=(0, 1))
        >>> stream.step(torch.tensor([0.2, 0.6]), sensitive_features=["f", "m"]).scores
        tensor([0.2879, 0.5121])
    """
    return Family(name, _names(attribute), "range", 0.0, _number(tolerance, "tolerance"), _names(given), condition, residual)


def anchored(attribute: str | tuple[str, ...], *, lower: float, upper: float, name: str = "GroupMeanBound",
             given: str | tuple[str, ...] = (), residual: bool = False) -> Family:  # fmt: skip
    """Each group mean in [``lower``, ``upper``]. The torch-free twin of ``fo.GroupMeanBound`` and (residual) ``fo.MeanResidual``.

    Arguments as in ``Family``. InputError for limits that cross.

    Examples:
        >>> from fairopt.streaming import PooledParity, anchored
        >>> stream = PooledParity(anchored("sex", lower=0.3, upper=0.5), bounds=(0, 1))
        >>> stream.step(torch.tensor([0.2, 0.6]), sensitive_features=["f", "m"]).scores
        tensor([0.2333, 0.5667])
    """
    if not float(lower) <= float(upper):
        raise InputError(f"anchored: lower {lower!r} is above upper {upper!r}")
    return Family(name, _names(attribute), "anchored", float(lower), float(upper), _names(given), None, residual)


NOTIONS = ("demographic_parity", "equal_opportunity", "predictive_equality", "equalized_odds", "residual_parity", "mean_residual")
"""The names that ``named`` knows."""


def named(notion: str, attribute: str | tuple[str, ...], tolerance: float, given: str | tuple[str, ...] = ()) -> tuple[Family, ...]:
    """The families of a notion given by its name, as on the command line: one of ``NOTIONS``.

    ``attribute`` a name or several (their intersection), ``tolerance`` >= 0, ``given`` names strata. InputError for another name.

    Examples:
        >>> from fairopt.streaming import named
        >>> [(family.name, family.condition) for family in named("equalized_odds", "sex", 0.1)]
        [('EqualizedOdds', 1), ('EqualizedOdds', 0)]
    """
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


__all__ = ["NOTIONS", "Family", "anchored", "named", "parity"]
