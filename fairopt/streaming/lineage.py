"""Who sent what: the identity of a controller, and what it has merged, so that no sample is counted twice, however often it comes.

``id`` names a controller's own samples for good; a worker gets its own at ``fork``. A controller *holds* its own samples, those of the
history that it was forked from (``base``), and those that it merged (``merged``: id -> digest of the state that was merged). Merging
gives everything but the origin. A state that was merged is remembered by the one that gave it (``given``, by its digest), so that a
worker that went on gives only the new part, exactly; where the two do not fit (a copy went another way) merging is refused.

A controller that was never forked or merged has no identity in its state (so that equal runs have equal states). One restored from such
a state is named by its content: two restored from equal states are told to be the same, and so are one restored and a live one of the
same content, of which either is merged. One that went on since its state was taken is not known by it any more: make workers by ``fork``,
which are always told apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from fairopt.basics.errors import InputError
from fairopt.streaming.exact import Exact
from fairopt.streaming.ledger import ComponentKey, Group
from fairopt.streaming.state import count, group_value, number, text, whole

KEEP_GIVEN = 4  # states given are remembered, the latest ones
BY_CONTENT = "state-"
SENT = "sent-"  # and its content's digest: what a controller without an identity in its state held when it was merged
Part = dict[Group, tuple[float, Exact]]  # count and exact sum by group


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a controller holds at one moment: counts and sums by component and group; merged: its ``Lineage.merged`` then."""

    parts: dict[ComponentKey, Part] = field(default_factory=dict)
    samples: int = 0
    steps: int = 0
    distortion: float = 0.0
    merged: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of the counts and sums: the order in which groups and strata came is no part of it."""
        rows = sorted(
            json.dumps([f, list(stratum), list(g) if isinstance(g, tuple) else g, n, list(total)])
            for (f, stratum), part in self.parts.items()
            for g, (n, total) in part.items()
        )
        text = json.dumps([self.samples, self.steps, self.distortion, rows])
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        parts = [
            [f, list(stratum), [[list(g) if isinstance(g, tuple) else g, n, list(total)] for g, (n, total) in part.items()]]
            for (f, stratum), part in self.parts.items()
        ]
        return {"parts": parts, "samples": self.samples, "steps": self.steps, "distortion": self.distortion, "merged": dict(self.merged)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Snapshot:
        parts = {
            (whole(f, "lineage: a family"), tuple(group_value(v, "lineage: a stratum") for v in stratum)): {
                _group(g): (count(n, "lineage: a count"), tuple(number(s, "lineage: a sum") for s in total)) for g, n, total in rows
            }
            for f, stratum, rows in plain["parts"]
        }
        merged = _texts(plain["merged"])
        samples, steps = whole(plain["samples"], "lineage: samples"), whole(plain["steps"], "lineage: steps")
        return cls(parts, samples, steps, number(plain["distortion"], "lineage: distortion", least=0.0, infinite=True), merged)


@dataclass(frozen=True, eq=False)
class Lineage:
    """See the module. known: whether the identity is in the state. Never changed in place: a merge makes new ones."""

    id: str = field(default_factory=lambda: uuid4().hex)
    known: bool = False
    base: tuple[str, ...] = ()
    origin: Snapshot = field(default_factory=Snapshot)
    merged: dict[str, str] = field(default_factory=dict)
    given: dict[str, Snapshot] = field(default_factory=dict)

    @property
    def holds(self) -> set[str]:
        """The identities whose samples are counted here, wholly or in part."""
        return {self.id, *self.base, *self.merged}

    def gave(self, now: Snapshot) -> Lineage:
        """After ``now`` was merged elsewhere."""
        given = {k: v for k, v in self.given.items() if k != now.digest}
        given[now.digest] = now
        latest = dict(list(given.items())[-KEEP_GIVEN:])
        return Lineage(self.id, True, self.base, self.origin, self.merged, latest)

    def took(self, other: Lineage, now: Snapshot) -> Lineage:
        """After ``now`` of ``other`` was merged here."""
        names = {other.id: now.digest} if other.known else {other.id: now.digest, SENT + now.digest: now.digest}
        return Lineage(self.id, True, self.base, self.origin, {**self.merged, **other.merged, **names}, self.given)

    def to_dict(self) -> dict[str, Any] | None:
        if not self.known:
            return None
        given = [v.to_dict() for v in self.given.values()]
        return {"id": self.id, "base": list(self.base), "origin": self.origin.to_dict(), "merged": dict(self.merged), "given": given}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Lineage:
        given = [Snapshot.of(row) for row in plain["given"]]
        merged = _texts(plain["merged"])
        base = tuple(text(i, "lineage: base") for i in plain["base"])
        return cls(text(plain["id"], "lineage: id"), True, base, Snapshot.of(plain["origin"]), merged, {s.digest: s for s in given})


def _group(plain: Any) -> Group:
    if isinstance(plain, (list, tuple)):
        return tuple(group_value(v, "lineage: a group") for v in plain)
    return group_value(plain, "lineage: a group")


def _texts(plain: Mapping[str, Any]) -> dict[str, str]:
    return {text(k, "lineage: merged"): text(v, "lineage: merged") for k, v in plain.items()}


def _same_content(mine: Lineage, theirs: Lineage, now: Snapshot, own: Snapshot) -> bool:
    """Whether one of two is a live controller without an identity in its state, and the other was restored from that state."""
    restored = theirs.id.startswith(BY_CONTENT)
    same = now.samples > 0 and now.digest == own.digest and not (mine.known or theirs.known)
    if same and (restored or mine.id.startswith(BY_CONTENT)):
        return True
    if restored:
        return SENT + theirs.id.removeprefix(BY_CONTENT) in mine.merged
    return not theirs.known and BY_CONTENT + now.digest in mine.merged


def since(mine: Lineage, theirs: Lineage, now: Snapshot, own: Snapshot) -> Snapshot | None:
    """What of ``now`` is counted here already (their origin, or the state last merged); None where all of it is.

    InputError where some of it is, and which part cannot be told.
    """
    if mine.id == theirs.id:
        raise InputError("merge: the other controller is a copy of this one, or this one of it: they hold the same samples")
    last = mine.merged.get(theirs.id)
    if last is None and _same_content(mine, theirs, now, own):
        raise InputError(
            "merge: the other controller is one that was restored from a state of this one or of one merged before, or the other way round"
        )
    if last is None:
        start = theirs.origin
    elif last == now.digest:
        if theirs.id.startswith(BY_CONTENT):
            raise InputError("merge: a state equal to this one was merged before; make workers by fork(), which tells them apart")
        return None
    elif last in theirs.given:
        start = theirs.given[last]
    else:
        raise InputError(
            f"merge: the worker {theirs.id} was merged before as a copy that went another way, so its new samples cannot be told from "
            "those counted already; nothing was merged. Go on with that copy, or with a new fork()"
        )
    _refuse_overlap(mine, theirs, start, new=last is None)
    return start


def _refuse_overlap(mine: Lineage, theirs: Lineage, start: Snapshot, *, new: bool) -> None:
    """InputError where the other's new part holds samples of a third controller that are counted here by another way."""
    holds = mine.holds
    twice = [theirs.id] if new and theirs.id in holds else []
    for name, digest in theirs.merged.items():
        before = start.merged.get(name)
        if before == digest:
            continue
        if name in holds if before is None else mine.merged.get(name) != before:
            twice.append(name)
    if twice:
        raise InputError(
            f"merge: both controllers hold samples of {twice[0]}; they would be counted twice. Merge every worker into one controller, "
            "and no controller into its own worker"
        )
