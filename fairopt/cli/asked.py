"""Notions as a command line asks for them: by name, on the attributes of --sensitive. It imports torch, as notions do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from fairopt.notions.algebra import Notion
from fairopt.notions.groups import Attribute
from fairopt.notions.named import SHIPPED, notions_named

NotionNames = Annotated[
    list[str] | None,
    typer.Option(help=f"{', '.join(SHIPPED)}, or module:object, a notion of your own; repeat for several. [default: demographic_parity]"),
]


def notions_asked(names: list[str] | None, attributes: Sequence[Attribute], **numbers: Any) -> list[Notion]:
    """The notions of --notion on each attribute; see ``fairopt.notions.named.notions_named``."""
    return [made for words in names or ["demographic_parity"] for made in notions_named(words, attributes, **numbers)]


def attribute_of(names: tuple[str, ...]) -> Attribute:
    """One column, or an intersection of several."""
    return names[0] if len(names) == 1 else names


def parts_of(attribute: Attribute | None) -> tuple[str, ...]:
    """The columns of an attribute."""
    return () if attribute is None else (attribute,) if isinstance(attribute, str) else attribute
