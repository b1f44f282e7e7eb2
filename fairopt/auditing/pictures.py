"""Pictures of an audit, as PNG bytes: gaps against their limits, groups with intervals, scores by group. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fairopt.auditing.findings import Findings
from fairopt.basics.figures import drawing, legend, legible, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"score": "#1f6fb2", "decision": "#d9822b"}
WORDS = {"score": "scores", "decision": "decisions"}
ROWS = 24  # comparisons in the first picture: the widest gaps
PANEL = 10  # groups in a panel: the largest


def draw_pictures(audit: Findings) -> dict[str, bytes]:
    """Name -> PNG. A picture without a mark is not drawn."""
    drawn: dict[str, bytes] = {}
    with drawing("the pictures need", "audit") as canvas:
        for name, make in PICTURES.items():
            figure = canvas(layout="constrained")
            if make(figure, audit):
                drawn[name] = png(figure, dpi=110)
    return drawn


def gap_picture(figure: Figure, audit: Findings) -> bool:
    """A line a comparison: gap and interval of scores and of decisions, and the limit."""
    lines = widest(audit)
    if not lines:
        return False
    figure.set_size_inches(10.5, 1.6 + 0.36 * len(lines))
    axes = figure.subplots()
    for k, (_, by_quantity) in enumerate(lines):
        for offset, (quantity, colour) in zip((-0.16, 0.16), COLOURS.items(), strict=True):
            row = by_quantity.get(quantity)
            if row is not None and row["gap"] is not None:
                _mark(axes, k + offset, row["gap"], row["low"], row["high"], colour, WORDS[quantity] if k == 0 else None)
        limit = next(iter(by_quantity.values()))["limit"]
        axes.plot([limit, limit], [k - 0.42, k + 0.42], color="#222222", linewidth=1.6, label="limit" if k == 0 else None)
    axes.set_yticks(range(len(lines)), [words for words, _ in lines], fontsize="small")
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_xlabel("gap, in the sign of the constraint: met where it is not beyond the limit")
    axes.grid(axis="x", alpha=0.25)
    axes.axvline(0.0, color="#999999", linewidth=0.8)
    axes.set_title("Gaps and their limits", loc="left")
    legend(figure, *_unique(axes), loc="outside lower center", ncols=3, frameon=False)
    return True


def widest(audit: Findings) -> list[tuple[str, dict[str, dict[str, Any]]]]:
    """(words, quantity -> row) of the comparisons, the ones furthest beyond their limit first."""
    found: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for row in audit.gaps:
        if row["gap"] is not None:
            key = tuple(row[c] for c in ("notion", "attribute", "given", "group_a", "group_b"))
            found.setdefault(key, {})[row["quantity"]] = row
    lines = sorted(found.items(), key=lambda item: -max(row["gap"] - row["limit"] for row in item[1].values()))
    return [(_comparison(*key), rows) for key, rows in lines[:ROWS]]


def _comparison(notion: str, attribute: str, given: str, a: str, b: str) -> str:
    where = ", ".join(legible(w) for w in (attribute, given) if w)
    return f"{legible(notion)}({where}): {' / '.join(legible(w) for w in (a, b) if w)}"


def group_picture(figure: Figure, audit: Findings) -> bool:
    """A line an attribute of panels: mean score and selection rate of each group, with intervals."""
    panels = _panels(audit)
    if not panels:
        return False
    heights = [len(names) for _, names in panels]
    figure.set_size_inches(10.5, 0.8 + sum(0.5 + 0.36 * h for h in heights))
    grid = figure.subplots(len(panels), 2, squeeze=False, sharex="col", sharey="row", height_ratios=[h + 0.8 for h in heights])
    figures = {(r["attribute"], r["group"], r["measure"]): r for r in audit.groups}
    columns = (("mean_score", COLOURS["score"], "mean score"), ("selection_rate", COLOURS["decision"], "selection rate"))
    for line, (attribute, names) in zip(grid, panels, strict=True):
        for axes, (measure, colour, words) in zip(line, columns, strict=True):
            for k, name in enumerate(names):
                row = figures[attribute, name, measure]
                _mark(axes, k, row["value"], row["low"], row["high"], colour, None)
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.set_title(f"{legible(attribute)}: {words}", loc="left", fontsize="medium")
            axes.grid(axis="x", alpha=0.25)
        ticks = [f"{legible(name)} (n = {figures[attribute, name, 'mean_score']['n']:,})" for name in names]
        line[0].set_yticks(range(len(names)), ticks, fontsize="small")
    return True


def score_picture(figure: Figure, audit: Findings) -> bool:
    """A panel an attribute: the share of each group's scores in equal bins, and the threshold."""
    panels = _panels(audit)
    if not panels:
        return False
    from matplotlib import colormaps

    palette = colormaps["tab10"].colors  # type: ignore[attr-defined]
    figure.set_size_inches(9.0, 2.6 * len(panels) + 0.4)
    bins: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in audit.distribution:
        bins.setdefault((row["attribute"], row["group"]), []).append(row)
    for axes, (attribute, names) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        marks: list[Any] = []
        for k, name in enumerate(names):
            rows = bins[attribute, name]
            marks.append(
                axes.stairs([r["share"] for r in rows], [rows[0]["from"], *(r["to"] for r in rows)], color=palette[k], linewidth=1.5)
            )
        words = [legible(name) for name in names]
        threshold = audit.settings["threshold"]
        if threshold is not None:
            marks.append(axes.axvline(threshold, color="#222222", linestyle="--", linewidth=1.0))
            words.append("threshold")
        axes.set_title(legible(attribute), loc="left", fontsize="medium")
        axes.set_ylabel("share of the group", fontsize="small")
        axes.grid(alpha=0.25)
        legend(axes, marks, words, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small")
    axes.set_xlabel("score")
    return True


def _panels(audit: Findings) -> list[tuple[str, list[str]]]:
    """(attribute, its present groups, the largest at most), in the order of the table."""
    sizes: dict[str, list[tuple[str, int]]] = {}
    for row in audit.groups:
        if row["attribute"] and row["measure"] == "mean_score" and row["n"]:
            sizes.setdefault(row["attribute"], []).append((row["group"], row["n"]))
    panels = []
    for attribute, groups in sizes.items():
        kept = {name for name, _ in sorted(groups, key=lambda g: -g[1])[:PANEL]}
        panels.append((attribute, [name for name, _ in groups if name in kept]))
    return panels


def _mark(axes: Axes, y: float, value: float, low: float | None, high: float | None, colour: str, label: str | None) -> None:
    axes.plot([value], [y], "o", color=colour, markersize=5, label=label)
    if low is not None and high is not None:
        axes.plot([low, high], [y, y], color=colour, linewidth=2.0, alpha=0.6)


def _unique(axes: Axes) -> tuple[list[Any], list[str]]:
    """Handles and labels of a legend, each label once."""
    found: dict[str, Any] = {}
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        found.setdefault(label, handle)
    return list(found.values()), list(found)


PICTURES: dict[str, Callable[[Figure, Findings], bool]] = {"gaps": gap_picture, "groups": group_picture, "scores": score_picture}
