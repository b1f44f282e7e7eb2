"""The notion of an estimator: made of a kind of notion and the attributes, and what is said where it asks nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fairopt.auditing.apart import notes_apart, say_apart
from fairopt.basics.arrays import Array
from fairopt.basics.errors import FairoptWarning, InputError
from fairopt.basics.labels import REMEDY
from fairopt.compiler.infeasible import closest_not_offered
from fairopt.notions import Notion
from fairopt.notions.algebra import constraints_on
from fairopt.notions.batch import Batch
from fairopt.notions.groups import Missing, declare
from fairopt.solve import Certificate
from fairopt.solve.told import callers_level

NotionLike = Notion | Callable[..., Notion]


@contextmanager
def own_advice() -> Iterator[None]:
    """The layer's errors name remedies that a layer takes; here they name those of an estimator."""
    try:
        with closest_not_offered():
            yield
    except InputError as error:
        if REMEDY not in str(error):
            raise
        raise InputError(str(error).replace(REMEDY, "Give y as 0 and 1, with 1 where it is the value that counts")) from error


def made_notion(notion: NotionLike | None, tolerance: float | None, intersect: bool, attributes: tuple[str, ...]) -> Notion:
    """The notion that was given, or one of the given kind for each of the attributes (one for their intersection)."""
    if notion is None:
        raise InputError(
            "notion: got None, expected a notion such as fairopt.DemographicParity('sex', tolerance=0.05), or a kind of notion such as "
            "fairopt.DemographicParity with tolerance="
        )
    if isinstance(notion, Notion):
        if tolerance is not None or intersect:
            raise InputError(
                f"tolerance, intersect: the notion {notion!r} has its own; to set them here give a kind of notion, such as "
                "fairopt.DemographicParity"
            )
        return notion
    if not callable(notion):
        raise InputError(f"notion: got {notion!r}, expected a notion or a kind of notion such as fairopt.DemographicParity")
    about: list[Any] = [attributes if len(attributes) > 1 else attributes[0]] if intersect else list(attributes)
    extra = {} if tolerance is None else {"tolerance": tolerance}
    try:
        made = [notion(attribute, **extra) for attribute in about]
    except TypeError as error:
        raise InputError(f"notion: {notion!r} does not take {['attribute', *extra]}: {error}") from error
    if not all(isinstance(n, Notion) for n in made):
        raise InputError(f"notion: {notion!r} gave {made[0]!r}, expected a notion")
    whole = made[0]
    for another in made[1:]:
        whole = whole & another
    return whole


def tell_silent(notion: Notion, certificate: Certificate | None, bounds: Sequence[Any]) -> None:
    """Warn, once, where the notion asked nothing of the calibration rows (``certificate``), or of some groups, or moved none of them."""
    dropped = () if certificate is None else certificate.dropped
    if certificate is not None and dropped:
        words = f"{dropped[0][0]} ({dropped[0][1]})" + (f" and {len(dropped) - 1} more" if len(dropped) > 1 else "")
        silent = "is vacuous: nothing is asked of these scores, for" if certificate.vacuous else "says nothing of absent groups:"
        warnings.warn(f"{notion!r} {silent} {words}", FairoptWarning, stacklevel=callers_level())
    elif not bounds:
        warnings.warn(f"{notion!r} changes nothing: the bounds of the scores imply it", FairoptWarning, stacklevel=callers_level())


def tell_apart(
    notion: Notion, scores: Array, decisions: Array, batch: dict[str, Any], *, missing_group: Missing, groups: Any, remedy: str = ""
) -> None:
    """Warn where decisions (n,) of the calibration rows are much further apart than their probabilities ``scores`` (n,).

    batch: sensitive_features, and targets (n,) or None;  groups: the vocabularies;  remedy: words that the estimator adds
    """
    features, targets = batch["sensitive_features"], batch["targets"]
    whole = Batch(len(scores), features, targets, vocabularies=declare(groups), missing_group=missing_group)
    notes = notes_apart(constraints_on(notion, whole, written_out=True), scores, decisions, whole)
    say_apart(notes, "predict, on the calibration rows", remedy)
