"""Tools that test backends and notions, ours and a third party's: drawn problems, an independent reference, exact row values, the kit.

    from fairopt.testing import check_backend, check_notion

The reference needs daqp and the strategies need hypothesis: ``pip install 'fairopt[testing]'``. Names are imported on first use, so
that the draws do not need the front door that the kit calls.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairopt.testing.conformance import BACKEND_PROPERTIES, NOTION_PROPERTIES, check_backend, check_notion
    from fairopt.testing.draws import Draw, draw, drawn_problems, wild
    from fairopt.testing.exact import violation_exact
    from fairopt.testing.handed import handed_over
    from fairopt.testing.oracle import solve_oracle
    from fairopt.testing.sensitivity import exact_jacobian, generic

__all__ = [
    "BACKEND_PROPERTIES",
    "NOTION_PROPERTIES",
    "Draw",
    "check_backend",
    "check_notion",
    "draw",
    "drawn_problems",
    "exact_jacobian",
    "generic",
    "handed_over",
    "solve_oracle",
    "violation_exact",
    "wild",
]

_HOME = {
    "BACKEND_PROPERTIES": "conformance",
    "NOTION_PROPERTIES": "conformance",
    "check_backend": "conformance",
    "check_notion": "conformance",
    "Draw": "draws",
    "draw": "draws",
    "drawn_problems": "draws",
    "handed_over": "handed",
    "violation_exact": "exact",
    "solve_oracle": "oracle",
    "exact_jacobian": "sensitivity",
    "generic": "sensitivity",
    "wild": "draws",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"fairopt.testing.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
