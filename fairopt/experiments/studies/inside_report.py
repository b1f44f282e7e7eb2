"""What is said of the study ``inside``: a table a loss and serving, losses first, and whether the theory said so beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairopt.basics.table import Table
from fairopt.experiments.evidence.comparisons import Comparison
from fairopt.experiments.evidence.seeds import compared_over_seeds
from fairopt.experiments.evidence.verdicts import interval, losses_and_wins
from fairopt.experiments.evidence.written import protocol_words
from fairopt.experiments.reproduce import Result, Section
from fairopt.experiments.studies.inside_worlds import LOSSES, World

INSIDE, AFTER = "inside", "after"
SERVINGS = {"batch": "served as one batch", "frozen": "served row by row, shifts frozen on calibration rows"}
FIGURES = tuple(f"{who} {how} {what}" for who in (AFTER, INSIDE) for how in ("raw", *SERVINGS) for what in ("loss", "gap"))
Record = Mapping[str, Any]
Seeds = Mapping[str, Sequence[int]]  # name of a world -> its seeds


def result(name: str, asked: Sequence[World], seeds: Seeds, found: Mapping[str, Sequence[Record]], left: Sequence[World] = ()) -> Result:
    """The page of the finished worlds ``asked``; ``left``: those that are not run yet, which it names."""
    named = []
    sections = []
    right: list[bool] = []
    for loss in [loss for loss in LOSSES if any(w.loss == loss for w in asked)]:
        for how, words in SERVINGS.items():
            own = [w for w in asked if w.loss == loss]
            compared = compared_over_seeds([_difference(w, found[w.name], how) for w in own])
            named += [((w.name, words), c) for w, c in zip(own, compared, strict=True)]
            sections.append(_section(loss, how, own, found, compared))
            right += [agrees(w, c) for w, c in zip(own, compared, strict=True) if c.p is not None]
    counts = {world.data: len(found[world.name]) for world in asked}
    text = (
        f"{protocol_words()}. A network trained through the projection, against one projected after training, both served alike; "
        f"{', '.join(f'{n} seeds of {data}' for data, n in counts.items())}, no row in common. Differences are inside minus after, "
        "paired, of the test rows; of a loss, so less is better. Brackets: 95 % intervals over seeds. Holm's correction within each table."
    )
    if left:
        text += f" **Not run yet**: {'; '.join(w.name for w in left)}."
    first = losses_and_wins(("world", "serving"), named, "minus the loss")
    if right:
        said = f"What the protocol's theory said beforehand agrees with {sum(right)} of {len(right)} outcomes."
        first = Section(first.title, first.rows, verdicts=(*first.verdicts, said))
    return Result(name, "When is the layer inside training better?", text, (first, *sections), _cells(asked, seeds, found))


def _difference(world: World, records: Sequence[Record], how: str) -> tuple[str, str, list[float], list[float]]:
    """Quality is minus the loss."""
    quality = [r[f"{AFTER} {how} loss"] - r[f"{INSIDE} {how} loss"] for r in records]
    gap = [r[f"{INSIDE} {how} gap"] - r[f"{AFTER} {how} gap"] for r in records]
    return INSIDE, AFTER, quality, gap


def agrees(world: World, compared: Comparison) -> bool:
    """Whether the outcome was said beforehand. "No difference" agrees with nothing shown, which is less than shown to be none."""
    return (
        compared.outcome
        in {
            "wins": ("wins",),
            "no difference": ("no difference shown",),
            "no win": ("no difference shown", "loses"),
        }[world.expected]
    )


def _section(loss: str, how: str, own: Sequence[World], found: Mapping[str, Sequence[Record]], compared: Sequence[Comparison]) -> Section:
    columns = (
        "changed", f"plain network: {loss}", "its gap", f"after: {loss}", f"inside: {loss}", "inside - after", "95 %", "p, corrected",
        "gap, after", "gap, inside", "95 % of the difference of gaps", "inside", "said beforehand",
    )  # fmt: skip
    rows = []
    for world, one in zip(own, compared, strict=True):
        mean = {name: float(np.mean([r[name] for r in found[world.name]])) for name in FIGURES}
        rows.append(
            (
                world.what if world.data == "made" else f"credit: {world.what}",
                mean[f"{AFTER} raw loss"], mean[f"{AFTER} raw gap"], mean[f"{AFTER} {how} loss"], mean[f"{INSIDE} {how} loss"],
                -one.quality.estimate, _turned(one), one.p,
                mean[f"{AFTER} {how} gap"], mean[f"{INSIDE} {how} gap"], interval(one.gap), one.outcome_or_none, world.expected,
            )
        )  # fmt: skip
    return Section(f"{loss}: {SERVINGS[how]}", Table(columns, tuple(rows)))


def _turned(one: Comparison) -> str | None:
    """The interval of the loss's difference, which is minus that of the quality."""
    low, high = one.quality.low, one.quality.high
    return None if low is None or high is None else f"[{-high:.4f}, {-low:.4f}]"


def _cells(asked: Sequence[World], seeds: Seeds, found: Mapping[str, Sequence[Record]]) -> Table:
    rows = [
        (world.name, seed, *(record[name] for name in FIGURES))
        for world in asked
        for seed, record in zip(seeds[world.name], found[world.name], strict=True)
    ]
    return Table(("world", "seed", *FIGURES), tuple(rows))
