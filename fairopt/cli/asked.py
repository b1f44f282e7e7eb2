"""What is asked of the scores of a table: its columns, notions by name on the attributes of --sensitive. Imports torch, as notions do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from fairopt.basics.files import column_name, column_names
from fairopt.cli.options import PosLabel, check_pos_label
from fairopt.notions.algebra import Notion
from fairopt.notions.groups import Attribute
from fairopt.notions.named import SHIPPED, notions_named


@dataclass(frozen=True)
class ScoreOptions:
    """The options of every command that reads a table of scores: one name, one meaning."""

    score: Annotated[str, typer.Option(help="Column of scores.")]
    sensitive: Annotated[list[str], typer.Option(help="Column of group values; 'sex,race' for an intersection; repeat for several.")]
    target: Annotated[str | None, typer.Option(help="Column of targets, for notions and rates that need them.")] = None
    pos_label: PosLabel = None
    notion: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(SHIPPED)}, or module:object, a notion of your own; repeat for several. [default: demographic_parity]"
        ),
    ] = None
    tolerance: Annotated[float, typer.Option(help="Largest gap, for the notions that have one.")] = 0.05
    ratio: Annotated[float, typer.Option(help="Smallest ratio of means, for impact_ratio.")] = 0.8
    lower: Annotated[float | None, typer.Option(help="Least group mean, for group_mean_bound.")] = None
    upper: Annotated[float | None, typer.Option(help="Largest group mean, for group_mean_bound.")] = None
    given: Annotated[str | None, typer.Option(help="Column(s) of strata, separated by commas.")] = None
    threshold: Annotated[float, typer.Option(help="A score at or above it is a positive decision, in the units of the scores.")] = 0.5
    missing_group: Annotated[str, typer.Option(help="error: an empty group cell is one; own: those are a group.")] = "error"

    def wanted(self, *more: str | None) -> list[str]:
        """The columns that are named, as they were given. InputError for --pos-label alone."""
        check_pos_label(self.pos_label, self.target)
        return [self.score, *self.sensitive, *(words for words in (self.target, self.given, *more) if words)]

    def read(self, columns: Sequence[str], file: str) -> Scores:
        """The columns and notions that are meant, of a table with ``columns``. InputError for one that is not there."""
        names = Names(columns, file)
        attributes = [attribute_of(names.several(words, "sensitive")) for words in self.sensitive]
        strata = None if self.given is None else attribute_of(names.several(self.given, "given"))
        notions = notions_asked(
            self.notion, attributes, given=strata, tolerance=self.tolerance, ratio=self.ratio, lower=self.lower, upper=self.upper
        )
        return Scores(names.one(self.score, "score"), names.perhaps(self.target, "target"), attributes, strata, notions, names)


@dataclass(frozen=True)
class Names:
    """The columns of a file, as options name them."""

    columns: Sequence[str]
    file: str

    def several(self, words: str, option: str) -> tuple[str, ...]:
        return column_names(words, self.columns, option, self.file)

    def one(self, words: str, option: str) -> str:
        return column_name(words, self.columns, option, self.file)

    def perhaps(self, words: str | None, option: str) -> str | None:
        return None if words is None else self.one(words, option)


@dataclass(frozen=True)
class Scores:
    """``ScoreOptions`` beside a table: its columns, and the notions."""

    score: str
    target: str | None
    attributes: list[Attribute]
    strata: Attribute | None
    notions: list[Notion]
    names: Names = field(repr=False)


def notions_asked(names: list[str] | None, attributes: Sequence[Attribute], **numbers: Any) -> list[Notion]:
    """The notions of --notion on each attribute; see ``fairopt.notions.named.notions_named``."""
    return [made for words in names or ["demographic_parity"] for made in notions_named(words, attributes, **numbers)]


def attribute_of(names: tuple[str, ...]) -> Attribute:
    """One column, or an intersection of several."""
    return names[0] if len(names) == 1 else names


def parts_of(attribute: Attribute | None) -> tuple[str, ...]:
    """The columns of an attribute."""
    return () if attribute is None else (attribute,) if isinstance(attribute, str) else attribute
