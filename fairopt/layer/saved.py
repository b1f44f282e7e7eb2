"""What a layer's ``state_dict`` says of it beside its parameters: read, and held against a layer's own facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairopt.basics.facts import check_format, differing, from_tensor

FORMAT = 2
FACTS = "facts"  # the key in a state_dict
_BEFORE = "_extra_state"  # the key before format 2
_IDENTITY = ("notion", "bounds", "space", "distance", "outputs", "pos_label")


def saved_facts(state_dict: Mapping[str, Any], prefix: str) -> dict[str, Any] | None:
    """The facts in a state, None where it has none. InputError for another format."""
    if prefix + FACTS in state_dict:
        return from_tensor(state_dict[prefix + FACTS], FORMAT, f"state {prefix + FACTS!r}")
    if prefix + _BEFORE in state_dict:  # groups alone
        old = state_dict[prefix + _BEFORE]
        check_format(old, 1, f"state {prefix + _BEFORE!r}")
        return dict(old)
    return None


def drop_facts(state_dict: dict[str, Any], prefix: str) -> None:
    """Take the facts out of a state, so that torch sees parameters alone."""
    state_dict.pop(prefix + FACTS, None)
    state_dict.pop(prefix + _BEFORE, None)


def difference(saved: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """What a saved state says otherwise than a layer's own facts, in words; '' where nothing."""
    others = differing(saved, mine, _IDENTITY)
    return "; ".join(f"{name}: saved with {theirs!r}, this layer has {own!r}" for name, theirs, own in others)
