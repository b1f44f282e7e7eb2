"""What is asked of the ranks of a process group: settings that have to be the same on all of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from fairopt.compiler import OnInfeasible, OnMissing
from fairopt.layer.shares import Reading


@dataclass(frozen=True, eq=False)
class Asked:
    """What is asked, the same on every rank: the notion and how columns are read, and what becomes of absent groups and contradictions."""

    reading: Reading
    bounds: Any
    on_missing: OnMissing
    on_infeasible: OnInfeasible

    def settings(self) -> dict[str, str]:
        """Its words, which must be those of the other ranks."""
        from fairopt.solve.passes.jit import module

        r = self.reading
        sides = self.bounds if isinstance(self.bounds, (tuple, list)) else (self.bounds,)
        return {
            "fairopt's version": _version(),
            "the compiled solver": "off" if module() is None else f"numba {module().__version__}",
            "notion": word(r.notion),
            "the notion's tensors": repr({name: t.detach().tolist() for name, t in r.notion.parameters.items()}),
            "bounds": repr([float(b) if b is not None and np.ndim(b) == 0 else b if b is None else "one a sample" for b in sides]),
            "groups": repr({name: (v.to_list(), v.declared) for name, v in r.vocabularies.items()}),
            "train or eval mode": repr(r.grow),
            "missing_group": r.missing_group,
            "pos_label": repr(r.pos_label),
            "on_missing": self.on_missing,
            "on_infeasible": self.on_infeasible,
        }


def word(value: Any) -> str:
    """What a setting says, the same in every process: without places in memory."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


@cache
def _version() -> str:
    try:
        return version("fairopt")
    except PackageNotFoundError:  # run from its sources
        return "not installed"
