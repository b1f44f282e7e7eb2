"""Notions by name, for every command: shipped ones, a third party's, and ``module:object`` of the working directory.

``equal_opportunity``, ``EqualOpportunity`` and ``equal-opportunity`` are one name. A package offers its own under the entry-point group
``fairopt.notions``: name -> a notion, or what makes one (a class, or a function under ``@fairopt.notion``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from fairopt.basics.errors import InputError
from fairopt.basics.imported import imported
from fairopt.basics.words import notion_word
from fairopt.notions.algebra import Notion
from fairopt.notions.bounds_and_ratios import GroupMeanBound, ImpactRatio, ScoreCovariance
from fairopt.notions.decorator import NotionFactory
from fairopt.notions.groups import Attribute
from fairopt.notions.parity import DemographicParity, EqualizedOdds, EqualOpportunity, PredictiveEquality
from fairopt.notions.residual import MeanResidual, ResidualParity

GROUP = "fairopt.notions"


_CLASSES: tuple[type[Notion], ...] = (
    DemographicParity, EqualOpportunity, PredictiveEquality, EqualizedOdds, MeanResidual, ResidualParity, ImpactRatio, GroupMeanBound,
    ScoreCovariance,
)  # fmt: skip
SHIPPED: dict[str, type[Notion]] = {notion_word(cls.__name__): cls for cls in _CLASSES}


def known_names() -> list[str]:
    """The names that ``notion_named`` takes beside ``module:object``, shipped ones first."""
    return [*SHIPPED, *sorted(_offered())]


def notion_named(words: str, attribute: Attribute, *, option: str = "--notion", **numbers: Any) -> Notion:
    """The notion that ``words`` name, on ``attribute``.

    numbers  tolerance, ratio, lower, upper, given: those that the notion takes and that are not None are passed on; a notion that comes
             ready made keeps its own. Raises InputError for an unknown name, and for a notion that needs something else.
    """
    found = _found(words, option)
    if isinstance(found, Notion):
        return found
    offered = {"attribute": attribute, **{k: v for k, v in numbers.items() if v is not None}}
    signature = found.signature if isinstance(found, NotionFactory) else inspect.signature(found)
    parameters = signature.parameters
    lacking = [name for name, p in parameters.items() if p.default is p.empty and name not in offered and p.kind not in _OPEN]
    if lacking:
        raise InputError(f"{option}: {words!r} needs {', '.join(lacking)} too; name a notion that is made already: module:object")
    made = found(**{name: value for name, value in offered.items() if name in parameters})
    if not isinstance(made, Notion):
        raise InputError(f"{option}: {words!r} made a {type(made).__name__}, {_EXPECTED}")
    return made


def notions_named(words: str, attributes: Iterable[Attribute], *, option: str = "--notion", **numbers: Any) -> tuple[Notion, ...]:
    """``notion_named`` on each attribute; a notion that comes ready made once."""
    return tuple(dict.fromkeys(notion_named(words, attribute, option=option, **numbers) for attribute in attributes))


def joined_named(words: str, attributes: Iterable[Attribute], *, option: str = "--notion", **numbers: Any) -> Notion:
    """All of ``notions_named`` at once."""
    first, *others = notions_named(words, attributes, option=option, **numbers)
    for other in others:
        first = first & other
    return first


def continuous(notions: Iterable[Notion]) -> set[str]:
    """The attributes that hold numbers: those of covariances, unless another notion has groups of them."""
    leaves = [leaf.notion for n in notions for leaf in n.leaves()]
    others = {a for leaf in leaves if not isinstance(leaf, ScoreCovariance) for a in leaf.attributes}
    return {leaf.attributes[0] for leaf in leaves if isinstance(leaf, ScoreCovariance)} - others


_OPEN = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
_EXPECTED = "expected a notion such as DemographicParity('sex', tolerance=0.05)"


def _found(words: str, option: str) -> Notion | Callable[..., Any]:
    """What a name stands for: a notion, or what makes one."""
    if ":" in words:
        return _checked(imported(words, option), words, option)
    word = notion_word(words)
    if word in SHIPPED:
        return SHIPPED[word]
    offered = _offered()
    if word not in offered:
        raise InputError(f"{option}: got {words!r}, expected one of {', '.join(known_names())}, or module:object, a notion of your own")
    try:
        return _checked(offered[word].load(), words, option)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{option}: cannot import {words!r} ({offered[word].value}): {error}") from error


def _offered() -> dict[str, EntryPoint]:
    """Third parties' names; a name that is shipped, or stands twice, is an InputError when it is asked for by neither."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        word = notion_word(point.name)
        if word in SHIPPED or word in found:
            raise InputError(f"the notion name {point.name!r} of {point.value!r} is taken by {SHIPPED.get(word) or found[word].value!r}")
        found[word] = point
    return found


def _checked(found: Any, words: str, option: str) -> Notion | Callable[..., Any]:
    if isinstance(found, (Notion, NotionFactory)) or (isinstance(found, type) and issubclass(found, Notion)):
        return found
    raise InputError(f"{option}: {words!r} is a {type(found).__name__}, {_EXPECTED}")
