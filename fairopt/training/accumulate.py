"""``Accumulation``: a network that takes a large batch in micro-batches, so that parity holds over the whole of it.

A fairness layer needs all scores of the batch at once, so the usual accumulation of gradients, one loss for each micro-batch, would ask
for parity in each micro-batch apart. Here the first pass computes the scores of all micro-batches and keeps no activations; the layer
projects the whole batch, and backward gives the gradient with respect to each score; the second pass runs each micro-batch again, with
its activations, and passes its slice of that gradient on. By the chain rule that is the gradient of the one-batch loss.

Both passes are ``torch.utils.checkpoint``. It replays the random state, so that dropout draws the same mask. What is added here is that
the second pass sees the buffers as they were in the first and leaves none changed: batch-norm's statistics are updated once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from fairopt.basics.errors import InputError


class Accumulation(nn.Module):
    """``network`` in micro-batches: ``FairModel(Accumulation(network, 256), layer)`` trains with the memory of 256 rows at a time.

    micro_batch_size  the most rows that the network sees at once
    device            where each micro-batch is moved to, so that the whole batch may stay in host memory; None: it is not moved

    The input is a tensor (n, ...), or tuples, lists and dicts of tensors with the same n; the output is the network's, (n,), (n, 1) or any
    (n, ...). The result is the network's own on the whole batch, and so is its gradient, up to rounding, with two exceptions: what
    normalises over the batch (batch-norm in train mode) normalises over the micro-batch, as under any accumulation, and dropout's masks
    are drawn micro-batch by micro-batch. In training the network runs forward twice, so that a step costs about a third more and forward
    hooks are called twice; without gradients it runs once. ``state_dict`` names the network's tensors ``network.*``. InputError for a
    network that is no module and a size below 1.

    Examples:
        >>> from fairopt.training import Accumulation
        >>> network = torch.nn.Linear(3, 1)
        >>> x = torch.randn(10, 3)
        >>> torch.allclose(Accumulation(network, micro_batch_size=4)(x), network(x))
        True
    """

    def __init__(self, network: nn.Module, micro_batch_size: int, *, device: torch.device | str | None = None) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise InputError(f"network: got {type(network).__name__}, expected a torch.nn.Module")
        if isinstance(micro_batch_size, bool) or not isinstance(micro_batch_size, int) or micro_batch_size < 1:
            raise InputError(f"micro_batch_size: got {micro_batch_size!r}, expected a whole number >= 1")
        self.network = network
        self.micro_batch_size = micro_batch_size
        self.device = None if device is None else torch.device(device)

    def forward(self, x: Any) -> Tensor:
        """The network's output for all of ``x``, (n, ...)."""
        n = _rows(x)
        pieces = [_slice(x, start, start + self.micro_batch_size) for start in range(0, n, self.micro_batch_size)]
        if not torch.is_grad_enabled():
            return torch.cat([self.network(_moved(piece, self.device)) for piece in pieces])
        return torch.cat([self._light(piece) for piece in pieces])

    def _light(self, piece: Any) -> Tensor:
        """The output for one micro-batch, whose activations are made again in backward."""
        run = _Replayed(self.network, self.device)
        out: Tensor = checkpoint(run, piece, use_reentrant=False)
        return out

    def extra_repr(self) -> str:
        return f"micro_batch_size={self.micro_batch_size}"


class _Replayed:
    """A network's call that can be repeated: from the second time on with copies of the buffers that the first one began with."""

    def __init__(self, network: nn.Module, device: torch.device | None) -> None:
        self._network, self._device = network, device
        self._before: dict[str, Tensor] | None = None

    def __call__(self, piece: Any) -> Any:
        inputs = _moved(piece, self._device)
        if self._before is None:
            self._before = {name: buffer.clone() for name, buffer in self._network.named_buffers()}
            return self._network(inputs)
        return functional_call(self._network, {name: buffer.clone() for name, buffer in self._before.items()}, (inputs,))


def _tensors(x: Any) -> list[Tensor]:
    if isinstance(x, Tensor):
        return [x]
    if isinstance(x, (tuple, list)):
        return [tensor for part in x for tensor in _tensors(part)]
    if isinstance(x, dict):
        return [tensor for part in x.values() for tensor in _tensors(part)]
    raise InputError(f"x: got {type(x).__name__}, expected a tensor, or tuples, lists and dicts of tensors")


def _rows(x: Any) -> int:
    sizes = {int(tensor.shape[0]) if tensor.dim() else 0 for tensor in _tensors(x)}
    if len(sizes) != 1 or 0 in sizes:
        raise InputError(f"x: got tensors with {sorted(sizes)} rows, expected one and the same number, at least 1")
    return sizes.pop()


def _slice(x: Any, start: int, stop: int) -> Any:
    if isinstance(x, Tensor):
        return x[start:stop]
    if isinstance(x, dict):
        return {name: _slice(part, start, stop) for name, part in x.items()}
    return type(x)(_slice(part, start, stop) for part in x)


def _moved(x: Any, device: torch.device | None) -> Any:
    if device is None:
        return x
    if isinstance(x, Tensor):
        return x.to(device, non_blocking=True)
    if isinstance(x, dict):
        return {name: _moved(part, device) for name, part in x.items()}
    return type(x)(_moved(part, device) for part in x)
