"""What is said of images: tables, verdicts and pictures from finished runs, a run being method -> figures of one seed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fairopt.basics.table import Table
from fairopt.experiments.pareto import Panel, curves, error, pareto_picture
from fairopt.experiments.report import Figure, compared, remarks
from fairopt.experiments.reproduce import Section

Runs = Sequence[dict[str, dict[str, Any]]]

CONSTANT = "constant"
LOGISTIC = "logistic, on pixels"
LOGISTIC_PROJECTED = "logistic + projection"
PLAIN = "plain network"
PROJECTED = "network + projection"
PENALTY = "penalty"
WEAK_PENALTY = "weak penalty"
LAYER = "fairness layer inside"
REFERENCES = (CONSTANT, LOGISTIC, LOGISTIC_PROJECTED)
METHODS = (*REFERENCES, PLAIN, PROJECTED, WEAK_PENALTY, PENALTY, LAYER)
RIVALS = (PROJECTED, WEAK_PENALTY, PENALTY, LOGISTIC_PROJECTED, CONSTANT)
COLUMNS = ("method", "accuracy", "±", "AUC", "log loss", "logit gap", "probability gap", "decision gap", "pairs met", "certified")
QUALITY = (Figure("accuracy", "accuracy", True), Figure("auc", "AUC", True), Figure("log_loss", "log loss", False))
DECISIONS = Figure("decision_gap", "decision gap", False)
# Accuracy of ResNet-18 and SimpleCNN. The paper's layer met its tolerance with 5 of 5 networks on CelebA, with 1 of 5 on FairFace.
PAPER = {
    "celeba": (("raw", 0.924, 0.842), ("projection", 0.885, 0.809), ("fairness layer (tolerance met by 5 of 5 networks)", 0.904, 0.814)),
    "fairface": (("raw", 0.781, 0.693), ("projection", 0.748, 0.670), ("fairness layer (tolerance met by 1 of 5 networks)", 0.762, 0.673)),
}


def paper_table(names: Sequence[str], title: str) -> Table:
    """The paper's accuracies on the data sets ``names``."""
    rows = tuple((name, *row) for name in names for row in PAPER[name])
    return Table(("data", "method", "ResNet-18", "SimpleCNN"), rows, title)


def present(runs: Runs) -> tuple[str, ...]:
    """The methods of the runs, in the order of the tables."""
    return tuple(method for method in METHODS if method in runs[0])


def section(title: str, runs: Runs, paper: Table | None = None) -> Section:
    """One row a method, means over the seeds."""
    rows = []
    for method in present(runs):
        own = [run[method] for run in runs]
        accuracy = [figures["accuracy"] for figures in own]
        promised = [figures["certified"] for figures in own if figures["certified"] is not None]
        others = ("auc", "log_loss", "logit_gap", "score_gap", "decision_gap")
        rows.append(
            (
                f"{method} (reference)" if method in REFERENCES else method,
                statistics.fmean(accuracy),
                error(accuracy),
                *(statistics.fmean(figures[name] for figures in own) for name in others),
                _pairs(own),
                f"{sum(promised)} of {len(promised)}" if promised else None,
            )
        )
    return Section(title, Table(COLUMNS, tuple(rows)), paper, _verdicts(runs))


def _pairs(own: Sequence[dict[str, Any]]) -> str:
    return f"{sum(figures['pairs_met'] for figures in own)} of {sum(figures['pairs'] for figures in own)}"


def _verdicts(runs: Runs) -> tuple[str, ...]:
    """What the layer promises and keeps, the layer against each rival, and who is no better than a reference."""
    ours = [run[LAYER] for run in runs]
    certified = sum(bool(figures["certified"]) for figures in ours)
    flat = [{"method": method, "seed": seed, **run[method]} for seed, run in enumerate(runs) for method in present(runs)]
    return (
        f"{LAYER}: {_pairs(ours)} pairs within the tolerance; certified for {certified} of {len(ours)} seeds",
        *compared(flat, LAYER, [method for method in RIVALS if method in runs[0]], (*QUALITY, DECISIONS)),
        *remarks(flat, REFERENCES, QUALITY),
    )


def trade_off(title: str, runs: Runs) -> Section:
    """Accuracy against both gaps over the sweep of tolerance that projected probabilities carry with them."""
    points: list[dict[str, Any]] = []
    for run in runs:
        for method in present(runs):
            points += [{"method": method, **p} for p in run[method].get("sweep") or [{"tolerance": None, **run[method]}]]
    panels = tuple(
        Panel(
            f"Accuracy against the gap of {words}",
            f"gap of {words}, held out",
            "accuracy, held out",
            curves(points, gap=gap, quality="accuracy", references=REFERENCES),
        )
        for gap, words in (("score_gap", "mean probabilities"), ("decision_gap", "decisions at 0.5"))
    )
    rows = tuple(
        (c.method, p.along, p.gap, q.gap, p.quality, p.quality_error)
        for c, d in zip(panels[0].curves, panels[1].curves, strict=True)
        for p, q in zip(c.points, d.points, strict=True)
    )
    columns = ("method", "tolerance", "probability gap", "decision gap", "accuracy", "±")
    said = "The layer was trained at one tolerance and is served at all of them."
    return Section(title, Table(columns, rows), None, (said,), partial(_draw, panels))


def _draw(panels: tuple[Panel, ...], path: Path) -> None:
    pareto_picture(panels, path)
