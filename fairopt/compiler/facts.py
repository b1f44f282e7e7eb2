"""The arguments of a compilation, read and checked: bounds, distance weights, targets."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fairopt.basics.columns import numbers
from fairopt.basics.errors import InputError
from fairopt.contract.problem import DISTANCES, Distance
from fairopt.notions.amount import is_number


def read_bounds(bounds: Any, n: int) -> tuple[float | Tensor, float | Tensor]:
    """(lb, ub), each a float (infinite where open) or an (n,) float64 CPU tensor.

    ``bounds`` is None, or a pair of which each side is None, a number or (n,) numbers. InputError where lb > ub or a side is NaN.
    """
    if bounds is None:
        return -math.inf, math.inf
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise InputError(f"bounds must be None or a pair (lower, upper), came {type(bounds).__name__}")
    lb, ub = _read_side(bounds[0], n, "lower", -math.inf), _read_side(bounds[1], n, "upper", math.inf)
    if isinstance(lb, Tensor) or isinstance(ub, Tensor):
        crossed = torch.as_tensor(lb, dtype=torch.float64, device="cpu") > torch.as_tensor(ub, dtype=torch.float64, device="cpu")  # (n,)
        if bool(crossed.any()):
            i = int(torch.nonzero(crossed)[0])
            low, high = (float(b[i]) if isinstance(b, Tensor) else b for b in (lb, ub))
            raise InputError(f"bounds: the lower bound {low!r} of sample {i} is above its upper bound {high!r}")
    elif lb > ub:
        raise InputError(f"bounds: the lower bound {lb!r} is above the upper bound {ub!r}")
    return lb, ub


def _read_side(side: Any, n: int, word: str, open_end: float) -> float | Tensor:
    if side is None:
        return open_end
    if getattr(side, "requires_grad", False):
        raise InputError(f"the {word} bound requires grad; bounds carry no gradient: pass it detached")
    if is_number(side) and not (isinstance(side, Tensor) and side.ndim):
        value = float(side)
        if math.isnan(value) or value == -open_end:
            raise InputError(f"the {word} bound must be a number or {open_end} (open), came {value!r}")
        return value
    try:
        tensor = torch.as_tensor(side, dtype=torch.float64, device="cpu").detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        expected = f"None, a number or numbers of shape ({n},)"
        raise InputError(f"the {word} bound must be {expected}, came {type(side).__name__}: {error}") from error
    if tensor.ndim == 2 and tensor.shape[1] == 1:
        tensor = tensor[:, 0].contiguous()
    if tuple(tensor.shape) != (n,):
        raise InputError(f"the {word} bound must be a number or have shape ({n},), came {tuple(tensor.shape)}")
    if bool(torch.isnan(tensor).any()) or bool((tensor == -open_end).any()):
        raise InputError(f"the {word} bound holds NaN or {-open_end}")
    first = float(tensor[0])
    return first if bool((tensor == first).all()) else tensor


def read_weights(weights: Any, n: int) -> Tensor | None:
    """Distance weights (n,) > 0 as a float64 CPU tensor; None for all ones."""
    if weights is None:
        return None
    if getattr(weights, "requires_grad", False):
        raise InputError("weights require grad; distance weights carry no gradient: pass them detached")
    tensor = numbers(weights, n, "weights").detach().to("cpu", torch.float64)
    if not bool((tensor > 0).all()):
        i = int(torch.nonzero(tensor <= 0)[0])
        raise InputError(f"weights must be > 0, came {float(tensor[i])!r} at position {i}")
    return None if bool((tensor == 1).all()) else tensor.clone().contiguous()


def read_distance(distance: Any, bounds: Any) -> tuple[Distance, Any]:
    """The distance and the bounds that go with it. "kl" is that of probabilities where the bounds are None or lie in [0, 1], else that of
    positive values, which "kl_positive" names outright. Probabilities have bounds (0, 1) where none are given, positive values (0, None).

    InputError for another word, and for bounds below 0.
    """
    if distance not in DISTANCES:
        *others, last = map(repr, DISTANCES)
        raise InputError(f"distance: got {distance!r}, expected {', '.join(others)} or {last}")
    if distance == "squared":
        return "squared", bounds
    low, high = (None, None) if bounds is None else bounds
    least = -math.inf if low is None else float(torch.as_tensor(low, dtype=torch.float64, device="cpu").min())
    most = math.inf if high is None else float(torch.as_tensor(high, dtype=torch.float64, device="cpu").max())
    if bounds is not None and low is not None and least < 0.0:
        raise InputError(f"bounds: got a lower bound of {least!r} beside distance={distance!r}, expected 0 or more")
    if most < 0.0:
        raise InputError(f"bounds: got an upper bound of {most!r} beside distance={distance!r}, expected 0 or more")
    low = 0.0 if low is None else low
    if distance == "kl_positive":
        return "kl_positive", (low, high)
    if bounds is None or most <= 1.0:
        return "kl", (low, 1.0 if high is None else high)
    return "kl_positive", (low, high)
