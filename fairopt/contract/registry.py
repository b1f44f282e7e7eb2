"""Finding backends: entry points of the group ``fairopt.backends``, listed from metadata and imported on first use."""

from __future__ import annotations

import inspect
import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any

from fairopt.basics.errors import BackendError, InputError, MissingExtraError
from fairopt.basics.imported import imported
from fairopt.contract.backend import Backend, Capabilities

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
    """The class behind a name (without the part after a colon). InputError for an unknown name, else MissingExtraError or BackendError."""
    point = installed().get(name)
    if point is None:
        raise InputError(
            f"backend: got {name!r}, expected one of {', '.join(installed()) or '(none installed)'}, or 'auto' in a projection; "
            "a class of your own is handed over as itself, on the command line as module:Class"
        )
    try:
        cls = point.load()
    except MissingExtraError:
        raise
    except Exception as error:  # a third party's module may fail in any way
        raise BackendError(f"backend {name!r} ({point.value}) could not be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, Backend)):
        raise BackendError(f"backend {name!r} ({point.value}) is {cls!r}, expected a subclass of fairopt.Backend")
    check_declared(cls)
    return cls


def backend(name: str, **options: Any) -> Backend:
    """An instance with options: ``fo.backend("qpth", max_iter=50)``; "qpsolvers:osqp" names a solver within a family.

    Raises InputError for an unknown name or option, MissingExtraError (with the line that installs it) where its solver is absent.

    Examples:
        >>> fo.backend("dual_newton").name
        'dual_newton'
    """
    if not isinstance(name, str):
        raise InputError(f"name: got {type(name).__name__}, expected a backend's name")
    return instance(load(name.partition(":")[0]), options, name)


def check_declared(like: type[Backend] | Backend) -> None:
    """BackendError where a backend does not say what it is called or what it can do."""
    for field, kind, example in (("name", str, "'my_solver'"), ("capabilities", Capabilities, "fairopt.Capabilities(accuracy_y=1e-8)")):
        value = getattr(like, field, None)
        if not isinstance(value, kind) or not value:
            came = "has none" if value is None else f"got {value!r}"
            cls = like if isinstance(like, type) else type(like)
            raise BackendError(f"{field} of the backend class {cls.__name__}: {came}, expected a {kind.__name__}: {field} = {example}")


def absent(cls: type[Backend]) -> str:
    """ "" if all modules that a backend requires are there, else which are not, and the line that installs them."""
    missing = [m for m in cls.requires if m not in sys.modules and find_spec(m) is None]
    return f"{', '.join(missing)} not installed; install with:\n    {cls.install}" if missing else ""


def backend_named(words: str, option: str = "--backend") -> str | type[Backend]:
    """What a command line means: a name as it is, or the class behind ``module:Class``, found in the working directory too.

    A name that is installed comes first, for "family:member" looks the same. InputError where there is neither.
    """
    if ":" not in words or words.partition(":")[0] in installed():
        return words
    found = imported(words, option)
    if isinstance(found, type) and issubclass(found, Backend):
        check_declared(found)
        return found
    raise InputError(f"{option}: {words!r} is {found!r}, expected a subclass of fairopt.Backend, or one of {', '.join(installed())}")


def instance(cls: type[Backend], options: dict[str, Any], name: str | None = None) -> Backend:
    """An instance of a backend class. InputError for options that its constructor does not know, MissingExtraError without its solver."""
    check_declared(cls)
    name = cls.name if name is None else name
    _, colon, member = name.partition(":")
    arguments: tuple[str, ...] = (member,) if colon else ()
    signature = inspect.signature(cls)
    first = next(iter(signature.parameters.values()), None)
    if colon and (first is None or first.default is not first.empty):  # a family's first argument is the member, and required
        raise InputError(f"backend: got {name!r}, expected {cls.name!r}: there are no solvers to choose from within it")
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        known = ", ".join(signature.parameters) or "none"
        raise InputError(f"backend {name!r}: {error}; its options are: {known}") from error
    if reason := absent(cls):
        raise MissingExtraError(f"backend {name!r}: {reason}")
    return cls(*arguments, **options)


@lru_cache(maxsize=64)
def _default(name: str) -> Backend:
    return backend(name)


def resolve(like: BackendLike) -> Backend:
    """A backend from a name, a class or an instance. Instances made from names are shared: they hold no state but caches."""
    if isinstance(like, Backend):
        check_declared(like)
        return like
    if isinstance(like, type) and issubclass(like, Backend):
        return instance(like, {})
    if isinstance(like, str):
        return _default(like)
    raise InputError(f"backend: got {like!r}, expected a name, a Backend class or an instance")
