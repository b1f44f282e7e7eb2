"""The conformance kit: one line in the tests of anyone who writes a backend or a notion.

    from fairopt.testing import check_backend, check_notion

    def test_mine() -> None:
        check_backend(MySolver(max_iter=100))

A backend is held to the accuracy and the abilities that its ``Capabilities`` declare, on drawn problems of at most 24 samples, against
an independent reference. The first property that it breaks is raised as ``ConformanceError``, with ``property`` naming it and the
message naming the draw that shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from fairopt.basics.errors import ConformanceError, InputError, MissingExtraError
from fairopt.contract.backend import Backend
from fairopt.contract.registry import resolve
from fairopt.notions import Notion
from fairopt.notions.decorator import NotionFactory
from fairopt.solve.guard import place
from fairopt.testing.properties import accuracy, distances, gradients, interface, notions, state, symmetry
from fairopt.testing.subject import Subject, make_subject

Property = Callable[[Subject], None]
S = TypeVar("S")

BACKEND_PROPERTIES: dict[str, Property] = {
    check.__name__: check
    for check in (
        interface.capabilities,
        interface.unknown_options,
        interface.inputs_untouched,
        state.global_state,
        interface.not_finite,
        interface.infeasible_status,
        interface.iteration_limit,
        accuracy.raw_answer,
        accuracy.raw_prices,
        accuracy.agreement,
        accuracy.feasibility,
        accuracy.optimality,
        distances.other_distances,
        interface.dtype_round_trip,
        interface.batch_is_loop,
        interface.undeclared,
        state.same_bits,
        state.history,
        state.stale_cache,
        state.interleaved,
        state.threads,
        symmetry.permutation,
        symmetry.relabelling,
        symmetry.idempotence,
        symmetry.non_expansiveness,
        gradients.gradient_exact,
        gradients.gradient_differences,
        gradients.gradient_limits,
        gradients.native_scores,
        gradients.native_gradient,
        gradients.native_limits,
    )
}
"""The checks of ``check_backend``, by name, in the order in which they are made."""

NotionProperty = Callable[[notions.NotionSubject], None]

NOTION_PROPERTIES: dict[str, NotionProperty] = {
    check.__name__: check
    for check in (
        notions.asks_something,
        notions.declared_targets,
        notions.same_rows,
        notions.notion_permutation,
        notions.notion_relabelling,
        notions.absent_group,
        notions.one_group,
        notions.notion_idempotence,
        notions.gaps_agree,
        notions.notion_gradient,
    )
}
"""The checks of ``check_notion``, by name, in the order in which they are made."""


def check_backend(
    backend: Backend | type[Backend] | str, *, draws: int = 30, seed: int = 0, properties: Collection[str] | None = None
) -> None:
    """Checks a backend (an instance, a class with default options, or an installed name) on ``draws`` problems.

    Raises ConformanceError, whose ``property`` is one of ``BACKEND_PROPERTIES``, at the first one that it breaks, and MissingExtraError
    without daqp. ``properties`` names a subset to check, ``seed`` other draws. InputError for an unknown property or no draw.

    Examples:
        >>> from fairopt.testing import check_backend
        >>> check_backend("dual_newton", draws=1, properties=["capabilities", "raw_answer"])
    """
    unknown = set(properties or ()) - set(BACKEND_PROPERTIES)
    if unknown:
        raise InputError(f"properties: got {sorted(unknown)}, expected some of {', '.join(BACKEND_PROPERTIES)}")
    if draws < 1:
        raise InputError(f"draws: got {draws}, expected at least 1")
    subject = make_subject(resolve(backend), draws, seed)
    for name, check in BACKEND_PROPERTIES.items():
        if properties is None or name in properties:
            _checked(name, check, subject, f"backend {subject.backend.name!r}")


def check_notion(
    notion: Notion,
    *,
    draws: int = 30,
    seed: int = 0,
    continuous: Collection[str] = (),
    values: Mapping[str, Sequence[Any]] | None = None,
    properties: Collection[str] | None = None,
) -> None:
    """Checks a notion on ``draws`` random batches of 2 to 40 samples.

    ``continuous`` names attributes that hold numbers instead of groups; ``values`` gives the group names of attributes whose values mean
    something to the notion (those are not renamed). Raises ConformanceError, whose ``property`` is one of ``NOTION_PROPERTIES``, at the
    first one that it breaks. ``properties`` names a subset to check, ``seed`` other draws. InputError for an unknown property, no draw,
    no notion.

    Examples:
        >>> from fairopt.testing import check_notion
        >>> check_notion(fo.DemographicParity("sex", tolerance=0.1), draws=1)
    """
    unknown = set(properties or ()) - set(NOTION_PROPERTIES)
    if unknown:
        raise InputError(f"properties: got {sorted(unknown)}, expected some of {', '.join(NOTION_PROPERTIES)}")
    if draws < 1:
        raise InputError(f"draws: got {draws}, expected at least 1")
    if not isinstance(notion, Notion):
        came = repr(notion) if isinstance(notion, NotionFactory) else type(notion).__name__
        raise InputError(f"notion: got {came}, expected a notion such as DemographicParity('sex', tolerance=0.05)")
    subject = notions.make_notion_subject(notion, draws, seed, continuous, values or {})
    for name, check in NOTION_PROPERTIES.items():
        if properties is None or name in properties:
            _checked(name, check, subject, repr(notion))


def _checked(name: str, check: Callable[[S], None], subject: S, what: str) -> None:
    """A property whose check ends in any other exception is broken too."""
    try:
        check(subject)
    except (ConformanceError, MissingExtraError):
        raise
    except Exception as error:
        raise ConformanceError(name, f"{what} raised {type(error).__name__}: {error} ({place(error.__traceback__)})") from error
