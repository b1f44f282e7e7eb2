"""What can be saved and loaded: the ``Stateful`` protocol, and the random states as one such part."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fairopt.basics.errors import InputError

FORMAT = 1


@runtime_checkable
class Stateful(Protocol):
    """Anything with ``state_dict`` and ``load_state_dict``: models, optimizers, schedulers, samplers, streaming controllers.

    Examples:
        >>> from fairopt.training import Stateful
        >>> isinstance(torch.nn.Linear(2, 1), Stateful)
        True
    """

    def state_dict(self) -> Mapping[str, Any]:
        """All that is needed to go on, as tensors and plain data."""
        ...

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Go on from what ``state_dict`` gave."""
        ...


def check_format(state: Any, what: str) -> None:
    """InputError unless ``state`` says a format that this fairopt reads."""
    version = state.get("format") if isinstance(state, Mapping) else None
    if not isinstance(version, int) or version < 1:
        raise InputError(f"{what}: got a state with format {version!r}, expected one that {what} has written")
    if version > FORMAT:
        raise InputError(f"{what}: format {version} is newer than this fairopt reads ({FORMAT}); upgrade fairopt")


def cuda_in_use() -> bool:
    return torch.cuda.is_available() and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


class RandomStates:
    """The random states of torch (CPU and every CUDA device in use), numpy's global generator and ``random``, as one stateful part."""

    def state_dict(self) -> dict[str, Any]:
        name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - it is this one that a step may draw from
        version, words, spare = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if cuda_in_use() else [],
            "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), float(gauss)],
            "random": [version, list(words), spare],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set all of them, for the whole process. CUDA states are set where as many devices are there as were saved."""
        torch.set_rng_state(state["torch"])
        if state["cuda"]:
            devices = torch.cuda.device_count()
            if devices != len(state["cuda"]):
                raise InputError(f"random states: got those of {len(state['cuda'])} CUDA device(s), this machine has {devices}")
            torch.cuda.set_rng_state_all(state["cuda"])
        name, keys, position, has_gauss, gauss = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
        version, words, spare = state["random"]
        random.setstate((version, tuple(words), spare))


class GeneratorState:
    """A ``torch.Generator`` as a stateful part: the one that a DataLoader shuffles with."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def state_dict(self) -> dict[str, Tensor]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.generator.set_state(state["generator"])


def _sources(batches: object) -> list[tuple[str, Any]]:
    """``batches`` itself, and the parts of a DataLoader that decide about the order of the rows."""
    found: list[tuple[str, Any]] = [("batches", batches)]
    if isinstance(batches, DataLoader):
        found += [("sampler", batches.sampler), ("batch_sampler", batches.batch_sampler)]
    return found


def parts_of(batches: object) -> dict[str, Stateful]:
    """The stateful parts of what is iterated, by name; generators too."""
    parts: dict[str, Stateful] = {name: part for name, part in _sources(batches) if isinstance(part, Stateful)}
    for name, holder in _sources(batches):
        generator = getattr(holder, "generator", None)
        if isinstance(generator, torch.Generator):
            parts[f"{name} generator"] = GeneratorState(generator)
    return parts


def set_epoch(batches: object, epoch: int) -> None:
    """Tell ``batches``, or the sampler of a DataLoader, which epoch (from 0) comes; nothing where none has ``set_epoch``."""
    for _, part in _sources(batches):
        told = getattr(part, "set_epoch", None)
        if callable(told):
            told(epoch)
