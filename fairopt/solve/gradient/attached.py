"""Scores that are there already, connected to their input by the linear piece that they lie on."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from fairopt.solve.transforms import batched, row_by_row


class Linear(Protocol):
    """The piece of an answer: what its derivative needs."""

    def times(self, v: Tensor, forward: bool) -> Tensor:
        """J'v (n,), or J v where ``forward``; v detached."""


def attach_piece(scores: Tensor, y: Tensor, piece: Linear) -> Tensor:
    """``y``, connected to ``scores`` of the same shape: differentiable any number of times."""
    out: Tensor = _Attached.apply(scores, y, piece)  # type: ignore[no-untyped-call]
    return out


class _Attached(torch.autograd.Function):
    """The certified scores, connected to the input."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, y: Tensor, piece: Linear) -> Tensor:
        ctx.piece = piece
        return y.detach()  # another tensor: who keeps the answer does not keep the graph

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        v, piece = gradients[0], ctx.piece
        if torch.is_grad_enabled():
            return row_by_row(v, lambda row: _Linear.apply(row, piece, False)), None, None  # type: ignore[no-untyped-call]
        if batched(v):
            return row_by_row(v, lambda row: piece.times(row, False)), None, None
        return piece.times(v, False), None, None


class _Linear(torch.autograd.Function):
    """v -> J'v or J v, which are constant on the piece: differentiable any number of times."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, piece: Linear, forward: bool) -> Tensor:
        ctx.piece, ctx.way = piece, forward
        return row_by_row(v, lambda row: piece.times(row.detach(), forward))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Linear.apply(gradients[0], ctx.piece, not ctx.way), None, None  # type: ignore[no-untyped-call]
