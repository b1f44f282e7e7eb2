"""A network for the synthetic regressions: a linear part that starts at least squares, and units that square what they see.

    f(x) = w . (1, a, x, a x) + sum_k c_k (v_k . (a, x) + b_k)^2          a: the group, 0 or 1, the first input

The second part can stand for any quadratic form of low rank, hence for squares and products, and it starts at 0, so that the network
starts at least squares. The paper's own network (16 layers, SGD with a step of 5e-4) stays far above least squares.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fairopt.basics.errors import InputError


def wide_inputs(x: Tensor) -> Tensor:
    """(n, d) with the group first -> (n, 2 d - 1): a, x and a x."""
    return torch.cat([x, x[:, :1] * x[:, 1:]], dim=1)


class LeastSquares(nn.Module):
    """The linear function of (1, a, x, a x) with the least mean squared error on ``x`` (n, d), ``y`` (n,). Solved in float64."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__()
        inputs = wide_inputs(x).double()
        table = torch.cat([torch.ones(len(x), 1, dtype=torch.float64, device="cpu"), inputs], dim=1)  # (n, 2 d)
        if len(x) < table.shape[1]:
            raise InputError(f"x: got {len(x)} rows, expected at least {table.shape[1]}, one for each weight")
        weights = torch.linalg.lstsq(table, y.double()[:, None]).solution[:, 0]
        self.register_buffer("weights", weights)

    weights: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(n, d) -> (n,) in the dtype of ``x``."""
        return (self.weights[0] + wide_inputs(x).double() @ self.weights[1:]).to(x.dtype)


class WideDeep(nn.Module):
    """See the module. ``start`` (2 d,): the linear part's first weights, of 1, a, x and a x; those of ``LeastSquares`` or others."""

    def __init__(self, start: Tensor, units: int, seed: int) -> None:
        super().__init__()
        d = len(start) // 2
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.wide = nn.Linear(2 * d - 1, 1)
            self.hidden = nn.Linear(d, units)
            self.out = nn.Linear(units, 1)
            nn.init.orthogonal_(self.hidden.weight)
        with torch.no_grad():
            self.wide.weight[0] = start[1:]
            self.wide.bias[0] = start[0]
            self.out.weight.zero_()
            self.out.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(n, d) -> (n,)."""
        said: Tensor = self.wide(wide_inputs(x)) + self.out(self.hidden(x).square())
        return said[:, 0]

    def groups(self, weight_decay: float) -> list[dict[str, object]]:
        """Parameters for an optimizer: the decay is for the squaring units alone, for least squares needs none."""
        deep = [*self.hidden.parameters(), *self.out.parameters()]
        return [{"params": [*self.wide.parameters()], "weight_decay": 0.0}, {"params": deep, "weight_decay": weight_decay}]
