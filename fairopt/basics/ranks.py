"""A ``torch.distributed`` process group as fairopt uses it: a few numbers at a time, counted, and every failure an error of ours.

Each collective carries a mark of what it is about. Ranks that are out of step (another call, other numbers) see that the marks differ and
raise instead of adding up what does not belong together.
"""

from __future__ import annotations

import os
import pickle
import zlib
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import InputError, RankError, UnsupportedError

MARK = (1 << 31) - 1
WORLD = "world"


def ranks_of(process_group: Any) -> Ranks | None:
    """The ranks of a process group. "world": those of the default one, None in a process that runs by itself.

    InputError for what is no group, and for "world" where a launcher started several processes and torch.distributed is not initialised.
    """
    alone = isinstance(process_group, str) and process_group == WORLD and not (dist.is_available() and dist.is_initialized())
    if process_group is None or (alone and os.environ.get("WORLD_SIZE", "1") == "1"):
        return None
    return Ranks(process_group)


class Ranks:
    """The ranks of ``group``. ``messages`` and ``bytes`` count what this rank has handed to collectives."""

    def __init__(self, group: Any) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise InputError("process_group: torch.distributed is not initialised, expected init_process_group() before")
        group = dist.group.WORLD if isinstance(group, str) and group == WORLD else group
        try:
            self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise InputError(f"process_group: got {group!r}, expected a torch.distributed process group: {error}") from error
        if self.rank < 0:
            raise InputError("process_group: this process is not one of its ranks, expected a group that it belongs to")
        self.group = group
        on_gpu = dist.get_backend(group) == "nccl"
        self.device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
        self.messages = self.bytes = 0

    def add(self, x: Array, about: bytes = b"") -> Array:
        """The sum over the ranks of x (k,) float64; in no fixed order, so exact sums alone are the same everywhere."""
        mark = float(zlib.crc32(about, x.size) & MARK)
        out = self._reduced(np.concatenate([x, [mark, 1.0]]), dist.ReduceOp.SUM)
        if out[-2] != self.size * mark or out[-1] != self.size:
            self._out_of_step()
        return out[:-2]

    def most(self, x: Array, about: bytes = b"") -> Array:
        """The largest over the ranks of each entry of x (k,), none of which may be NaN."""
        mark = float(zlib.crc32(about, x.size) & MARK)
        out = self._reduced(np.concatenate([x, [mark, -mark]]), dist.ReduceOp.MAX)
        if out[-2] != mark or out[-1] != -mark:
            self._out_of_step()
        return out[:-2]

    def objects(self, thing: Any) -> list[Any]:
        """Everybody's ``thing``, by rank: for what is told once, not at each evaluation."""
        found: list[Any] = [None] * self.size
        self._count(len(pickle.dumps(thing)))
        self._guarded(lambda: dist.all_gather_object(found, thing, group=self.group))
        return found

    def joined(self, x: Tensor, sizes: list[int]) -> Tensor:
        """(sum of sizes,) everybody's x (own size,) one after the other, on the device of x."""
        longest = max(sizes)
        padded = torch.zeros(longest, dtype=x.dtype, device=self.device)
        padded[: x.shape[0]] = x.detach().to(self.device)
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        self._count(padded.numel() * padded.element_size())
        self._guarded(lambda: dist.all_gather(parts, padded, group=self.group))
        return torch.cat([part[:k] for part, k in zip(parts, sizes, strict=True)]).to(x.device)

    def _reduced(self, x: Array, how: Any) -> Array:
        tensor = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64)).to(self.device)
        self._count(x.nbytes)
        self._guarded(lambda: dist.all_reduce(tensor, op=how, group=self.group))
        return np.asarray(tensor.cpu().numpy())

    def _count(self, size: int) -> None:
        self.messages += 1
        self.bytes += size

    def _guarded(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except (RuntimeError, ValueError) as error:  # a lost connection, the group's time-out, another shape than ours
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise RankError(f"process_group: rank {self.rank} of {self.size} lost the others: {first}") from error

    def _out_of_step(self) -> NoReturn:
        raise RankError(
            f"process_group: rank {self.rank} of {self.size} is out of step with the others, expected the same calls with the same "
            "settings in the same order on every rank"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        return self

    def __reduce__(self) -> NoReturn:
        raise UnsupportedError(
            "process_group: a layer on a process group is not pickled; save its state_dict and build it anew on each rank"
        )
