"""The one decorator of functions that numba compiles where it is installed, and that run as plain Python where it is not.

Modules with compiled functions import numba: ``import fairopt`` imports none of them, the first solve does (``fairopt.solve.road``).
Machine code is kept on disk: beside the sources, where that is read-only in the user's own cache folder, and where there is none nowhere.
What is kept is stamped with every file that compiled functions stand in, for one holds the code of the others.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
# sums keep their order: the same bits on every call; NaN and infinity keep their meaning
RELAXED = {"nsz", "arcp", "contract"}
FILES = (
    "kernels.py", "kl_kernels.py", "rows.py", "pieces.py", "search.py", "stages.py", "project.py", "batch.py", "kl_project.py",
    "whole_sums.py", "binned_kernels.py", "simplex_kernels.py", "simplex_project.py", "refill.py",
)  # fmt: skip
logger = logging.getLogger("fairopt")


@cache
def module() -> Any:
    """numba, or None where it is not installed (or does not go with the installed numpy), or FAIROPT_FAST=0 switches it off."""
    if os.environ.get("FAIROPT_FAST", "1") == "0":
        return None
    try:
        import numba
    except ImportError as error:
        logger.debug("numba: %s", error)
        return None
    return numba


def compiled(function: F) -> F:
    """``function`` compiled at its first call for each signature, without the GIL; itself where numba is not installed."""
    return _made(function, {})


def inner(function: F) -> F:
    """As ``compiled``, for functions that only compiled ones call: the code that Python would call them by is left out, which is most of
    the time that it takes to compile them.
    """
    return _made(function, {"no_cpython_wrapper": True, "no_cfunc_wrapper": True})


def within(function: F) -> F:
    """As ``inner``, for functions that are called for each sample: their code stands where they are called."""
    return _made(function, {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True})


def reordered(function: F) -> F:
    """As ``compiled``, with sums in an order that suits the machine: fast, and still the same bits on every call."""
    return _made(function, {"fastmath": RELAXED | {"reassoc"}})


def rounded(function: F) -> F:
    """As ``compiled``, with every operation rounded as Python would: for numbers that stand beside those of numpy."""
    return _made(function, {"fastmath": False})


def _made(function: F, options: dict[str, Any]) -> F:
    numba = module()
    if numba is None:
        return function
    options = {"nogil": True, "fastmath": RELAXED, "error_model": "numpy", **options}
    try:
        made = numba.njit(cache=True, **options)(function)
        made._cache._cache_file._source_stamp = _stamp()
    except (RuntimeError, OSError, AttributeError) as error:  # nowhere to keep it, or a numba that keeps it in another way
        logger.debug("compiled code is not kept on disk: %s", error)
        made = numba.njit(**options)(function)
    return made  # type: ignore[no-any-return]


def misses(*functions: Any) -> int:
    """Signatures of compiled functions that were compiled and not found on disk."""
    return sum(sum(f.stats.cache_misses.values()) for f in functions if hasattr(f, "stats"))


def _stamp() -> tuple[tuple[float, int], ...]:
    """Time and size of every file with compiled functions."""
    here = os.path.dirname(os.path.abspath(__file__))
    states = [os.stat(os.path.join(here, name)) for name in FILES]
    return tuple((state.st_mtime, state.st_size) for state in states)


def _vector(data: Any, size: int) -> Any:
    return data


def _carray() -> Any:
    numba = module()
    return _vector if numba is None else numba.carray


vector = _carray()  # (size,) what a pointer points to; without numba there are no pointers, and it is the vector itself


def by_address(function: F) -> tuple[Any, int]:
    """(caller, address): compiled code calls ``function(number, whole, real, ...)``, a vector of whole numbers and others of float64, by
    ``caller(address, number, whole, real, ...)``. ``function`` gets pointers to where the vectors lie.

    Compiled code that calls another function holds a copy of it and optimises it anew; behind an address it is compiled once.
    """
    numba = module()
    from llvmlite import ir

    types: Any = numba.types
    from numba.extending import intrinsic

    @intrinsic  # type: ignore[untyped-decorator]
    def call(typing: Any, address: Any, which: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kinds = signature.args[2:]
            parts = [context.make_array(kind)(context, builder, value).data for kind, value in zip(kinds, values[2:], strict=True)]
            word = ir.IntType(64)
            kind = ir.FunctionType(word, [word, *(part.type for part in parts)])
            return builder.call(builder.inttoptr(values[0], kind.as_pointer()), [values[1], *parts])

        return types.int64(types.int64, types.int64, a, b, c, d, e, f), code

    real = types.CPointer(types.float64)
    signature = types.int64(types.int64, types.CPointer(types.int64), real, real, real, real, real)
    options = {"nopython": True, "nogil": True, "fastmath": RELAXED, "error_model": "numpy"}
    try:
        made = numba.cfunc(signature, cache=True, **options)
        made = made(function)
    except RuntimeError:
        made = numba.cfunc(signature, **options)(function)
    return call, int(made.address)
