"""``audit_dataset``: the audit of a data set that lies in files and fits in no memory.

Sums over compositions (groups x target x decision) say everything that an audit says but for intervals of means, which resample rows. A
data set of few rows is loaded, and audited as ``fairopt.audit`` audits any rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from fairopt.auditing import Audit, LocalLaw144
from fairopt.auditing.ratios import read_local_law
from fairopt.auditing.run import Intervals
from fairopt.auditing.sample import read_notions
from fairopt.basics.errors import InputError
from fairopt.basics.files import Dialect
from fairopt.datasets.find import shards_of
from fairopt.datasets.job import Progress, Told, threads_of
from fairopt.datasets.reading import Wanted
from fairopt.notions.algebra import Notion
from fairopt.notions.groups import Attribute, Missing
from fairopt.notions.named import continuous

AT_ONCE = 1_000_000


def audit_dataset(
    input: str | Path,
    notion: Notion | Sequence[Notion],
    *,
    score: str,
    target: str | None = None,
    decision: str | None = None,
    threshold: float = 0.5,
    bounds: tuple[float, float] | None = None,
    pos_label: str | None = None,
    missing_group: Missing = "error",
    attributes: Iterable[Attribute] | None = None,
    local_law: LocalLaw144 | tuple[str, str] | None = None,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    rows_at_once: int = AT_ONCE,
    separator: str | None = None,
    decimal: str = ".",
    encoding: str | None = None,
    threads: int | None = None,
    told: Callable[[Told], None] | None = None,
) -> Audit:
    """The audit of all rows of a data set under one notion or several; ``fairopt.audit`` for arrays.

    input         a table of text, a Parquet file (extra ``project``), a folder of them, or a pattern such as "scores/*.parquet"
    score, target, decision   columns; the attributes of the notions and of ``attributes`` are columns too
    threshold, pos_label, missing_group, attributes, local_law, confidence, draws, seed   as in ``fairopt.audit``
    bounds        (low, high): a score outside is an error
    rows_at_once  up to so many rows are loaded together, and audited as ``fairopt.audit`` does. More are summed file by file, in memory
                  that does not grow with them: the same figures, and no intervals of what is no rate
    separator, decimal, encoding   of tables of text; None: found out
    threads       files in flight; told: called with what is being done

    Raises InputError; UnsupportedError for what sums cannot tell of more rows (a covariance, Local Law 144's median, more combinations of
    groups, targets and decisions than can be summed); MissingExtraError without pyarrow.

    Examples:
        >>> import tempfile
        >>> import pandas as pd
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> for k, scores in enumerate([[0.25, 0.75, 0.5, 1.0], [0.5, 1.0, 0.5, 1.0]]):
        ...     pd.DataFrame({"sex": ["f", "f", "m", "m"], "p": scores}).to_csv(folder / f"{k}.csv", index=False)
        >>> audit = fo.audit_dataset(folder, fo.DemographicParity("sex", tolerance=0.05), score="p")
        >>> audit.n, audit.holds, audit.gaps["gap"]
        (8, False, (0.125, 0.25))
    """
    notions, law = read_notions(notion), read_local_law(local_law)
    shards, _ = shards_of(os.fspath(input))
    asked = None if attributes is None else tuple(attributes)
    numeric = continuous(list(notions))
    names = [a for one in notions for a in one.attributes]
    names += [part for a in asked or () for part in ((a,) if isinstance(a, str) else a)] + ([law.sex, law.race] if law else [])
    groups = tuple(dict.fromkeys(a for a in names if a not in numeric))
    wanted = Wanted(score, groups, tuple(numeric), target, None, pos_label, missing_group == "own", decimal, decision)
    if any(one.needs_targets for one in notions) and target is None:
        raise InputError("targets: a notion needs them; pass target=, the name of their column")
    progress, many = Progress(told), threads_of(threads, len(shards))
    from fairopt.datasets.summed import AuditJob, audited  # and with it the compiled passes

    job = AuditJob(
        shards, Dialect(separator, decimal, encoding), wanted, notions, law, asked, _threshold(threshold), bounds, missing_group,
        Intervals(confidence, draws, seed), rows_at_once,
    )  # fmt: skip
    return audited(job, many, progress)


def _threshold(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float | np.number) or not isfinite(given):
        raise InputError(f"threshold: got {given!r}, expected a finite number")
    return float(given)
