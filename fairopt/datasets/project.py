"""``project_dataset``: fair scores for a data set that lies in files and fits in no memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fairopt.basics.errors import InputError
from fairopt.basics.files import Dialect, check_places
from fairopt.datasets.find import Places, find
from fairopt.datasets.job import Job, Told, threads_of
from fairopt.datasets.question import question_of
from fairopt.datasets.report import DatasetReport
from fairopt.notions.algebra import Notion
from fairopt.notions.groups import Missing


def project_dataset(
    input: str | Path,
    output: str | Path,
    notion: Notion,
    *,
    score: str,
    target: str | None = None,
    weights: str | None = None,
    bounds: Any = None,
    name: str = "fair_score",
    pos_label: str | None = None,
    missing_group: Missing = "error",
    rejects: str | Path | None = None,
    certificate: str | Path | None = None,
    overwrite: bool = False,
    separator: str | None = None,
    decimal: str = ".",
    encoding: str | None = None,
    threshold: float = 0.5,
    attributes: Sequence[str | tuple[str, ...]] | None = None,
    threads: int | None = None,
    client: Any = None,
    told: Callable[[Told], None] | None = None,
) -> DatasetReport:
    """The scores nearest to a column's that meet ``notion`` over all rows of a data set; every file is written with one column more.

    input        a table of text, a Parquet file (extra ``project``), a folder of them, or a pattern such as "scores/*.parquet"
    output       a file for one file, else a folder: one file for each of the input, under the same name
    score, target, weights   columns; the attributes of ``notion`` are columns too
    bounds       None or (low, high), numbers; each may be None
    name         of the new column
    rejects      a CSV for rows that cannot be used (with file, row, reason), which are left out of the output; None: one is an error
    certificate  where the certificate is written; by default beside the output
    overwrite    begin anew, and lose what stands at the places of the output
    threshold    a score at or above it is a positive decision, in the tables before and after; ``attributes``: of their groups
    pos_label    the target that counts as 1; missing_group  "error", or "own": rows without a group are a group of their own
    separator, decimal, encoding   of tables of text; None: found out
    threads      shards in flight; told: called with what is being done
    client       a ``distributed.Client``: shards are read, summed and written by the workers of a Dask cluster (extra ``dask``), which see
                 the files under the same paths

    The data are read twice, once to be summed and once to be written; what lies between goes over codes and scores alone. A run that was
    stopped goes on where it was, and ends with the same bytes. Raises InputError, InfeasibleError; UnsupportedError where the notion
    cannot be certified by passes and there are more rows than are loaded at once; MissingExtraError without pyarrow.

    Examples:
        >>> import tempfile
        >>> import pandas as pd
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> pd.DataFrame({"sex": ["f", "f", "m", "m"], "p": [0.25, 0.75, 0.5, 1.0]}).to_csv(folder / "scores.csv", index=False)
        >>> report = fo.project_dataset(folder / "scores.csv", folder / "fair.csv", fo.DemographicParity("sex", tolerance=0), score="p")
        >>> pd.read_csv(folder / "fair.csv")
          sex     p  fair_score
        0   f  0.25       0.375
        1   f  0.75       0.875
        2   m  0.50       0.375
        3   m  1.00       0.875
    """
    shown = tuple(attributes) if attributes is not None else None
    places = find(os.fspath(input), output, certificate)
    question = question_of(
        notion, places.shards, Dialect(separator, decimal, encoding), score=score, target=target, weights=weights, bounds=bounds,
        pos_label=pos_label, missing_group=missing_group, threshold=threshold, beside=shown or (), strict=rejects is None,
    )  # fmt: skip
    check_places({}, {"rejects": rejects})
    _apart(rejects, places)
    if shown is None:
        shown = tuple(a for a in notion.attributes if a not in question.wanted.numeric)
    job = Job(
        question=question,
        places=places,
        name=name,
        rejects=None if rejects is None else Path(rejects),
        attributes=tuple(a for a in shown if not isinstance(a, str) or a in question.wanted.groups),
        threads=threads_of(threads, len(places.shards)),
    )
    from fairopt.datasets.run import Run  # and with it the compiled passes

    found, resumed = Run(job, told, client).go(overwrite=overwrite)
    return DatasetReport(found, places, resumed)


def _apart(rejects: str | Path | None, places: Places) -> None:
    if rejects is None:
        return
    taken = {os.path.realpath(p) for p in (*places.outputs, places.certificate, *(s.path for s in places.shards))}
    if os.path.realpath(rejects) in taken:
        raise InputError(f"rejects: {rejects} is a file of the input or the output as well; give each a file of its own")
