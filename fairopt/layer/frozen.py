"""``FrozenLayer``: the shifts of a fairness layer as a table. No solver, no other samples, single rows at serving time.

For unit weights the layer's answer is ``y_i = clip(z_i - s(cell of i), lb, ub)`` (claim L8), or with a divergence
clip(sigmoid(logit z_i - s)) and clip(z_i exp(-s)). ``freezing`` fits s on calibration scores;
``population_bound`` says what that gives for new samples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import inf, isfinite
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fairopt.basics.columns import is_one, numbers, plain_values, read_features, unwrapped, working_tensor
from fairopt.basics.errors import InputError
from fairopt.basics.facts import differing, from_tensor, to_tensor
from fairopt.basics.soft import Soft
from fairopt.contract.problem import Distance
from fairopt.layer.onnx_file import exported, write_onnx
from fairopt.layer.population_bound import PopulationBound
from fairopt.layer.promises import OUTSIDE, Outside, look_outside, read_guarantees, told_of

FORMAT = 1
Key = tuple[Any, ...]
OnUnknown = Literal["error", "pass"]
SETTING = "setting"  # the buffer that says what the shifts are for


class FrozenLayer(nn.Module):
    """``forward(scores, groups)``: clip(scores - shifts[groups], lb, ub); ``index`` turns group values into ``groups``.

    attributes  names, in the order of a key's values
    keys        G tuples of group values (int, str, bool or None)
    shifts      G numbers, one a key. The buffer ``shifts`` has one more, 0, at ``unknown``: groups that calibration had not
    lb, ub, space   as in the layer
    guarantees  what holds in the population, one ``PopulationBound`` a constraint (the property ``bounds`` is its old name)
    notion      what the shifts were fitted for, as text (its ``repr``, tolerance included); "" where none is known
    distance    as in the layer: what the shifts move scores by
    on_unknown  "error": a group that calibration had not, or a missing one, is an InputError; "pass": such scores get no shift
    outside     what ``predict`` does with a score outside [lb, ub]: "pass" clips it; "warn" is a FairoptWarning, which ``freeze`` asks for
                where all calibration scores were inside; "error" an InputError, which it asks for where a guarantee assumes that

    The state holds tensors alone: ``shifts``, and ``setting``, a uint8 buffer of JSON with groups (and their types), attributes, box,
    space, notion and guarantees. ``from_state`` makes a layer of it. ``load_state_dict`` raises InputError where a state's setting is
    another one; ``strict=False`` lets another notion pass, and a state without a setting (of shifts alone, of which nothing is promised),
    but never other groups, attributes, spaces or boxes.

    Examples:
        >>> layer = fo.FairnessLayer(fo.DemographicParity("sex", tolerance=0), bounds=(0, 1))
        >>> frozen = layer.freeze(torch.tensor([0.1, 0.3, 0.5, 0.7]), sensitive_features={"sex": ["f", "f", "m", "m"]})
        >>> later = {"sex": ["m", "f", "m"]}
        >>> frozen(torch.tensor([0.5, 0.5, 0.1]), frozen.index(later))
        tensor([0.3000, 0.7000, 0.0000])
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
        guarantees: Sequence[PopulationBound] = (),
        notion: str = "",
        on_unknown: OnUnknown = "error",
        distance: Distance = "squared",
        outside: Outside = "pass",
    ) -> None:
        super().__init__()
        if len(keys) != len(shifts):
            raise InputError(f"shifts: expected one a key, got {len(shifts)} for {len(keys)}")
        if on_unknown not in ("error", "pass"):
            raise InputError(f"on_unknown: got {on_unknown!r}, expected 'error' or 'pass'")
        self.attributes, self.keys = tuple(attributes), tuple(keys)
        self.lb, self.ub, self.space = float(lb), float(ub), space
        if outside not in OUTSIDE:
            raise InputError(f"outside: got {outside!r}, expected 'pass', 'warn' or 'error'")
        self.guarantees, self.outside = tuple(guarantees), outside
        self.notion, self.on_unknown, self.distance = notion, on_unknown, distance
        self._strict = True
        self._codes = {_typed(key): k for k, key in enumerate(self.keys)}
        if len(self._codes) != len(self.keys):
            raise InputError(f"keys: got {self.keys!r}, in which a group stands twice")
        self.register_buffer("shifts", torch.tensor([*shifts, 0.0], dtype=torch.float64, device="cpu"))
        self.register_buffer(SETTING, self._told_setting())

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> FrozenLayer:
        """The layer whose ``state_dict()`` this is, guarantees and all: for a process that has nothing but the file.

        InputError where it is none.

        Examples:
            >>> import io
            >>> layer = fo.FairnessLayer(fo.DemographicParity("sex", tolerance=0), bounds=(0, 1))
            >>> frozen = layer.freeze(torch.tensor([0.1, 0.3, 0.5, 0.7]), sensitive_features={"sex": ["f", "f", "m", "m"]})
            >>> file = io.BytesIO()
            >>> torch.save(frozen.state_dict(), file)
            >>> place = file.seek(0)
            >>> served = fo.FrozenLayer.from_state(torch.load(file, weights_only=True))
            >>> served.predict(0.5, sensitive_features="m"), served.guarantees == frozen.guarantees
            (0.3, True)
        """
        shifts = state.get("shifts") if isinstance(state, Mapping) else None
        if not isinstance(shifts, Tensor) or SETTING not in state:
            raise InputError(
                f"state: got {sorted(state) if isinstance(state, Mapping) else state!r}, expected a FrozenLayer's state_dict()"
            )
        facts = from_tensor(state[SETTING], FORMAT, f"state: {SETTING}")
        missing = {"attributes", "keys", "box", "space", "notion"} - set(facts)
        if missing:
            raise InputError(f"state: {SETTING} has no {', '.join(sorted(missing))}, expected what a FrozenLayer saves")
        low, high = facts["box"]
        layer = cls(
            facts["attributes"], [tuple(key) for key in facts["keys"]], [0.0] * len(facts["keys"]), lb=-inf if low is None else low,
            ub=inf if high is None else high, space=facts["space"], notion=facts["notion"], distance=facts.get("distance", "squared"),
            on_unknown=facts.get("on_unknown", "error"),
        )  # fmt: skip
        layer.load_state_dict(state)
        return layer

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
            "distance": self.distance,
            "notion": self.notion,
        }

    def _told_setting(self) -> Tensor:
        """The facts, and what no other layer has to agree with."""
        return to_tensor({**self._facts(), "guarantees": told_of(self.guarantees), "outside": self.outside, "on_unknown": self.on_unknown})

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # made anew: a loop that averages buffers (``AveragedModel(use_buffers=True)``) leaves no letter of the text as it was
        destination[f"{prefix}{SETTING}"] = self._told_setting().to(self.setting.device)

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
            self.guarantees = ()  # what was promised of other shifts
            if told is not None:
                self.notion = str(theirs.get("notion") or self.notion)  # the shifts' own
                self.guarantees = read_guarantees(theirs.get("guarantees", []))
                self.outside = theirs.get("outside", "pass")
            setting = self._told_setting().to(self.shifts.device)
            self.setting = setting
            state_dict = {**state_dict, f"{prefix}{SETTING}": setting}
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *lists)

    def _compare(self, theirs: Mapping[str, Any]) -> None:
        """InputError that names both sides where a state was fitted for something else."""
        facts = self._facts()
        whole = {name: theirs.get(name, "squared" if name == "distance" else None) for name in facts}  # what is not said differs too
        for what, other, mine in differing(whole, facts, facts):
            if what == "notion" and not (self._strict and other and mine):
                continue  # a layer that was made by hand knows no notion
            raise InputError(f"state: {what} is {other!r}, this layer has {mine!r}")

    @property
    def unknown(self) -> int:
        """The index of "unknown group, no shift" in ``forward``'s groups."""
        return len(self.keys)

    def forward(self, scores: Tensor, groups: Tensor) -> Tensor:
        """Fair scores for ``scores`` (n,) and ``groups`` (n,) int64 in [0, unknown]; same shape, dtype and device.

        Or ``groups`` (n, G) float, the probability of each group: the shift is then the mean of the groups' shifts.
        """
        soft = groups.is_floating_point() and groups.dim() == 2
        if not torch.compiler.is_compiling():  # an exported program gathers what it is given
            self._check_shares(groups) if soft else self._check_index(groups)
        shifts = self.shifts.to(device=scores.device)
        shift = (groups.to(shifts) @ shifts[:-1]).reshape(scores.shape).to(scores.dtype) if soft else shifts[groups].to(scores.dtype)
        if self.distance == "kl":
            y = torch.sigmoid((scores if self.space == "probability" else torch.logit(scores)) - shift)
        else:
            z = torch.sigmoid(scores) if self.space == "probability" else scores
            y = z - shift if self.distance == "squared" else z * torch.exp(-shift)
        return y.clamp(self.lb, self.ub)

    def _check_shares(self, groups: Tensor) -> None:
        if groups.dim() != 2 or groups.shape[1] != self.unknown:
            raise InputError(
                f"groups: got shape {tuple(groups.shape)}, expected (n, {self.unknown}) probabilities of the groups in ``keys``"
            )

    def shares(self, soft: Soft) -> Tensor:
        """(n, G) float64 probabilities in the order of ``keys``, for a layer of one attribute. InputError for groups that it has not."""
        if len(self.attributes) != 1:
            raise InputError(f"sensitive_features: got {soft!r}, expected values of {', '.join(self.attributes)}")
        shares = torch.zeros(len(soft), self.unknown, dtype=torch.float64, device="cpu")
        for k, value in enumerate(soft.values):
            place = self._codes.get(_typed((value,)))
            if place is None and self.on_unknown == "error" and soft.probabilities[:, k].any():
                raise InputError(self._not_calibrated((value,), 0))
            if place is not None:
                shares[:, place] = torch.from_numpy(soft.probabilities[:, k].copy())
        return shares

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
        """(n,) int64 for values by attribute. A single row: single values, of one attribute without its name too.

        Values that calibration had not: InputError, or ``unknown``.
        """
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
        if isinstance(sensitive_features, str) and len(self.attributes) == 1:  # the group of one row, as a stream's step takes it
            sensitive_features = {self.attributes[0]: sensitive_features}
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
        """Fair scores (n,) or (n, 1) from group values; a number gives a number, any container of scores (numpy, pandas, polars, pyarrow, a
        list) the same container. Only tensors carry gradients. A ``Soft`` in the place of values gives the mean shift of a sample's groups.

        InputError for scores that are missing, NaN or infinite. Scores outside the box: see ``outside``.
        """
        if is_one(scores):
            with torch.no_grad():
                one = numbers([unwrapped(scores)], 1, "scores").to(self.shifts.device)
                self.look(one)
                return float(self(one, self._told(sensitive_features).to(one.device))[0])
        z, like = working_tensor(scores)
        if like is None:
            numbers(z.detach(), None, "scores")
        self.look(z)
        groups = self._told(sensitive_features).to(z.device)
        if groups.shape[0] != z.shape[0]:
            raise InputError(f"sensitive_features: expected {z.shape[0]} values, got {groups.shape[0]}")
        fair = self(z, groups if groups.is_floating_point() else groups.reshape(z.shape))
        return fair if like is None else like.restore(fair)

    def look(self, scores: Tensor) -> None:
        """What ``outside`` says of scores outside the box, for those who call ``forward`` themselves; logits are never outside.

        Examples:
            >>> fo.FrozenLayer(["sex"], [("f",)], [0.1], lb=0, ub=1, space="value", outside="error").look(torch.tensor([0.5, 1.2]))
            Traceback (most recent call last):
            fairopt.basics.errors.InputError: scores: row 1 is 1.2, expected numbers in [0, 1], where all calibration scores were; ...
        """
        if self.space == "value":
            look_outside(scores, self.lb, self.ub, self.outside, bool(self.guarantees))

    def _told(self, sensitive_features: Any) -> Tensor:
        """``index`` of values, ``shares`` of probabilities."""
        given = sensitive_features.get(self.attributes[0]) if isinstance(sensitive_features, Mapping) else sensitive_features
        return self.shares(given) if isinstance(given, Soft) and not given.is_certain else self.index(sensitive_features)

    def table(self) -> list[dict[str, Any]]:
        """One row a group: its values and shift."""
        return [
            {**dict(zip(self.attributes, key, strict=True)), "shift": s} for key, s in zip(self.keys, self.shifts.tolist(), strict=False)
        ]

    def export(self, dtype: torch.dtype = torch.float32) -> torch.export.ExportedProgram:
        """A ``torch.export`` program of (scores, groups) with a free batch size."""
        return exported(self, torch.zeros(4, dtype=dtype, device="cpu"))

    def to_onnx(self, path: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """An ONNX file: inputs ``scores`` and ``groups``, output ``fair``, free size; metadata: groups, ``unknown``, ``on_unknown``."""
        facts = {
            "fairopt.format": str(FORMAT),
            "fairopt.unknown": str(self.unknown),
            "fairopt.attributes": repr(self.attributes),
            "fairopt.keys": repr(self.keys),
            "fairopt.on_unknown": self.on_unknown,
            "fairopt.setting": json.dumps(self._facts(), default=repr),
        }
        write_onnx(self.export(dtype), path, facts)

    def extra_repr(self) -> str:
        return f"attributes={self.attributes}, groups={len(self.keys)}, bounds=({self.lb:g}, {self.ub:g}), space={self.space!r}"


def _typed(key: Key) -> tuple[tuple[str, Any], ...]:
    """A key in which 1, True and 1.5 differ as they look: Python takes 1 and True for the same."""
    return tuple((type(value).__name__, value) for value in key)


def _folded(value: Any) -> str:
    """What a person would take for the same value: 1 and "1", "M" and "m "."""
    return "missing" if value is None else str(value).strip().casefold()


def _plain_bound(bound: float) -> float | None:
    """An open side as None: JSON has no infinity."""
    return bound if isfinite(bound) else None


__all__ = ["FrozenLayer"]
