"""``FrozenLayer``: the shifts of a fairness layer, fitted once on calibration scores. No solver, no other samples, single rows at
serving time.

For unit weights the layer's answer is ``y_i = clip(z_i - s(cell of i), lb, ub)`` (claim L8). Where s depends on the groups alone, it
can be frozen.
Where it depends on the label (equal opportunity, equalized odds) it cannot: the label is not known when the score is sent.

The population bound (claim Q1): with probability >= confidence over the calibration sample, for all constraints at once,
    population gap <= calibration gap + R * sum over the groups of the row of abs(scale) * sqrt(log(2 K / alpha) / (2 n_g)),
uniformly over the shift (Dvoretzky-Kiefer-Wolfowitz with Massart's constant, K groups). A group with several shifts inside it
(overlapping attributes) is
bounded cell by cell, plus R times the total variation of its cell shares, itself bounded by Bretagnolle-Huber-Carol. Residual rows add
the same
margin for the mean target.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import inf, isfinite, log, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fairopt.basics.columns import is_one, numbers, plain_values, read_features, unwrapped, working_tensor
from fairopt.basics.extras import missing
from fairopt.basics.facts import differing, from_tensor, to_tensor
from fairopt.errors import InputError, UnsupportedError
from fairopt.problem import ProjectionProblem
from fairopt.sparse import absolute, same_columns

if TYPE_CHECKING:
    from fairopt.layer import FairnessLayer

FORMAT = 1
Key = tuple[Any, ...]
OnUnknown = Literal["error", "pass"]
SETTING = "setting"  # the buffer that says what the shifts are for


@dataclass(frozen=True)
class PopulationBound:
    """One constraint on the population: gap <= bound with the stated confidence (all constraints of the layer at once).

    gap: on the calibration data, with the frozen shifts (for one-sided rows the distance beyond the limit); margin: what sampling may add;
    bound = gap + margin, None where the scores have no bounds. held_out_margin: what a sample not used for fitting would allow (no
    union over shifts).
    """

    constraint: str
    gap: float
    limit: float
    margin: float | None
    bound: float | None
    held_out_margin: float | None
    confidence: float


class FrozenLayer(nn.Module):
    """``forward(scores, groups)``: clip(scores - shifts[groups], lb, ub); ``index`` turns group values into ``groups``.

    shifts (G + 1,) float64 buffer; the last entry is 0: ``unknown``, the index of groups that calibration had not (declared, listed in
    ``keys`` never).
    keys G tuples of group values (int, str, bool or None), in the order of ``attributes``. space: as in the layer.
    guarantees  what holds in the population, one ``PopulationBound`` a constraint; ``bounds`` is its old name
    notion      what the shifts were fitted for, as text (its ``repr``, tolerance included); "" where none is known
    on_unknown  "error": a group that calibration had not, or a missing one, is an InputError; "pass": such scores get no shift

    The state holds tensors alone: ``shifts``, and ``setting``, a uint8 buffer of JSON with groups (and their types), attributes, box,
    space and notion. ``load_state_dict`` raises InputError where a state's setting is another one; ``strict=False`` lets another notion
    pass, and a state without a setting (of shifts alone), but never other groups, attributes, spaces or boxes.
    """

    shifts: Tensor
    setting: Tensor

    def __init__(
        self,
        attributes: Sequence[str],
        keys: Sequence[Key],
        shifts: Sequence[float],
        *,
        lb: float,
        ub: float,
        space: str,
        bounds: Sequence[PopulationBound],
        notion: str = "",
        on_unknown: OnUnknown = "error",
    ) -> None:
        super().__init__()
        if len(keys) != len(shifts):
            raise InputError(f"shifts: expected one a key, got {len(shifts)} for {len(keys)}")
        if on_unknown not in ("error", "pass"):
            raise InputError(f"on_unknown: got {on_unknown!r}, expected 'error' or 'pass'")
        self.attributes, self.keys = tuple(attributes), tuple(keys)
        self.lb, self.ub, self.space = float(lb), float(ub), space
        self.guarantees = tuple(bounds)
        self.notion, self.on_unknown = notion, on_unknown
        self._strict = True
        self._codes = {_typed(key): k for k, key in enumerate(self.keys)}
        if len(self._codes) != len(self.keys):
            raise InputError(f"keys: got {self.keys!r}, in which a group stands twice")
        self.register_buffer("shifts", torch.tensor([*shifts, 0.0], dtype=torch.float64, device="cpu"))
        self.register_buffer(SETTING, to_tensor(self._facts()))

    @property
    def bounds(self) -> tuple[PopulationBound, ...]:
        """The old name of ``guarantees``; the box is ``lb`` and ``ub``."""
        return self.guarantees

    def _facts(self) -> dict[str, Any]:
        """What the shifts are for: what a state must agree with."""
        return {
            "format": FORMAT,
            "attributes": list(self.attributes),
            "keys": [list(key) for key in self.keys],
            "box": [_plain_bound(self.lb), _plain_bound(self.ub)],
            "space": self.space,
            "notion": self.notion,
        }

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # made anew: a loop that averages buffers (``AveragedModel(use_buffers=True)``) leaves no letter of the text as it was
        destination[f"{prefix}{SETTING}"] = to_tensor(self._facts()).to(self.setting.device)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As torch's, with the setting checked first; see the class. Inside another module a load is always strict about the setting."""
        self._strict = strict  # torch does not tell ``_load_from_state_dict``: it passes True
        try:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        finally:
            self._strict = True

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, local_metadata: Any, strict: bool, *lists: Any) -> None:
        told, shifts = state_dict.get(f"{prefix}{SETTING}"), state_dict.get(f"{prefix}shifts")
        if told is not None:
            theirs = from_tensor(told, FORMAT, f"state: {prefix}{SETTING}")
            self._compare(theirs)
        elif shifts is not None and self._strict:
            raise InputError(
                f"state: {prefix}{SETTING} is missing, which says whose groups the shifts are for; expected it beside {prefix}shifts. "
                "The layer's own load_state_dict(..., strict=False) takes the shifts in the order of its keys"
            )
        if isinstance(shifts, Tensor) and not (shifts.shape == self.shifts.shape and bool(torch.isfinite(shifts).all())):
            raise InputError(f"state: {prefix}shifts is {shifts!r}, expected {len(self.shifts)} finite numbers")
        if shifts is not None:
            if told is not None:
                self.notion = str(theirs.get("notion") or self.notion)  # the shifts' own
            setting = to_tensor(self._facts()).to(self.shifts.device)
            self.setting = setting
            state_dict = {**state_dict, f"{prefix}{SETTING}": setting}
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *lists)

    def _compare(self, theirs: Mapping[str, Any]) -> None:
        """InputError that names both sides where a state was fitted for something else."""
        facts = self._facts()
        whole = {name: theirs.get(name) for name in facts}  # what is not said differs too
        for what, other, mine in differing(whole, facts, facts):
            if what == "notion" and not (self._strict and other and mine):
                continue  # a layer that was made by hand knows no notion
            raise InputError(f"state: {what} is {other!r}, this layer has {mine!r}")

    @property
    def unknown(self) -> int:
        """The index of "unknown group, no shift" in ``forward``'s groups."""
        return len(self.keys)

    def forward(self, scores: Tensor, groups: Tensor) -> Tensor:
        """Fair scores for ``scores`` (n,) and ``groups`` (n,) int64 in [0, unknown]; same shape, dtype and device."""
        if not torch.compiler.is_compiling():  # an exported program gathers what it is given
            self._check_index(groups)
        z = torch.sigmoid(scores) if self.space == "probability" else scores
        y = z - self.shifts.to(device=z.device)[groups].to(z.dtype)
        return y.clamp(self.lb, self.ub)

    def _check_index(self, groups: Tensor) -> None:
        """InputError for what is no index of a group: -1 would be the last entry, "unknown", in silence."""
        if groups.dtype not in (torch.int64, torch.int32):
            raise InputError(f"groups: got {groups.dtype}, expected int64, as index(...) gives it")
        if groups.numel():
            low, high = (int(v) for v in torch.aminmax(groups))
            if not 0 <= low <= high <= self.unknown:
                raise InputError(
                    f"groups: got {low if low < 0 else high}, expected 0 to {self.unknown} ({self.unknown}: unknown, no shift)"
                )

    def index(self, sensitive_features: Any) -> Tensor:
        """(n,) int64 for values by attribute. A single row: single values. Values that calibration had not: InputError, or ``unknown``."""
        codes = self.codes(sensitive_features)
        if self.on_unknown == "error":
            unknown = torch.nonzero(codes == self.unknown).reshape(-1).tolist()
            if unknown:
                raise InputError(self._not_calibrated(self._rows(sensitive_features)[unknown[0]], unknown[0]))
        return codes

    def codes(self, sensitive_features: Any) -> Tensor:
        """``index`` for a caller that looks for ``unknown`` itself: it never raises for a group."""
        known, unknown = self._codes, self.unknown
        return torch.tensor([known.get(_typed(row), unknown) for row in self._rows(sensitive_features)], dtype=torch.int64, device="cpu")

    def _rows(self, sensitive_features: Any) -> list[Key]:
        columns = []
        given = sensitive_features if isinstance(sensitive_features, Mapping) else read_features(sensitive_features, self.attributes)
        for name in self.attributes:
            if name not in given:
                raise InputError(f"sensitive_features: no {name!r}; this layer reads {', '.join(self.attributes)}")
            raw = given[name]
            columns.append(plain_values([unwrapped(raw)] if is_one(raw) else raw, f"sensitive_features[{name!r}]"))
        if len({len(c) for c in columns}) != 1:
            raise InputError(f"sensitive_features: columns of different lengths {[len(c) for c in columns]}")
        return list(zip(*columns, strict=True))

    def _not_calibrated(self, row: Key, position: int) -> str:
        shown = ", ".join(f"{name}={'missing' if value is None else repr(value)}" for name, value in zip(self.attributes, row, strict=True))
        near = [key for key in self.keys if tuple(map(_folded, key)) == tuple(map(_folded, row))]
        known = ", ".join(repr(key[0] if len(key) == 1 else key) for key in (near or self.keys)[:10])
        what = f"calibration had {known}, which is another value (type, case or blanks differ)" if near else f"calibration had {known}"
        more = ", ..." if len(self.keys) > 10 and not near else ""
        return (
            f"sensitive_features: row {position} has {shown}, a group that calibration had not; {what}{more}. Calibrate with such rows, or "
            "freeze with on_unknown='pass', which sends them without a shift"
        )

    def predict(self, scores: Any, *, sensitive_features: Any) -> Any:
        """Fair scores from group values; a number gives a number, and any container of scores gives the same container.

        InputError for scores that are missing, NaN or infinite.
        """
        if is_one(scores):
            with torch.no_grad():
                one = numbers([unwrapped(scores)], 1, "scores").to(self.shifts.device)
                return float(self(one, self.index(sensitive_features).to(one.device))[0])
        z, like = working_tensor(scores)
        if like is None:
            numbers(z.detach(), None, "scores")
        groups = self.index(sensitive_features).to(z.device)
        if groups.shape[0] != z.shape[0]:
            raise InputError(f"sensitive_features: expected {z.shape[0]} values, got {groups.shape[0]}")
        fair = self(z, groups.reshape(z.shape))
        return fair if like is None else like.restore(fair)

    def table(self) -> list[dict[str, Any]]:
        """One row a group: its values and shift."""
        return [
            {**dict(zip(self.attributes, key, strict=True)), "shift": s} for key, s in zip(self.keys, self.shifts.tolist(), strict=False)
        ]

    def export(self, dtype: torch.dtype = torch.float32) -> torch.export.ExportedProgram:
        """A ``torch.export`` program of (scores, groups) with a free batch size."""
        n = torch.export.Dim("n", min=1)
        example = (torch.zeros(4, dtype=dtype, device="cpu"), torch.zeros(4, dtype=torch.int64, device="cpu"))
        return torch.export.export(self, example, dynamic_shapes=({0: n}, {0: n}))

    def to_onnx(self, path: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """An ONNX file: inputs ``scores`` and ``groups``, output ``fair``, free size; metadata: groups, ``unknown``, ``on_unknown``."""
        try:
            import onnx

            import_module("onnxscript")  # torch.onnx needs it
        except ImportError as error:
            raise missing("ONNX needs onnx and onnxscript", "export") from error
        program = torch.onnx.export(self.export(dtype), input_names=["scores", "groups"], output_names=["fair"], dynamo=True, verbose=False)
        if program is None:
            raise UnsupportedError("torch.onnx.export gave no program")
        program.save(str(path))
        model = onnx.load(str(path))
        facts = {
            "fairopt.format": str(FORMAT),
            "fairopt.unknown": str(self.unknown),
            "fairopt.attributes": repr(self.attributes),
            "fairopt.keys": repr(self.keys),
            "fairopt.on_unknown": self.on_unknown,
            "fairopt.setting": json.dumps(self._facts(), default=repr),
        }
        for name, text in facts.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = name, text
        onnx.save(model, str(path))

    def extra_repr(self) -> str:
        return f"attributes={self.attributes}, groups={len(self.keys)}, bounds=({self.lb:g}, {self.ub:g}), space={self.space!r}"


def freeze(
    layer: FairnessLayer,
    scores: Tensor,
    *,
    sensitive_features: Any,
    targets: Any = None,
    confidence: float = 0.95,
    on_unknown: OnUnknown = "error",
) -> FrozenLayer:
    """Fit the shifts of ``layer`` on calibration ``scores`` (n,) or (n, 1) and bound what they give on the population.

    on_unknown: what the frozen layer does with groups that calibration had not, and with missing ones: see ``FrozenLayer``.

    Raises UnsupportedError where a shift would depend on the label, or on more than the groups (weights, per-sample bounds, covariance
    rows).
    """
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence: expected a number in (0, 1), got {confidence!r}")
    lb, ub = _scalar_bounds(layer.bounds)
    calibrated = copy.deepcopy(layer).train()  # a copy: calibration may show groups that training had not
    sensitive_features = read_features(sensitive_features, layer.notion.attributes)
    prepared = calibrated.prepare(scores.shape[0], sensitive_features, targets)
    problem = prepared.problem
    if problem.rows.dense is not None:
        raise UnsupportedError(f"freeze: {layer.notion!r} has rows with a weight of its own a sample; its shift is not one number a group")
    z = (torch.sigmoid(scores) if layer.space == "probability" else scores).detach().reshape(-1).double()
    solution = prepared.project(z, backend=layer.backend, return_solution=True)
    cell_shifts = np.asarray(solution.prices, dtype=np.float64) @ problem.rows.coefficients  # (C,)
    names = layer.notion.attributes
    cell = problem.rows.cell.numpy()  # (n,)
    keys, code = group_keys(names, sensitive_features, len(cell))
    shifts = []
    for k in range(len(keys)):
        cells = np.unique(cell[code == k])
        if not same_columns(problem.rows.coefficients, cells):
            raise UnsupportedError(
                f"freeze: {layer.notion!r} moves samples of one group by their label, which is unknown when a score is sent; freeze "
                "a notion without labels (DemographicParity), or one on residuals (MeanResidual), whose shift depends on the group alone"
            )
        shifts.append(float(cell_shifts[cells[0]]))
    frozen_y = np.clip(z.numpy() - np.array(shifts)[code], lb, ub)
    bounds = population_bounds(problem, frozen_y, cell_shifts, lb, ub, confidence)
    return FrozenLayer(
        names, keys, shifts, lb=lb, ub=ub, space=layer.space, bounds=bounds, notion=repr(layer.notion), on_unknown=on_unknown
    )


def population_bounds(
    problem: ProjectionProblem, y: npt.NDArray[np.float64], cell_shifts: npt.NDArray[np.float64], lb: float, ub: float, confidence: float
) -> tuple[PopulationBound, ...]:
    """Claim Q1 for every constraint of ``problem`` at the frozen scores ``y`` (n,)."""
    rows = problem.rows
    sums = np.bincount(rows.cell.numpy(), weights=y, minlength=rows.masks.shape[1])
    values = rows.coefficients @ sums + rows.offset  # (m,)
    width = ub - lb
    finite = isfinite(width)
    alpha = 1.0 - confidence
    mask_margin = _mask_margins(problem, cell_shifts, alpha) if finite else np.full(rows.masks.shape[0], inf)
    sampled = mask_margin * (width if finite else 1.0)
    if problem.used_targets:  # residual rows: the mean target is estimated too (targets inside the bounds)
        sampled = sampled * 2.0
    margins = abs(rows.scales) @ np.where(np.isfinite(sampled), sampled, 0.0)  # (m,)
    share = (rows.scales**2) @ (1.0 / rows.mask_counts)  # (m,)
    out = []
    for k, label in enumerate(problem.constraint_labels[: problem.linear]):
        low, high = float(problem.lower[k]), float(problem.upper[k])
        gap, limit = (abs(float(values[k])), high) if low == -high else (max(low - float(values[k]), float(values[k]) - high), 0.0)
        held = sqrt(log(2.0 / alpha) * float(share[k]) / 2.0) * width if finite else None
        margin = float(margins[k]) if finite else None
        out.append(PopulationBound(label, gap, limit, margin, None if margin is None else gap + margin, held, confidence))
    for r, part in enumerate(problem.range_slices):
        label = problem.constraint_labels[problem.linear + r]
        ratio = float(problem.ratio[r])
        gap = ratio * float(values[part].max()) - float(values[part].min())
        pair = np.sort(share[part])[-2:]
        held = sqrt(log(2.0 / alpha) * float(pair.sum()) / 2.0) * width if finite else None
        margin = _range_margin(values[part], margins[part], ratio) if finite else None
        out.append(PopulationBound(label, gap, float(problem.width[r]), margin, None if margin is None else gap + margin, held, confidence))
    return tuple(out)


def _range_margin(values: npt.NDArray[np.float64], margins: npt.NDArray[np.float64], ratio: float) -> float:
    """How far ratio * max - min can grow when each value moves by at most its margin."""
    return float(ratio * ((values + margins).max() - values.max()) - ((values - margins).min() - values.min()))


def _mask_margins(problem: ProjectionProblem, cell_shifts: npt.NDArray[np.float64], alpha: float) -> npt.NDArray[np.float64]:
    """(M,) sampling error of each mask's mean in units of the box, all at once with probability 1 - alpha.

    One shift in the mask: sqrt(log(2 U / alpha) / (2 n)). Several: the share-weighted errors of its cells plus the total variation of
    the shares,
    TV <= 1/2 sqrt(2 (C log 2 + log(U / alpha)) / n) for C cells. U counts every such statement made (masks, cells, share vectors), and
    residual rows' means.
    """
    rows = problem.rows
    masks, counts = rows.masks, rows.counts
    used = np.flatnonzero(absolute(rows.scales).sum(0))
    mixed = [j for j in used if np.ptp(cell_shifts[masks[j]]) > 0]
    cells = sorted({int(c) for j in mixed for c in np.flatnonzero(masks[j])})
    statements = (len(used) - len(mixed)) + len(cells) + len(mixed)
    if problem.used_targets:
        statements *= 2
    out = np.zeros(masks.shape[0])
    for j in used:
        n = float(counts[masks[j]].sum())
        if j not in mixed:
            out[j] = sqrt(log(2.0 * statements / alpha) / (2.0 * n))
            continue
        inside = counts[masks[j]].astype(np.float64)
        errors = np.sqrt(log(2.0 * statements / alpha) / (2.0 * inside))
        shares = 0.5 * sqrt(2.0 * (len(inside) * log(2.0) + log(statements / alpha)) / n)
        out[j] = float((inside / n) @ errors) + min(1.0, shares)
    return np.minimum(out, 1.0)


def group_keys(names: Sequence[str], sensitive_features: Any, n: int) -> tuple[list[Key], npt.NDArray[np.int64]]:
    """The combinations of values that occur, sorted, and the position (n,) of each sample's."""
    columns = [plain_values(sensitive_features[name], f"sensitive_features[{name!r}]") for name in names]
    rows = list(zip(*columns, strict=True))
    keys = sorted(set(rows), key=lambda row: [(v is None, type(v).__name__, v if v is not None else 0) for v in row])
    position = {key: k for k, key in enumerate(keys)}
    return keys, np.array([position[row] for row in rows], dtype=np.int64).reshape(n)


def _typed(key: Key) -> tuple[tuple[str, Any], ...]:
    """A key in which 1, True and 1.5 differ as they look: Python takes 1 and True for the same."""
    return tuple((type(value).__name__, value) for value in key)


def _folded(value: Any) -> str:
    """What a person would take for the same value: 1 and "1", "M" and "m "."""
    return "missing" if value is None else str(value).strip().casefold()


def _plain_bound(bound: float) -> float | None:
    """An open side as None: JSON has no infinity."""
    return bound if isfinite(bound) else None


def _scalar_bounds(bounds: Any) -> tuple[float, float]:
    if bounds is None:
        return -inf, inf
    low, high = bounds
    for b in (low, high):
        if isinstance(b, Tensor) and b.numel() > 1:
            raise UnsupportedError("freeze: bounds of its own for each sample cannot be frozen; give one pair of numbers")
    return (-inf if low is None else float(low)), (inf if high is None else float(high))


__all__ = ["FrozenLayer", "PopulationBound", "freeze", "population_bounds"]
