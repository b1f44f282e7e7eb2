"""Facts about a module inside its ``state_dict``, as a tensor: JSON text in a uint8 vector.

A ``state_dict`` of tensors alone goes through safetensors, averaging loops and checkpoints that hold nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.errors import InputError

_NUMPY, _WHOLE = re.compile(r"np\.\w+\(([^()]*)\)"), re.compile(r"(?<=[=(])(-?\d+)\.0(?=[,)])")


def to_tensor(facts: dict[str, Any]) -> Tensor:
    """Plain Python values as (bytes,) uint8 on the CPU."""
    text = json.dumps(facts, sort_keys=True, allow_nan=False)
    return torch.tensor(list(text.encode()), dtype=torch.uint8, device="cpu")


def from_tensor(saved: object, newest: int, what: str) -> dict[str, Any]:
    """The facts, also out of a loop that averaged equal texts. InputError where they are no such tensor, are damaged, or have a format
    above ``newest``."""
    if isinstance(saved, Tensor) and saved.is_floating_point() and bool(((saved >= 0) & (saved <= 255)).all()):
        saved = saved.round().to(torch.uint8)
    if not isinstance(saved, Tensor) or saved.dtype != torch.uint8 or saved.dim() != 1:
        raise InputError(f"{what}: got {type(saved).__name__}, expected a uint8 tensor that a state_dict of fairopt holds")
    try:
        facts = json.loads(bytes(saved.detach().cpu().tolist()).decode())
    except ValueError as error:  # also of text that is no UTF-8
        raise InputError(f"{what}: it is damaged, and no JSON any more: {error}") from error
    check_format(facts, newest, what)
    return dict(facts)


def differing(saved: Mapping[str, Any], mine: Mapping[str, Any], names: Iterable[str]) -> list[tuple[str, Any, Any]]:
    """(name, saved, mine) of each fact that a state says otherwise; one that it does not say differs from nothing. 1 and True differ.

    The words of a "notion" have one way to write a number: np.float64(0.05) is 0.05, 1.0 is 1.
    """
    pairs = [(name, saved[name], mine[name]) for name in names if name in saved]
    return [(name, theirs, own) for name, theirs, own in pairs if _text(name, theirs) != _text(name, own)]


def _text(name: str, fact: Any) -> str:
    text = json.dumps(fact, default=repr)
    return _WHOLE.sub(r"\1", _NUMPY.sub(r"\1", text)) if name == "notion" else text


def check_format(facts: object, newest: int, what: str) -> None:
    """InputError unless ``facts`` has a format of 1 to ``newest``."""
    version = facts.get("format") if isinstance(facts, dict) else facts
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= newest:
        raise InputError(f"{what}: got format {version!r}, expected at most {newest}")


def described_bounds(bounds: Any) -> list[Any] | None:
    """A box in plain values: numbers as they are, (n,) bounds by length and hash."""
    if bounds is None:
        return None
    return [_described_side(side) for side in bounds]


def _described_side(side: Any) -> Any:
    array = np.asarray(side.detach().cpu() if isinstance(side, Tensor) else side, dtype=np.float64) if side is not None else None
    if array is None:
        return None
    if array.ndim == 0:
        return repr(float(array))  # text: JSON has no infinity
    return f"({array.size},) numbers, sha256 {hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]}"
