"""``FrozenClasses``: the shifts of a layer of class probabilities as a table, one for each class and group.

For unit weights the layer's answer is softmax(log z - s) under the Kullback-Leibler divergence, and the point of the simplex nearest to
z - s with squares, s (C,) being one vector a cell (claim L8). A notion without labels has one cell a group: single rows can be served.
What holds in the population is not bounded: claim Q1 is about one number a sample.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.columns import read_features
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.layer.by_group import ByGroup
from fairopt.layer.freezing import group_keys
from fairopt.layer.frozen import FrozenLayer, Key, OnUnknown
from fairopt.layer.onnx_file import exported, write_onnx
from fairopt.layer.population_bound import PopulationBound
from fairopt.notions import Notion
from fairopt.solve.simplex.maps import nearest_point

SAME = 1e-12  # shifts of one group's cells beyond which they are not one


class ClassLayer(Protocol):
    """What is frozen: a ``FairnessLayer``."""

    @property
    def notion(self) -> Notion: ...
    @property
    def space(self) -> Any: ...
    @property
    def distance(self) -> Any: ...
    def facts(self) -> dict[str, Any]: ...
    def train(self, mode: bool = ..., /) -> Any: ...


class FrozenClasses(ByGroup):
    """``forward(scores, groups)``: class probabilities (n, C) for logits (space "probability") or probabilities (n, C).

    shifts (G + 1, C) float64 buffer; the last row is 0, for ``unknown``. keys, attributes, on_unknown: as in FrozenLayer. guarantees: none.
    """

    shifts: Tensor

    def __init__(
        self,
        attributes: Sequence[str],
        keys: Sequence[Key],
        shifts: Any,
        *,
        space: str,
        distance: Literal["squared", "kl"],
        notion: str = "",
        on_unknown: OnUnknown = "error",
    ) -> None:
        table = torch.as_tensor(shifts, dtype=torch.float64, device="cpu")
        if table.dim() != 2 or table.shape[0] != len(keys):
            raise InputError(f"shifts: got shape {tuple(table.shape)}, expected ({len(keys)}, C), one row a key")
        super().__init__(
            FrozenLayer(attributes, keys, [0.0] * len(keys), lb=0.0, ub=1.0, space=space, guarantees=(), on_unknown=on_unknown)
        )
        self.space, self.distance, self.notion = space, distance, notion
        self.guarantees: tuple[PopulationBound, ...] = ()
        self.register_buffer("shifts", torch.cat([table, torch.zeros_like(table[:1])]))

    @property
    def bounds(self) -> tuple[PopulationBound, ...]:
        """As in FrozenLayer: none."""
        return self.guarantees

    def forward(self, scores: Tensor, groups: Tensor) -> Tensor:
        """Probabilities (n, C) for ``scores`` (n, C) and ``groups`` (n,) int64 in [0, unknown]; same dtype and device."""
        if scores.dim() != 2 or scores.shape[1] != self.shifts.shape[1]:
            raise InputError(f"scores: got shape {tuple(scores.shape)}, expected (n, {self.shifts.shape[1]})")
        s = self.shifts.to(scores.device)[groups].to(scores.dtype)
        if self.distance == "kl":
            logits = torch.log_softmax(scores, 1) if self.space == "probability" else scores.log()
            return torch.softmax(logits - s, 1)
        z = torch.softmax(scores, 1) if self.space == "probability" else scores
        return nearest_point(z - s)

    def export(self, dtype: torch.dtype = torch.float32) -> torch.export.ExportedProgram:
        """A ``torch.export`` program of (scores, groups) with a free batch size."""
        return exported(self, torch.full((4, self.shifts.shape[1]), 1.0 / self.shifts.shape[1], dtype=dtype, device="cpu"))

    def to_onnx(self, path: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """An ONNX file: inputs ``scores`` (n, C) and ``groups`` (n,), output ``fair`` (n, C), free size; metadata as of FrozenLayer."""
        facts = {
            "fairopt.unknown": str(self.unknown),
            "fairopt.attributes": repr(self.attributes),
            "fairopt.keys": repr(self.keys),
            "fairopt.on_unknown": self._index.on_unknown,
            "fairopt.classes": str(self.shifts.shape[1]),
            "fairopt.space": self.space,
            "fairopt.distance": self.distance,
            "fairopt.notion": self.notion,
        }
        write_onnx(self.export(dtype), path, facts)

    def table(self) -> list[dict[str, Any]]:
        """One row a group: its values, and the shift of each class."""
        return [
            {**dict(zip(self.attributes, key, strict=True)), **{f"shift of class {c}": v for c, v in enumerate(row)}}
            for key, row in zip(self.keys, self.shifts.tolist(), strict=False)
        ]


def freeze_classes(layer: ClassLayer, scores: Tensor, *, sensitive_features: Any, on_unknown: OnUnknown = "error") -> FrozenClasses:
    """The shifts of ``layer`` (``outputs="simplex"``) on calibration scores (n, C).

    UnsupportedError for notions that need labels, and where one combination of groups is moved in several ways.
    """
    if layer.notion.needs_targets:
        raise UnsupportedError(
            f"freeze_classes: {layer.notion!r} is about labels, which are not known when a row is served; expected a notion without labels"
        )
    if layer.facts()["outputs"][0] != "simplex":
        raise UnsupportedError("freeze_classes: for layers of class probabilities, outputs='simplex'")
    with torch.no_grad():  # a copy: calibration may show groups that training had not
        solution = copy.deepcopy(layer).train().solution(scores, sensitive_features=sensitive_features)
    problem = solution.certificate.problem
    n, C = scores.shape
    by_cell = solution.prices.numpy() @ np.asarray(problem.rows.coefficients)
    shift = by_cell[problem.rows.cell.numpy()].reshape(C, n).T  # (n, C)
    names = layer.notion.attributes
    features = read_features(sensitive_features, names)
    keys, position = group_keys(names, features, n)
    first = np.unique(position, return_index=True)[1]
    table = shift[first]
    if float(np.abs(shift - table[position]).max(initial=0.0)) > SAME * max(1.0, float(np.abs(table).max(initial=0.0))):
        raise UnsupportedError(
            f"freeze_classes: {layer.notion!r} moves samples of one group in different ways; no shift a group can be frozen"
        )
    kind: Literal["squared", "kl"] = "kl" if layer.distance == "kl" else "squared"
    return FrozenClasses(names, keys, table, space=layer.space, distance=kind, notion=repr(layer.notion), on_unknown=on_unknown)
