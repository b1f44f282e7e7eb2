"""How a race is run: repeats, limits, seed. Kept in the file of finished cells, which takes no cells of other settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fairopt.basics.errors import InputError


@dataclass(frozen=True)
class Settings:
    """``repeats`` calls at most and ``seconds`` of timing a cell (three calls at least); ``time_limit`` seconds and
    ``memory_limit`` bytes beyond the state after import before a cell is given up; ``seed`` of the drawn numbers.
    InputError for a number below what it can be.

    Examples:
        >>> from fairopt.race import Settings
        >>> Settings(repeats=3, seconds=0.1).to_dict()
        {'repeats': 3, 'seconds': 0.1, 'time_limit': 60.0, 'memory_limit': 4294967296, 'seed': 0}
    """

    repeats: int = 25
    seconds: float = 0.5
    time_limit: float = 60.0
    memory_limit: int = 4 << 30
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("repeats", 1), ("seconds", 0.0), ("time_limit", 0.0), ("memory_limit", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least or value == float("inf"):
                raise InputError(f"{name}: got {value!r}, expected a number >= {least}")
            if name in ("repeats", "memory_limit", "seed") and not isinstance(value, int):
                raise InputError(f"{name}: got {value!r}, expected a whole number")

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a file of finished cells."""
        return asdict(self)
