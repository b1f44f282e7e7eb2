"""``fairopt reproduce cost``: what the layer costs in training, in processor time of an epoch. See docs/experiments/PROTOCOL.md."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fairopt as fo
from fairopt.basics.errors import FairoptWarning
from fairopt.basics.table import Table
from fairopt.experiments.evidence.parts import GROUP, cut
from fairopt.experiments.evidence.protocol import ATTRIBUTES, SEEDS, Task
from fairopt.experiments.evidence.seeds import over_seeds
from fairopt.experiments.evidence.verdicts import interval
from fairopt.experiments.evidence.written import protocol_words
from fairopt.experiments.marks import LIBRARY
from fairopt.experiments.reproduce import OnProgress, Progress, Result, Section, Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies.epochs import Data, Kind, compare
from fairopt.experiments.threads import one_thread

MADE_BY = (*LIBRARY, "experiments/studies/epochs.py", "experiments/studies/cost.py")
SETS = {"cost": "credit", "cost-final": "adult"}
WIDTHS = (64, 32)
PAIRS = 9
TOLERANCE = 0.02
SIZES = (256, 1_024)
KINDS: tuple[Kind, ...] = ("stratified", "shuffled")
NOTIONS = {"demographic parity": fo.DemographicParity, "equalized odds": fo.EqualizedOdds}
FIGURES = ("ratio of processor time", "ratio by the clock", "plain epoch, s", "epoch with the layer, s")
Record = Mapping[str, float]
Key = tuple[str, str, int, Kind]


@one_thread()
def run(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    """quick: one seed, one pair of epochs."""
    name, pairs = SETS[settings.name], 1 if settings.quick else PAIRS
    seeds = settings.seeds_or(range(SEEDS))
    store.hold({"pairs": pairs, "widths": WIDTHS, "tolerance": TOLERANCE}, MADE_BY)
    attribute, crossed, _ = ATTRIBUTES[name]
    asked = tuple(product((attribute, " x ".join(crossed or ())), NOTIONS, SIZES, KINDS))
    found: dict[Key, list[Record]] = {}
    for done, (key, seed) in enumerate(product(asked, seeds), 1):
        said = dict(zip(("groups", "notion", "batch", "batches"), key, strict=True))
        made = store.cell(
            {"data": name, **said, "seed": seed},
            lambda k=key, s=seed: cell(name, k, s, settings.data, pairs),  # type: ignore[misc]
        )
        found.setdefault(key, []).append(made)
        on_progress(Progress("epochs", done, len(asked) * len(seeds)))
    return result(settings, name, pairs, seeds, found)


def cell(name: str, key: Key, seed: int, data: Path | None, pairs: int) -> dict[str, float]:
    groups, notion, size, kind = key
    attributes = tuple(groups.split(" x "))
    rows = training_rows(name, attributes, seed, data)
    asked = NOTIONS[notion](attributes if len(attributes) > 1 else attributes[0], tolerance=TOLERANCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FairoptWarning)  # a small group is absent from some batches
        got = compare(rows, WIDTHS, asked, kind, size, pairs, seed)
    return dict(zip(FIGURES, (got.processor, got.clock, got.plain, got.fair), strict=True))


def training_rows(name: str, attributes: tuple[str, ...], seed: int, path: Path | None) -> Data:
    """The training rows of the protocol's cut, small groups joined, an attribute's values as codes."""
    part = cut(Task(name, attributes, "parity"), seed, path).fit.train
    values = [
        group.split(", ") if group.count(", ") == len(attributes) - 1 else [group] * len(attributes) for group in part.sensitive[GROUP]
    ]
    codes = {a: np.unique([v[k] for v in values], return_inverse=True)[1] for k, a in enumerate(attributes)}
    return Data(name, part.x, part.y, {a: torch.from_numpy(c.astype(np.int64)) for a, c in codes.items()})


def result(settings: Settings, name: str, pairs: int, seeds: Sequence[int], found: Mapping[Key, Sequence[Record]]) -> Result:
    """The page of finished cells."""
    columns = (
        "groups", "notion", "batch", "batches", "processor time, with the layer over without", "95 %", "by the clock", "plain epoch, s",
        "with the layer, s",
    )  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    for key, records in found.items():
        mean = {figure: over_seeds([r[figure] for r in records]) for figure in FIGURES}
        first, *others = (mean[figure] for figure in FIGURES)
        rows.append((*key, first.estimate, interval(first), *(other.estimate for other in others)))
    text = (
        f"{protocol_words()}. {name}, the training rows of {len(seeds)} seed(s), hidden layers {'-'.join(map(str, WIDTHS))}, one thread; "
        f"medians of {pairs} pair(s) of epochs, in turn on the same batches. Intervals are over the seeds. On a machine that does other "
        "things the clock is theirs too; times are not made again by reproduce-check."
    )
    cells = [
        (name, *key, seed, *(r[figure] for figure in FIGURES))
        for key, records in found.items()
        for seed, r in zip(seeds, records, strict=True)
    ]
    section = Section("An epoch with the layer over one without", Table(columns, tuple(rows)))
    stored = Table(("data", "groups", "notion", "batch", "batches", "seed", *FIGURES), tuple(cells))
    return Result(settings.name, f"What the layer costs in training: {name}", text, (section,), stored)


def remade(line: Mapping[str, str], data: Path | None) -> None:
    """Times are not made again."""
