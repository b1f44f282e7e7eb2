"""Finding backends: entry points of the group ``fairopt.backends``, listed from metadata and imported on first use."""

from __future__ import annotations

import inspect
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from fairopt.contract.base import Backend
from fairopt.errors import BackendError, InputError, MissingExtraError

GROUP = "fairopt.backends"
BackendLike = str | type[Backend] | Backend


@lru_cache(maxsize=1)
def installed() -> dict[str, EntryPoint]:
    """Name -> entry point, without importing any. BackendError where two distributions claim one name."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.get(point.name)
        if other is not None and other.value != point.value:
            names = sorted(str(p.dist.name) if p.dist else "?" for p in (other, point))
            raise BackendError(f"backend {point.name!r} is provided by two distributions, {names[0]} and {names[1]}; uninstall one")
        found[point.name] = point
    return dict(sorted(found.items()))


def load(name: str) -> type[Backend]:
    """The class behind a name (without the part after a colon). InputError for an unknown name, MissingExtraError / BackendError otherwise."""
    point = installed().get(name)
    if point is None:
        raise InputError(f"backend: got {name!r}, expected 'auto' or one of {', '.join(installed()) or '(none installed)'}")
    try:
        cls = point.load()
    except MissingExtraError:
        raise
    except Exception as error:  # a third party's module may fail in any way
        raise BackendError(f"backend {name!r} ({point.value}) could not be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, Backend)):
        raise BackendError(f"backend {name!r} ({point.value}) is {cls!r}, expected a subclass of fairopt.Backend")
    return cls


def backend(name: str, **options: Any) -> Backend:
    """An instance with options: ``fo.backend("qpth", max_iter=50)``; "qpsolvers:osqp" names a solver within a family.

    Raises InputError for an unknown name or option.
    """
    if not isinstance(name, str):
        raise InputError(f"name: got {type(name).__name__}, expected a backend's name")
    return instance(load(name.partition(":")[0]), options, name)


def instance(cls: type[Backend], options: dict[str, Any], name: str | None = None) -> Backend:
    """An instance of a backend class; options that its constructor does not know are an InputError."""
    name = cls.name if name is None else name
    _, _, member = name.partition(":")
    arguments: tuple[str, ...] = (member,) if member else ()
    try:
        inspect.signature(cls).bind(*arguments, **options)
    except TypeError as error:
        known = ", ".join(inspect.signature(cls).parameters) or "none"
        raise InputError(f"backend {name!r}: {error}; its options are: {known}") from error
    return cls(*arguments, **options)


@lru_cache(maxsize=64)
def _default(name: str) -> Backend:
    return backend(name)


def resolve(like: BackendLike) -> Backend:
    """A backend from a name, a class or an instance. Instances made from names are shared: they hold no state but caches."""
    if isinstance(like, Backend):
        return like
    if isinstance(like, type) and issubclass(like, Backend):
        return instance(like, {})
    if isinstance(like, str):
        return _default(like)
    raise InputError(f"backend: got {like!r}, expected a name, a Backend class or an instance")
