"""Training: a loop, stratified batches, micro-batches, checkpoints, adapters.

    from fairopt.training import EarlyStopping, StratifiedBatches, fit
    batches = StratifiedBatches({"sex": sex}, batch_size=1024)                  # every batch with the groups' shares of the whole
    history = fit(model, step, batches, optimizer=optimizer, epochs=50, validate=validate, stopping=EarlyStopping(5))

Names are loaded on first use: scikit-learn and Lightning are imported by what needs them alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairopt.training.accumulate import Accumulation
    from fairopt.training.checkpoint import load_checkpoint, save_checkpoint
    from fairopt.training.decisions.fair_decisions import FairDecisions
    from fairopt.training.estimators.classifier import FairClassifier
    from fairopt.training.estimators.regressor import FairRegressor
    from fairopt.training.evaluation import Evaluation, evaluate
    from fairopt.training.gaps_by_notion import GapDone
    from fairopt.training.history import EpochDone, History
    from fairopt.training.lightning import ParityCallback, ParityError
    from fairopt.training.loop import fit
    from fairopt.training.postprocessing.postprocessor import FairPostprocessor
    from fairopt.training.sampler import StratifiedBatches
    from fairopt.training.state import Stateful
    from fairopt.training.stopping import EarlyStopping
    from fairopt.training.trade_off import trade_off

_PARTS = {
    "accumulate": ("Accumulation",),
    "checkpoint": ("load_checkpoint", "save_checkpoint"),
    "estimators.classifier": ("FairClassifier",),
    "evaluation": ("Evaluation", "evaluate"),
    "decisions.fair_decisions": ("FairDecisions",),
    "gaps_by_notion": ("GapDone",),
    "history": ("EpochDone", "History"),
    "lightning": ("ParityCallback", "ParityError"),
    "loop": ("fit",),
    "postprocessing.postprocessor": ("FairPostprocessor",),
    "estimators.regressor": ("FairRegressor",),
    "sampler": ("StratifiedBatches",),
    "state": ("Stateful",),
    "stopping": ("EarlyStopping",),
    "trade_off": ("trade_off",),
}
_NAMES = {name: part for part, names in _PARTS.items() for name in names}

__all__ = [
    "Accumulation", "EarlyStopping", "EpochDone", "Evaluation", "FairClassifier", "FairDecisions", "FairPostprocessor", "FairRegressor",
    "GapDone", "History", "ParityCallback", "ParityError", "Stateful", "StratifiedBatches", "evaluate", "fit", "load_checkpoint",
    "save_checkpoint", "trade_off",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(import_module(f"fairopt.training.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'fairopt.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *globals()})
