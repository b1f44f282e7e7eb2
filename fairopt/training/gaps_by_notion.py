"""The widest gap of scores, and of decisions, under each notion: one line a notion and attribute, as an epoch and ``evaluate`` show it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairopt.auditing.gap_table import gaps
from fairopt.auditing.sample import is_binary
from fairopt.basics.columns import listed, read_features
from fairopt.basics.errors import InputError
from fairopt.basics.table import Table
from fairopt.layer.fairness_layer import FairnessLayer
from fairopt.notions import Notion
from fairopt.solve.transforms import transformed

COLUMNS = ("part", "quantity", "notion", "gap", "limit")


@dataclass(frozen=True)
class GapDone:
    """The comparison of one notion that is furthest beyond its limit (or the least inside it).

    part      "training", "validation", or another name of the data
    quantity  "score" or "decision"
    notion    the notion and its attribute: "DemographicParity(sex)"
    gap       in the units of the scores (of rates, for decisions);  limit  what the notion allows; ``fairopt.gaps`` has the signs

    Examples:
        >>> from fairopt.training import evaluate
        >>> network = torch.nn.Flatten(0)
        >>> batches = [(torch.tensor([[0.25], [0.75]]), {"sex": ["f", "m"]}, None)]
        >>> evaluate(network, batches, fo.DemographicParity("sex", tolerance=0.1)).gaps
        (GapDone(part='evaluation', quantity='score', notion='DemographicParity(sex)', gap=0.5, limit=0.1),)
    """

    part: str
    quantity: str
    notion: str
    gap: float
    limit: float

    @property
    def excess(self) -> float:
        """How far beyond the limit; at most 0 inside."""
        return self.gap - self.limit


def gap_table(found: Iterable[GapDone]) -> Table:
    return Table.from_records(COLUMNS, [asdict(one) for one in found])


@dataclass(frozen=True, eq=False)
class Judged:
    """Scores (n,) with the groups (and targets) of their rows, and how a layer reads them."""

    scores: Tensor
    features: Mapping[str, list[Any]]
    targets: list[Any] | None
    missing_group: Any = "error"
    pos_label: Any = None

    def table(self, values: Tensor, notion: Notion) -> Table:
        """``fairopt.gaps`` of ``values`` (n,)."""
        targets = self.targets if notion.needs_targets else None
        return gaps(
            values, notion, sensitive_features=self.features, targets=targets, missing_group=self.missing_group,
            pos_label=self.pos_label, threshold=None,
        )  # fmt: skip

    def worst(self, part: str, notion: Notion, threshold: float | None) -> Iterator[GapDone]:
        """A line a notion and attribute of the scores, then of the decisions (score >= threshold; None: there are none)."""
        values = {"score": self.scores}
        if threshold is not None:
            values["decision"] = (self.scores >= threshold).double()
        for quantity, vector in values.items():
            if quantity == "decision" and not self._decisions_mean_something(notion):
                continue
            widest: dict[str, GapDone] = {}
            for row in self.table(vector, notion):
                name = f"{row['notion']}({row['attribute']})"
                if row["gap"] is not None:
                    one = GapDone(part, quantity, name, row["gap"], row["limit"])
                    widest[name] = max(widest.get(name, one), one, key=lambda gap: (gap.excess, gap.gap))
            yield from widest.values()

    def _decisions_mean_something(self, notion: Notion) -> bool:
        """A residual of decisions means nothing where targets are no labels."""
        if not notion.needs_targets or self.targets is None or self.pos_label is not None:
            return True
        return is_binary(np.asarray(self.targets, dtype=np.float64))


def pooled(parts: list[Mapping[str, Any]], notion: Notion, missing_group: Any = "error", pos_label: Any = None) -> Judged:
    """All of ``parts`` together: mappings with "scores" (b,), "sensitive_features" and, where there are labels, "targets" (b,)."""
    if not parts:
        raise InputError("batches: got none, expected at least one")
    features: dict[str, list[Any]] = {}
    for part in parts:
        for name, column in read_features(part["sensitive_features"], notion.attributes).items():
            features.setdefault(name, []).extend(listed(column, f"sensitive_features[{name!r}]"))
    labelled = all(part.get("targets") is not None for part in parts)
    return Judged(
        torch.cat([part["scores"].detach().reshape(-1).double().cpu() for part in parts]),
        features,
        [v for part in parts for v in listed(part["targets"], "targets")] if labelled else None,
        missing_group,
        pos_label,
    )


def layers_of(model: nn.Module) -> list[FairnessLayer]:
    """The fairness layers inside, each once."""
    return [module for module in model.modules() if isinstance(module, FairnessLayer)]


def threshold_of(layer: FairnessLayer) -> float | None:
    """Where a score says yes: 1/2 of probabilities and of scores whose box is inside [0, 1], 0 of logits; None where nothing says so."""
    if layer.space == "logit":
        return 0.0
    if layer.space == "probability":
        return 0.5
    ends = layer.bounds if isinstance(layer.bounds, (tuple, list)) else (None, None)
    plain = all(isinstance(end, (int, float)) for end in ends)
    return 0.5 if plain and 0.0 <= ends[0] < ends[1] <= 1.0 else None


class GapRecorder:
    """Hears what the fairness layers inside a model give while it is open (``with``), and says the gaps of all these scores together.

    Gaps of training are those of the scores that the batches got while the model learned, as the loss of an epoch is a mean over them.
    Nothing is heard of calls under ``torch.compile`` or ``torch.func``, where scores have no values.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = layers_of(model)
        self._heard: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
        self._part = "training"
        self._handles: list[Any] = []
        self._open = True

    def __enter__(self) -> GapRecorder:
        self._handles = [layer.register_forward_hook(self._hear, with_kwargs=True) for layer in self._layers]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __getstate__(self) -> dict[str, Any]:
        """A copy of the model, made while it is heard, has a recorder that hears nothing."""
        return {"_layers": [], "_heard": {}, "_part": self._part, "_handles": [], "_open": False}

    def _hear(self, layer: nn.Module, args: Any, given: dict[str, Any], fair: Any) -> None:
        if torch.compiler.is_compiling() or not self._open or not isinstance(fair, Tensor) or transformed(fair):
            return
        assert isinstance(layer, FairnessLayer)
        names = layer.notion.attributes
        columns = read_features(given["sensitive_features"], names)
        heard: dict[str, Any] = {
            "scores": fair.detach(),
            "sensitive_features": {name: listed(columns[name], name) for name in names},  # now: a loader may use a tensor again
        }
        if layer.notion.needs_targets:
            heard["targets"] = listed(given["targets"], "targets")
        self._heard.setdefault((self._part, id(layer)), []).append(heard)

    def begin(self, part: str) -> None:
        """What comes now belongs to ``part``, of which nothing has been heard yet."""
        self._part = part
        self._heard = {place: heard for place, heard in self._heard.items() if place[0] != part}

    def go_on(self, part: str) -> None:
        """What comes now belongs to ``part``, beside what has been heard of it."""
        self._part = part

    def said(self) -> tuple[GapDone, ...]:
        """The gaps of all parts since the last call."""
        heard, self._heard = self._heard, {}
        layers = {id(layer): layer for layer in self._layers}
        found: list[GapDone] = []
        for (part, place), batches in heard.items():
            layer = layers[place]
            judged = pooled(batches, layer.notion, layer.missing_group, layer.pos_label)
            found += judged.worst(part, layer.notion, threshold_of(layer))
        return tuple(found)
