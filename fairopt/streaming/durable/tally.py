"""Counts of a run's rows, and what must not be found out only by looking: scores outside the bounds, groups of which no row was sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from fairopt.basics.files import Place, legible
from fairopt.basics.table import group_word, joined_words
from fairopt.streaming.durable.sources import Row

_MANY = 20  # refused rows of one group, none of it sent: said at once
_SHOWN = 6
_NAMED = 200  # groups of which refused rows are counted apart


class Bounded(Protocol):
    lb: float
    ub: float


class Tally:
    """Rows of this process by their fate; outside, refused, broken: of the whole run, kept in the state with each commit.

    refused: rows refused, by column and group, of groups of which no row was sent. broken: rows of several lines whose quoting is
    broken. positives: targets that were ``pos_label``. delivered: bytes that standard output took. line, digest: of the input, as they
    were kept.
    """

    def __init__(self, kept: Sequence[Any] | None, warn: Callable[[str], None], *, clip: bool) -> None:
        self.line, self.digest, self.sent_in_all, self.rejected_in_all, *rest = kept or [0, "", 0, 0]
        more = rest[0] if rest else {}
        self.rows = self.accepted = self.rejected = self.repeated = 0
        self.outside, self.broken = int(more.get("outside", 0)), int(more.get("broken", 0))
        self.positives = int(more.get("positives", 0))
        self.refused: dict[str, dict[str, int]] = {name: dict(groups) for name, groups in more.get("refused", {}).items()}
        self.delivered: int | None = more.get("delivered")
        self.problems: list[str] = []
        self._sent: set[tuple[str, str]] = set()
        self._warn = warn
        self._warned: set[Any] = set()
        self._pos_label: str | None = None
        self._words: dict[str, None] = {}  # the first targets of this process
        self._clip = clip  # scores outside the bounds are meant to be clipped

    def keep(self, place: Place) -> list[Any]:
        """What is kept with each commit, short: line, hash, sent and rejected in all, and what else there is."""
        kept = [place.line, place.digest, self.sent_in_all, self.rejected_in_all]
        more = {name: getattr(self, name) for name in ("outside", "broken", "positives", "refused", "delivered")}
        said = {k: v for k, v in more.items() if v}
        return [*kept, said] if said else kept

    def labels(self, targets: Sequence[Any], pos_label: str) -> None:
        """Targets of rows that are sent."""
        self._pos_label = pos_label
        for target in map(str, targets):
            self.positives += target == pos_label
            if len(self._words) < _SHOWN:
                self._words.setdefault(target)

    def accept(self, scores: Sequence[float], groups: Mapping[str, Sequence[Any]], line: int, box: Bounded) -> None:
        """Rows that are sent, from line ``line`` on."""
        self.accepted += len(scores)
        self.sent_in_all += len(scores)
        for score in scores:
            if not box.lb <= score <= box.ub:
                self.outside += 1
                if not self._clip:
                    where = f"line {line}: score {score!r} lies outside the bounds {box.lb:g}, {box.ub:g}"
                    self._once("outside", f"{where} and is sent clipped; are these scores on another scale? (--bounds, --clip)")
        for name, values in groups.items():
            for value in values:
                group = (name, str(value))
                if group not in self._sent:
                    self._sent.add(group)
                    if name in self.refused and self.refused[name].pop(group[1], 0) and not self.refused[name]:
                        del self.refused[name]

    def refuse(self, row: Row, groups: Mapping[str, Any]) -> None:
        """A row that is rejected; its groups where they could be read."""
        self.rejected += 1
        self.rejected_in_all += 1
        self.broken += "lines " in row.reason and row.reason.startswith("broken quoting")
        self._once("rejected", f"line {row.line} is rejected: {row.reason}")
        for name, value in groups.items():
            if value is None or value == "" or (name, str(value)) in self._sent:
                continue
            counts = self.refused.setdefault(name, {})
            group = legible(str(value))
            if group in counts or len(counts) < _NAMED:
                counts[group] = counts.get(group, 0) + 1
                if counts[group] == _MANY:
                    self._once((name, group), f"{name} '{group}': {_MANY} rows rejected and none sent so far; the last: {row.reason}")

    def finish(self, counts: Mapping[str, Mapping[str, float]]) -> None:
        """Say what is wrong with the whole. counts: what the controller has sent, by constraint and group."""
        if self.outside and not self._clip:
            self.problems.append(f"{self.outside:,} of {self.sent_in_all:,} scores lay outside the bounds and were sent clipped")
        sent = [f" & {name} & " for groups in counts.values() for name in groups]
        for name, groups in self.refused.items():
            for group, count in groups.items():
                word = group_word(group)
                words = (f" & {name}={word} & ", f" & {name}={joined_words([word])} & ")
                if (name, group) not in self._sent and not any(w in other for w in words for other in sent):
                    self.problems.append(f"{name} '{group}': every one of its {count:,} rows was rejected")
        if self._pos_label is not None and not self.positives:
            found = ", ".join(repr(legible(word)) for word in self._words)
            self.problems.append(f"no target is {legible(self._pos_label)!r}, which was to count as 1; the first ones found are {found}")
        if self.broken:
            self.problems.append(f"{self.broken:,} rows of several lines are broken: an opened quote may have swallowed good rows")
        if self.rejected_in_all and not self.sent_in_all:
            self.problems.append(f"all {self.rejected_in_all:,} rows were rejected")

    def _once(self, what: Any, words: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            self._warn(words)
