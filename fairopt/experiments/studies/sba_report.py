"""What is said of the loan experiment: a table a variant, the paper's figures beside it, what a space leaves open, and verdicts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from fairopt.basics.table import Table
from fairopt.experiments.pareto import Panel, curves, pareto_picture
from fairopt.experiments.report import Figure, Run, certified, compared, of, paired, remarks, shown, summary
from fairopt.experiments.reproduce import Section

Space = Literal["logit", "probability"]
Indicators = Literal["0 and 1", "standardised"]
Variant = tuple[Literal["paper", "dates", "application"], Indicators]
CONSTANT, LINEAR, LINEAR_PROJECTED = "constant", "logistic regression", "logistic regression + projection"
PLAIN, PROJECTION, PENALTY, STRICT, LAYER = "plain network", "projection", "penalty", "strict penalty", "fairness layer"
REFERENCES = (CONSTANT, LINEAR, LINEAR_PROJECTED)
METHODS = (*REFERENCES, PLAIN, PROJECTION, PENALTY, STRICT, LAYER)  # in the order of the tables
RANKING = (Figure("auc", "AUC", True), Figure("ap", "AP", True))
GAPS = (Figure("probability_gap", "probability gap", False), Figure("decision_gap", "decision gap", False))
SHOWN = {
    "auc": "AUC",
    "ap": "AP",
    "logit_gap": "logit gap",
    "probability_gap": "probability gap",
    "decision_gap": "decision gap",
}
GAIN = 0.010  # what a layer is asked to gain over a projection, in AUC
COLUMNS = {
    "paper": "the paper's columns",
    "dates": "the paper's columns and xx, the date at which a loan ends",
    "application": "without Term, daysterm and xx, which reveal the outcome",
}
PAPER = Table(
    ("method", "AUC", "AP", "limits met"),
    (
        ("plain network", 0.8940, 0.7796, None),
        ("projection", 0.8780, 0.7473, None),
        ("strict penalty", 0.506, 0.330, None),
        ("fairness layer (F-Layer)", 0.8903, 0.7716, "23 of 25"),
    ),
    "The paper's figures (25 seeds, parity of logits; its probability gap stays up to 0.30):",
)


def section(variant: Variant, runs: Sequence[Run]) -> Section:
    """Both spaces of one variant. ``runs``: one a space, method and seed."""
    columns, indicators = variant
    table = summary(runs, SHOWN, ("space", "method"), met="met")
    return Section(
        f"{COLUMNS[columns][0].upper()}{COLUMNS[columns][1:]}; indicators {indicators}",
        Table((*table.columns, "certified"), tuple((*row, certified(of(runs, space=row[0], method=row[1]))) for row in table.rows)),
        paper=PAPER if columns != "application" else None,
        verdicts=tuple(said for space in ("logit", "probability") for said in _verdicts(space, of(runs, space=space))),
    )


def spaces_section(runs: Sequence[Run]) -> Section:
    """The gaps that each space leaves, over all variants. ``runs`` have their columns and indicators too."""
    rows = []
    for space in ("logit", "probability"):
        for method in (PLAIN, PROJECTION, LAYER):
            for variant in dict.fromkeys((run["columns"], run["indicators"]) for run in runs):
                mine = of(runs, space=space, method=method, columns=variant[0], indicators=variant[1])
                logit, probability = ([run[f"{kind}_gap"] for run in mine] for kind in ("logit", "probability"))
                asked = "nothing" if method == PLAIN else f"{space} parity"
                if method == PLAIN and space == "probability":
                    continue  # the same network, read in two spaces
                rows.append((asked, method, *variant, max(logit), statistics.fmean(probability), max(probability)))
    columns = ("asked", "method", "columns", "indicators", "largest logit gap", "mean probability gap", "largest probability gap")
    worst = {space: max(row[6] for row in rows if row[0] == f"{space} parity") for space in ("logit", "probability")}
    return Section(
        "What a space leaves open",
        Table(columns, tuple(rows)),
        verdicts=(
            f"logit parity leaves probability gaps up to {worst['logit']:.3f} (the paper's: up to 0.30); "
            f"probability parity up to {worst['probability']:.4f}",
        ),
    )


def trade_off_section(runs: Sequence[Run], variant: Variant) -> Section:
    """A sweep of tolerance. ``runs``: one a space, method, tolerance and seed; methods without a tolerance have None."""

    def draw(path: Path) -> None:
        panels = [
            Panel(
                {"logit": "parity of logits", "probability": "parity of probabilities"}[space],
                "gap of mean probabilities, the larger of two attributes",
                "AUC",
                curves(of(runs, space=space), gap="probability_gap", quality="auc"),
            )
            for space in ("logit", "probability")
        ]
        pareto_picture(panels, path)

    table = summary(runs, {k: SHOWN[k] for k in ("auc", "logit_gap", "probability_gap")}, ("space", "method", "tolerance"), met="met")
    seeds = len({run["seed"] for run in runs})
    return Section(f"A sweep of tolerance: {COLUMNS[variant[0]]}, indicators {variant[1]}, {seeds} seeds", table, picture=draw)


def _verdicts(space: str, runs: Sequence[Run]) -> tuple[str, ...]:
    layer, projection, plain = (of(runs, method=name) for name in (LAYER, PROJECTION, PLAIN))
    gain, margin = paired(layer, projection, "auc")
    price, _ = paired(plain, projection, "auc")
    bar = "at least" if gain >= GAIN else "less than"
    said = [
        f"{space} parity: the layer met it on {sum(run['met'] for run in layer)} of {len(layer)} seeds, certified on {certified(layer)}",
        f"{space} parity: layer minus projection, AUC: {shown(gain, margin)}, {bar} {GAIN:+.3f}; "
        f"all that the projection costs is {price:+.4f}",
    ]
    figures = (*RANKING, *(gap for gap in GAPS if gap.name != f"{space}_gap"))  # the gap that was asked for is the same for all three
    said += [f"{space} parity: {words}" for words in compared(runs, LAYER, (PROJECTION, LINEAR_PROJECTED), figures)]
    said += [f"{space} parity: {words}" for words in remarks(runs, REFERENCES, RANKING)]
    return tuple(said)
