"""What is said of the employee experiment: its tables, the paper's figures beside them, and verdicts read off the figures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from fairopt.basics.table import Table
from fairopt.experiments.pareto import Panel, curves, pareto_picture
from fairopt.experiments.report import ERROR, Figure, Run, certified, of, paired, remarks, shown, summary
from fairopt.experiments.reproduce import Section

CONSTANT, LINEAR, PLAIN, LAYER = "constant", "least squares", "plain network", "fairness layer"
SGD, ADAM = ", SGD", ", Adam"
PROJECTED = " + projection"
IN_SAMPLE_REFERENCES = (CONSTANT, LINEAR, CONSTANT + PROJECTED, LINEAR + PROJECTED)
CONSTANT_SHIFTED, LINEAR_SHIFTED = "constant + shift", "least squares + shift"
LINEAR_APART = "least squares + shift, calibrated apart"
PLAIN_SHIFTED, LAYER_SHIFTED = "plain network + shift", "fairness layer, frozen"
HELD_OUT_REFERENCES = (CONSTANT, CONSTANT_SHIFTED, LINEAR, LINEAR_SHIFTED, LINEAR_APART)
SQUARED = Figure("mse", "squared error", False)
TITLE = "squared error"
# Its published code, run unchanged: F-Layer 1,172 epochs, 420 s. It counts a constraint as met up to 1.1e-4.
PAPER = Table(
    ("method", TITLE, "satisfied", "largest residual"),
    (
        ("fairness layer (F-Layer)", 0.08347, "9 of 10", 1.18e-4),
        ("projection", 0.08378, "10 of 10", 1.0006e-4),
        ("penalty 0.01", 0.0827, "1 of 10", None),
        ("penalty 1", 0.0925, "9 of 10", None),
        ("penalty 10", 0.0938, "9 of 10", None),
        ("penalty 100", 0.0933, "10 of 10", None),
    ),
    "The paper's code, run unchanged:",
)


def in_sample_section(runs: Sequence[Run]) -> Section:
    """``runs``: one a method and seed."""
    base = summary(runs, {"mse": TITLE}, met="met")
    rows = []
    for row in base.rows:
        mine = of(runs, method=row[0])
        satisfied = f"{min(run['satisfied'] for run in mine)} of {mine[0]['constraints']}"
        rows.append((*row, satisfied, max(run["worst"] for run in mine), certified(mine)))
    return Section(
        "In sample, the paper's protocol: trained and measured on the same rows, targets in the projection",
        Table((*base.columns, "satisfied, worst seed", "largest residual", "certified"), tuple(rows)),
        paper=PAPER,
        verdicts=_in_sample_verdicts(runs),
    )


def held_out_section(runs: Sequence[Run]) -> Section:
    """``runs``: one a method and fold; ``seed`` numbers the folds of all repetitions."""
    base = summary(runs, {"mse": TITLE, "worst": "largest residual"})
    rows = [(*row, *paired(of(runs, method=row[0]), of(runs, method=LINEAR_SHIFTED), "mse")) for row in base.rows]
    title = f"minus {LINEAR_SHIFTED}"
    return Section(
        "Held out: no target of the fold enters a prediction",
        Table((*base.columns, title, title + ERROR), tuple(rows)),
        verdicts=_held_out_verdicts(runs),
    )


def trade_off_section(runs: Sequence[Run]) -> Section:
    """A sweep of tolerance over held-out folds. ``runs``: one a method, tolerance and fold."""

    def draw(path: Path) -> None:
        shown = curves(runs, gap="worst", quality="mse", references=HELD_OUT_REFERENCES)
        pareto_picture([Panel("held-out folds", "largest mean residual of the ten groups", TITLE, shown)], path)

    table = summary(runs, {"mse": TITLE, "worst": "largest residual"}, ("method", "tolerance"))
    return Section(f"A sweep of tolerance, {len({run['seed'] for run in runs})} held-out folds", table, picture=draw)


def _in_sample_verdicts(runs: Sequence[Run]) -> tuple[str, ...]:
    said = []
    for method in (LAYER + SGD, LAYER + ADAM):
        mine = of(runs, method=method)
        mse, paper = _mean(mine), PAPER[TITLE][0]
        said.append(
            f"{method}: {min(run['satisfied'] for run in mine)} of {mine[0]['constraints']} constraints in the worst of {len(mine)} seeds, "
            f"certified on {certified(mine)}; squared error {mse:.5f}, {'below' if mse < paper else 'not below'} the paper's {paper:.5f}"
        )
        difference, margin = paired(mine, of(runs, method=PLAIN + method.removeprefix(LAYER) + PROJECTED), "mse")
        said.append(f"{method} minus the same network projected after training: {shown(difference, margin, 5)}")
    return (*said, *remarks(runs, IN_SAMPLE_REFERENCES, (SQUARED,)))


def _held_out_verdicts(runs: Sequence[Run]) -> tuple[str, ...]:
    said = []
    for rival in (LINEAR_SHIFTED, LINEAR_APART, CONSTANT, CONSTANT_SHIFTED, PLAIN_SHIFTED):
        difference, margin = paired(of(runs, method=LAYER_SHIFTED), of(runs, method=rival), "mse")
        said.append(f"{LAYER_SHIFTED} minus {rival}: {shown(difference, margin, 5)}")
    return (*said, *remarks(runs, HELD_OUT_REFERENCES, (SQUARED,)))


def _mean(runs: Sequence[Run]) -> float:
    return statistics.fmean(run["mse"] for run in runs)
