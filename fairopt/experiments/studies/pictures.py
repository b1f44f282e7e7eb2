"""The picture of the loanapp table, as a PNG file. Needs matplotlib; no window is opened."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fairopt.basics.figures import drawing, legend, png
from fairopt.basics.files import write_whole
from fairopt.experiments.report import Run, of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"white": "#4c72b0", "black": "#c44e52", "hispan": "#dd8452"}


def loanapp_picture(runs: Sequence[Run], tolerance: float, path: Path) -> None:
    """Three panels: the mean held-out probability of each race by method; AUC and accuracy, each against a gap."""
    with drawing("the picture needs", "experiments") as canvas:
        figure = canvas(figsize=(15, 4.8), layout="constrained")
        _fill(figure, runs, tolerance)
        write_whole(path, png(figure, dpi=110), "picture")


def _fill(figure: Figure, runs: Sequence[Run], tolerance: float) -> None:
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.3, 1, 1))
    methods = list(dict.fromkeys(run["method"] for run in runs))
    _group_means(left, runs, methods, tolerance)
    _trade_off(middle, runs, methods, "score_gap", "auc")
    middle.axvline(tolerance, color="0.5", linestyle="--", linewidth=1)
    middle.set(title="AUC against the gap of probabilities", xlabel="gap of mean probability (dashed: tolerance)", ylabel="AUC, held out")
    _trade_off(right, runs, methods, "decision_gap", "accuracy")
    right.set(title="Accuracy against the gap of decisions", xlabel="gap of decisions at 0.5", ylabel="accuracy, held out")
    handles, labels = right.get_legend_handles_labels()
    legend(figure, handles, labels, loc="outside lower center", ncols=len(methods), frameon=False)


def _group_means(axes: Axes, runs: Sequence[Run], methods: Sequence[str], tolerance: float) -> None:
    """A dot a race; the grey bar is the tolerance, laid around the middle of the dots."""
    for y, method in enumerate(methods):
        found = of(runs, method=method)
        means = {race: statistics.fmean(run["means"][race] for run in found) for race in COLOURS}
        middle = (max(means.values()) + min(means.values())) / 2
        axes.barh(y, tolerance, left=middle - tolerance / 2, height=0.55, color="0.88", zorder=0)
        for race, mean in means.items():
            axes.plot(mean, y, "o", color=COLOURS[race], markersize=9, alpha=0.9, label=race if y == 0 else None)
    axes.set_yticks(range(len(methods)), methods)
    axes.invert_yaxis()
    axes.set_xlabel(f"mean predicted probability of approval, held out (grey: tolerance {tolerance:g})")
    axes.legend(title="race", frameon=False, loc="lower left")
    axes.set_title("How far apart the races are")
    axes.spines[["top", "right"]].set_visible(False)


def _trade_off(axes: Axes, runs: Sequence[Run], methods: Sequence[str], gap: str, quality: str) -> None:
    """A small dot a seed, a large mark the mean (square: a reference). A constant ranks nobody: it is left out where AUC is shown."""
    for k, method in enumerate(methods):
        found = of(runs, method=method)
        gaps, values = [run[gap] for run in found], [run[quality] for run in found]
        if quality == "auc" and all(value == 0.5 for value in values):
            continue
        axes.scatter(gaps, values, s=14, alpha=0.4, color=f"C{k}", linewidths=0)
        mean = (statistics.fmean(gaps), statistics.fmean(values))
        axes.scatter(*mean, s=70, color=f"C{k}", label=method, marker="s" if found[0]["reference"] else "o")
    axes.set_xlim(left=-0.004)
    axes.spines[["top", "right"]].set_visible(False)
