"""From what the caller passes to float64 arrays, and back to the caller's type, shape, dtype and device. Torch is touched only if given.

Columns are read by ``fairopt.basics`` alone, as at every other door; a single number and a single group have a road of their own.

What is sent out is what is counted: the answer is rounded to the caller's dtype first, inward where a bound is no number of that dtype.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fairopt.basics.columns import Like, is_one, listed, plain_value, plain_values, real_vector, unwrapped
from fairopt.basics.columns import read_features as columns_of_features
from fairopt.basics.containers import is_tensor
from fairopt.basics.errors import InputError
from fairopt.basics.labels import target_numbers
from fairopt.streaming.vocabulary import Column, Value

FloatArray = npt.NDArray[np.float64]
Container = Literal["number", "numpy", "torch", "other"]
EPS = 2.0**-52
_FLOATS = ("torch.float64", "torch.float32", "torch.float16", "torch.bfloat16")


@dataclass(frozen=True, eq=False)
class Scores:
    """z (n,) float64 as it came (not clipped), and how to hand the answer back."""

    z: FloatArray
    container: Container
    original: Any

    def hand_back(self, y: FloatArray, lb: float, ub: float) -> tuple[Any, FloatArray]:
        """(the answer in the caller's form, the same numbers as float64 (n,)): y rounded to the caller's dtype inside [lb, ub]."""
        if self.container == "number":
            return float(y[0]), y
        if self.container == "torch":
            return _to_torch(y, self.original, lb, ub)
        out = self._rounded(y, lb, ub)
        counted = out.astype(np.float64, copy=False)
        if self.container == "other":
            return Like(self.original, out.dtype).restore_array(out), counted
        return out.reshape(self.original.shape), counted

    @property
    def _dtype(self) -> np.dtype[Any]:
        """In which an answer is given that is no tensor."""
        if self.container == "other":
            like: np.dtype[Any] = Like.of(self.original).dtype
            return like
        if self.container == "numpy" and self.original.dtype.kind == "f":
            own: np.dtype[Any] = self.original.dtype
            return own
        return np.dtype(np.float64)

    def _rounded(self, y: FloatArray, lb: float, ub: float) -> np.ndarray[Any, Any]:
        """y (n,) in the caller's dtype, inside [lb, ub]."""
        dtype = self._dtype
        if dtype == np.float64:
            return y
        with np.errstate(over="ignore"):
            out = y.astype(dtype)
            low, high = dtype.type(lb), dtype.type(ub)
        low = np.nextafter(low, dtype.type(np.inf)) if float(low) < lb else low
        high = np.nextafter(high, dtype.type(-np.inf)) if float(high) > ub else high
        _check_room(float(low), float(high), dtype, lb, ub)
        rounded: np.ndarray[Any, Any] = np.clip(out, low, high)
        return rounded

    def grain(self, lb: float, ub: float) -> float:
        """How far rounding to the caller's dtype, inward at the bounds, moves a score at most (its spacing); 0 for float64."""
        if self.container == "number":
            return 0.0
        top = max(abs(lb), abs(ub))
        if self.container == "torch":
            if not self.original.dtype.is_floating_point or str(self.original.dtype) == "torch.float64":
                return 0.0
            import torch

            info = torch.finfo(self.original.dtype)
            return max(info.eps * top, info.smallest_normal * info.eps)
        dtype = self._dtype
        if dtype == np.float64:
            return 0.0
        told = np.finfo(dtype)
        return max(float(told.eps) * top, float(told.smallest_subnormal))


def _check_room(low: float, high: float, dtype: object, lb: float, ub: float) -> None:
    """low, high: the numbers of ``dtype`` nearest to the bounds, inside them."""
    if not lb <= low <= high <= ub:
        raise InputError(f"scores: got {dtype}, which has no number inside the bounds ({lb!r}, {ub!r}); expected a finer dtype")


def _to_torch(y: FloatArray, original: Any, lb: float, ub: float) -> tuple[Any, FloatArray]:
    import torch

    dtype = original.dtype if original.dtype.is_floating_point else torch.float64
    out = torch.from_numpy(y).to(dtype)
    if dtype != torch.float64:
        limits = torch.tensor([lb, ub], dtype=dtype, device="cpu")
        low, high = limits.tolist()
        step = torch.nextafter(limits, torch.tensor([float("inf"), float("-inf")], dtype=dtype, device="cpu")).tolist()
        low, high = step[0] if low < lb else low, step[1] if high > ub else high
        _check_room(low, high, dtype, lb, ub)
        out = out.clamp(low, high)
    sent: FloatArray = out.to(torch.float64).numpy()
    return out.reshape(original.shape).to(original.device), sent


def read_scores(scores: Any) -> Scores:
    """A number, or a column of numbers (n,) or (n, 1) in any container that ``fairopt.basics`` reads, finite."""
    if is_tensor(scores):
        return _read_tensor(scores.detach())
    if isinstance(scores, (float, int, np.integer, np.floating)) and not isinstance(scores, bool):
        z = real_vector([scores], 1, "scores")
        return Scores(z, "number", scores)
    z = real_vector(_at_least_1d(scores), None, "scores")
    if isinstance(scores, np.ndarray):
        return Scores(z, "numpy", np.asarray(scores))
    return Scores(z, "other", scores)


def _read_tensor(scores: Any) -> Scores:
    dtype = str(scores.dtype)
    if scores.is_floating_point() and dtype not in _FLOATS:
        raise InputError(f"scores: expected a tensor of {', '.join(_FLOATS)} or whole numbers, got {dtype}")
    return Scores(real_vector(_at_least_1d(scores), None, "scores"), "torch", scores)


def _at_least_1d(scores: Any) -> Any:
    """An array or tensor of no dimension as one of one value."""
    return scores.reshape(1) if getattr(scores, "ndim", 1) == 0 and hasattr(scores, "reshape") else scores


def read_features(features: Any, columns: Mapping[str, Column], n: int) -> dict[str, list[Value]]:
    """{name: n checked values}. ``features``: whatever maps names to columns (or to one value, where n is 1); a bare column or value
    where one attribute is meant.
    """
    found = features_of(features, tuple(columns), n)
    return {name: column.read_list(found[name]) for name, column in columns.items()}


def features_of(features: Any, names: Sequence[str], n: int) -> dict[str, list[Value]]:
    """{name: n values as int, str, bool or None (missing)}, without regard to what came before."""
    if n == 1 and features is not None and len(names) == 1 and is_one(features):
        return {names[0]: [plain_value(unwrapped(features), f"sensitive_features[{names[0]!r}]")]}
    named = features if type(features) is dict else columns_of_features(features, names)
    out = {}
    for name in names:
        if name not in named:
            raise InputError(f"sensitive_features has no attribute {name!r}; it has {', '.join(map(repr, named)) or 'none'}")
        raw, where = named[name], f"sensitive_features[{name!r}]"
        values = [plain_value(unwrapped(raw), where)] if n == 1 and is_one(raw) else plain_values(raw, where)
        if len(values) != n:
            raise InputError(f"{where} has {len(values)} values for {n} samples")
        out[name] = values
    return out


def read_targets(targets: Any, n: int, pos_label: Any = None) -> FloatArray:
    """(n,) float64, finite; with ``pos_label``, 1.0 where a target equals it and 0.0 elsewhere. One value where n is 1."""
    one = n == 1 and targets is not None and is_one(targets)
    return target_numbers([unwrapped(targets)] if one else targets, n, pos_label, whole=False)


def read_bounds(bounds: Any) -> tuple[float, float]:
    """(lb, ub), both finite, lb < ub: every streaming guarantee is in units of R = ub - lb."""
    try:
        lb, ub = (float(b) for b in bounds)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"bounds: a stream needs one pair of numbers (lb, ub), got {bounds!r}") from error
    if not (isfinite(lb) and isfinite(ub)):
        raise InputError(f"bounds: a stream needs finite bounds (its guarantees are in units of ub - lb), got {bounds!r}")
    if lb >= ub:
        raise InputError(f"bounds: expected lb < ub, got {bounds!r}")
    if not isfinite(ub - lb):
        raise InputError(f"bounds: ub - lb must be a float (every guarantee is in units of it), got {bounds!r}")
    return lb, ub


def read_pos_label(label: Any) -> Any:
    """One plain value that targets are compared with, or None."""
    plain = unwrapped(label)
    if label is not None and (not isinstance(plain, (str, bool, int, float)) or plain != plain):
        raise InputError(f"pos_label: got {label!r}, expected one of the targets' values: text, a number or a boolean")
    return plain


def read_keys(key: Any, n: int | None = None) -> list[str | int]:
    """n keys (as many as there are, without n): strings or whole numbers (numpy's too), all different."""
    given = [unwrapped(key)] if is_one(key) else listed(key, "key")
    if n is not None and len(given) != n:
        raise InputError(f"key: expected {n} keys, one a score, got {len(given)}")
    keys: list[str | int] = []
    for k in given:
        plain = k.item() if isinstance(k, np.generic) else k
        if isinstance(plain, bool) or not isinstance(plain, (str, int)):
            raise InputError(f"key: expected strings or whole numbers, got {k!r}")
        keys.append(str.__str__(plain) if isinstance(plain, str) else int(plain))
    if len(set(keys)) != len(keys):
        raise InputError("key: a key appears twice in one step")
    return keys
