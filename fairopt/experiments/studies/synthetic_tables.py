"""What is said of the synthetic regressions: tables, verdicts and pictures from the finished cells."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairopt.basics.table import Table
from fairopt.experiments.pareto import Panel, curves, error, pareto_picture
from fairopt.experiments.report import Figure, remarks
from fairopt.experiments.reproduce import Section

Cells = Sequence[dict[str, Any]]

CONSTANT = "constant"
LEAST = "least squares"
LEAST_PROJECTED = "least squares + projection"
PLAIN = "plain network"
PROJECTED = "network + projection"
PENALTY = "penalty"
STRICT_PENALTY = "strict penalty"
LAYER = "fairness layer inside"
REFERENCES = (CONSTANT, LEAST, LEAST_PROJECTED)
METHODS = (*REFERENCES, PLAIN, PROJECTED, PENALTY, STRICT_PENALTY, LAYER)  # in the order of the tables
# Method, training batch / inference batch, mean and median test error of the 32 sets. Its own network without constraint: .6625.
PAPER = (
    ("fairness layer (F-Layer)", "2000 / 2000", 0.7744, 0.8261),
    ("fairness layer (F-Layer)", "2000 / 16", 0.7942, 0.8377),
    ("fairness layer (F-Layer)", "256 / 16", 0.7600, 0.7650),
    ("projection", "2000 / 2000", 0.8513, 0.8625),
    ("projection", "2000 / 16", 0.8440, None),
    ("projection", "256 / 16", 0.8938, None),
    ("penalty (gap met on 21 of 32)", "2000 / 2000", 0.7660, None),
    ("strict penalty", "2000 / 2000", 0.8720, 0.8630),
    ("unconstrained network", "2000 / 2000", 0.6625, None),
)
PAPER_LAYER = {"2000": 0.7744, "16": 0.7942}
WORDS = {
    "2000": "Batches of 2,000 with the groups' exact shares, as in the paper",
    "16": "Batches of 16 with the groups' exact shares, as in the paper",
    "all": "All held-out rows in one batch",
    "stream": "A stream: 16 rows at a time as they come",
}


def sections(records: Cells, tolerance: float) -> tuple[Section, ...]:
    """One section a way of serving, then the paired comparison that the experiment is about, then the trade-off."""
    served = tuple(_served(records, way, tolerance) for way in WORDS)
    return (_paired(records), *served, _trade_off(records))


def _values(records: Cells, method: str, way: str, figure: str) -> list[float]:
    return [record["methods"][method][way][figure] for record in records]


def _served(records: Cells, way: str, tolerance: float) -> Section:
    methods = [m for m in METHODS if way in records[0]["methods"][m]]
    rows = []
    for method in methods:
        errors, gaps = _values(records, method, way, "error"), _values(records, method, way, "gap")
        hard = [e for e, r in zip(errors, records, strict=True) if not r["linear"]]
        met = sum(gap <= tolerance for gap in gaps)
        runs = [record["methods"][method][way] for record in records]
        promised = [run for run in runs if run["certified"] is not None]
        certified = f"{sum(run['certified'] for run in promised)} of {sum(run['batches'] for run in promised)}" if promised else None
        name = f"{method} (reference)" if method in REFERENCES else method
        rows.append(
            (
                name,
                statistics.fmean(errors),
                statistics.median(errors),
                statistics.fmean(hard),
                max(gaps),
                f"{met} of {len(gaps)}",
                certified,
            )
        )
    columns = ("method", "mean error", "median", "mean, nonlinear", "largest gap", f"gap <= {tolerance:g}", "batches certified")
    paper = (
        Table(("method", "training / inference batch", "mean error", "median"), PAPER, "The paper's figures:") if way == "2000" else None
    )
    return Section(WORDS[way], Table(columns, tuple(rows)), paper, _served_verdicts(records, way, tolerance))


def _served_verdicts(records: Cells, way: str, tolerance: float) -> tuple[str, ...]:
    def mean(method: str) -> float:
        return statistics.fmean(_values(records, method, way, "error"))

    gaps = _values(records, LAYER, way, "gap")
    said = [f"{LAYER}: gap within {tolerance:g} on {sum(gap <= tolerance for gap in gaps)} of {len(gaps)} sets."]
    for rival in (LEAST_PROJECTED, PROJECTED):
        difference = mean(LAYER) - mean(rival)
        said.append(f"{LAYER}, mean error minus that of {rival}: {difference:+.5f}.")
    if way in PAPER_LAYER and len(records) >= 32:
        said.append(f"The paper's layer: {PAPER_LAYER[way]:.4f}; ours: {mean(LAYER):.4f}; {LEAST_PROJECTED}: {mean(LEAST_PROJECTED):.4f}.")
    flat = [
        {"method": method, "seed": k, "error": figures["error"], "met": figures["gap"] <= tolerance}
        for k, record in enumerate(records)
        for method in METHODS
        if (figures := record["methods"][method].get(way)) is not None
    ]
    said += [f"{words}." for words in remarks(flat, REFERENCES, (Figure("error", "mean error", False),))]
    left = sorted({record["methods"][LAYER][way]["left_out"] for record in records})
    if left != [0]:
        said.append(f"Rows that fill no batch of exact shares are left out, as in the paper: {left[0]} to {left[-1]} of 6,000.")
    return tuple(said)


def _paired(records: Cells) -> Section:
    """The nonlinear sets one by one; the same of the linear ones in a verdict."""
    rows = []
    for record in records:
        if record["linear"]:
            continue
        e = {method: record["methods"][method]["2000"]["error"] for method in (LEAST_PROJECTED, PROJECTED, LAYER)}
        words = record["design"].removesuffix(", nonlinear")
        rows.append((record["set"], record["seed"], words, *e.values(), e[LAYER] - e[LEAST_PROJECTED], e[LAYER] - e[PROJECTED]))
    columns = ("set", "seed", "design", LEAST_PROJECTED, PROJECTED, LAYER, "layer - least squares", "layer - projection")
    said = [
        _compared(records, rival, way, linear)
        for rival in (LEAST_PROJECTED, PROJECTED)
        for linear in (False, True)
        for way in ("2000", "all")
    ]
    verdicts = tuple(words for words in said if words is not None)
    return Section("The nonlinear sets, paired: error in batches of 2,000", Table(columns, tuple(rows)), None, verdicts)


def _compared(records: Cells, rival: str, way: str, linear: bool) -> str | None:
    """How the layer does against ``rival``, set by set."""
    chosen = [record for record in records if record["linear"] == linear]
    if not chosen:
        return None
    pairs = zip(_values(chosen, LAYER, way, "error"), _values(chosen, rival, way, "error"), strict=True)
    differences = [ours - theirs for ours, theirs in pairs]
    kind = "linear" if linear else "nonlinear"
    where = "batches of 2,000" if way == "2000" else "one batch"
    at_most = sum(d <= 0 for d in differences)
    return (
        f"{kind} sets, {where}: the layer's error is at most that of {rival} on {at_most} of {len(differences)}; "
        f"mean difference {statistics.fmean(differences):+.5f} ± {error(differences):.5f} (largest {max(differences):+.5f})."
    )


def _trade_off(records: Cells) -> Section:
    """Error against gap over the sweep of tolerance, means of the sets; everything in one batch."""
    runs: list[dict[str, Any]] = []
    for record in records:
        for method in METHODS:
            figures = record["methods"][method]
            points = figures.get("sweep") or [{"tolerance": None, "gap": figures["all"]["gap"], "error": figures["all"]["error"]}]
            runs += [{"method": method, **point} for point in points]
    drawn = curves(runs, gap="gap", quality="error", references=REFERENCES)
    rows = tuple((c.method, p.along, p.gap, p.quality) for c in drawn for p in c.points)
    panel = Panel("Error against the gap that is left", "gap of group means, held out", "mean squared error, held out", drawn)

    def picture(path: Path) -> None:
        pareto_picture((panel,), path)

    said = "The layer was trained at one tolerance and is served at all of them."
    return Section("Error against gap", Table(("method", "tolerance", "gap", "error"), rows), None, (said,), picture)
