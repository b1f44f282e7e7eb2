"""What all shipped notions share: one attribute, perhaps strata, and arguments checked once at construction."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from fairopt.notions.algebra import Notion
from fairopt.notions.amount import check_at_least
from fairopt.notions.batch import attribute_words, normal_attribute
from fairopt.notions.groups import Attribute

SHIPPED = "fairopt.notions."
LASTING = (str, int, float, tuple, np.generic, type(None))


class GroupNotion(Notion):
    """A notion about the groups of ``attribute``, in each stratum of ``given``."""

    def __init__(self, attribute: str | tuple[str, ...], given: str | tuple[str, ...] | None = None) -> None:
        self.attribute: Attribute = normal_attribute(attribute)
        self.given: Attribute | None = None if given is None else normal_attribute(given)

    @property
    def attributes(self) -> tuple[str, ...]:
        names = [*_names(self.attribute), *(() if self.given is None else _names(self.given))]
        return tuple(dict.fromkeys(names))

    @property
    def needs_targets(self) -> bool:
        return False

    def __setattr__(self, name: str, value: object) -> None:
        self.__dict__.pop("_said", None)
        object.__setattr__(self, name, value)

    @property
    def signature(self) -> str | None:
        """As of every notion: kept from batch to batch, until an attribute is set."""
        said: str | None = self.__dict__.get("_said")
        if said is None and type(self).__module__.startswith(SHIPPED):
            arguments = self.arguments.values()
            said = None if any(isinstance(v, Tensor) for v in arguments) else repr(self)
            if said is not None and all(isinstance(v, LASTING) for v in arguments):  # others may be changed where they stand
                self.__dict__["_said"] = said
        return said

    @property
    def words(self) -> str:
        """The attribute as labels show it."""
        return attribute_words(self.attribute)

    def checked_tolerance(self, tolerance: Any) -> Any:
        """``tolerance`` as it came; InputError unless a finite number >= 0."""
        check_at_least(tolerance, 0.0, f"tolerance of {self.name}")
        return tolerance


def _names(attribute: Attribute) -> tuple[str, ...]:
    return (attribute,) if isinstance(attribute, str) else attribute
