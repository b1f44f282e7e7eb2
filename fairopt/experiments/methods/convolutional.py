"""Networks for images with one output: a small convolutional one, and ResNet-18 from torchvision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fairopt.basics.errors import InputError, MissingExtraError


class Mirrored(nn.Module):
    """In training each image (n, 3, s, s) is mirrored, left to right, with probability 1/2; in eval mode nothing is done."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        turned = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
        return torch.where(turned, x.flip(3), x)


class SmallCNN(nn.Module):
    """``Mirrored``, then blocks of a 3 x 3 convolution, ReLU and a halving of both sides, then one linear map.

    Images (n, 3, s, s) or flat (n, 3 s s) -> (n,).

    widths: channels after each block; side: s, a multiple of 2 ** len(widths). Initial weights depend on ``seed`` alone.
    """

    def __init__(self, side: int, widths: tuple[int, ...], dropout: float, seed: int) -> None:
        super().__init__()
        left = side // 2 ** len(widths)
        if not widths or left < 1 or left * 2 ** len(widths) != side:
            raise InputError(f"side: got {side} with {len(widths)} blocks, expected at least one block and a multiple of 2 for each")
        self.side = side
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers: list[nn.Module] = [Mirrored()]
            channels = 3
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
                channels = width
            self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels * left * left, 1))

    def forward(self, x: Tensor) -> Tensor:
        said: Tensor = self.layers(x.reshape(len(x), 3, self.side, self.side))
        return said[:, 0]


class ResNet18(nn.Module):
    """He et al. 2016 with one output, from torchvision, without pretrained weights. Images (n, 3, s, s) -> (n,)."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        try:
            from torchvision.models import resnet18
        except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that was built for another torch
            raise MissingExtraError("ResNet-18 needs torchvision, in the version made for your torch: pip install torchvision") from error
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = resnet18(weights=None, num_classes=1)

    def forward(self, x: Tensor) -> Tensor:
        said: Tensor = self.network(x)
        return said[:, 0]
