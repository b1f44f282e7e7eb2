"""Whether linear forms of bounded variables can all lie in their intervals, decided in fractions.

    low_j <= x_j <= high_j     and     bottom_i <= sum_j a_ij x_j <= top_i

The simplex method on bounds: every form is a variable too, basic at first. A basic variable outside its interval is moved to the end that
it broke, at the cost of one that has room; where none has room, its row of the tableau is a contradiction (a Farkas combination of the
forms). The least index enters and leaves, so it ends. Work is counted: a search that takes too much ends undecided.

Source: Dutertre & de Moura, A fast linear-arithmetic solver for DPLL(T), CAV 2006; Bland 1977 for the least index.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

End = Fraction | None  # None: open


@dataclass(eq=False)
class Forms:
    """Variables with bounds and start values, and forms over them with intervals."""

    low: list[End] = field(default_factory=list)
    high: list[End] = field(default_factory=list)
    value: list[Fraction] = field(default_factory=list)
    forms: list[dict[int, Fraction]] = field(default_factory=list)
    bottom: list[End] = field(default_factory=list)
    top: list[End] = field(default_factory=list)

    def variable(self, low: End, high: End, start: Fraction = Fraction(0)) -> int:
        """A new variable, started inside its bounds; its index."""
        if low is not None:
            start = max(start, low)
        if high is not None:
            start = min(start, high)
        self.low.append(low)
        self.high.append(high)
        self.value.append(start)
        return len(self.value) - 1

    def ask(self, form: dict[int, Fraction], bottom: End, top: End) -> None:
        self.forms.append(form)
        self.bottom.append(bottom)
        self.top.append(top)


@dataclass(frozen=True, eq=False)
class Answer:
    """``point``: values of the variables that meet everything, or None. ``contradiction``: multipliers of the forms whose combination no
    point can meet (its least value over the bounds is above what the intervals allow), or None. Both None: too much work."""

    point: list[Fraction] | None
    contradiction: dict[int, Fraction] | None
    work: int


def decide(asked: Forms, most: int) -> Answer:
    """At most ``most`` operations on fractions (long ones count more)."""
    return _Tableau(asked).run(most)


class _Tableau:
    """rows[b]: the basic variable b as a combination of non-basic ones. Variables 0 .. N - 1, then the forms."""

    def __init__(self, asked: Forms) -> None:
        self.N = len(asked.value)
        self.low, self.high = asked.low + asked.bottom, asked.high + asked.top
        self.rows: dict[int, dict[int, Fraction]] = {}
        self.users: dict[int, set[int]] = {}  # non-basic variable -> basic ones whose row names it
        self.value = list(asked.value)
        for i, form in enumerate(asked.forms):
            b = self.N + i
            self.rows[b] = {j: a for j, a in form.items() if a}
            self.value.append(sum((a * self.value[j] for j, a in form.items()), Fraction(0)))
            for j in self.rows[b]:
                self.users.setdefault(j, set()).add(b)
        self.broken = {b for b in self.rows if self._direction(b)}
        self.work = 0

    def run(self, most: int) -> Answer:
        while self.broken:
            if self.work > most:
                return Answer(None, None, self.work)
            b = min(self.broken)
            direction = self._direction(b)
            j = min((j for j, a in self.rows[b].items() if self._has_room(j, direction if a > 0 else -direction)), default=None)
            if j is None:
                return Answer(None, self._contradiction(b, direction), self.work)
            goal = self.low[b] if direction > 0 else self.high[b]
            assert goal is not None
            self._pivot(b, j, goal)
        return Answer(self.value[: self.N], None, self.work)

    def _direction(self, b: int) -> int:
        """+1: below its interval; -1: above; 0: inside."""
        low, high, v = self.low[b], self.high[b], self.value[b]
        if low is not None and v < low:
            return 1
        return -1 if high is not None and v > high else 0

    def _has_room(self, j: int, direction: int) -> bool:
        end = self.high[j] if direction > 0 else self.low[j]
        return end is None or (self.value[j] < end if direction > 0 else self.value[j] > end)

    def _contradiction(self, b: int, direction: int) -> dict[int, Fraction]:
        """b - sum a_j x_j = 0 for all x, and b cannot reach its interval: signs such that the combination's least value is too high."""
        sign = Fraction(-direction)
        found = {b - self.N: sign} if b >= self.N else {}
        found |= {j - self.N: -sign * a for j, a in self.rows[b].items() if j >= self.N}
        return found

    def _pivot(self, b: int, j: int, goal: Fraction) -> None:
        """b leaves at ``goal``, j enters."""
        row = self.rows.pop(b)
        a = row.pop(j)
        step = (goal - self.value[b]) / a
        self.value[b] = goal
        self.value[j] += step
        entering = {k: -v / a for k, v in row.items()} | {b: 1 / a}
        self.work += len(entering) * _cost(a)
        self.broken.discard(b)
        for k in row:
            self.users[k].discard(b)
        users = self.users.pop(j, set())
        users.discard(b)
        for i in users:
            other = self.rows[i]
            factor = other.pop(j)
            self.value[i] += factor * step
            for k, v in entering.items():
                new = other.get(k, Fraction(0)) + factor * v
                if new:
                    other[k] = new
                    self.users.setdefault(k, set()).add(i)
                elif k in other:
                    del other[k]
                    self.users[k].discard(i)
            self.work += len(entering) * _cost(factor)
            self._note(i)
        self.rows[j] = entering
        for k in entering:
            self.users.setdefault(k, set()).add(j)
        self._note(j)

    def _note(self, b: int) -> None:
        if self._direction(b):
            self.broken.add(b)
        else:
            self.broken.discard(b)


def _cost(a: Fraction) -> int:
    return 1 + (a.numerator.bit_length() + a.denominator.bit_length()) // 1000
