"""Quality against gap over a sweep of tolerance: one line a method, its points in the order of the sweep."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairopt.basics.errors import InputError
from fairopt.basics.figures import drawing, legend, png
from fairopt.basics.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Point:
    """Means over the seeds and their standard errors (0 for one seed); ``along`` is the place in the sweep, None outside one."""

    along: float | None
    gap: float
    quality: float
    gap_error: float = 0.0
    quality_error: float = 0.0


@dataclass(frozen=True)
class Curve:
    """The points of one method; a reference is drawn as squares."""

    method: str
    points: tuple[Point, ...]
    reference: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes. ``limits``: vertical dashed lines, such as the gaps at which methods are compared."""

    title: str
    gap: str
    quality: str
    curves: tuple[Curve, ...]
    limits: tuple[float, ...] = ()


def curves(
    runs: Iterable[Mapping[str, Any]],
    *,
    gap: str,
    quality: str,
    method: str = "method",
    along: str = "tolerance",
    references: Sequence[str] = (),
) -> tuple[Curve, ...]:
    """Runs (one a method, setting and seed; dicts with the named columns) as curves, methods in the order of their first run."""
    cells: dict[str, dict[float | None, list[tuple[float, float]]]] = {}
    for run in runs:
        missing = [name for name in (method, gap, quality) if name not in run]
        if missing:
            raise InputError(f"runs: expected the columns {', '.join(missing)}, got {', '.join(run)}")
        cells.setdefault(run[method], {}).setdefault(run.get(along), []).append((run[gap], run[quality]))
    return tuple(
        Curve(name, tuple(_point(place, swept[place]) for place in sorted(swept, key=_order)), name in references)
        for name, swept in cells.items()
    )


def _order(place: float | None) -> float:
    return -math.inf if place is None else place


def _point(along: float | None, values: list[tuple[float, float]]) -> Point:
    gaps, qualities = zip(*values, strict=True)
    return Point(along, statistics.fmean(gaps), statistics.fmean(qualities), error(gaps), error(qualities))


def error(values: Sequence[float]) -> float:
    """The standard error of the mean; 0 for one value, where nothing is known of it."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def pareto_picture(panels: Sequence[Panel], path: Path) -> None:
    """A PNG with one pair of axes a panel. A method has one colour in all of them."""
    if not any(curve.points for panel in panels for curve in panel.curves):
        raise InputError("panels: got no point at all, expected at least one")
    with drawing("the picture needs", "experiments") as canvas:
        figure = canvas(figsize=(6.4 * len(panels), 5.2), layout="constrained")
        _fill(figure, panels)
        write_whole(path, png(figure, dpi=110), "picture")


def _fill(figure: Figure, panels: Sequence[Panel]) -> None:
    methods = list(dict.fromkeys(curve.method for panel in panels for curve in panel.curves))
    handles: dict[str, Any] = {}
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for curve in panel.curves:
            handles[curve.method] = _draw(axes, curve, methods.index(curve.method))
        for limit in panel.limits:
            axes.axvline(limit, color="0.5", linestyle="--", linewidth=1, zorder=0)
        axes.set(title=panel.title, xlabel=panel.gap, ylabel=panel.quality)
        axes.spines[["top", "right"]].set_visible(False)
    columns = min(len(methods), 3 * len(panels))
    legend(figure, list(handles.values()), list(handles), loc="outside lower center", ncols=columns, frameon=False)


def _draw(axes: Axes, curve: Curve, place: int) -> Any:
    """A line through the points, a mark at each, thin bars of one standard error."""
    return axes.errorbar(
        [p.gap for p in curve.points],
        [p.quality for p in curve.points],
        xerr=[p.gap_error for p in curve.points],
        yerr=[p.quality_error for p in curve.points],
        color=f"C{place % 10}",
        marker="s" if curve.reference else "ov^D"[place // 10 % 4],
        linestyle=":" if curve.reference else "-",
        markersize=5,
        elinewidth=0.7,
        label=curve.method,
    )
