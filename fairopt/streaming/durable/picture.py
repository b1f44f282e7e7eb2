"""The picture of a run: pooled gap and proved bound over time, and the distortion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairopt.basics.figures import drawing, legend, legible, png
from fairopt.basics.files import write_whole
from fairopt.streaming.report import StreamReport

SOFTWARE = "fairopt stream"


def stream_picture(reports: Mapping[str, StreamReport], path: str | Path, *, title: str = "") -> None:
    """Write a PNG of the curves of one or several runs, by name. Needs matplotlib. InputError where the file cannot be written."""
    with drawing("pictures need", "audit") as canvas:
        figure = canvas(figsize=(9, 6), layout="constrained")
        _fill(figure, reports, title)
        drawn = png(figure, dpi=120, software=SOFTWARE)
    write_whole(path, drawn, "picture")


def _fill(figure: Any, reports: Mapping[str, StreamReport], title: str) -> None:
    """Two pairs of axes: gaps with their bounds, and the change."""
    marks: dict[str, Any] = {}
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    limit = 0.0
    for name, report in reports.items():
        points = [p for p in report.curve if p[1] is not None]
        if not points:
            continue
        at = [p[0] for p in points]
        words = legible(name)
        (drawn,) = upper.plot(at, [p[1] for p in points], linewidth=1.2)
        marks[f"{words}: pooled gap"] = drawn
        bounded = [(p[0], p[2]) for p in points if p[2] is not None]
        if bounded:
            (bound,) = upper.plot(*zip(*bounded, strict=True), linestyle="--", linewidth=1.0, color=drawn.get_color())
            marks[f"{words}: proved bound"] = bound
        lower.plot(at, [p[3] for p in points], color=drawn.get_color())
        limit = max(limit, report.limit)
    marks["tolerance"] = upper.axhline(limit, color="black", linewidth=0.8)
    top = max((p[1] for r in reports.values() for p in r.curve if p[1] is not None and p[0] > r.samples // 20), default=limit)
    upper.set_ylim(0.0, 1.6 * max(top, limit, 1e-6))
    upper.set_ylabel("pooled gap of all that was sent")
    legend(upper, list(marks.values()), list(marks), fontsize=8)
    lower.set_ylabel("mean squared change")
    lower.set_xlabel("samples")
    if title:
        upper.set_title(legible(title, longest=120))


def is_our_picture(path: Path) -> bool:
    """Whether the file is a picture that ``stream_picture`` wrote."""
    try:
        with path.open("rb") as file:
            return SOFTWARE.encode() in file.read(4096)
    except OSError:
        return False
