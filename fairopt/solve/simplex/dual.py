"""The dual of the projection onto rows that sum to 1: row values and the Newton matrix at given prices.

With s_ic = (A'p)_ic / w_i the shift of class c of sample i,

    kl         y_i = softmax(log z_i - s_i)                     H_i = diag(y_i) - y_i y_i'
    squared    y_i = the nearest point of the simplex to z_i - s_i     H_i = diag(F_i) - F_i F_i' / |F_i|,  F the classes above 0

and M = sum_i A_i H_i A_i' / w_i, summed over the samples that are in the same cell in every class. Classes of probability 0 stay at 0 (kl).
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.sparse import dense
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.bordered import Model
from fairopt.solve.dual.evaluator import Evaluation
from fairopt.solve.dual.structure import Shape, Structure
from fairopt.solve.entropy.dual import EntropyDual
from fairopt.solve.simplex.maps import nearest, softmax, support

_NONE = np.zeros(0)
WIDE = 16.0  # how far apart the logarithms of most samples' largest and least probability are, where they are nearly one-hot
TEMPERATURE = 8.0


@cache
def compiled() -> bool:
    """Whether there is numba, which asking imports."""
    return import_module("fairopt.solve.passes.jit").module() is not None


@cache
def rows() -> ModuleType:
    """The compiled maps of rows."""
    return import_module("fairopt.solve.passes.rows")


@cache
def kernels() -> ModuleType:
    """The compiled passes; they import numba."""
    return import_module("fairopt.solve.passes.simplex_kernels")


def joint_cells(problem: ProjectionProblem, classes: int) -> tuple[IntArray, IntArray, IntArray, IntArray, Array]:
    """joint (J, C): the cells of samples that are in the same cell in every class; the joint cell of each sample (n,), the samples in their
    order (n,), where each begins in it (J + 1,); and the rows' coefficients there (m, J, C)."""
    cell = problem.rows.cell.numpy().reshape(classes, -1).T  # (n, C)
    joint, code = np.unique(cell, axis=0, return_inverse=True)
    code = code.reshape(-1)
    bounds = np.concatenate([[0], np.cumsum(np.bincount(code, minlength=len(joint)))])
    return joint, code, np.argsort(code, kind="stable"), bounds, np.asarray(dense(problem.rows.coefficients))[:, joint]


class SimplexDual(EntropyDual):
    """z (n, C) probabilities, in the order of the samples; ``problem``: ``joined``, over class c of sample i at c n + i."""

    def __init__(self, problem: ProjectionProblem, z: Array, *, kl: bool) -> None:
        n, self.classes = z.shape
        order = problem.rows.order.numpy()
        super().__init__(problem, z.T.reshape(-1)[order])
        self.kl, self.table, self.order = kl, np.ascontiguousarray(z), order
        if not kl:
            self.pinned = np.zeros_like(self.pinned)
        cells = problem.workspace.keep("joint cells", lambda: joint_cells(problem, self.classes))
        self.joint, self.code, self.by_code, self.bounds, self.columns = cells
        self.mass = None if problem.weights is None else 1.0 / problem.weights[:n].numpy()
        self.fast, self.warm = compiled(), False

    def asked(self, p: Array) -> tuple[Any, ...]:
        """What the compiled passes take, at prices p."""
        shift = (p @ np.asarray(dense(self.coefficients)))[self.joint]
        return self.kl, self.table, self.by_code, self.bounds, shift, _NONE if self.mass is None else self.mass

    def probabilities(self, p: Array) -> Array:
        """(n, C) y(p)."""
        if self.fast:
            y = np.empty_like(self.table)
            kernels().simplex_map(*self.asked(p), y)
            return y
        s = self.shifted(p)
        return softmax(self.table, s) if self.kl else nearest(self.table - s)

    def shifted(self, p: Array) -> Array:
        """(n, C) by how much prices p shift each sample."""
        s = (p @ np.asarray(dense(self.coefficients)))[self.problem.rows.cell.numpy()].reshape(self.classes, -1).T
        return np.asarray(s if self.mass is None else s * self.mass[:, None])

    def blocks(self, own: Array) -> Array:
        """(J, C, C) sums of H / w over the samples of each joint cell, with H = diag(own) - own own' / sum(own): own (n, C) probabilities
        (kl), or 1 for classes that stay in."""
        out = np.zeros((len(self.joint), self.classes, self.classes))
        for j in range(len(self.joint)):
            inside = self.by_code[self.bounds[j] : self.bounds[j + 1]]
            w = np.ones(len(inside)) if self.mass is None else self.mass[inside]
            F = own[inside]
            beside = (F * (w / (1.0 if self.kl else F.sum(1)))[:, None]).T @ F
            np.fill_diagonal(beside, 0.0)
            out[j] = np.diag(beside.sum(1)) - beside  # w'F less a diagonal of its own has no digits where a class has all
        return out

    def matrix_of(self, blocks: Array) -> Array:
        """(m, m) M."""
        m = self.columns.shape[0]
        half = self.columns.transpose(1, 0, 2) @ blocks  # (J, m, C)
        wide = len(self.joint) * self.classes
        return np.asarray(half.transpose(1, 0, 2).reshape(m, wide) @ self.columns.reshape(m, wide).T)

    def by_cell(self, values: Array) -> Array:
        """(K,) sums of values (J, C) of the joint cells, by cell."""
        return np.asarray(np.bincount(self.joint.reshape(-1), values.reshape(-1), len(self.starts)), dtype=np.float64)

    def evaluate(self, p: Array) -> Evaluation:
        if self.fast:
            joint = np.zeros(self.joint.shape)
            blocks = np.zeros((*self.joint.shape, self.classes))
            kernels().simplex_sums(*self.asked(p), joint, blocks)
            sums = self.by_cell(joint)
        else:
            y = self.probabilities(p)
            sums = np.add.reduceat(y.T.reshape(-1)[self.order], self.starts)
            blocks = self.blocks(y if self.kl else support(self.table - self.shifted(p)).astype(np.float64))
        slope = self.by_cell(np.diagonal(blocks, axis1=1, axis2=2))
        return Evaluation(self.coefficients @ sums + self.offset, slope, self.matrix_of(blocks))

    def model(self, evaluation: Evaluation) -> Model:
        return evaluation.model(self.coefficients)  # samples join the classes, whatever the cells say

    def scores(self, p: Array) -> Tensor:
        return torch.from_numpy(self.probabilities(p).T.reshape(-1)[self.order])

    def softer(self) -> SimplexDual | None:
        """y = softmax((log z - s) / T) where probabilities are nearly one-hot (kl). There the dual is a sum of maxima but for rounded
        corners, which Newton's method crosses one by one; at a higher temperature the corners are wide, and the prices nearly the same."""
        if not self.kl or self.warm:
            return None
        with np.errstate(divide="ignore"):
            powers = np.log(self.table)
        least = np.where(self.table > 0.0, powers, 0.0).min(1)
        if not float(np.median(powers.max(1) - least)) > WIDE:
            return None
        found, powers = copy(self), powers / TEMPERATURE
        powers = np.exp(powers - powers.max(1, keepdims=True))
        found.table = powers / powers.sum(1, keepdims=True)
        found.mass = (np.ones(len(powers)) if self.mass is None else self.mass) / TEMPERATURE
        found.warm = True
        return found

    def open_model(self) -> Array:
        """(m, m) M where every class of every sample could move as far as it ever does."""
        size = np.diff(self.bounds) if self.mass is None else np.bincount(self.code, self.mass, len(self.joint))
        return self.matrix_of(size[:, None, None] * (0.25 if self.kl else 1.0) * np.eye(self.classes))

    def reach(self, d: Array) -> Array:
        return self.shifts(d)

    @property
    def modelled(self) -> bool:
        return False


def structure_of(structure: Structure) -> Structure:
    """The structure of a joined problem: its rows meet in the samples, whatever their cells say."""
    shape: Shape = "empty" if structure.metric.shape[0] == 0 else "general"
    together = rows().several_ranges if compiled() and set(structure.ratios) == {1.0} else None
    return replace(structure, shape=shape, diagonal=False, bordered=False, together=together)
