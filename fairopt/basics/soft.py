"""Groups that are known in probability alone: ``Soft``."""

from __future__ import annotations

from typing import Any

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.basics.containers import Shares, frame_columns, is_frame, is_tensor
from fairopt.basics.errors import InputError

SUM = 1e-6  # how far the probabilities of a sample may be from 1 in sum, where their dtype is not coarser


class Soft(Shares):
    """An attribute of which each sample has probabilities: ``sensitive_features={"race": fo.Soft(P, ["black", "white"])}``.

    P       (n, K) numbers in [0, 1], each row with sum 1: from a classifier of the group, from names and addresses (BISG), ...
            An array, a tensor, a list of rows, or a frame, whose column names are then the values
    values  the K groups, as an attribute's values are: ints, strings or bools, all different

    The mean of a group is ``sum_i P_ig y_i / sum_i P_ig``: each sample counts in every group, by its probability. Probabilities of 0 and 1
    alone are the same as the values themselves. ``soft[rows]`` are the probabilities of some samples. P carries no gradient.

    InputError for another shape, numbers outside [0, 1] or not finite, rows that do not sum to 1, and values that are not K different ones.
    Source: Chen, Kallus, Mao, Svacha, Udell 2019 (the weighted estimator); how far it can be off: claims Q4 and Q5.

    Examples:
        >>> sex = fo.Soft([[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]], ["f", "m"])
        >>> fair = fo.project(torch.tensor([0.2, 0.6, 0.4]), fo.DemographicParity("sex", tolerance=0.05), sensitive_features={"sex": sex})
        >>> fair
        tensor([0.3250, 0.4750, 0.4000])
    """

    __slots__ = ("is_certain", "probabilities", "values")

    def __init__(self, P: Any, values: Any = None) -> None:
        if is_frame(P):
            columns = frame_columns(P, "Soft: P")
            values = list(columns) if values is None else values
            P = np.column_stack([np.asarray(column, dtype=np.float64) for column in columns.values()])
        if values is None or isinstance(values, (str, bytes)):
            raise InputError(f"Soft: values: got {values!r}, expected the groups that the columns of P stand for, as ['black', 'white']")
        self.probabilities = _probabilities(P)
        self.values = tuple(values.tolist() if hasattr(values, "tolist") else values)
        if len(self.values) != self.probabilities.shape[1]:
            raise InputError(f"Soft: values: got {len(self.values)} groups, expected {self.probabilities.shape[1]}, one a column of P")
        if len(set(self.values)) < len(self.values):
            raise InputError(f"Soft: values: got {list(self.values)!r}, expected all different")
        p = self.probabilities
        self.is_certain = bool(((p == 0.0) | (p == 1.0)).all())  # asked for each event of a batch

    def __len__(self) -> int:
        return int(self.probabilities.shape[0])

    def __getitem__(self, rows: Any) -> Soft:
        """The probabilities of some samples: a slice, a boolean array, or positions."""
        rows = rows.detach().cpu().numpy() if is_tensor(rows) else rows
        chosen = self.probabilities[rows]
        if chosen.ndim != 2:
            raise InputError(f"Soft: rows: got {rows!r}, expected a slice, a boolean array (n,) or positions")
        return Soft(chosen, self.values)

    @property
    def certain(self) -> list[Any] | None:
        """(n,) the values themselves, where every probability is 0 or 1; None elsewhere."""
        return [self.values[k] for k in self.probabilities.argmax(1).tolist()] if self.is_certain else None

    def __repr__(self) -> str:
        return f"Soft({len(self)} samples, {list(self.values)!r})"


def _probabilities(P: Any) -> Array:
    """(n, K) float64. InputError where they are no probabilities."""
    if is_tensor(P):
        coarse = P.shape[-1] * (2.0**-8 if str(P.dtype) == "torch.bfloat16" else 2.0**-11 if P.element_size() == 2 else 0.0)
        P = P.detach().cpu().double().numpy()
    else:
        coarse = np.shape(P)[-1] * 2.0**-11 if getattr(P, "dtype", None) == np.float16 and np.ndim(P) else 0.0
    try:
        p = np.asarray(P, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"Soft: P: got {type(P).__name__}, expected (n, K) numbers: {error}") from error
    if p.ndim != 2 or p.shape[1] < 1:
        raise InputError(f"Soft: P: got shape {p.shape}, expected (n, K): one row a sample, one column a group")
    wrong = np.argwhere(~((p >= 0.0) & (p <= 1.0)))  # also where NaN
    if wrong.size:
        i, k = wrong[0].tolist()
        raise InputError(f"Soft: P: got {p[i, k]} at position ({i}, {k}), expected probabilities in [0, 1]")
    off = np.flatnonzero(~(np.abs(p.sum(1) - 1.0) <= max(SUM, coarse)))
    if off.size:
        i = int(off[0])
        raise InputError(f"Soft: P: the probabilities of sample {i} sum to {p[i].sum():.6g}, expected 1")
    p = np.ascontiguousarray(p)
    p = p.copy() if p is P or (isinstance(P, np.ndarray) and np.shares_memory(p, P)) else p
    p.flags.writeable = False
    return p
