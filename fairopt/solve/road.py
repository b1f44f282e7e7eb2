"""Whether the compiled road is open: numba is there, FAIROPT_FAST is not 0, and its functions compiled on this machine.

numba is imported by the first solve, not by ``import fairopt``. Functions are compiled for the dtype at hand at their first call, once a
machine (they are kept on disk), and one log line says how long it took.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Literal

import torch

logger = logging.getLogger("fairopt")
_lock = threading.RLock()
_SWITCHED_OFF = os.environ.get("FAIROPT_FAST", "1") == "0"
_closed = _SWITCHED_OFF or find_spec("numba") is None
Road = Literal["fast", "entropy.fast", "simplex.fast"]  # modules of fairopt.solve: squared distance, divergences, class probabilities
ROADS: tuple[Road, ...] = ("fast", "entropy.fast", "simplex.fast")
_warm: dict[tuple[Road, torch.dtype], ModuleType] = {}
DTYPES = (torch.float32, torch.float64)


def fast(dtype: torch.dtype, road: Road = "fast") -> ModuleType | None:
    """The module of a ``road``, ready for scores of ``dtype`` on the CPU, or None."""
    if _closed:
        return None
    return _warm.get((road, dtype)) or _opened(dtype, road)


def _opened(dtype: torch.dtype, road: Road) -> ModuleType | None:
    global _closed
    if dtype not in DTYPES:
        return None
    with _lock:
        if (road, dtype) in _warm or _closed:
            return None if _closed else _warm[road, dtype]
        start = time.perf_counter()
        from fairopt.solve.passes.jit import module

        numba = module()
        if numba is None:
            _closed = True
            return None
        try:
            opened = import_module(f"fairopt.solve.{road}")
            compiled = opened.compile_for(dtype)
        except (numba.core.errors.NumbaError, OSError) as error:
            logger.warning("the compiled solver is off, for it did not compile here: %s: %s", type(error).__name__, error)
            _closed = True
            return None
        if compiled:
            name = str(dtype).removeprefix("torch.")
            logger.info("compiled the solver for %s scores in %.1f s, once on this machine", name, time.perf_counter() - start)
        _warm[road, dtype] = opened
    return opened


@contextmanager
def closed() -> Iterator[None]:
    """Solves go down the general road meanwhile, in all threads."""
    global _closed
    before, _closed = _closed, True
    try:
        yield
    finally:
        _closed = before


def warm_up() -> bool:
    """Compiles everything now. False where there is no compiled road."""
    opened = {(road, dtype): fast(dtype, road) for road in ROADS for dtype in DTYPES}
    for (road, dtype), module in opened.items():
        if module is not None and road == "fast":
            module.compile_rows_for(dtype)
    return all(module is not None for module in opened.values())


def reason() -> str:
    """Why there is no compiled road, where there is none."""
    if _SWITCHED_OFF:
        return "FAIROPT_FAST=0 switches it off"
    if find_spec("numba") is None:
        return "numba is not installed (pip install 'fairopt[fast]')"
    return "it did not compile here (the log says why)"
