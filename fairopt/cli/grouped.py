"""Options that several commands take, as one parameter: a dataclass whose fields are the options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache, wraps
from inspect import Parameter
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` as typer reads it: in place of each parameter that is a dataclass its fields stand, annotated as options."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[Parameter] = []
    for name, own in inspect.signature(command).parameters.items():
        if name not in groups:
            parameters.append(own.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name]))
            continue
        inner = _hints(groups[name])
        parameters += [
            Parameter(one.name, Parameter.KEYWORD_ONLY, default=_default(one), annotation=inner[one.name]) for one in fields(groups[name])
        ]

    @wraps(command)
    def called(**given: Any) -> None:
        whole: dict[str, Any] = {name: kind(**{one.name: given.pop(one.name) for one in fields(kind)}) for name, kind in groups.items()}
        command(**given, **whole)

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    del called.__wrapped__  # typer reads the annotations of what is wrapped
    return called


@cache
def _hints(group: type) -> dict[str, Any]:
    """Read once, so that commands share their options."""
    return get_type_hints(group, include_extras=True)


def _default(one: Field[Any]) -> Any:
    return Parameter.empty if one.default is MISSING else one.default
