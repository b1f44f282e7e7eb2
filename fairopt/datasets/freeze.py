"""``freeze_dataset``: a frozen layer whose shifts are fitted on a data set that lies in files and fits in no memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairopt.basics.files import Dialect
from fairopt.datasets.audit import AT_ONCE
from fairopt.datasets.find import shards_of
from fairopt.datasets.job import Progress, Told, threads_of
from fairopt.datasets.question import question_of
from fairopt.layer.frozen import FrozenLayer, OnUnknown
from fairopt.notions.algebra import Notion
from fairopt.notions.groups import Missing

if TYPE_CHECKING:
    from fairopt.layer.guaranteed_shifts import OnFew


def freeze_dataset(
    input: str | Path,
    notion: Notion,
    *,
    score: str,
    target: str | None = None,
    bounds: Any = None,
    pos_label: str | None = None,
    missing_group: Missing = "error",
    confidence: float = 0.95,
    guarantee: float | None = None,
    on_few: OnFew = "error",
    seed: int = 0,
    on_unknown: OnUnknown = "error",
    rows_at_once: int = AT_ONCE,
    separator: str | None = None,
    decimal: str = ".",
    encoding: str | None = None,
    threads: int | None = None,
    told: Callable[[Told], None] | None = None,
) -> FrozenLayer:
    """``FairnessLayer(notion, bounds=bounds).freeze(...)`` of all rows of a data set: the shifts of its groups, to serve single rows with.

    input, score, target, bounds, pos_label, missing_group, separator, decimal, encoding, threads, told   as in ``fairopt.project_dataset``
    confidence, guarantee, on_few, seed, on_unknown   as in ``FairnessLayer.freeze``
    rows_at_once  up to so many rows are loaded together, and frozen as ``FairnessLayer.freeze`` does; more go through passes over the
                  files, in memory that does not grow with them, with the same shifts to rounding

    Raises InputError, InfeasibleError; UnsupportedError where a shift would depend on more than the groups, and for what passes over more
    rows cannot do: a guarantee (it draws rows), tolerance 0.

    Examples:
        >>> import tempfile
        >>> import pandas as pd
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> pd.DataFrame({"sex": ["f", "f", "m", "m"], "p": [0.25, 0.75, 0.5, 1.0]}).to_csv(folder / "scores.csv", index=False)
        >>> frozen = fo.freeze_dataset(folder, fo.DemographicParity("sex", tolerance=0), score="p")
        >>> frozen.predict([0.5, 0.5], sensitive_features={"sex": ["f", "m"]})
        [0.625, 0.375]
    """
    question = question_of(
        notion, shards_of(os.fspath(input))[0], Dialect(separator, decimal, encoding), score=score, target=target, bounds=bounds,
        pos_label=pos_label, missing_group=missing_group,
    )  # fmt: skip
    many, progress = threads_of(threads, len(question.shards)), Progress(told)
    from fairopt.datasets.shifts import FreezeJob, frozen  # and with it the compiled passes

    return frozen(FreezeJob(question, bounds, confidence, guarantee, on_few, seed, on_unknown, rows_at_once), many, progress)
