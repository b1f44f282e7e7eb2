"""What holds a column: lists, numpy, torch, pandas, polars, pyarrow and their like, opened into one of three plain forms.

``opened`` is the one place in fairopt that knows these libraries apart; none of them is imported here, but for pyarrow where an object
offers nothing else than Arrow's C interface or the data frame interchange protocol. A column of shape (n, 1) is a column.
Torch too is only looked for, not loaded: who holds a tensor has loaded it, and streams run without.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fairopt.basics.errors import InputError, MissingExtraError, UnsupportedError

if TYPE_CHECKING:
    import torch
    from typing_extensions import TypeIs

    Plain = torch.Tensor | np.ndarray[Any, Any] | list[Any]

_COLUMN_IS = "a list, numpy array, tensor, or a pandas, polars or pyarrow column"


class Shares:
    """Stands where a column does and has several numbers a sample (``fairopt.basics.soft.Soft``). Readers of columns take it where it
    says no more than one value a sample: ``certain``."""

    __slots__ = ()

    @property
    def certain(self) -> list[Any] | None:
        """(n,) the values that it stands for; None where it says more."""
        return None


def is_tensor(value: object) -> TypeIs[torch.Tensor]:
    """Whether it is a torch tensor; without torch nothing is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_wrapped(tensor: torch.Tensor) -> bool:
    """Whether a tensor is inside torch.func or vmap: it has no numbers to read."""
    under_functorch, batched = _wrappers()
    return under_functorch(tensor) or batched(tensor)


@cache
def _wrappers() -> tuple[Callable[[torch.Tensor], bool], Callable[[torch.Tensor], bool]]:
    """Imported once: an import statement takes longer than the two questions, and every column of every batch asks them."""
    from torch._C._functorch import is_functorch_wrapped_tensor, is_legacy_batchedtensor

    return is_functorch_wrapped_tensor, is_legacy_batchedtensor


def outside_transforms() -> AbstractContextManager[Any]:
    """Plain tensors are themselves meanwhile: inside torch.func even a tensor that no transform knows hands out no numbers."""
    import torch

    return torch._C._DisableFuncTorch()


def opened(column: Any, what: str) -> Plain:
    """A tensor, a numpy array, or a list of Python values (None, NaN and NA are missing), each (n,). ``what`` names it in messages.

    Raises InputError for scalars, text, mappings, sets, frames of several columns, other shapes, and dates.
    """
    plain = _opened(column, what)
    if isinstance(plain, list):
        return plain
    if plain.ndim == 2 and plain.shape[1] == 1:
        plain = plain[:, 0]
    if plain.ndim != 1:
        raise InputError(f"{what} must have shape (n,), came {tuple(plain.shape)}")
    return plain


def _opened(column: Any, what: str) -> Plain:
    if is_tensor(column):
        return _checked_tensor(column, what)
    if isinstance(column, np.ma.MaskedArray):
        return _without_masked(column)
    if isinstance(column, np.ndarray):
        return _checked_array(column, what)
    if isinstance(column, (list, tuple)):
        return _from_sequence(column)
    if isinstance(column, Shares):
        certain = column.certain
        if certain is None:
            raise InputError(f"{what}: got {column!r}, probabilities of groups, expected one value a sample: this door takes no Soft")
        return certain
    if isinstance(column, (str, bytes, Mapping, Set, Iterator)) or np.isscalar(column) or column is None:
        raise InputError(f"{what} must be {_COLUMN_IS} with one value a sample, came {type(column).__name__}")
    return _from_library(column, what)


def _checked_tensor(column: torch.Tensor, what: str) -> torch.Tensor:
    if is_wrapped(column):
        words = "a tensor inside torch.func or vmap, expected a plain one: only scores may be under a transform"
        raise UnsupportedError(f"{what}: got {words}")
    if column.layout is not sys.modules["torch"].strided or column.is_quantized or column.is_meta:
        raise InputError(f"{what} must be a dense tensor with values, came a tensor of {column.layout} on device {column.device}")
    return column


def _checked_array(column: np.ndarray[Any, Any], what: str) -> Plain:
    if column.dtype.kind in "mM":
        raise InputError(f"{what} holds dates or durations ({column.dtype}), which make neither groups nor numbers: {_BIN_THEM}")
    if column.dtype.kind in "SV":
        raise InputError(f"{what} has dtype {column.dtype}; decode bytes to text, and pass the fields of a record one by one")
    return column.view(np.ndarray) if type(column) is not np.ndarray else column


_BIN_THEM = "cut them into named spans first"


def _without_masked(column: np.ma.MaskedArray[Any, Any]) -> Plain:
    """A masked array; what is masked is missing, whatever lies under the mask."""
    mask = np.ma.getmaskarray(column)
    if not mask.any():
        return np.asarray(column.data)
    flat = column.reshape(-1) if column.ndim == 2 and column.shape[1] == 1 else column
    return list(flat.tolist())  # masked entries become None


def _from_sequence(column: Sequence[Any]) -> Plain:
    """A list or tuple; of rows with one value each, the values."""
    if column and all(isinstance(v, (list, tuple)) and len(v) == 1 for v in column):
        return [v[0] for v in column]
    return list(column)


def _from_library(column: Any, what: str) -> Plain:
    """A pandas, polars or pyarrow column, or anything with one of their interfaces."""
    if getattr(column, "ndim", 1) == 2 or is_frame(column):
        return _only_column(column, what)
    if type(column).__name__ == "MultiIndex":
        raise InputError(f"{what} is a MultiIndex of {column.nlevels} levels; pass one attribute a level: index.get_level_values(k)")
    dtype: Any = getattr(column, "dtype", getattr(column, "type", None))
    if dtype is not None and _is_date(dtype):
        raise InputError(f"{what} holds dates or durations ({dtype}), which make neither groups nor numbers: {_BIN_THEM}")
    if hasattr(dtype, "categories") and hasattr(dtype, "ordered"):  # pandas; unused levels play no part
        table = [*_labels(dtype.categories), None]  # code -1 is missing
        return [table[code] for code in np.asarray(column.cat.codes if hasattr(column, "cat") else column.codes).tolist()]
    if hasattr(column, "to_pylist"):  # pyarrow
        return _from_arrow(column)
    if hasattr(column, "to_numpy"):
        return _from_to_numpy(column, what)
    if hasattr(column, "__arrow_c_stream__") or hasattr(column, "__arrow_c_array__"):
        return _from_arrow(_pyarrow(what).chunked_array(column) if hasattr(column, "__arrow_c_stream__") else _pyarrow(what).array(column))
    if hasattr(column, "__array__"):
        return _opened(np.asarray(column), what)
    if isinstance(column, Iterable) and hasattr(column, "__len__"):
        return list(column)
    raise InputError(f"{what} must be {_COLUMN_IS} with one value a sample, came {type(column).__name__}")


def _is_date(dtype: Any) -> bool:
    words = str(dtype).lower()
    return words.startswith(("datetime", "date", "timestamp", "duration", "timedelta", "period", "time"))


def _labels(categories: Any) -> list[Any]:
    """Values of categories; intervals are named by what they print."""
    return [str(v) if type(v).__name__ == "Interval" else v for v in categories.tolist()]


def _from_arrow(column: Any) -> Plain:
    """A pyarrow array: numbers without nulls as numpy, anything else as Python values."""
    words = str(column.type)
    if not column.null_count and words.startswith(("int", "uint", "float", "double", "halffloat", "bool")):
        array = column.to_numpy() if hasattr(column, "chunks") else column.to_numpy(zero_copy_only=False)
        return np.asarray(array)
    return list(column.to_pylist())


def _from_to_numpy(column: Any, what: str) -> Plain:
    """pandas, polars and their like. Integers with missing values must not pass through floats: ids past 2^53 would merge."""
    array = column.to_numpy()
    whole = str(getattr(column, "dtype", "")).lower().startswith(("int", "uint")) and "interval" not in str(column.dtype)
    if isinstance(array, np.ndarray) and array.dtype.kind in "fO" and whole and hasattr(column, "to_list"):
        return list(column.to_list())
    if array.dtype.kind == "O":
        return [str(v) if type(v).__name__ == "Interval" else v for v in array.tolist()]
    return _opened(array, what)


def is_frame(value: Any) -> bool:
    """Whether the value has named columns: pandas, polars, narwhals, pyarrow tables and record batches, numpy records."""
    if isinstance(value, np.ndarray):
        return value.dtype.names is not None
    if _is_lazy(value):
        return True  # without a look at its columns, which may be costly
    names = getattr(value, "column_names", getattr(value, "columns", None))
    return names is not None and not (is_tensor(value) or isinstance(value, Mapping))


def frame_columns(value: Any, what: str) -> dict[str, Any]:
    """Name -> column of a frame, of anything with the data frame interchange protocol, or with Arrow's C interface.

    Raises InputError where a name is no text, or stands twice.
    """
    if isinstance(value, np.ndarray) and value.dtype.names is not None:
        return {name: value[name] for name in value.dtype.names}
    if _is_lazy(value):
        raise InputError(f"{what} is a {type(value).__name__}, which holds no values yet; pass its .collect()")
    if not is_frame(value):
        value = _pyarrow(what).table(value) if hasattr(value, "__arrow_c_stream__") else _interchanged(value)
    names = list(value.column_names if hasattr(value, "column_names") else value.columns)
    twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
    if twice is not None:
        raise InputError(f"{what} has two columns {twice!r}, expected each name once")
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None and not isinstance(wrong, tuple):
        raise InputError(f"{what} has the column name {wrong!r} of type {type(wrong).__name__}, expected text")
    if wrong is not None:
        raise InputError(f"{what} has columns of several levels, such as {wrong!r}; expected one level of names: frame.droplevel(...)")
    if hasattr(value, "column_names"):
        return {name: value.column(k) for k, name in enumerate(names)}
    return {name: value[name] for name in names}


def _is_lazy(value: Any) -> bool:
    """Whether it is a query that holds no values yet (polars.LazyFrame and its like)."""
    return callable(getattr(value, "collect", None)) and not hasattr(value, "to_numpy") and not hasattr(value, "to_pandas")


def column_or_frame(value: Any, what: str) -> Any:
    """Of what offers Arrow's stream interface alone: a pyarrow column, or a table where it streams records. Anything else as it is."""
    if is_frame(value) or not hasattr(value, "__arrow_c_stream__") or hasattr(value, "dtype") or hasattr(value, "type"):
        return value
    pyarrow = _pyarrow(what)
    column = pyarrow.chunked_array(value)
    return pyarrow.Table.from_struct_array(column) if pyarrow.types.is_struct(column.type) else column


def _interchanged(value: Any) -> Any:
    from pyarrow.interchange import from_dataframe

    return from_dataframe(value)


def _only_column(column: Any, what: str) -> Plain:
    """The column of a frame that has one."""
    columns = frame_columns(column, what)
    if len(columns) != 1:
        raise InputError(f"{what} must be one column, came a {type(column).__name__} with {len(columns)}: {', '.join(map(repr, columns))}")
    return opened(next(iter(columns.values())), what)


def _pyarrow(what: str) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError(f"{what} can be read by its Arrow interface alone, which needs pyarrow: pip install pyarrow") from error
    return pyarrow
