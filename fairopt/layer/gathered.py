"""The batch of all ranks on each of them, where the ordinary road has to solve it: columns and scores gathered, gradients too."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fairopt.basics.ranks import Ranks
from fairopt.compiler import Compiled, compile_problem
from fairopt.layer.asked import Asked
from fairopt.layer.shares import Share


def gathered(ranks: Ranks, asked: Asked, share: Share) -> tuple[Compiled, list[int]]:
    """The problem of all ranks' samples, in the order of the ranks, compiled on each of them; and how many each brought."""
    told = ranks.objects((share.n, share.columns, share.targets, share.weights, share.lb, share.ub))
    parts = [Share(n, None, np.zeros(0, dtype=np.int64), c, t, w, lb, ub) for n, c, t, w, lb, ub in told]
    r, sizes = asked.reading, [part.n for part in parts]
    weighted = any(part.weights is not None for part in parts)
    weights = [weights_of(part) for part in parts]
    targets = [part.targets for part in parts if part.targets is not None]
    compiled = compile_problem(
        r.notion,
        n=sum(sizes),
        sensitive_features={name: _joined_column([part.columns[name] for part in parts]) for name in r.notion.attributes} or {"": [0]},
        targets=np.concatenate(targets) if targets else None,
        bounds=(_joined_side([p.lb for p in parts], sizes), _joined_side([p.ub for p in parts], sizes)),
        weights=torch.cat(weights) if weighted else None,
        vocabularies=r.vocabularies,
        grow=r.grow,
        missing_group=r.missing_group,
        on_missing=asked.on_missing,
        on_infeasible=asked.on_infeasible,
    )
    return compiled, sizes


def weights_of(share: Share) -> Tensor:
    """(n,) the weights, ones where there are none."""
    return torch.ones(share.n, dtype=torch.float64, device="cpu") if share.weights is None else share.weights


def _joined_column(parts: list[Any]) -> Any:
    """Everybody's values; numbers, where anybody's are."""
    listed = [part if isinstance(part, np.ndarray) else [part[1][code] for code in part[0].tolist()] for part in parts]
    if any(isinstance(part, np.ndarray) for part in listed):
        return np.concatenate([np.asarray(part, dtype=np.float64) for part in listed])
    return [value for part in listed for value in part]


def _joined_side(sides: list[float | Tensor], sizes: list[int]) -> Any:
    """A bound for all: one number, or (n,)."""
    if not any(isinstance(side, Tensor) for side in sides):
        first = next((float(s) for s, n in zip(sides, sizes, strict=True) if n and not isinstance(s, Tensor)), None)
        if all(float(s) == first for s, n in zip(sides, sizes, strict=True) if n):
            return None if first is not None and math.isinf(first) else first
    columns = [torch.as_tensor(s, dtype=torch.float64, device="cpu").expand(n) for s, n in zip(sides, sizes, strict=True) if n]
    return torch.cat(columns)


class OnAll(torch.autograd.Function):
    """This rank's part of the scores of all ranks, connected to its own scores and to learned limits, of which each rank gets its share of
    the gradient: what all get adds up to the whole.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, ranks: Ranks, sizes: list[int], own: slice, solved: Callable[[Tensor], Tensor], *limits: Tensor
    ) -> Tensor:
        z = ranks.joined(scores, sizes).requires_grad_(True)
        with torch.enable_grad():
            y = solved(z)
        ctx.graph, ctx.ranks, ctx.sizes, ctx.own = (y, [z, *limits]), ranks, sizes, own
        return y.detach()[own].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        y, inputs = ctx.graph
        v = ctx.ranks.joined(gradients[0], ctx.sizes)
        into, *rest = torch.autograd.grad(y, inputs, v, retain_graph=True, allow_unused=True)
        shares = [None if g is None else g / ctx.ranks.size for g in rest]
        return (into[ctx.own], None, None, None, None, *shares)
