"""The network of the estimators: standardised features, a multilayer perceptron, scores in the target's units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """features (n, d) float64 -> scores (n,) float64: location + scale * perceptron((features - mean) / deviation).

    Mean and deviation are those of the training rows; a column that is constant there passes as 0. The perceptron works in float32.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: Tensor, hidden: Sequence[int], dropout: float, *, location: float = 0.0, scale: float = 1.0) -> None:
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
        self.perceptron = nn.Sequential(*layers, nn.Linear(width, 1, **where))

    def forward(self, features: Tensor) -> Tensor:
        standardised = ((features - self.mean) / self.deviation).float()
        scores: Tensor = self.perceptron(standardised)
        return self.location + self.scale * scores[:, 0].double()
