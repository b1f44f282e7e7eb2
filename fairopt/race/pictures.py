"""Pictures of a race, as PNG files: time against n, accuracy against time, and what happened to every cell. Needs matplotlib.

A picture without a single mark is not drawn: where nothing was solved there is only the third.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairopt.basics.figures import drawing, legend, legible, logarithmic, png
from fairopt.basics.files import write_whole
from fairopt.basics.finished_cells import Record
from fairopt.basics.table import Table
from fairopt.race.rows import failure_of, problem_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A float64 figure that is exactly right is drawn here.
FLOOR = 1e-17
COLOURS = {
    "ok": "#2a9d5c", "inaccurate": "#e9c46a", "iteration limit": "#f4a261", "unsupported": "#d9d9d9", "skipped": "#b0b0c8",
    "absent": "#9ecae1", "broken": "#5b4b8a", "error": "#c1121f", "memory": "#a44a9c", "time": "#e76f51", "crashed": "#222222",
}  # fmt: skip
MARKS = "osD^v<>PXhp*"


def draw_pictures(cells: Table, folder: Path) -> list[Path]:
    """Write the pictures of a race's tidy table into ``folder`` and return their paths."""
    written: list[Path] = []
    with drawing("the pictures need", "race") as canvas:
        for name, make in PICTURES.items():
            figure = canvas(layout="constrained")
            if make(figure, cells):
                written.append(write_whole(folder / f"{name}.png", png(figure, dpi=110), "picture"))
    return written


def _solved(cells: Table) -> list[Record]:
    return [row for row in cells if row["outcome"] == "ok" and row["total_s"]]


def _kind(row: Record) -> str:
    return "\n".join(textwrap.wrap(problem_words(row, n=False), 44))


def _style(cells: Table) -> Callable[[str], dict[str, Any]]:
    """A colour and a mark for each backend, the same in every picture."""
    from matplotlib import colormaps

    names = list(dict.fromkeys(record["backend"] for record in cells))
    palette = colormaps["tab20"].colors  # type: ignore[attr-defined]
    return lambda name: {
        "color": palette[names.index(name) * 2 % 20 + names.index(name) // 10 % 2],
        "marker": MARKS[names.index(name) % len(MARKS)],
    }


def _grid_of(figure: Figure, kinds: list[str], across: int, width: float, height: float) -> list[Axes]:
    """One axes a kind, ``across`` to a line."""
    across = min(across, len(kinds))
    down = math.ceil(len(kinds) / across)
    figure.set_size_inches(width * across + 2.2, height * down)
    axes = list(figure.subplots(down, across, squeeze=False, sharey=True).flat)
    for spare in axes[len(kinds) :]:
        spare.remove()
    return axes[: len(kinds)]


def time_against_n(figure: Figure, cells: Table) -> bool:
    """Forward + backward seconds by n, one panel a kind of problem; a bar goes from quartile to quartile."""
    rows = _solved(cells)
    kinds = list(dict.fromkeys(_kind(row) for row in rows))
    if not kinds:
        return False
    style, marks = _style(cells), dict[str, Any]()
    for axes, kind in zip(_grid_of(figure, kinds, 4, 3.6, 4.2), kinds, strict=True):
        here = [row for row in rows if _kind(row) == kind]
        for name in dict.fromkeys(row["backend"] for row in here):
            line = sorted((row for row in here if row["backend"] == name), key=lambda row: row["n"])
            low = [row["total_s"] - (row["total_q1_s"] or row["total_s"]) for row in line]
            high = [(row["total_q3_s"] or row["total_s"]) - row["total_s"] for row in line]
            marks[name] = axes.errorbar(
                [row["n"] for row in line],
                [row["total_s"] for row in line],
                yerr=[low, high],
                markersize=5,
                linewidth=1.2,
                **style(name),
            )
        axes.set(xscale="log", yscale="log", title=kind, xlabel="n")
        logarithmic(axes.yaxis)
        _ticks(axes, sorted({row["n"] for row in here}))
        axes.grid(alpha=0.25, which="major")
    figure.supylabel("seconds, forward + backward (median)", fontsize="medium")
    legend(figure, list(marks.values()), [legible(name) for name in marks], loc="outside right upper", frameon=False)
    return True


def accuracy_against_time(figure: Figure, cells: Table) -> bool:
    """What the solver alone, the front door's answer and its gradient are off by, against the time of a call; left and low is good."""
    rows = _solved(cells)
    offered = (
        ("solver_y_error", "solver alone: max |y - y*|"),
        ("y_error", "as returned: max |y - y*|"),
        ("gradient_error", "relative gradient error"),
    )
    panels = [(c, t) for c, t in offered if any(row[c] is not None for row in rows)]
    if not panels:
        return False
    style, marks = _style(cells), dict[str, Any]()
    for axes, (column, title) in zip(_grid_of(figure, [c for c, _ in panels], 3, 4.6, 4.8), panels, strict=True):
        clock = "solver_s" if column == "solver_y_error" else "total_s"
        for name in dict.fromkeys(row["backend"] for row in rows):
            points = [
                (row[clock], max(row[column], FLOOR)) for row in rows if row["backend"] == name and row[column] is not None and row[clock]
            ]
            if points:
                marks[name] = axes.scatter([t for t, _ in points], [e for _, e in points], s=34, alpha=0.85, linewidths=0, **style(name))
        axes.set(
            xscale="log",
            yscale="log",
            title=title,
            xlabel="seconds, solver alone" if clock == "solver_s" else "seconds, forward + backward",
        )
        logarithmic(axes.xaxis)
        logarithmic(axes.yaxis)
        axes.grid(alpha=0.25)
    figure.supylabel(f"error (drawn at {FLOOR:g} where it is 0)", fontsize="medium")
    legend(figure, list(marks.values()), [legible(name) for name in marks], loc="outside right upper", frameon=False)
    return True


def outcomes(figure: Figure, cells: Table) -> bool:
    """A square a cell: green where there is an answer that holds, else what happened."""
    from matplotlib.patches import Patch, Rectangle

    names = list(dict.fromkeys(record["backend"] for record in cells))
    problems = sorted({(_kind(r).replace("\n", " "), r["n"]) for r in cells})
    if not len(cells):
        return False
    figure.set_size_inches(4.4 + 0.36 * len(problems), 3.4 + 0.28 * len(names))
    axes = figure.subplots()
    seen: dict[str, None] = {}
    for record in cells:
        what = failure_of(record) or "ok"
        seen[what] = None
        x, y = problems.index((_kind(record).replace("\n", " "), record["n"])), names.index(record["backend"])
        axes.add_patch(Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, color=COLOURS.get(what, COLOURS["error"])))
    axes.set_xlim(-0.6, len(problems) - 0.4)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), [legible(name) for name in names])
    axes.set_xticks(range(len(problems)), [f"{kind}, n = {n}" for kind, n in problems], rotation=40, ha="right", fontsize="small")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("What happened to every cell")
    patches = [Patch(color=COLOURS.get(what, COLOURS["error"]), label=what) for what in COLOURS if what in seen]
    axes.legend(handles=patches, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return True


def _ticks(axes: Axes, numbers: list[int]) -> None:
    axes.set_xticks(numbers, [f"{n:,}" for n in numbers], rotation=30 if len(numbers) > 3 else 0)
    axes.set_xticks([], minor=True)
    axes.set_xlim(numbers[0] / 1.5, numbers[-1] * 1.5)


PICTURES: dict[str, Callable[[Figure, Table], bool]] = {
    "time": time_against_n, "accuracy": accuracy_against_time, "outcomes": outcomes
}  # fmt: skip
