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
    from fairopt.auditing import Audit, audit
    from fairopt.auditing.gap_table import gaps
    from fairopt.basics.errors import (
        BackendError,
        ConformanceError,
        FairoptError,
        FairoptWarning,
        InfeasibleError,
        InputError,
        MissingExtraError,
        RankError,
        StateError,
        UnsupportedError,
    )
    from fairopt.basics.soft import Soft
    from fairopt.basics.table import Table
    from fairopt.contract.backend import Backend, Capabilities, RawSolution, Status
    from fairopt.contract.listing import backends
    from fairopt.contract.problem import Limits, ProjectionProblem, Softness
    from fairopt.contract.registry import backend
    from fairopt.contract.rows import Rows
    from fairopt.datasets import DatasetReport, audit_dataset, freeze_dataset, project_dataset
    from fairopt.layer.decisions import decide
    from fairopt.layer.fairness_layer import FairnessLayer
    from fairopt.layer.frozen import FrozenLayer
    from fairopt.layer.model import FairModel
    from fairopt.layer.one_shot import compile, project
    from fairopt.layer.population_bound import PopulationBound
    from fairopt.layer.prepared import Prepared
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
    from fairopt.race import Race, compare
    from fairopt.solve import Certificate, Solution
    from fairopt.training.decisions.fair_decisions import FairDecisions as FairDecisions
    from fairopt.training.postprocessing.postprocessor import FairPostprocessor as FairPostprocessor

_PARTS = {
    "auditing": ("Audit", "audit"),
    "contract.backend": ("Backend", "Capabilities", "RawSolution", "Status"),
    "contract.registry": ("backend",),
    "datasets": ("DatasetReport", "audit_dataset", "freeze_dataset", "project_dataset"),
    "layer.decisions": ("decide",),
    "basics.errors": (
        "BackendError", "ConformanceError", "FairoptError", "FairoptWarning", "InfeasibleError", "InputError", "MissingExtraError",
        "RankError", "StateError", "UnsupportedError",
    ),
    "layer.frozen": ("FrozenLayer",),
    "layer.population_bound": ("PopulationBound",),
    "auditing.gap_table": ("gaps",),
    "layer.fairness_layer": ("FairnessLayer",),
    "layer.model": ("FairModel",),
    "contract.listing": ("backends",),
    "notions": (
        "DemographicParity", "EqualOpportunity", "EqualizedOdds", "GroupMeanBound", "ImpactRatio", "MeanResidual", "Notion",
        "PredictiveEquality", "Reference", "ResidualParity", "ScoreCovariance", "notion",
    ),
    "layer.one_shot": ("compile", "project"),
    "layer.prepared": ("Prepared",),
    "contract.problem": ("Limits", "ProjectionProblem", "Softness"),
    "contract.rows": ("Rows",),
    "race": ("Race", "compare"),
    "solve": ("Certificate", "Solution"),
    "basics.soft": ("Soft",),
    "basics.table": ("Table",),
}  # fmt: skip
# What needs an extra: not in __all__, so that a star import needs none.
_WITH_EXTRA = {"FairDecisions": "training.decisions.fair_decisions", "FairPostprocessor": "training.postprocessing.postprocessor"}
_NAMES = {**{name: part for part, names in _PARTS.items() for name in names}, **_WITH_EXTRA}
_MODULES = ("auditing", "streaming", "testing", "experiments", "race", "plot")

__all__ = [
    "Audit", "Backend", "BackendError", "Capabilities", "Certificate", "ConformanceError", "DatasetReport", "DemographicParity",
    "EqualOpportunity", "EqualizedOdds", "FairModel", "FairnessLayer", "FairoptError", "FairoptWarning", "FrozenLayer",
    "GroupMeanBound", "ImpactRatio", "InfeasibleError", "InputError", "Limits", "MeanResidual", "MissingExtraError", "Notion",
    "PopulationBound", "PredictiveEquality", "Prepared", "ProjectionProblem", "Race", "RankError", "RawSolution", "Reference",
    "ResidualParity", "Rows", "ScoreCovariance", "Soft", "Softness", "Solution", "StateError", "Status", "Table",
    "UnsupportedError", "audit", "audit_dataset", "backend", "backends", "compare", "compile", "decide", "freeze_dataset", "gaps",
    "notion", "project", "project_dataset",
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
    return sorted({*__all__, *_WITH_EXTRA, *_MODULES, *globals()})
