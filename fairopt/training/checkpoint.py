"""Checkpoints: the states of named parts in one file, written atomically and read without running code.

A checkpoint is ``{"format": 1, "parts": {name: state}}``. It is written beside its place and moved there, so that a kill at any moment
leaves the old one or the new one. It is read with ``torch.load(weights_only=True)``: a file from a stranger can hold numbers and
strings, no code.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fairopt.basics.errors import InputError
from fairopt.basics.files.writing import part_of
from fairopt.training.state import FORMAT, RandomStates, Stateful, check_format

RANDOM = "random states"


def save_checkpoint(path: str | Path, parts: Mapping[str, Stateful]) -> None:
    """Write the states of ``parts`` and the random states of torch, numpy and ``random`` to ``path``, atomically.

    A state that ``torch.load(weights_only=True)`` would not read back is an InputError, and the old file stays.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from fairopt.training import save_checkpoint
        >>> model = torch.nn.Linear(2, 1)
        >>> path = Path(tempfile.mkdtemp()) / "run.pt"
        >>> save_checkpoint(path, {"model": model, "optimizer": torch.optim.Adam(model.parameters())})
        >>> path.exists()
        True
    """
    path = Path(path)
    everything: dict[str, Stateful] = {**_checked(parts), RANDOM: RandomStates()}
    states = {name: part.state_dict() for name, part in everything.items()}
    beside = part_of(path)
    try:
        with beside.open("wb") as file:
            torch.save({"format": FORMAT, "parts": states}, file)
            file.flush()
            os.fsync(file.fileno())
        _read(beside)  # better now than on the day it is needed
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load_checkpoint(path: str | Path, parts: Mapping[str, Stateful]) -> None:
    """Load the states in ``path`` into ``parts``, and set the random states of this process.

    The names must be those that were saved. InputError for other names, a newer format, or a file that is no checkpoint; then no part
    has been touched.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from fairopt.training import load_checkpoint, save_checkpoint
        >>> path = Path(tempfile.mkdtemp()) / "run.pt"
        >>> model, other = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
        >>> save_checkpoint(path, {"model": model})
        >>> load_checkpoint(path, {"model": other})
        >>> torch.equal(model.weight, other.weight)
        True
    """
    payload = _read(Path(path))
    everything: dict[str, Stateful] = {**_checked(parts), RANDOM: RandomStates()}
    saved = payload["parts"]
    if saved.keys() != everything.keys():
        without, beyond = sorted(everything.keys() - saved.keys()), sorted(saved.keys() - everything.keys())
        raise InputError(f"checkpoint {path}: it lacks {without or 'nothing'} and has {beyond or 'nothing'} beside what was asked for")
    for name, part in everything.items():  # the random states last: loading a part may draw
        part.load_state_dict(saved[name])


def _checked(parts: Mapping[str, Stateful]) -> Mapping[str, Stateful]:
    for name, part in parts.items():
        if not isinstance(part, Stateful):
            raise InputError(f"{name}: got {type(part).__name__}, expected something with state_dict and load_state_dict")
        if name == RANDOM:
            raise InputError(f"parts: got the name {RANDOM!r}, expected another: the random states are saved under it")
    return parts


def _read(path: Path) -> dict[str, Any]:
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise InputError(f"checkpoint {path}: it cannot be read without running code, or is no checkpoint: {error}") from error
    if not isinstance(payload, dict) or not isinstance(payload.get("parts"), dict):
        raise InputError(f"checkpoint {path}: got another file, expected one that save_checkpoint has written")
    check_format(payload, f"checkpoint {path}")
    return payload
