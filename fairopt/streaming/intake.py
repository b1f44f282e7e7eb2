"""From what the caller passes to float64 arrays, and back to the caller's type, shape, dtype and device. Torch is touched only if given.

What is sent out is what is counted: the answer is rounded to the caller's dtype first, inward where a bound is no number of that dtype.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fairopt.errors import InputError
from fairopt.streaming.vocabulary import Column, Value

FloatArray = npt.NDArray[np.float64]
Container = Literal["number", "list", "numpy", "torch"]
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
        if self.container == "list":
            return y.tolist(), y
        if self.container == "torch":
            return _to_torch(y, self.original, lb, ub)
        dtype = self.original.dtype if self.original.dtype.kind == "f" else np.dtype(np.float64)
        if dtype == np.float64:
            return y.reshape(self.original.shape), y
        with np.errstate(over="ignore"):
            out = y.astype(dtype)
            low, high = dtype.type(lb), dtype.type(ub)
        low = np.nextafter(low, dtype.type(np.inf)) if float(low) < lb else low
        high = np.nextafter(high, dtype.type(-np.inf)) if float(high) > ub else high
        _check_room(float(low), float(high), dtype, lb, ub)
        out = np.clip(out, low, high)
        return out.reshape(self.original.shape), out.astype(np.float64).reshape(-1)

    def grain(self, lb: float, ub: float) -> float:
        """How far rounding to the caller's dtype, inward at the bounds, moves a score at most (its spacing); 0 for float64."""
        if self.container in ("number", "list"):
            return 0.0
        top = max(abs(lb), abs(ub))
        if self.container == "torch":
            if not self.original.dtype.is_floating_point or str(self.original.dtype) == "torch.float64":
                return 0.0
            import torch

            info = torch.finfo(self.original.dtype)
            return max(info.eps * top, info.smallest_normal * info.eps)
        if self.original.dtype.kind != "f" or self.original.dtype == np.float64:
            return 0.0
        told = np.finfo(self.original.dtype)
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
        limits = torch.tensor([lb, ub], dtype=dtype)
        low, high = limits.tolist()
        step = torch.nextafter(limits, torch.tensor([float("inf"), float("-inf")], dtype=dtype)).tolist()
        low, high = step[0] if low < lb else low, step[1] if high > ub else high
        _check_room(low, high, dtype, lb, ub)
        out = out.clamp(low, high)
    sent: FloatArray = out.to(torch.float64).numpy()
    return out.reshape(original.shape).to(original.device), sent


def read_scores(scores: Any) -> Scores:
    """A number, a list, a numpy array or a torch tensor, (n,) or (n, 1), finite."""
    if hasattr(scores, "detach") and hasattr(scores, "is_floating_point"):
        return _read_tensor(scores.detach())
    if isinstance(scores, bool):
        raise InputError("scores: expected numbers, got a bool")
    _refuse_masked(scores, "scores")
    try:
        number = isinstance(scores, (float, int, np.generic))
        array = np.asarray([scores] if number else scores)
        numbers = array.astype(np.float64) if array.dtype.kind in "fiu" else None
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"scores: expected numbers, got {type(scores).__name__} ({error})") from error
    if numbers is None:
        raise InputError(f"scores: expected numbers, got {type(scores).__name__} of dtype {array.dtype}")
    if number:
        return Scores(_checked(numbers), "number", scores)
    flat = _column(numbers, array.shape)
    return Scores(_checked(flat), "list" if isinstance(scores, (list, tuple)) else "numpy", array)


def _refuse_masked(values: Any, what: str) -> None:
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise InputError(f"{what}: an entry is masked, which means missing; expected numbers")


def _read_tensor(scores: Any) -> Scores:
    dtype = str(scores.dtype)
    if scores.is_complex() or dtype == "torch.bool" or (scores.is_floating_point() and dtype not in _FLOATS):
        raise InputError(f"scores: expected a tensor of {', '.join(_FLOATS)} or whole numbers, got {dtype}")
    flat = _column(scores.cpu().double().numpy(), tuple(scores.shape))
    return Scores(_checked(flat), "torch", scores)


def _column(values: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
        raise InputError(f"scores: expected shape (n,) or (n, 1), got {shape}")
    return np.ascontiguousarray(values.reshape(-1))


def _checked(z: FloatArray) -> FloatArray:
    if not np.isfinite(z).all():
        raise InputError(f"scores: entry {int(np.flatnonzero(~np.isfinite(z))[0])} is not finite")
    return z


def read_features(features: Any, columns: Mapping[str, Column], n: int) -> dict[str, list[Value]]:
    """{name: n checked values}. ``features``: a mapping of name to values (or one value, where n is 1); bare values for one attribute."""
    if features is None:
        raise InputError("sensitive_features: missing")
    if not isinstance(features, Mapping):
        if hasattr(features, "columns"):  # a data frame
            features = {name: features[name] for name in columns if name in features.columns}
        elif len(columns) == 1:
            features = {next(iter(columns)): features}
        else:
            raise InputError(f"sensitive_features: expected a mapping with the keys {', '.join(columns)}")
    out = {}
    for name, column in columns.items():
        if name not in features:
            raise InputError(f"sensitive_features: no {name!r}; keys: {', '.join(map(str, features))}")
        raw = features[name]
        values = raw.tolist() if hasattr(raw, "tolist") else raw
        if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, np.ndarray)):
            values = [values]
        if values and isinstance(values[0], list):  # (n, 1)
            values = [v[0] if isinstance(v, list) and len(v) == 1 else v for v in values]
        if len(values) != n:
            raise InputError(f"sensitive_features[{name!r}]: expected {n} values, one a score, got {len(values)}")
        out[name] = column.read_list(values)
    return out


def read_targets(targets: Any, n: int, *, what: str = "targets") -> FloatArray:
    """(n,) float64, finite."""
    _refuse_masked(targets, what)
    try:
        if hasattr(targets, "detach"):
            targets = targets.detach().cpu().double().numpy()
        read = np.asarray(targets)
        array = np.asarray([] if read.dtype.kind in "USc" else read, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"{what}: expected numbers, got {targets!r}") from error
    if read.dtype.kind in "USc":
        raise InputError(f"{what}: expected numbers, got {targets!r}")
    if read.ndim > 2 or (read.ndim == 2 and 1 not in read.shape):
        raise InputError(f"{what}: expected shape (n,) or (n, 1), got {read.shape}")
    if array.shape != (n,):
        raise InputError(f"{what}: expected {n} values, one a score, got {array.shape[0]}")
    if not np.isfinite(array).all():
        raise InputError(f"{what}: entry {int(np.flatnonzero(~np.isfinite(array))[0])} is not finite")
    return array


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


def read_keys(key: Any, n: int) -> list[str | int]:
    """n keys: strings or whole numbers (numpy's too), all different."""
    raw = key.tolist() if hasattr(key, "tolist") else key
    given = list(raw) if isinstance(raw, (list, tuple)) else [raw]
    if len(given) != n:
        raise InputError(f"key: expected {n} keys, one a score, got {len(given)}")
    keys: list[str | int] = []
    for k in given:
        plain = k.item() if isinstance(k, np.generic) else k
        if isinstance(plain, bool) or not isinstance(plain, (str, int)):
            raise InputError(f"key: expected strings or whole numbers, got {k!r}")
        keys.append(str.__str__(plain) if isinstance(plain, str) else int(plain))
    if len(set(keys)) != n:
        raise InputError("key: a key appears twice in one step")
    return keys
