"""Events in which samples take part by a probability: the groups of an attribute that came as ``Soft``."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.basics.errors import UnsupportedError
from fairopt.notions.events import Mask, Registry
from fairopt.notions.trap import trap


class SoftMask(Mask):
    """A group known in probability, among the samples of a sharp event. ``share`` (n,): the probability of each sample.

    ``soft & event`` keeps the samples of the event; nothing else is defined: "or", "not" and a second soft group would need probabilities
    of both together.
    """

    def __init__(self, batch: Registry, share: Array, attribute: str, among: Mask, code: int, name: str) -> None:
        super().__init__(batch, ("soft", attribute, code, among.key), name)
        self.share, self.attribute, self.among, self._code = share, attribute, among, code

    def named(self, name: str) -> SoftMask:
        return SoftMask(self._batch, self.share, self.attribute, self.among, self._code, name)

    def __and__(self, other: Any) -> Mask:
        event = self._batch.event(other)
        if isinstance(event, SoftMask):
            raise UnsupportedError(
                f"groups of {self.attribute!r} and {event.attribute!r} together: both are known in probability alone, and that of the two "
                "together is not the product in general; pass one Soft(P, values) whose values are the combinations"
            )
        if event.key == ("all",):
            return self
        both = self.among & event
        return SoftMask(self._batch, self.share, self.attribute, both, self._code, f"{self.name} & {event.name}")

    __rand__ = __and__

    def __or__(self, other: Any) -> NoReturn:
        trap(f"a group of {self.attribute!r} is known in probability alone: it can be joined with & only")

    __ror__ = __or__

    def __invert__(self) -> NoReturn:
        trap(f"a group of {self.attribute!r} is known in probability alone: there is no 'not' of it; name the other groups")


def shares(probabilities: Array, codes: Any, size: int) -> list[Array]:
    """The (n,) probabilities of each of ``size`` groups; 0 of those that no column of ``probabilities`` stands for (``codes`` (K,))."""
    none = np.zeros(probabilities.shape[0])
    found = [none] * size
    for k, code in enumerate(codes.tolist()):
        found[code] = probabilities[:, k]
    return found
