"""Pictures to look at while working: a training history, the groups of an audit, the trade-off over tolerances. Axes in, axes out.

    fo.plot.history(history, what="gaps")
    fo.plot.groups(audit, "race", measure="selection_rate", axes=axes)
    fo.plot.trade_off(fairopt.training.trade_off(model, X, y, tolerances=[0.01, 0.05, 0.2], X_test=..., y_test=...))

Every function draws on ``axes``, a matplotlib Axes, or on those of a new figure of ``pyplot``, and returns them; nothing is shown
or saved. Names of groups are text: ``$`` starts no formula. MissingExtraError without matplotlib (extra ``audit``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from fairopt.auditing.findings import Findings
from fairopt.basics.errors import InputError
from fairopt.basics.figures import drawing_on, legend, legible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fairopt.training.history import History

__all__ = ["groups", "history", "trade_off"]

SIDES = {"training": "-", "validation": "--"}


def history(history: History, *, what: Literal["loss", "gaps"] = "loss", axes: Axes | None = None) -> Axes:
    """The epochs of ``fit`` or of a ``ParityCallback``, from left to right.

    what  "loss": the mean loss and the validation figure, a dot at the best epoch; "gaps": the widest gap of the scores (dark) and of the
          decisions (light) under each notion, in training (solid) and in validation (dashed), and the limits (dotted), in the units of
          the scores

    InputError for an empty history, and for one without gaps.
    """
    if what not in ("loss", "gaps"):
        raise InputError(f"what: got {what!r}, expected 'loss' or 'gaps'")
    if not len(history):
        raise InputError("history: got one without an epoch, expected one at least")
    if what == "gaps" and not any(done.gaps for done in history.epochs):
        raise InputError("history: got one without gaps, expected that of a model with a fairness layer, and gaps=True in fit")
    with drawing_on(axes, "the plots need", "audit") as drawn:
        (_losses if what == "loss" else _gaps)(drawn, history)
        drawn.set_xlabel("epoch")
        drawn.grid(alpha=0.25)
    return drawn


def _losses(axes: Axes, history: History) -> None:
    epochs = [done.epoch for done in history.epochs]
    lines = axes.plot(epochs, [done.loss for done in history.epochs], SIDES["training"], color="#1f6fb2")
    names = ["training loss"]
    judged = [(done.epoch, done.validation) for done in history.epochs if done.validation is not None]
    if judged:
        lines += axes.plot(*zip(*judged, strict=True), SIDES["validation"], color="#1f6fb2")
        names.append("validation")
    best = history.best
    if best is not None and best.validation is not None:
        lines += axes.plot([best.epoch], [best.validation], "o", color="#222222")
        names.append(f"best: epoch {best.epoch}")
    legend(axes, lines, names, frameon=False, fontsize="small")
    axes.set_ylabel("loss")


def _gaps(axes: Axes, history: History) -> None:
    from matplotlib import colormaps

    palette = colormaps["tab10"].colors  # type: ignore[attr-defined]
    lines: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
    limits: dict[str, float] = {}
    for done in history.epochs:
        for one in done.gaps:
            lines.setdefault((one.notion, one.quantity, one.part), []).append((done.epoch, one.gap))
            limits[one.notion] = one.limit
    colours = {notion: palette[k % len(palette)] for k, notion in enumerate(limits)}
    handles, names = [], []
    for (notion, quantity, part), points in lines.items():
        strength = 1.0 if quantity == "score" else 0.45
        handles += axes.plot(*zip(*points, strict=True), SIDES.get(part, "-."), color=colours[notion], alpha=strength)
        names.append(f"{legible(notion)}, {quantity}s, {part}")
    for notion, limit in limits.items():
        axes.axhline(limit, color=colours[notion], linestyle=":", linewidth=1.0)
    legend(axes, handles, names, frameon=False, fontsize="small")
    axes.set_ylabel("gap")


def groups(audit: Findings, attribute: str | None = None, *, measure: str = "selection_rate", axes: Axes | None = None) -> Axes:
    """A measure of every group of an attribute with its interval, and everybody's as a line.

    attribute  as the audit's group table names it ("sex", "sex & race"); None: its first.  measure  of that table, your own metrics too
    """
    attributes = list(dict.fromkeys(row["attribute"] for row in audit.groups if row["attribute"]))
    if not attributes:
        raise InputError("audit: got one without groups, expected an attribute that has some")
    attribute = attributes[0] if attribute is None else attribute
    if attribute not in attributes:
        raise InputError(f"attribute: got {attribute!r}, expected one of {', '.join(map(repr, attributes))}")
    rows = [row for row in audit.groups if row["measure"] == measure and row["attribute"] in ("", attribute)]
    if not rows:
        raise InputError(f"measure: got {measure!r}, expected one of {', '.join(dict.fromkeys(audit.groups['measure']))}")
    everybody, *shown = rows
    with drawing_on(axes, "the plots need", "audit") as drawn:
        for k, row in enumerate(shown):
            if row["value"] is not None:
                drawn.plot([row["value"]], [k], "o", color="#1f6fb2", markersize=5)
            if row["low"] is not None:
                drawn.plot([row["low"], row["high"]], [k, k], color="#1f6fb2", linewidth=2.0, alpha=0.6)
        if everybody["value"] is not None:
            drawn.axvline(everybody["value"], color="#222222", linestyle="--", linewidth=1.0)
        ticks = [f"{legible(row['group'])} (n = {row['n']:,})" + ("" if row["value"] is not None else ": not defined") for row in shown]
        drawn.set_yticks(range(len(shown)), ticks)
        drawn.set_ylim(len(shown) - 0.5, -0.5)
        drawn.set_xlabel(legible(measure.replace("_", " ")))
        drawn.set_title(legible(attribute), loc="left", fontsize="medium")
        drawn.grid(axis="x", alpha=0.25)
    return drawn


def trade_off(
    points: Iterable[Mapping[str, Any]], *, x: str = "gap", y: str = "score", label: str = "tolerance", axes: Axes | None = None
) -> Axes:
    """What fairness costs: a point a tolerance, joined in their order.

    points  mappings with ``x`` (the held-out gap), ``y`` (what is given up) and ``label``, and the errors of both where there are some,
            under "gap_error" and "score_error" for the names "gap" and "score"; a ``Table`` is such an iterable
    """
    listed = list(points)
    if not listed:
        raise InputError("points: got none, expected at least one")
    absent = next((name for point in listed for name in (x, y, label) if point.get(name) is None), None)
    if absent is not None:
        raise InputError(f"points: got one without {absent!r}, expected {x!r}, {y!r} and {label!r} in each")
    ordered = sorted(listed, key=lambda point: float(point[label]))
    with drawing_on(axes, "the plots need", "audit") as drawn:
        wide, high = (_errors(ordered, f"{name}_error") for name in (x, y))
        across, up = [float(p[x]) for p in ordered], [float(p[y]) for p in ordered]
        drawn.errorbar(across, up, marker="o", markersize=4, linewidth=1.2, color="#1f6fb2", capsize=2, xerr=wide, yerr=high)
        for point, a, b in zip(ordered, across, up, strict=True):
            drawn.annotate(f"{point[label]:g}", (a, b), xytext=(4, 4), textcoords="offset points", fontsize="small")
        drawn.set_xlabel(legible(x.replace("_", " ")))
        drawn.set_ylabel(legible(y.replace("_", " ")))
        drawn.set_title(f"each point: a {legible(label)}", loc="left", fontsize="small")
        drawn.grid(alpha=0.25)
    return drawn


def _errors(points: list[Mapping[str, Any]], name: str) -> list[float] | None:
    return [float(p[name]) for p in points] if all(p.get(name) is not None for p in points) else None
