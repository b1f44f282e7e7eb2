"""``evaluate``: loss, metrics, and the gaps of scores and of decisions of a model on all batches of a loader together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairopt.auditing import Audit, Metric, audit
from fairopt.auditing.metrics import read_metrics
from fairopt.auditing.sample import read_notions
from fairopt.basics.columns import numbers
from fairopt.basics.errors import InputError
from fairopt.basics.labels import target_numbers
from fairopt.basics.table import Table
from fairopt.layer.fairness_layer import FairnessLayer
from fairopt.layer.model import FairModel
from fairopt.notions import Notion
from fairopt.training.gaps_by_notion import GapDone, Judged, gap_table, layers_of, pooled, threshold_of

Step = Callable[[Any], Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What ``evaluate`` found.

    n        rows
    loss     mean over the rows; None without ``loss=``
    metrics  name -> figure; None where it is not defined
    gaps     each notion's widest gap of scores, then of decisions: ``GapDone``; ``table()`` shows them
    threshold  where a score says yes; None: no decisions were judged
    judged, notions  the scores with groups and targets, and what they were held against

    Examples:
        >>> from fairopt.training import evaluate
        >>> network = torch.nn.Flatten(0)
        >>> batches = [(torch.tensor([[0.2], [0.6]]), {"sex": ["f", "m"]}, None)]
        >>> found = evaluate(network, batches, fo.DemographicParity("sex", tolerance=0.1))
        >>> found.n, found.loss, found.threshold
        (2, None, None)
    """

    n: int
    loss: float | None
    metrics: dict[str, float | None]
    gaps: tuple[GapDone, ...]
    threshold: float | None
    judged: Judged
    notions: tuple[Notion, ...]

    def table(self) -> Table:
        """A row a notion and quantity: the widest gap."""
        return gap_table(self.gaps)

    def audit(self, **options: Any) -> Audit:
        """``fairopt.audit`` of the same scores, groups and targets: intervals, groups, reports. ``options`` are its other arguments."""
        judged = self.judged
        usual: dict[str, Any] = {"missing_group": judged.missing_group, "pos_label": judged.pos_label}
        if self.threshold is not None:
            usual["threshold"] = self.threshold
        return audit(judged.scores, self.notions, sensitive_features=judged.features, targets=judged.targets, **{**usual, **options})

    def __str__(self) -> str:
        figures = {"loss": self.loss, **self.metrics} if self.loss is not None else self.metrics
        shown = ", ".join(f"{name} {'-' if value is None else f'{value:.6g}'}" for name, value in figures.items())
        return f"{self.n:,} rows{': ' if shown else ''}{shown}\n{self.table()}"


def evaluate(
    model: nn.Module,
    loader: Iterable[Any],
    notion: Notion | Sequence[Notion] | None = None,
    *,
    step: Step | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    metrics: Mapping[str, Callable[..., Any] | Metric] | None = None,
    threshold: float | None = None,
    missing_group: Any = None,
    pos_label: Any = None,
) -> Evaluation:
    """Judge ``model`` on every batch of ``loader``, in eval mode and without gradients; its mode is given back.

    notion     what is judged; None: the notion of the model's fairness layer
    step       one batch -> a mapping with "scores" (b,) or (b, 1), "sensitive_features" and, where there are labels, "targets" (b,), as a
               ``validation_step`` for ``ParityCallback`` returns it. None: a batch is (x, sensitive_features, targets), and the scores are
               ``model(x, sensitive_features=...)`` of a FairModel, with targets where its notion needs them, or ``model(x)``
    loss       function of scores (b,) and targets (b,) -> the mean loss of a batch; batches count by their rows
    metrics    name -> function of (targets, decisions), or a ``fairopt.auditing.Metric``, of all rows together
    threshold  where a score says yes; None: 1/2 of probabilities, 0 of logits, as the model's fairness layer gives them, and else none
    missing_group, pos_label   as in ``fairopt.gaps``; None: those of the model's fairness layer

    A FairModel projects each batch: the gaps are those of the scores that the batches got, and all of them together may be further apart
    than any batch. InputError for bad arguments, no batch, scores that are none.

    Examples:
        >>> from fairopt.training import evaluate
        >>> layer = fo.FairnessLayer(fo.DemographicParity("sex", tolerance=0.1), groups={"sex": ["f", "m"]}, space="probability")
        >>> model = fo.FairModel(torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Flatten(0)), layer)
        >>> batches = [(torch.randn(4, 2), {"sex": ["f", "f", "m", "m"]}, torch.tensor([0.0, 1, 0, 1]))]
        >>> found = evaluate(model, batches, loss=torch.nn.functional.binary_cross_entropy)
        >>> found.n, found.threshold, found.gaps[0].gap <= 0.1
        (4, 0.5, True)
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model: got {type(model).__name__}, expected a torch.nn.Module")
    layers = layers_of(model)
    layer = layers[0] if len(layers) == 1 else None
    notions = _notions(notion, layer, len(layers))
    threshold = threshold_of(layer) if threshold is None and layer is not None else threshold
    missing = missing_group or (layer.missing_group if layer is not None else "error")
    pos_label = layer.pos_label if pos_label is None and layer is not None else pos_label
    parts, total = _passed(model, loader, step or _usual_step(model), loss, pos_label)
    together = pooled(parts, _joined(notions), missing, pos_label)
    scores = numbers(together.scores, None, "scores")
    found = tuple(gap for one in notions for gap in together.worst("evaluation", one, threshold))
    figures = _figures(metrics, together, threshold)
    return Evaluation(len(scores), None if loss is None else total / len(scores), figures, found, threshold, together, notions)


def _notions(notion: Any, layer: FairnessLayer | None, layers: int) -> tuple[Notion, ...]:
    if notion is not None:
        return read_notions(notion)
    if layer is None:
        raise InputError(f"notion: got None, and the model has {layers} fairness layers, expected a notion")
    return (layer.notion,)


def _joined(notions: tuple[Notion, ...]) -> Notion:
    whole = notions[0]
    for another in notions[1:]:
        whole = whole & another
    return whole


def _usual_step(model: nn.Module) -> Step:
    def step(batch: Any) -> Mapping[str, Any]:
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise InputError(
                f"loader: got a batch of type {type(batch).__name__}, expected (x, sensitive_features) or (x, sensitive_features, "
                "targets); for others give step="
            )
        x, features, *labels = batch
        targets = labels[0] if labels else None
        if isinstance(model, FairModel):
            needed = targets if model.layer.notion.needs_targets else None
            return {"scores": model(x, sensitive_features=features, targets=needed), "sensitive_features": features, "targets": targets}
        return {"scores": model(x), "sensitive_features": features, "targets": targets}

    return step


def _passed(
    model: nn.Module, loader: Iterable[Any], step: Step, loss: Callable[[Tensor, Tensor], Tensor] | None, pos_label: Any
) -> tuple[list[Mapping[str, Any]], float]:
    """What the step says of every batch, and the sum of the losses, each times its rows."""
    parts: list[Mapping[str, Any]] = []
    total = 0.0
    trained = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            for batch in loader:
                said = step(batch)
                absent = [name for name in ("scores", "sensitive_features") if name not in said]
                if absent:
                    raise InputError(f"step: got a mapping without {absent[0]!r}, expected 'scores', 'sensitive_features' and 'targets'")
                scores = numbers(said["scores"], None, "scores")
                parts.append({**said, "scores": scores})
                if loss is not None:
                    total += _loss(loss, scores, said.get("targets"), pos_label) * len(scores)
    finally:
        for module, mode in trained:
            module.training = mode
    return parts, total


def _loss(loss: Callable[[Tensor, Tensor], Tensor], scores: Tensor, targets: Any, pos_label: Any) -> float:
    if targets is None:
        raise InputError("loss: got no targets, expected one a row")
    labels = target_numbers(targets, len(scores), pos_label, whole=False)
    value = loss(scores, torch.from_numpy(labels).to(scores))
    if not isinstance(value, Tensor) or value.numel() != 1 or not bool(torch.isfinite(value).all()):
        raise InputError(f"loss: got {value!r}, expected a finite tensor with one number")
    return float(value)


def _figures(metrics: Any, together: Judged, threshold: float | None) -> dict[str, float | None]:
    if metrics is None:
        return {}
    scores = together.scores.numpy()
    decisions = None if threshold is None else (scores >= threshold).astype(np.float64)
    targets = None if together.targets is None else target_numbers(together.targets, len(scores), together.pos_label)
    read = read_metrics(metrics, None, targets=targets, scores=scores, decisions=decisions)
    return {} if read is None else {name: read.overall(name) for name in read.by_name}
