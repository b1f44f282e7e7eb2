"""fairopt: guaranteed group fairness in deep learning, with any differentiable solver.

    import fairopt as fo
    layer = fo.FairnessLayer(fo.DemographicParity("sex", tolerance=0.05), bounds=(0, 1))
    fair = layer(scores, sensitive_features={"sex": sex})

Names are loaded on first use, so that ``import fairopt`` is cheap and ``fairopt.streaming`` works without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fairopt.contract.base import Backend, Capabilities, RawSolution, Status
    from fairopt.contract.registry import backend
    from fairopt.errors import (
        BackendError,
        ConformanceError,
        FairoptError,
        FairoptWarning,
        InfeasibleError,
        InputError,
        MissingExtraError,
        UnsupportedError,
    )
    from fairopt.gap_table import gaps
    from fairopt.layer import FairModel, FairnessLayer
    from fairopt.listing import backends
    from fairopt.notions import (
        DemographicParity,
        EqualizedOdds,
        EqualOpportunity,
        GroupMeanBound,
        ImpactRatio,
        MeanResidual,
        Notion,
        PredictiveEquality,
        Reference,
        ResidualParity,
        ScoreCovariance,
        notion,
    )
    from fairopt.prepared import Prepared, compile, project
    from fairopt.problem import Limits, ProjectionProblem, Rows, Softness
    from fairopt.solve import Certificate, Solution
    from fairopt.table import Table

_NAMES = {
    "Backend": "contract.base", "Capabilities": "contract.base", "RawSolution": "contract.base", "Status": "contract.base",
    "backend": "contract.registry",
    "BackendError": "errors", "ConformanceError": "errors", "FairoptError": "errors", "FairoptWarning": "errors", "InfeasibleError": "errors",
    "InputError": "errors", "MissingExtraError": "errors", "UnsupportedError": "errors",
    "gaps": "gap_table", "FairModel": "layer", "FairnessLayer": "layer", "backends": "listing",
    "DemographicParity": "notions", "EqualizedOdds": "notions", "EqualOpportunity": "notions", "GroupMeanBound": "notions", "ImpactRatio": "notions",
    "MeanResidual": "notions", "Notion": "notions", "PredictiveEquality": "notions", "Reference": "notions", "ResidualParity": "notions",
    "ScoreCovariance": "notions", "notion": "notions",
    "Prepared": "prepared", "compile": "prepared", "project": "prepared",
    "Limits": "problem", "ProjectionProblem": "problem", "Rows": "problem", "Softness": "problem",
    "Certificate": "solve", "Solution": "solve", "Table": "table",
}  # fmt: skip
_MODULES = ("streaming", "testing", "experiments")

__all__ = [
    "Backend", "BackendError", "Capabilities", "Certificate", "ConformanceError", "DemographicParity", "EqualOpportunity", "EqualizedOdds",
    "FairModel", "FairnessLayer", "FairoptError", "FairoptWarning", "GroupMeanBound", "ImpactRatio", "InfeasibleError", "InputError", "Limits",
    "MeanResidual", "MissingExtraError", "Notion", "PredictiveEquality", "Prepared", "ProjectionProblem", "RawSolution", "Reference",
    "ResidualParity", "Rows", "ScoreCovariance", "Softness", "Solution", "Status", "Table", "UnsupportedError", "backend", "backends", "compile",
    "gaps", "notion", "project",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(import_module(f"fairopt.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f"fairopt.{name}")
    raise AttributeError(f"module 'fairopt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, *globals()})
