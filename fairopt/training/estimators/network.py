"""The networks of the estimators: standardised features, a multilayer perceptron beside a linear path, scores in the target's units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

BLOCK = 256  # rows that a network scores at a time


class Network(nn.Module):
    """features (n, d) float64 -> scores (n,), of several outputs (n, C), float64:

        location + scale * (perceptron + linear)((features - mean) / deviation).


    Mean and deviation are those of ``features``, the training rows; a column that is constant there passes as 0. The networks work in
    float32. All scores begin at ``location``. The linear path lies beside the hidden layers, so that what is linear need not
    be learnt by them; it is None where there are none. Source: Cheng et al. 2016, Wide & Deep Learning.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, features: Tensor, hidden: Sequence[int], dropout: float, *, location: float = 0.0, scale: float = 1.0, outputs: int = 1
    ) -> None:
        super().__init__()
        deviation = features.std(0, correction=0)
        negligible = deviation <= 1e-12 * features.abs().amax(0)
        self.register_buffer("mean", features.mean(0))
        self.register_buffer("deviation", torch.where(negligible, torch.full_like(deviation, torch.inf), deviation))
        self.location, self.scale = location, scale
        layers: list[nn.Module] = []
        width = features.shape[1]
        where: dict[str, Any] = {"device": features.device, "dtype": torch.float32}  # whatever torch's defaults are
        for units in hidden:
            layers += [nn.Linear(width, units, **where), nn.ReLU(), nn.Dropout(dropout)]
            width = units
        self.perceptron = nn.Sequential(*layers, nn.Linear(width, outputs, **where))
        self.linear = nn.Linear(features.shape[1], outputs, bias=False, **where) if hidden else None
        last = self.perceptron[-1]
        assert isinstance(last, nn.Linear)
        for zero in (last.weight, last.bias, *([] if self.linear is None else [self.linear.weight])):
            nn.init.zeros_(zero)

    def standardised(self, features: Tensor) -> Tensor:
        """(n, d) float64."""
        return (features - self.mean) / self.deviation

    def forward(self, features: Tensor) -> Tensor:
        standardised = self.standardised(features).float()
        scores: Tensor = self.perceptron(standardised)
        if self.linear is not None:
            scores = scores + self.linear(standardised)
        return self.location + self.scale * (scores[:, 0] if scores.shape[1] == 1 else scores).double()


class Members(nn.Module):
    """The mean of several networks' scores."""

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def __len__(self) -> int:
        return len(self.networks)

    def forward(self, features: Tensor) -> Tensor:
        return torch.stack([network(features) for network in self.networks]).mean(0)


def in_blocks(function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """``function(*rows)`` for tensors of n rows, row by row independent, always asked of ``BLOCK`` rows, the last filled up with zeros.

    A product of matrices sums in an order that depends on how many rows it has, and vector instructions round as single ones do not: a row
    alone would differ in its last bits from the same row in a batch, and near a threshold be decided otherwise.
    """
    n = len(rows[0])
    filled = [torch.split(torch.cat([r, r.new_zeros(-n % BLOCK, *r.shape[1:])]), BLOCK) for r in rows]
    return torch.cat([function(*block) for block in zip(*filled, strict=True)])[:n]
