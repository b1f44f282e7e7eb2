"""The one reader of columns: groups, targets, scores and weights, whatever holds them.

Every entry point reads through these functions, so that two doors never differ in what they take or how they refuse it.

- ``group_values``: values that name groups, as integers or Python values;
- ``plain_array``: the numbers of a plain tensor or array, with the fewest questions; None where another one is to read;
- ``numbers``: a finite real vector;
- ``read_features``: attribute name -> column, from a mapping, a frame, or a bare column where one attribute is meant;
- ``plain_values``: the same, as int, str, bool or None, one by one;
- ``real_vector``: ``numbers`` as float64 numpy;
- ``working_tensor``: scores, with ``Like``, which hands the answer back in the kind of container that they came in.

Importing this loads no torch: streams read through it too.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.containers import column_or_frame, frame_columns, is_frame, is_tensor, is_wrapped, opened
from fairopt.basics.errors import InputError
from fairopt.basics.soft import Soft

if TYPE_CHECKING:
    from torch import Tensor

Value = int | str | bool | None
HOLDS_SEVERAL = ("__len__", "__iter__", "__array__", "__arrow_c_stream__", "__arrow_c_array__", "__dataframe__")
GROUPS_ARE = "groups are ints, strings, bools or integral floats"


def read_features(given: Any, attributes: Sequence[str] | None = None, *, what: str = "sensitive_features") -> Mapping[str, Any]:
    """Attribute name -> column. ``attributes``: those that are read; a bare column is the values of the only one.

    Raises InputError where nothing is named, or a bare column came for several attributes.
    """
    found: Mapping[str, Any]
    if type(given) is not dict:  # which needs no look, batch after batch
        given = column_or_frame(given, what)
    if isinstance(given, Mapping):
        found = given
    elif is_frame(given) or hasattr(given, "__dataframe__"):
        found = frame_columns(given, what)
    elif given is not None and not isinstance(given, (str, bytes)) and attributes is not None and len(attributes) == 1:
        return {attributes[0]: given}
    else:
        kind = type(given).__name__
        several = f" (this notion reads {', '.join(map(repr, attributes))})" if attributes else ""
        raise InputError(f"{what} must map attribute names to n values, e.g. {{'sex': [...]}}, came {kind}{several}")
    if not found:
        raise InputError(f"{what}: got no attribute, expected at least one")
    return found


def listed(column: Any, what: str) -> list[Any]:
    """The n Python values of a column."""
    plain = opened(column, what)
    return plain if isinstance(plain, list) else list(plain.tolist())


def length(column: Any, what: str) -> int:
    """n of a column, or of probabilities of groups."""
    if isinstance(column, Soft):
        return len(column)
    plain = opened(column, what)
    return len(plain) if isinstance(plain, list) else int(plain.shape[0])


def plain_array(column: Any) -> np.ndarray[Any, Any] | None:
    """The (n,) numbers of a plain column as they lie: of a dense CPU tensor without a gradient, or of an array. None for every other
    column, which ``group_values`` and ``numbers`` read or refuse: batch after batch comes as plain columns, and they need few questions."""
    if is_tensor(column):
        plain = column.is_cpu and not column.requires_grad and column.layout is sys.modules["torch"].strided and not is_wrapped(column)
        if not plain or column.is_quantized or column.is_complex() or column.is_neg():
            return None
        if column.dtype.is_floating_point and column.itemsize < 4:
            return None
        column = column.numpy()
    return column if type(column) is np.ndarray and column.ndim == 1 and column.dtype.kind in "biuf" else None


def group_values(column: Any, what: str) -> tuple[IntArray | None, str, Sequence[Any]]:
    """Either an int64 array with its kind ('int' or 'bool'), or a list of Python values to look at one by one (missing ones as None)."""
    array = plain_array(column)
    if array is not None:
        return _from_array(array, what)
    plain = opened(column, what)
    if is_tensor(plain):
        if plain.is_complex():
            raise InputError(f"{what} has dtype {plain.dtype}; {GROUPS_ARE}")
        host = plain.detach().cpu()
        plain = (host.float() if host.is_floating_point() and host.element_size() < 4 else host).numpy()
    if isinstance(plain, list):
        types = set(map(type, plain))
        if types == {bool} or (types == {int} and all(-(2**63) <= v < 2**63 for v in (min(plain), max(plain)))):
            plain = np.array(plain)
        elif types == {float}:
            plain = np.array(plain, dtype=np.float64)
        else:
            return None, "", plain
    return _from_array(plain, what)


def _from_array(column: np.ndarray[Any, Any], what: str) -> tuple[IntArray | None, str, Sequence[Any]]:
    kind = column.dtype.kind
    if kind == "b":
        return column.astype(np.int64), "bool", ()
    if kind == "i":
        return column.astype(np.int64, copy=False), "int", ()
    if kind == "u":
        if column.size and int(column.max()) > np.iinfo(np.int64).max:
            raise InputError(f"{what} holds the value {int(column.max())}, which does not fit int64")
        return column.astype(np.int64), "int", ()
    if kind == "f":
        return _from_floats(column, what)
    if kind in "UOT":
        return None, "", column.tolist()
    raise InputError(f"{what} has dtype {column.dtype}; {GROUPS_ARE}")


def _from_floats(column: np.ndarray[Any, Any], what: str) -> tuple[IntArray | None, str, Sequence[Any]]:
    if np.isnan(column).any():
        return None, "", [None if v != v else v for v in column.tolist()]
    with np.errstate(invalid="ignore"):
        whole = column.astype(np.int64)
    wrong = np.flatnonzero((whole != column) | (np.abs(column) >= 2.0**63))
    if wrong.size:
        raise InputError(f"{what} holds {float(column[wrong[0]])!r}, and a continuous attribute has no groups; {GROUPS_ARE}")
    return whole, "int", ()


def plain_values(column: Any, where: str) -> list[Value]:
    """(n,) the values of one attribute as int, str, bool or None (missing), each as it is. InputError for what names no group."""
    integers, kind, listed = group_values(column, where)
    if integers is None:
        if set(map(type, listed)) == {str}:
            return list(listed)
        return [plain_value(v, where) for v in listed]
    return [bool(v) for v in integers.tolist()] if kind == "bool" else integers.tolist()


def plain_value(value: Any, where: str) -> Value:
    """One value as int, str or bool; None where it is missing."""
    if is_missing(value):
        return None
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        if not -(2**63) <= value < 2**63:
            raise InputError(f"{where} holds the value {value}, which does not fit int64")
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)  # also of an enum's member
    if isinstance(value, (float, np.floating, Decimal)) and isfinite(value) and value == int(value):
        return plain_value(int(value), where)
    if is_tensor(value) and value.ndim == 0:
        return plain_value(value.item(), where)
    raise InputError(f"{where} holds {value!r} of type {type(value).__name__}, which is no int, string or bool; {GROUPS_ARE}")


def numbers(column: Any, n: int | None, what: str) -> Tensor:
    """A finite real vector (n,), keeping dtype, device and gradient of a tensor; a float64 copy of anything else.

    Raises InputError that names what came: text, missing values (with their position), NaN, infinity, another length.
    """
    import torch

    plain = opened(column, what)
    if is_tensor(plain):
        tensor = plain
        if tensor.is_complex():
            raise InputError(f"{what} must be real, came {tensor.dtype}")
    else:
        tensor = torch.from_numpy(_as_float64(plain, n, what))
    if n is not None and tensor.shape[0] != n:
        raise InputError(f"{what} must have shape ({n},), came {tuple(tensor.shape)}")
    if not tensor.dtype.is_floating_point:
        return tensor.to(torch.float64)
    values = tensor.detach()
    if isfinite(values.sum()):  # then every one is; a sum of finite ones may overflow
        return tensor
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        raise InputError(f"{what} holds NaN or infinite values: {float(values[~finite][0])!r} at {_first(~finite)}")
    return tensor


def _first(wrong: Tensor) -> str:
    return f"position {int(wrong.nonzero()[0])}"


def real_vector(column: Any, n: int | None, what: str) -> Array:
    """``numbers`` as a float64 array (n,) without a gradient."""
    plain = opened(column, what)
    if is_tensor(plain):
        values: Array = numbers(plain, n, what).detach().cpu().double().numpy()
        return values
    array = _as_float64(plain, n, what)
    if n is not None and array.shape[0] != n:
        raise InputError(f"{what} must have shape ({n},), came {array.shape}")
    finite = np.isfinite(array)
    if not finite.all():
        position = int(np.flatnonzero(~finite)[0])
        raise InputError(f"{what} holds NaN or infinite values: {float(array[position])!r} at position {position}")
    return array


def _as_float64(plain: np.ndarray[Any, Any] | list[Any], n: int | None, what: str) -> Array:
    """A copy as float64: the caller's array may change."""
    if isinstance(plain, np.ndarray) and plain.dtype.kind in "biuf":
        return np.array(plain, dtype=np.float64)
    values = plain if isinstance(plain, list) else plain.tolist()
    if set(map(type, values)) == {float}:  # the common case, in C; NaN goes on, to the same words as other missing values
        array = np.array(values, dtype=np.float64)
        if not np.isnan(array).any():
            return array
    for i, value in enumerate(values):
        if is_missing(value):
            raise InputError(f"{what} holds NaN or infinite values: a missing one ({value!r}) at position {i}")
        if isinstance(value, (str, bytes, complex)) or (is_tensor(value) and value.requires_grad):
            shape = "(n,)" if n is None else f"({n},)"
            raise InputError(f"{what} must be numbers of shape {shape}, came {type(plain).__name__} with {value!r} at position {i}")
    try:
        return np.array([float(v) for v in values], dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        shape = "(n,)" if n is None else f"({n},)"
        raise InputError(f"{what} must be numbers of shape {shape}, came {type(plain).__name__}: {error}") from error


def is_missing(value: Any) -> bool:
    """Whether one value is None, NaN, pandas' NA or NaT, or numpy's masked."""
    if value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating, Decimal)) and value != value


def is_one(value: Any) -> bool:
    """Whether it is one value, and no column."""
    if value is None or isinstance(value, (str, int, float, Decimal, np.generic)) or is_missing(value):
        return True
    return getattr(value, "ndim", 1) == 0 or not any(hasattr(value, name) for name in HOLDS_SEVERAL)


def unwrapped(value: Any) -> Any:
    """The value in an array or tensor of no dimension."""
    return value.item() if getattr(value, "ndim", 1) == 0 and hasattr(value, "item") else value


@dataclass(frozen=True, eq=False)
class Like:
    """Hands (n,) answers back as the scores came: numpy in its float dtype and shape, lists, tuples, Series with their index and name,
    frames of one column."""

    original: Any
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, scores: Any) -> Like:
        """Half and single precision stay what they are, everything else is answered in float64."""
        dtype = getattr(scores, "dtype", None)
        if dtype is None and is_frame(scores):  # of one column
            dtype = getattr(next(iter(frame_columns(scores, "scores").values())), "dtype", None)
        word = str(dtype).lower()
        return cls(scores, np.dtype(word if word in ("float32", "float16") else np.float64))

    def restore(self, answer: Tensor) -> Any:
        """``answer`` (n,) in the container of the scores; its numbers are unchanged."""
        return self.restore_array(answer.detach().cpu().numpy())

    def restore_array(self, answer: np.ndarray[Any, Any]) -> Any:
        """As ``restore``."""
        original, values = self.original, answer.astype(self.dtype)  # (n,)
        if isinstance(original, (list, tuple)):
            nested = bool(original) and isinstance(original[0], (list, tuple))
            listed: list[Any] = [[v] for v in values.tolist()] if nested else values.tolist()
            return listed if isinstance(original, list) else tuple(listed)
        library = type(original).__module__.partition(".")[0]
        if library in ("pandas", "polars") and is_frame(original):  # (n, 1)
            name = original.columns[0]
            return type(original)({name: values}, **({"index": original.index} if library == "pandas" else {}))
        if library == "pandas" and hasattr(original, "name"):
            return type(original)(values, name=original.name, **({"index": original.index} if hasattr(original, "index") else {}))
        if library == "polars" and hasattr(original, "name"):
            return type(original)(original.name, values)
        if library == "pyarrow":
            import pyarrow

            if is_frame(original):  # (n, 1)
                return pyarrow.table({original.column_names[0]: values})
            return pyarrow.chunked_array([values]) if hasattr(original, "chunks") else pyarrow.array(values)
        shape = original.shape if isinstance(original, np.ndarray) else values.shape
        return values.reshape(shape)


def working_tensor(scores: Any, what: str = "scores") -> tuple[Tensor, Like | None]:
    """Scores (n,) or (n, 1) as a tensor, and how to hand the answer back; None where they are a tensor already.

    Half and single precision stay what they are, everything else that is no tensor becomes float64. InputError as ``numbers``.
    """
    if is_tensor(scores):
        return scores, None
    import torch

    like = Like.of(scores)
    return torch.from_numpy(numbers(scores, None, what).numpy().astype(like.dtype)), like
