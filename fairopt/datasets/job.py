"""What a run over a data set was asked for, and how it tells how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from math import isinf
from pathlib import Path
from typing import Any

from fairopt.basics.files import Dialect
from fairopt.datasets.find import Places
from fairopt.datasets.reading import Wanted
from fairopt.notions.algebra import Notion
from fairopt.notions.groups import Missing


@dataclass(frozen=True)
class Told:
    """Progress: what is being done, passes begun, rows of this pass done, and how many there are (None where nobody knows yet)."""

    what: str
    passes: int
    rows: int
    total: int | None


@dataclass(frozen=True)
class Job:
    """What was asked for; see ``project_dataset``."""

    places: Places
    notion: Notion
    wanted: Wanted
    dialect: Dialect
    bounds: tuple[float, float]
    name: str
    threshold: float
    missing: Missing
    rejects: Path | None
    attributes: tuple[str | tuple[str, ...], ...]
    threads: int

    def settings(self) -> dict[str, Any]:
        """Everything that the output depends on, but the files."""
        wanted = self.wanted
        return {
            "notion": repr(self.notion), "score": wanted.score, "target": wanted.target, "weights": wanted.weights,
            "bounds": [None if isinf(b) else b for b in self.bounds], "name": self.name, "pos_label": wanted.pos_label,
            "missing_group": self.missing, "threshold": self.threshold, "separator": self.dialect.separator, "decimal": wanted.decimal,
            "encoding": self.dialect.encoding, "rejects": self.rejects is not None,
            "attributes": [a if isinstance(a, str) else list(a) for a in self.attributes],
        }  # fmt: skip
