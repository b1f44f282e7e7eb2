"""The problem of class probabilities with the rows that their map keeps by itself: what is proved of it is proved of class probabilities.

Samples that are in the same cell in every class, and whose probabilities can move in the same classes, have the same simplex, so that
their mean can be anywhere on it: one row a group of such samples says that its probabilities sum to 1. Where these groups are too many,
they are the cells alone, in a box for each class: the mean of different simplices may then be somewhere that no samples reach, so that
less is proved, and nothing wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.basics.sparse import SparseRows, dense
from fairopt.contract.problem import HARD, ProjectionProblem
from fairopt.contract.rows import Rows
from fairopt.feasibility import FarkasProof, infeasibility

MOST = 2048  # numbers that the groups' probabilities are, in all
WORDS = "the probabilities of a sample sum to 1"


@dataclass(frozen=True, eq=False)
class Summed:
    """The problem, and which of its constraints are the sums: ``facts``."""

    problem: ProjectionProblem
    facts: frozenset[int]

    @property
    def proof(self) -> FarkasProof | None:
        """That no class probabilities meet the hard constraints; None where none is found."""
        return infeasibility(self.problem)


def summed(problem: ProjectionProblem, z: Array, *, kl: bool) -> Summed:
    """``problem`` (``joined``) for probabilities z (n, C), whose zeros stay where the divergence is ``kl``."""
    n, C = z.shape
    can = z > 0.0 if kl else np.ones_like(z, dtype=bool)
    cell = problem.rows.cell.numpy().reshape(C, n).T  # (n, C)
    code = _coded(np.concatenate([cell, can], 1))
    if C * (int(code.max()) + 1) > MOST:
        code = _coded(cell)
    groups = int(code.max()) + 1
    alone = can & (can.sum(1, keepdims=True) == 1)  # the only class that is left has it all
    rows, L = problem.rows, problem.linear
    first = np.unique(code, return_index=True)[1]
    holds = _masks(rows, cell[first].reshape(-1), groups, C)  # (M + G, G C)
    scales = np.zeros((rows.m + groups, holds.shape[0]))
    place = np.concatenate([np.arange(L), np.arange(L, rows.m) + groups])
    scales[place, : rows.masks.shape[0]] = np.asarray(dense(rows.scales))
    scales[L + np.arange(groups), rows.masks.shape[0] + np.arange(groups)] = float(C)  # C times the mean over classes
    offset = np.zeros(rows.m + groups)
    offset[place] = rows.offset
    ones, words = np.ones(groups), (WORDS,) * groups
    joined = replace(
        problem,
        rows=Rows(
            cell=torch.from_numpy((code[None, :] * C + np.arange(C)[:, None]).reshape(-1)),
            masks=holds,
            scales=scales,
            offset=offset,
            offset_terms=tuple((int(place[k]), s, j, v) for k, s, j, v in rows.offset_terms),
            values=rows.values,
        ),
        lower=np.concatenate([problem.lower, ones]),
        upper=np.concatenate([problem.upper, ones]),
        range_starts=problem.range_starts + groups,
        lb=torch.from_numpy(alone.T.reshape(-1).astype(np.float64)),
        ub=torch.from_numpy(can.T.reshape(-1).astype(np.float64)),
        classes=1,  # its rows say it now
        softness=problem.softness[:L] + (HARD,) * groups + problem.softness[L:],
        labels=problem.labels[:L] + words + problem.labels[L:],
        constraint_labels=problem.constraint_labels[:L] + words + problem.constraint_labels[L:],
    )
    return Summed(joined, frozenset(range(L, L + groups)))


def _coded(table: IntArray) -> IntArray:
    """(n,) which of the different rows of ``table`` each is."""
    return np.asarray(np.unique(table, axis=0, return_inverse=True)[1].reshape(-1), dtype=np.int64)


def _masks(rows: Rows, cell: IntArray, groups: int, C: int) -> BoolArray:
    """(M + G, G C): the masks over the finer cells, ``cell`` (G C,) naming the one that each is in; then one mask a group."""
    masks = rows.masks.toarray() if isinstance(rows.masks, SparseRows) else rows.masks
    return np.concatenate([np.asarray(masks, dtype=bool)[:, cell], np.repeat(np.eye(groups, dtype=bool), C, axis=1)])
