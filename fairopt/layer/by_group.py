"""``ByGroup``: a frozen rule with a row of numbers for each group, which reads groups as ``FrozenLayer`` does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from fairopt.layer.frozen import FrozenLayer, Key


class ByGroup(nn.Module):
    """index: a FrozenLayer of the same groups, whose shifts are not used. What follows is said of it."""

    def __init__(self, index: FrozenLayer) -> None:
        super().__init__()
        self._index = index

    @property
    def attributes(self) -> tuple[str, ...]:
        """The names of the attributes, in the order of a key's values."""
        return self._index.attributes

    @property
    def keys(self) -> tuple[Key, ...]:
        """The combinations of groups that calibration had."""
        return self._index.keys

    @property
    def unknown(self) -> int:
        """The index of "unknown group, no rule"."""
        return self._index.unknown

    def index(self, sensitive_features: Mapping[str, Any]) -> Tensor:
        """(n,) int64 for values by attribute. InputError for groups that calibration had not, unless ``on_unknown="pass"``."""
        return self._index.index(sensitive_features)

    def codes(self, sensitive_features: Mapping[str, Any]) -> Tensor:
        """(n,) int64 for values by attribute, ``unknown`` for other groups."""
        return self._index.codes(sensitive_features)
