"""``fairopt reproduce streams``: all controllers on real sets, each in three orders of its rows. See docs/experiments/PROTOCOL.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairopt.basics.errors import InputError
from fairopt.basics.table import Table
from fairopt.experiments.evidence.bases import LINEAR
from fairopt.experiments.evidence.candidates import Ground
from fairopt.experiments.evidence.parts import GROUP, cut
from fairopt.experiments.evidence.protocol import ATTRIBUTES, SEEDS, Task
from fairopt.experiments.evidence.seeds import compared_over_seeds, over_seeds
from fairopt.experiments.evidence.verdicts import Named, interval, losses_and_wins
from fairopt.experiments.evidence.written import protocol_words
from fairopt.experiments.marks import FITTING, LIBRARY
from fairopt.experiments.reproduce import OnProgress, Progress, Result, Section, Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies.replay import ENTRANTS, replay
from fairopt.experiments.threads import one_thread

MADE_BY = (
    *LIBRARY, *FITTING, *(f"experiments/evidence/{name}.py" for name in ("protocol", "parts", "bases")),
    "experiments/studies/controllers.py", "experiments/studies/replay.py",
)  # fmt: skip
SETS = {"streams": ("loanapp", "german", "credit", "student"), "streams-final": ("adult", "compas", "sba", "law")}
ORDERS = ("at random", "runs of 50", "smallest group last")
MOST, RUN, TOLERANCE = 3_000, 50, 0.05
OURS = "PooledParity"
CONTROLLERS = ("raw scores", *ENTRANTS)
SHOWN = ("pooled gap", "worst gap", "distortion", "offline optimum")
Record = Mapping[str, Mapping[str, float]]
Strings = npt.NDArray[np.str_]


@one_thread()
def run(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    """quick: one set, one seed, 200 rows."""
    sets = SETS[settings.name][:1] if settings.quick else SETS[settings.name]
    most = 200 if settings.quick else MOST
    seeds = settings.seeds_or(range(SEEDS))
    store.hold({"tolerance": TOLERANCE, "most": most}, MADE_BY)
    found: dict[tuple[str, str], list[Record]] = {}
    total = len(sets) * len(ORDERS) * len(seeds)
    for name in sets:
        for order in ORDERS:
            for seed in seeds:
                key = {"data": name, "order": order, "seed": seed}
                made = store.cell(key, lambda n=name, o=order, s=seed: cell(n, o, s, settings.data, most))  # type: ignore[misc]
                found.setdefault((name, order), []).append(made)
                on_progress(Progress("streams", sum(map(len, found.values())), total))
    return result(settings, sets, seeds, found)


def cell(name: str, order: str, seed: int, data: Path | None = None, most: int = MOST) -> dict[str, dict[str, float]]:
    """controller -> its figures, to nine digits."""
    scores, groups = streamed(name, seed, data)
    rng = np.random.default_rng([seed, 23])
    some = rng.permutation(len(scores))[:most]
    scores, groups = scores[some], groups[some]
    rows = placed(groups, order)
    table = replay(scores[rows], groups[rows], TOLERANCE).table
    places = [table.columns.index(figure) for figure in SHOWN]
    return {
        str(row[0]): {figure: round(float(row[k]), 9) for figure, k in zip(SHOWN, places, strict=True)}
        for row in table.rows
    }  # fmt: skip


def streamed(name: str, seed: int, data: Path | None) -> tuple[npt.NDArray[np.float64], Strings]:
    """Scores in [0, 1] and groups of the validation and test rows, of the linear base that was fitted on the others."""
    attribute, _, values = ATTRIBUTES[name]
    task = Task(name, (attribute,), "parity", values=values)
    ground = Ground(task, seed, cut(task, seed, data))
    predict = ground.base(LINEAR).predict
    said = [predict(part.x, part.sensitive).double().numpy() for part in (ground.cut.validation, ground.cut.test)]
    scores = np.concatenate(said)
    if values:
        train = predict(ground.cut.fit.train.x, ground.cut.fit.train.sensitive).double().numpy()
        scores = (scores - train.min()) / (train.max() - train.min())
    groups = np.concatenate([part.sensitive[GROUP] for part in (ground.cut.validation, ground.cut.test)])
    return np.clip(scores, 0.0, 1.0), groups


def placed(groups: Strings, order: str) -> npt.NDArray[np.int64]:
    """The places (n,) of the rows of a stream, whose rows are in random order, in the named order."""
    if order == "at random":
        return np.arange(len(groups))
    kinds, counts = np.unique(groups, return_counts=True)
    own = {str(kind): np.flatnonzero(groups == kind).tolist() for kind in kinds}
    if order == "smallest group last":
        last = str(kinds[counts.argmin()])
        return np.concatenate([np.flatnonzero(groups != last), own[last]]).astype(np.int64)
    if order != "runs of 50":
        raise InputError(f"order: got {order!r}, expected one of {', '.join(ORDERS)}")
    found: list[int] = []
    while any(own.values()):
        for kind in own:
            found += own[kind][:RUN]
            own[kind] = own[kind][RUN:]
    return np.array(found, dtype=np.int64)


# The page --------------------------------------------------------------------------------------------------------------------------


def result(settings: Settings, sets: Sequence[str], seeds: Sequence[int], found: Mapping[tuple[str, str], Sequence[Record]]) -> Result:
    """The page of finished cells."""
    named: list[Named] = []
    sections = []
    for name in sets:
        rivals = [rival for rival in ENTRANTS if rival != OURS]
        asked = [(order, rival, *_difference(found[name, order], rival)) for order in ORDERS for rival in rivals]
        compared = compared_over_seeds([(OURS, rival, quality, gap) for _, rival, quality, gap in asked])
        by_place = {(order, rival): c for (order, rival, _, _), c in zip(asked, compared, strict=True)}
        named += [((name, order), c) for (order, _), c in by_place.items()]
        sections.append(_section(name, found, by_place))
    text = (
        f"{protocol_words()}. Scores of the linear base on rows that it has not seen, sent one by one (or in batches) through each "
        f"controller; parity of the means within {TOLERANCE:g}; {len(seeds)} seed(s), each a split, at most {MOST:,} rows. Splits share "
        "rows, and the order is part of a stream: intervals are over the seeds alone. Change: the mean squared one of the scores sent; the "
        "least possible is that of whoever knows the whole stream beforehand and ends with the same gap."
    )
    first = losses_and_wins(("set", "order"), named, "minus the change")
    return Result(
        settings.name, f"Controllers on streams of real sets: {', '.join(sets)}", text, (first, *sections), _cells(sets, seeds, found)
    )


def _difference(records: Sequence[Record], rival: str) -> tuple[list[float], list[float]]:
    """(minus the change, gap) of ours minus the rival's, a seed."""
    return (
        [r[rival]["distortion"] - r[OURS]["distortion"] for r in records],
        [r[OURS]["pooled gap"] - r[rival]["pooled gap"] for r in records],
    )


def _section(name: str, found: Mapping[tuple[str, str], Sequence[Record]], compared: Mapping[tuple[str, str], Any]) -> Section:
    columns = (
        "order", "controller", "gap of all", "95 % of it", "largest gap after a fifth", "change", "95 %", "least possible change",
        f"change, {OURS} minus it", "95 % of the difference", "p, corrected", OURS,
    )  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    for order in ORDERS:
        records = found[name, order]
        for controller in CONTROLLERS:
            mean = {figure: over_seeds([r[controller][figure] for r in records]) for figure in SHOWN}
            one = compared.get((order, controller))
            beside: tuple[Any, ...] = (None,) * 4
            if one is not None:
                low, high = one.quality.low, one.quality.high
                turned = None if low is None or high is None else f"[{-high:.5f}, {-low:.5f}]"
                beside = (-one.quality.estimate, turned, one.p, one.outcome_or_none)
            gap, change = mean["pooled gap"], mean["distortion"]
            rows.append(
                (
                    order, controller, gap.estimate, interval(gap), mean["worst gap"].estimate, change.estimate, interval(change),
                    mean["offline optimum"].estimate, *beside,
                )
            )  # fmt: skip
    return Section(name, Table(columns, tuple(rows)))


def _cells(sets: Sequence[str], seeds: Sequence[int], found: Mapping[tuple[str, str], Sequence[Record]]) -> Table:
    rows = [
        (name, order, seed, controller, *(record[controller][figure] for figure in SHOWN))
        for name in sets
        for order in ORDERS
        for seed, record in zip(seeds, found[name, order], strict=True)
        for controller in CONTROLLERS
    ]
    return Table(("data", "order", "seed", "controller", *SHOWN), tuple(rows))


def remade(line: Mapping[str, str], data: Path | None) -> dict[str, float]:
    """The figures of one line of the stored cells, made again."""
    return cell(line["data"], line["order"], int(line["seed"]), data)[line["controller"]]
