"""Linear functionals of the scores, and the constraints that comparing them makes.

f = sum_j scale_j mean(y over event j) + sum_j scale_j mean(values over event j) + constant + dense weights . y

Sums, differences, products with numbers and ``abs`` stay in the family. Everything that would lose a side without a word (a chained
comparison, ``abs(f) >= t``, a product of functionals) raises InputError with the notion's line.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, overload

from fairopt.notions.amount import Amount, amount, is_number
from fairopt.notions.events import Mask
from fairopt.notions.trap import trap

_CHAIN = "write -t <= f <= t as abs(f) <= t, or yield two constraints: a chained comparison would lose a side"


class _NoTruth:
    """No truth value, no ==, no strict comparison."""

    __array_ufunc__ = None
    __hash__ = object.__hash__

    def __bool__(self) -> NoReturn:
        trap(f"a {_word(self)} has no truth value; {_CHAIN}")

    def __eq__(self, other: object) -> NoReturn:
        trap(f"a {_word(self)} cannot be compared with ==; yield abs(f - g) <= 0 to ask for equality")

    def __ne__(self, other: object) -> NoReturn:
        trap(f"a {_word(self)} cannot be compared with !=")

    def __lt__(self, other: object) -> NoReturn:
        trap("a strict < defines no closed set; use <=. For the largest or smallest of several means write batch.range(...) <= t")

    def __gt__(self, other: object) -> NoReturn:
        trap("a strict > defines no closed set; use >=. For the largest or smallest of several means write batch.range(...) <= t")


class GroupMeans(Sequence["Functional"]):
    """The means over the ``groups`` of one attribute, atoms "column == code", among the samples of an ``event``: each a functional that is
    made when it is looked at, for there may be thousands."""

    def __init__(self, groups: tuple[Mask, ...], event: Mask) -> None:
        self.groups, self.event = groups, event

    def __len__(self) -> int:
        return len(self.groups)

    @overload
    def __getitem__(self, k: int) -> Functional: ...
    @overload
    def __getitem__(self, k: slice) -> tuple[Functional, ...]: ...
    def __getitem__(self, k: int | slice) -> Functional | tuple[Functional, ...]:
        if isinstance(k, slice):
            return tuple(self[i] for i in range(len(self))[k])
        group = self.groups[k]
        return Functional(means=((1.0, (group & self.event).named(group.name)),))


@dataclass(frozen=True, eq=False)
class Constraint(_NoTruth):
    """lower <= f <= upper of one functional, or a range of several: max - min <= width, with a ratio: ratio * max - min <= width.

    ``functionals`` are the one or the several; ``attribute`` and ``given`` are words for tables. Made by comparing, not by hand.

    Examples:
        >>> from fairopt.notions import Batch
        >>> batch = Batch(3, {"sex": ["f", "m", "m"]})
        >>> constraint = batch.range(batch.groups("sex")) <= 0.1
        >>> constraint.width, len(constraint.functionals)
        (Amount(constant=0.1, terms=()), 2)
    """

    functionals: Sequence[Functional]
    lower: Amount | None = None
    upper: Amount | None = None
    width: Amount | None = None
    ratio: float | None = None
    attribute: str = ""
    given: str = ""

    def tagged(self, attribute: str, given: str = "") -> Constraint:
        """The same constraint with the words that its labels carry."""
        return replace(self, attribute=attribute, given=given)

    def written_out(self) -> tuple[Constraint, ...]:
        """What users compare, one by one: of a range with a ratio the rows a - ratio * b >= -width over all ordered pairs; else itself."""
        if self.ratio is None or self.width is None:
            return (self,)
        below = -self.width
        pairs = itertools.permutations(self.functionals, 2)
        return tuple(Constraint((a - self.ratio * b,), lower=below, attribute=self.attribute, given=self.given) for a, b in pairs)

    def __le__(self, other: object) -> NoReturn:
        trap(f"a constraint cannot be compared again; {_CHAIN}")

    __ge__ = __le__


@dataclass(frozen=True, eq=False)
class Functional(_NoTruth):
    """One linear functional. ``means`` (scale, event) of scores; ``constants`` (scale, event, index of values in the batch);
    ``constant`` a number; ``dense`` (scale, index of weights of single samples in the batch); ``name`` for labels. Made by the batch.

    Examples:
        >>> from fairopt.notions import Batch
        >>> batch = Batch(3, {"sex": ["f", "m", "m"]})
        >>> women, men = batch.groups("sex")
        >>> difference = batch.mean(women) - 0.8 * batch.mean(men)
        >>> difference.means
        ((1.0, <event f>), (-0.8, <event m>))
    """

    means: tuple[tuple[float, Mask], ...] = ()
    constants: tuple[tuple[float, Mask, int], ...] = ()
    constant: Amount = field(default_factory=Amount)
    dense: tuple[tuple[float, int], ...] = ()  # (scale, index of weights in the batch)
    name: str = ""

    def named(self, name: str) -> Functional:
        """The same functional under another name in labels."""
        return replace(self, name=name)

    def __add__(self, other: Any) -> Functional:
        if isinstance(other, Functional):
            return Functional(
                self.means + other.means,
                self.constants + other.constants,
                self.constant.plus(other.constant),
                self.dense + other.dense,
            )
        if is_number(other):
            return replace(self, constant=self.constant.plus(amount(other, "a constant in a notion")), name="")
        trap(f"a functional of the scores and {_article(other)} cannot be added or subtracted")

    __radd__ = __add__

    def __mul__(self, factor: Any) -> Functional:
        if isinstance(factor, _NoTruth):
            trap("a product of two functionals is not affine in the scores")
        if not is_number(factor):
            trap(f"a functional can be multiplied by a number only, came {_article(factor)}")
        if getattr(factor, "requires_grad", False):
            trap("a factor of the scores carries no gradient; only limits, rho and gamma do: pass a plain number")
        scale = float(factor)
        return Functional(
            tuple((scale * s, m) for s, m in self.means),
            tuple((scale * s, m, v) for s, m, v in self.constants),
            self.constant.times(scale),
            tuple((scale * s, v) for s, v in self.dense),
        )

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Functional:
        if not is_number(divisor) or getattr(divisor, "requires_grad", False):
            trap("a functional can be divided by a plain number only: a ratio of means is not affine, write a - r * b >= 0")
        if float(divisor) == 0:
            trap("a functional is divided by 0")
        return Functional(
            tuple((s / float(divisor), m) for s, m in self.means),
            tuple((s / float(divisor), m, v) for s, m, v in self.constants),
            self.constant.times(1.0 / float(divisor)),
            tuple((s / float(divisor), v) for s, v in self.dense),
        )

    def __rtruediv__(self, other: Any) -> NoReturn:
        trap("a number divided by a functional is not affine in the scores")

    def __pow__(self, other: Any) -> NoReturn:
        trap("a power of a functional is not affine in the scores")

    def __neg__(self) -> Functional:
        return self * -1.0

    def __sub__(self, other: Any) -> Functional:
        if isinstance(other, Functional):
            return self + other * -1.0
        if is_number(other):
            return replace(self, constant=self.constant.plus(-amount(other, "a constant in a notion")), name="")
        trap(f"a functional of the scores and {_article(other)} cannot be added or subtracted")

    def __rsub__(self, other: Any) -> Functional:
        return (self * -1.0).__add__(other)

    def __abs__(self) -> AbsoluteValue:
        return AbsoluteValue(self)

    def __le__(self, other: Any) -> Constraint:
        return self._compared(other, lambda f, t: Constraint((f,), upper=t))

    def __ge__(self, other: Any) -> Constraint:
        return self._compared(other, lambda f, t: Constraint((f,), lower=t))

    def _compared(self, other: Any, make: Callable[[Functional, Amount], Constraint]) -> Constraint:
        if isinstance(other, Functional):
            return make(self - other, Amount())
        if isinstance(other, AbsoluteValue):
            trap("compare abs(...) with a number: abs(f) <= t")
        return make(self, _limit(other))

    def label(self) -> str:
        """'female - male', '0.8*a + ...', or the name that was given."""
        if self.name:
            return self.name
        parts = [(s, m.name) for s, m in self.means]
        parts += [(s, f"values of {m.name}") for s, m, _ in self.constants]
        parts += [(s, "weighted scores") for s, _ in self.dense]
        parts += [(self.constant.constant, "")] if self.constant.constant else []
        text = ""
        for scale, word in parts:
            sign = ("- " if scale < 0 else "+ ") if text else ("-" if scale < 0 else "")
            size = f"{abs(scale):g}" if not word else ("" if abs(scale) == 1 else f"{abs(scale):g}*")
            text += f"{' ' if text else ''}{sign}{size}{word}"
        return text or "0"


@dataclass(frozen=True, eq=False)
class AbsoluteValue(_NoTruth):
    """abs(f): good for one thing, ``abs(f) <= t``."""

    inner: Functional

    def __le__(self, other: Any) -> Constraint:
        if isinstance(other, _NoTruth):
            trap("compare abs(...) with a number: abs(f) <= t")
        limit = _limit(other)
        if limit.value() < 0:
            trap(f"abs(f) <= {limit.value():g}: a tolerance must be >= 0")
        return Constraint((self.inner,), lower=-limit, upper=limit)

    def __ge__(self, other: object) -> NoReturn:
        trap("abs(f) >= t is not convex; only abs(f) <= t is a constraint")

    def _arithmetic(self, other: object) -> NoReturn:
        if isinstance(other, AbsoluteValue):
            trap("a sum of absolute values is its sign pairs: yield f + g <= t, f - g <= t, -f + g <= t and -f - g <= t")
        trap("abs(f) can only be compared: abs(f) <= t. For a scaled one write abs(c * f) <= t")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _arithmetic


@dataclass(frozen=True, eq=False)
class Range(_NoTruth):
    """max - min of several functionals, or ratio * max - min; good for one thing, ``range <= width``."""

    members: Sequence[Functional]
    ratio: float | None = None

    def __le__(self, other: Any) -> Constraint:
        if isinstance(other, _NoTruth):
            trap("compare a range with a number: batch.range(...) <= t")
        width = _limit(other)
        if width.value() < 0:
            trap(f"batch.range(...) <= {width.value():g}: a tolerance must be >= 0")
        return Constraint(self.members, width=width, ratio=self.ratio)

    def __ge__(self, other: object) -> NoReturn:
        trap("a range >= t is not convex; only batch.range(...) <= t is a constraint")

    def _arithmetic(self, other: object) -> NoReturn:
        trap("a range can only be compared: batch.range(...) <= t")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _arithmetic


def _limit(other: Any) -> Amount:
    if not is_number(other):
        trap(f"a functional can be compared with a number or another functional, came {_article(other)}")
    return amount(other, "a limit in a notion")


def _word(value: object) -> str:
    return {"Constraint": "constraint", "AbsoluteValue": "absolute value", "Range": "range"}.get(type(value).__name__, "functional")


def _article(value: object) -> str:
    return f"{value!r} of type {type(value).__name__}"
