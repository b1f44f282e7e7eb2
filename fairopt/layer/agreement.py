"""What the ranks of a process group agree on before they solve: that they were asked the same, and which compositions there are.

One message of a dozen numbers says whether all is well. Only where it is not, or a composition comes that was never seen, do words travel.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.errors import FairoptError, InputError
from fairopt.basics.ranks import Ranks
from fairopt.layer.shares import MOST_KINDS, Kind
from fairopt.notions.groups import Vocabulary


def meet(ranks: Ranks, settings: Mapping[str, str], error: Exception | None, numbers: Array, about: bytes) -> Array:
    """The largest of everybody's ``numbers`` (k,), where all came with the same ``settings`` and without an error.

    Otherwise every rank raises: the one that has an ``error`` its own, the others an InputError that says which rank and why; where
    settings differ, one that names them.
    """
    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode()).digest()
    words = np.array([float(int.from_bytes(digest[k : k + 6], "big")) for k in (0, 6)])
    found = ranks.most(np.concatenate([words, -words, [0.0 if error is None else 1.0], numbers]), about)
    if found[4] > 0.0 or not np.array_equal(found[:2], -found[2:4]):
        _tell(ranks, settings, error)
    return found[5:]


def _tell(ranks: Ranks, settings: Mapping[str, str], error: Exception | None) -> NoReturn:
    told = ranks.objects((dict(settings), None if error is None else f"{type(error).__name__}: {error}"))
    if error is not None:
        raise error
    first = next(((rank, words) for rank, (_, words) in enumerate(told) if words is not None), None)
    if first is not None:
        raise InputError(f"process_group: rank {first[0]} of {ranks.size} cannot go on: {first[1]}")
    mine = told[0][0]
    for rank, (theirs, _) in enumerate(told):
        for name in sorted({*mine, *theirs}):
            if mine.get(name) != theirs.get(name):
                raise InputError(
                    f"process_group: the ranks differ in {name}: rank 0 has {mine.get(name)}, rank {rank} has {theirs.get(name)}; "
                    "expected the same on every rank"
                )
    raise FairoptError("process_group: the ranks differ, and none can say in what")


@dataclass(eq=False)
class Agreement:
    """The compositions that the ranks know of, in one order: by the attributes' vocabularies, then by target. Grows, never shrinks.

    kinds: the compositions; index: each one's place.
    """

    ranks: Ranks
    attributes: tuple[str, ...]
    kinds: list[Kind] = field(default_factory=list)
    index: dict[Kind, int] = field(default_factory=dict)

    def knows(self, kinds: list[Kind]) -> bool:
        """Whether all of ``kinds`` have a place."""
        return all(kind in self.index for kind in kinds)

    def learn(self, kinds: list[Kind]) -> bool:
        """Everybody's ``kinds`` get a place, whoever met them first. False where they are too many. To be called by all ranks at once.

        Raises InputError, everywhere, where an attribute's values are of different types on different ranks.
        """
        told = [*self.kinds, *(kind for theirs in self.ranks.objects([k for k in kinds if k not in self.index]) for kind in theirs)]
        orders = []
        for j, name in enumerate(self.attributes):
            vocabulary = Vocabulary.of((kind[j] for kind in told), name=f"sensitive_features[{name!r}], over all ranks,")
            orders.append(vocabulary.index)
        distinct = set(told)
        if len(distinct) > MOST_KINDS:
            return False
        size = len(self.attributes)
        self.kinds = sorted(distinct, key=lambda kind: (*(orders[j][kind[j]] for j in range(size)), *kind[size:]))
        self.index = {kind: k for k, kind in enumerate(self.kinds)}
        return True

    def places(self, kinds: list[Kind], where: IntArray) -> IntArray:
        """(n,) the place of each sample's composition, from its number ``where`` (n,) among ``kinds``."""
        return np.array([self.index[kind] for kind in kinds], dtype=np.int64)[where] if kinds else np.zeros(0, dtype=np.int64)

    def counts(self, places: IntArray) -> IntArray:
        """(kinds,) samples of all ranks, from the places (n,) of this one's."""
        own = np.bincount(places, minlength=len(self.kinds)).astype(np.float64)
        return np.rint(self.ranks.add(own, b"counts")).astype(np.int64)

    def features(self, present: IntArray) -> tuple[dict[str, list[Any]], list[float] | None]:
        """(attribute -> values, targets) of the compositions ``present``, one position each; None for targets that are not read."""
        chosen = [self.kinds[k] for k in present.tolist()]
        columns = {name: [kind[j] for kind in chosen] for j, name in enumerate(self.attributes)}
        read = any(len(kind) > len(self.attributes) for kind in chosen)
        return columns, [kind[-1] for kind in chosen] if read else None
