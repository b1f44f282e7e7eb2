"""Where the groups come from: columns taken out of X, or ``sensitive_features``; and what is left as features.

Exactly one of the two must name the groups: neither is an error, so that an estimator is never silently unfair, and both is one too,
for then nobody knows which was meant. Group columns leave the features; ``keep=True`` gives them back to the network as 0/1 columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fairopt.basics.columns import length, read_features
from fairopt.basics.containers import frame_columns, is_frame, opened
from fairopt.basics.errors import InputError, MissingExtraError
from fairopt.basics.extras import missing
from fairopt.notions.groups import Missing, Vocabulary, encode

try:
    from sklearn.utils import _safe_indexing, check_array
    from sklearn.utils.validation import _num_samples
except ImportError as error:
    raise missing("the estimators need scikit-learn", "sklearn") from error

Column = str | int
Groups = dict[str, npt.NDArray[Any]]  # attribute -> (n,) values
Cuts = Mapping[str, Sequence[float]]

GIVE = (
    "give sensitive_columns= (names or positions of columns of X) to the estimator, or sensitive_features= to {method} (a mapping, "
    "DataFrame, Series or array; inside a pipeline or a search by metadata routing)"
)


@dataclass(frozen=True)
class Read:
    """One X, read. features (n, d) float64; groups: attribute -> (n,) values of one type (int, str or bool), None where missing."""

    features: npt.NDArray[np.float64]
    groups: Groups


@dataclass(frozen=True)
class Reader:
    """How to read X, as ``fit`` learned it.

    positions     attribute -> its column of X; empty where the groups come as ``sensitive_features``
    vocabularies  attribute -> the values known; a value outside is an error
    cuts          attribute -> ascending thresholds that make groups of a number: [t, next t)
    keep          whether the groups are inputs of the network too: 0/1 columns, and the number itself of a cut one
    missing       "error", or "own": missing values are a group of their own, None. In a column that is cut they are an error always
    """

    positions: Mapping[str, int]
    vocabularies: Mapping[str, Vocabulary]
    cuts: Cuts
    keep: bool
    missing: Missing = "error"

    @classmethod
    def learn(
        cls,
        X: Any,
        sensitive_columns: Any,
        sensitive_features: Any,
        *,
        attributes: tuple[str, ...] | None,
        cuts: Cuts | None,
        keep: bool,
        missing: Missing = "error",
    ) -> tuple[Reader, Read]:
        """A reader and what it reads. ``attributes``: those of the notion; None where the columns decide (every one is enforced)."""
        table = as_table(X)
        reader, raw = cls._learnt(table, sensitive_columns, sensitive_features, attributes, cuts, keep, missing)
        return reader, reader._read(table, raw)

    @classmethod
    def learn_groups(
        cls, X: Any, sensitive_columns: Any, sensitive_features: Any, *, attributes: tuple[str, ...] | None, cuts: Cuts | None, keep: bool,
        missing: Missing,
    ) -> tuple[Reader, Groups]:  # fmt: skip
        """As ``learn``, for an X whose features somebody else reads: of it only the group columns are looked at."""
        table = X if sensitive_columns is None else as_table(X)
        reader, raw = cls._learnt(table, sensitive_columns, sensitive_features, attributes, cuts, keep, missing)
        return reader, reader._groups(raw, _num_samples(table))[0]

    @classmethod
    def _learnt(
        cls, table: Any, sensitive_columns: Any, sensitive_features: Any, attributes: tuple[str, ...] | None, cuts: Cuts | None, keep: bool,
        missing: Missing,
    ) -> tuple[Reader, dict[str, Any]]:  # fmt: skip
        """A reader, and the columns of the groups as they came."""
        if sensitive_columns is None and sensitive_features is None:
            raise InputError(f"fit: got no groups; {GIVE.format(method='fit')}")
        if sensitive_columns is not None and sensitive_features is not None:
            raise InputError("fit: got both sensitive_columns and sensitive_features, expected one of them")
        positions = {} if sensitive_columns is None else resolve(sensitive_columns, table)
        raw = _out_of(table, positions) if positions else as_columns(sensitive_features, attributes)
        _check_read(tuple(raw), attributes)
        reader = cls(positions, {}, _checked_cuts(cuts, raw), keep, missing)
        numbers, vocabularies = reader._numbers(raw), {}
        for name, values in reader._cut(raw, numbers).items():
            vocabularies[name] = encode(values, name=name, missing=missing)[1]
        return cls(positions, vocabularies, reader.cuts, keep, missing), raw

    def read(self, X: Any, sensitive_features: Any, *, method: str) -> Read:
        """X (n, as many columns as in fit) with the groups of its rows. InputError for unknown or missing values of a group."""
        table = as_table(X)
        return self._read(table, self._raw(table, sensitive_features, method))

    def read_groups(self, X: Any, sensitive_features: Any, *, method: str) -> Groups:
        """The groups of the rows alone, as ``learn_groups``."""
        table = as_table(X) if self.positions else X
        return self._groups(self._raw(table, sensitive_features, method), _num_samples(table))[0]

    def _raw(self, table: Any, sensitive_features: Any, method: str) -> dict[str, Any]:
        """The columns of the groups as they came."""
        if self.positions:
            if sensitive_features is not None:
                raise InputError(f"{method}: got sensitive_features, but this estimator takes its groups out of X ({list(self.positions)})")
            return _out_of(table, self.positions)
        if sensitive_features is None:
            raise InputError(
                f"{method}: got no sensitive_features; this estimator was fitted with {list(self.vocabularies)}, and a score without "
                "its group cannot be fair. String scorers do not pass them: use sensitive_columns=, or the estimator's own score"
            )
        raw = as_columns(sensitive_features, tuple(self.vocabularies))
        _check_read(tuple(raw), tuple(self.vocabularies))
        return raw

    def _groups(self, raw: Mapping[str, Any], n: int) -> tuple[Groups, dict[str, npt.NDArray[np.float64]], dict[str, Any]]:
        """Values by attribute; the numbers of cut columns; the codes (n,) of the values."""
        for name, column in raw.items():
            came = length(column, f"sensitive_features[{name!r}]")
            if came != n:
                raise InputError(
                    f"sensitive_features[{name!r}]: got {came} values, expected {n}, one a row of X (cross-validation cuts "
                    "DataFrames, Series and arrays to the rows of a fold, dicts it does not)"
                )
        numbers = self._numbers(raw)
        groups: Groups = {}
        codes: dict[str, Any] = {}
        for name, values in self._cut(raw, numbers).items():
            vocabulary = self.vocabularies[name]
            codes[name], _ = encode(values, name=name, vocabulary=vocabulary, grow=False, missing=self.missing)
            groups[name] = np.array(vocabulary.to_list())[codes[name]]  # (n,)
        return groups, numbers, codes

    def _read(self, table: Any, raw: dict[str, Any]) -> Read:
        groups, numbers, codes = self._groups(raw, table.shape[0])
        inputs = [self._features(table)]
        if self.keep:
            inputs += [c[:, None] for c in numbers.values()]
            inputs += [np.eye(len(self.vocabularies[name]))[code] for name, code in codes.items()]
        features = np.concatenate([i for i in inputs if i is not None], axis=1) if any(i is not None for i in inputs) else None
        if features is None:
            raise InputError(f"X: got {table.shape[1]} feature(s), and all of them are sensitive columns; expected others to learn from")
        return Read(features, groups)

    def without_groups(self, X: Any) -> Any:
        """X as an estimator behind gets it: without the group columns, unless they are kept."""
        if self.keep or not self.positions:
            return X
        table = as_table(X)
        rest = [k for k in range(table.shape[1]) if k not in set(self.positions.values())]
        if not rest:
            raise InputError(f"X: got {table.shape[1]} feature(s), and all of them are sensitive columns; expected others to learn from")
        return _safe_indexing(table, rest, axis=1)

    def _features(self, table: Any) -> npt.NDArray[np.float64] | None:
        """(n, d) the columns that are not sensitive; None where there are none."""
        rest = [k for k in range(table.shape[1]) if k not in set(self.positions.values())]
        if not rest:
            return None
        part = table.iloc[:, rest] if hasattr(table, "iloc") else table[:, rest]
        try:
            return np.asarray(check_array(part, dtype=np.float64, input_name="X"))
        except ValueError as error:
            raise InputError(f"X: {_words_in(part)}; expected numbers, encode words first") if _words_in(part) else error from error

    def _numbers(self, raw: Mapping[str, Any]) -> dict[str, npt.NDArray[np.float64]]:
        """The columns that are to be cut, as finite numbers (n,)."""
        return {name: _as_numbers(raw[name], name) for name in self.cuts}

    def _cut(self, raw: Mapping[str, Any], numbers: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, Any]:
        """The columns with numbers replaced by the names of their intervals."""
        out = dict(raw)
        for name, column in numbers.items():
            edges = list(self.cuts[name])
            inner = [f"[{a:g}, {b:g})" for a, b in pairwise(edges)]
            words = np.array([f"< {edges[0]:g}", *inner, f">= {edges[-1]:g}"])
            out[name] = words[np.searchsorted(np.array(edges), column, side="right")]
        return out


def as_table(X: Any) -> Any:
    """X as it is if a DataFrame, else a 2-d array (of objects where it came as lists). Other shapes: scikit-learn's own ValueErrors."""
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        if not len(X) or not len(X.columns):
            check_array(X, dtype=None, input_name="X")  # says what is wrong
        return X
    if is_frame(X):
        return _as_pandas(X)
    if isinstance(X, (list, tuple)):
        X = np.array(X, dtype=object)  # a list of rows may mix words and numbers
    return check_array(X, dtype=None, ensure_all_finite=False, input_name="X")


def _as_pandas(X: Any) -> Any:
    """A frame of polars, pyarrow or their like as a pandas one: scikit-learn takes apart no others by name."""
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError("X: a frame that is not pandas' own needs pandas too: pip install pandas") from error
    return pandas.DataFrame({name: opened(column, f"X[{name!r}]") for name, column in frame_columns(X, "X").items()})


def resolve(columns: Any, table: Any) -> dict[str, int]:
    """Attribute -> position for names, positions, a list of them, or a mapping from attributes to them. A position k is called 'xk'."""
    if isinstance(columns, (str, int, np.integer)) and not isinstance(columns, bool):
        columns = [columns]
    if not isinstance(columns, Mapping):
        if not isinstance(columns, Sequence) and not isinstance(columns, np.ndarray):
            raise InputError(
                f"sensitive_columns: got {columns!r}, expected names or positions of columns, or a mapping from attributes to them"
            )
        columns = {c if isinstance(c, str) else f"x{c}": c for c in columns}
    if not columns:
        raise InputError("sensitive_columns: got no column, expected at least one")
    found = {str(name): _position(column, table) for name, column in columns.items()}
    if len(set(found.values())) < len(found):
        raise InputError(f"sensitive_columns: got {columns!r}, which names a column twice")
    return found


def _position(column: Any, table: Any) -> int:
    d = table.shape[1]
    if isinstance(column, str):
        if not hasattr(table, "columns"):
            raise InputError(
                f"sensitive_columns: got the name {column!r}, but X has no column names; expected a position from 0 to {d - 1}"
            )
        names = list(table.columns)
        if names.count(column) != 1:
            raise InputError(f"sensitive_columns: got {column!r}, expected one of the columns {names}")
        return names.index(column)
    if isinstance(column, bool) or not isinstance(column, (int, np.integer)) or not 0 <= column < d:
        raise InputError(
            f"sensitive_columns: got {column!r}, expected the name of a column or a position from 0 to {d - 1} ({d} feature(s))"
        )
    return int(column)


def _out_of(table: Any, positions: Mapping[str, int]) -> dict[str, Any]:
    return {name: table.iloc[:, k] if hasattr(table, "iloc") else table[:, k] for name, k in positions.items()}


def as_columns(given: Any, attributes: tuple[str, ...] | None) -> dict[str, Any]:
    """``sensitive_features`` as attribute -> values. One column without a name takes the notion's attribute, or 'sensitive'."""
    alone = attributes[0] if attributes is not None and len(attributes) == 1 else "sensitive"
    if isinstance(given, np.ndarray) and given.dtype.names is None and given.ndim == 2 and given.shape[1] > 1:
        return {f"sensitive_{k}": given[:, k] for k in range(given.shape[1])}
    name = getattr(given, "name", None) if not isinstance(given, (Mapping, Tensor)) and not is_frame(given) else None
    return {str(key): values for key, values in read_features(given, (alone if name in (None, "") else str(name),)).items()}


def _as_numbers(column: Any, name: str) -> npt.NDArray[np.float64]:
    """(n,) finite numbers to be cut into groups; scikit-learn's own errors, as for the other columns of X."""
    plain = opened(column, f"sensitive_features[{name!r}]")
    if isinstance(plain, Tensor):
        plain = plain.detach().cpu().numpy()
    values = np.array(plain, dtype=object) if isinstance(plain, list) else plain
    return np.asarray(check_array(values.reshape(-1, 1), dtype=np.float64, ensure_min_samples=0, input_name=f"X ({name})")[:, 0])


def _words_in(table: Any) -> str:
    """The first cell of a table (n, d) that is a word and no number, in words; "" where there is none."""
    for k, name in enumerate(getattr(table, "columns", range(table.shape[1]))):
        for row, value in enumerate((table.iloc[:, k] if hasattr(table, "iloc") else table[:, k]).tolist()):
            if isinstance(value, str):
                try:
                    float(value)
                except ValueError:
                    return f"the column {name!r} holds {value!r} in row {row}"
    return ""


def _check_read(given: tuple[str, ...], attributes: tuple[str, ...] | None) -> None:
    """Every attribute of the notion must be given, and every one given must be enforced."""
    if not given:
        raise InputError("sensitive_features: got no attribute, expected at least one")
    if attributes is None:
        return
    absent = [a for a in attributes if a not in given]
    if absent:
        raise InputError(f"sensitive features: got {list(given)}, but the notion reads {absent[0]!r}")
    unread = [a for a in given if a not in attributes]
    if unread:
        raise InputError(f"sensitive features: got {unread[0]!r}, which the notion does not read; put it into the notion or leave it out")


def _checked_cuts(cuts: Cuts | None, raw: Mapping[str, Any]) -> Cuts:
    if cuts is None:
        return {}
    if not isinstance(cuts, Mapping):
        raise InputError(f"cuts: got {type(cuts).__name__}, expected a mapping from attributes to thresholds, e.g. {{'age': [40, 65]}}")
    for name, edges in cuts.items():
        if name not in raw:
            raise InputError(f"cuts: got {name!r}, expected one of the attributes {list(raw)}")
        numbers = [float(t) for t in edges]
        if not numbers or not np.isfinite(numbers).all() or any(b <= a for a, b in pairwise(numbers)):
            raise InputError(f"cuts[{name!r}]: got {edges!r}, expected ascending finite thresholds")
    return {name: tuple(float(t) for t in edges) for name, edges in cuts.items()}
