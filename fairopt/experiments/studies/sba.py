"""The paper's loan experiment: will a loan be written off, with equal mean scores for new and old firms and for town and country.

Demographic parity of both attributes at once, tolerance 0.01, on the logits as in the paper (Troxell, Roemer, Montufar 2026) and, beside
it, on the probabilities. 25 seeds; the seed cuts the data and starts the network; a network d-64-32-1, Adam 1e-3, at most 200 epochs. The
training loans are one batch, as in the paper, and so are the held-out ones, which are projected without their targets.

How much a layer gains over a projection depends on what the projection costs, and that on the columns and on how they are encoded, so
both are varied. Columns: see ``fairopt.experiments.data.sba``. Indicators of categories: 0 and 1, as in the paper, or standardised.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from torch import Tensor

import fairopt as fo
from fairopt.basics.extras import missing
from fairopt.experiments.data import sba as data
from fairopt.experiments.data.tabular import Dataset, Part, Parts, split
from fairopt.experiments.measure import gap
from fairopt.experiments.methods.base import Goal, Recipe
from fairopt.experiments.methods.layer import Layer
from fairopt.experiments.methods.penalty import Penalty, StrictPenalty
from fairopt.experiments.methods.plain import Plain
from fairopt.experiments.methods.references import Constant, Linear
from fairopt.experiments.report import Run
from fairopt.experiments.reproduce import OnProgress, Progress, Result, Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies import sba_report as report

TOLERANCE = 0.01
SEEDS = range(25)
SHARES = (0.68, 0.12, 0.2)  # 20 % held out, 15 % of the rest for validation, as in the paper
RECIPE = Recipe(hidden=(64, 32), dropout=0.0, epochs=200, batch_size=None, learning_rate=1e-3, weight_decay=0.0, patience=20)
MARGIN = 1e-4  # probabilities stay this far from 0 and 1, so that no two loans tie and their logits are finite
SPACES: tuple[report.Space, ...] = ("logit", "probability")
VARIANTS: tuple[report.Variant, ...] = (
    ("paper", "0 and 1"),
    ("paper", "standardised"),
    ("application", "0 and 1"),
    ("application", "standardised"),
    ("dates", "0 and 1"),
    ("dates", "standardised"),
)
PENALISED = VARIANTS[:1]  # penalties take most of the time
SWEPT = VARIANTS[0]
SWEPT_SEEDS = 5
TOLERANCES = {"logit": (0.01, 0.3, 0.6, 1.0, 1.5), "probability": (0.01, 0.03, 0.06, 0.1, 0.15)}
QUICK_EPOCHS = 10
PENALTIES = ((Penalty(), report.PENALTY), (StrictPenalty(), report.STRICT))


def notion(tolerance: float) -> fo.Notion:
    """Parity of both attributes."""
    return fo.DemographicParity("business", tolerance=tolerance) & fo.DemographicParity("place", tolerance=tolerance)


def goal(space: report.Space, tolerance: float = TOLERANCE) -> Goal:
    bounds = (MARGIN, 1 - MARGIN) if space == "probability" else None
    return Goal(notion, tolerance, bounds=bounds, space=space)


def run(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    """One cell a variant and seed, then one a seed of the sweep of tolerance."""
    seeds = settings.seeds_or(SEEDS)
    recipe = replace(RECIPE, epochs=QUICK_EPOCHS) if settings.quick else RECIPE
    variants = VARIANTS[:1] if settings.quick else VARIANTS
    store.hold({"recipe": asdict(recipe), "tolerance": TOLERANCE, "shares": list(SHARES), "margin": MARGIN})
    sections, everything = [], []
    for columns, indicators in variants:
        table = data.load(settings.data, columns=columns)
        runs: list[Run] = []
        for done, seed in enumerate(seeds):
            make = partial(one_seed, table, indicators, recipe, seed, penalised=(columns, indicators) in PENALISED)
            cell = store.cell({"columns": columns, "indicators": indicators, "seed": seed}, make)
            runs += [{**run, "seed": seed, "columns": columns, "indicators": indicators} for run in cell["runs"]]
            on_progress(Progress(f"columns {columns}, indicators {indicators}", done + 1, len(seeds)))
        sections.append(report.section((columns, indicators), runs))
        everything += runs
    swept = []
    table = data.load(settings.data, columns=SWEPT[0])
    for done, seed in enumerate(seeds[:SWEPT_SEEDS]):
        cell = store.cell({"sweep": list(SWEPT), "seed": seed}, partial(one_sweep, table, SWEPT[1], recipe, seed))
        swept += [{**run, "seed": seed} for run in cell["runs"]]
        on_progress(Progress("sweep of tolerance", done + 1, len(seeds[:SWEPT_SEEDS])))
    return Result(
        settings.name,
        "SBA loans: parity of logits, and of probabilities",
        f"2,102 loans of the U.S. Small Business Administration, {len(seeds)} seeds, 421 loans held out by each. Both attributes at once: "
        f"business (new or existing) and place (urban or other), gap of the means <= {TOLERANCE:g}. Network d-64-32-1, Adam 1e-3, full "
        f"batch as in the paper, at most {recipe.epochs} epochs, the state with the least validation loss.",
        (*sections, report.spaces_section(everything), report.trade_off_section(swept, SWEPT)),
    )


def one_seed(table: Dataset, indicators: report.Indicators, recipe: Recipe, seed: int, *, penalised: bool = True) -> dict[str, list[Run]]:
    """Runs: one a space and method, on the held-out loans. Models without a space are trained once, on logits, and read in both."""
    parts = cut(table, indicators, seed)
    unseen = parts.held_out
    models = {
        report.CONSTANT: Constant().fit(parts, goal("logit"), recipe, seed),
        report.LINEAR: Linear().fit(parts, goal("logit"), recipe, seed),
        report.PLAIN: Plain().fit(parts, goal("logit"), recipe, seed),
    }
    logits = {name: model(unseen.x, unseen.sensitive) for name, model in models.items()}
    runs: list[Run] = []
    for space in SPACES:
        asked = goal(space)
        raw = {name: in_space(z, space) for name, z in logits.items()}
        found = {name: figures(z, unseen, asked, None) for name, z in raw.items()}
        for method, name in PENALTIES if penalised else ():
            found[name] = figures(method.fit(parts, asked, recipe, seed)(unseen.x, unseen.sensitive), unseen, asked, None)
        found[report.LINEAR_PROJECTED] = projected(raw[report.LINEAR], unseen, asked)
        found[report.PROJECTION] = projected(raw[report.PLAIN], unseen, asked)
        inside = Layer().network(parts, asked, recipe, seed)
        found[report.LAYER] = projected(inside(unseen.x, unseen.sensitive), unseen, asked)
        runs += [{"space": space, "method": name, **found[name]} for name in report.METHODS if name in found]
    return {"runs": runs}


def one_sweep(table: Dataset, indicators: report.Indicators, recipe: Recipe, seed: int) -> dict[str, list[Run]]:
    """Runs: projection and layer at each tolerance, the plain network beside them."""
    parts = cut(table, indicators, seed)
    unseen = parts.held_out
    plain = Plain().fit(parts, goal("logit"), recipe, seed)(unseen.x, unseen.sensitive)
    runs: list[Run] = []
    for space in SPACES:
        raw = in_space(plain, space)
        runs.append({"space": space, "method": report.PLAIN, "tolerance": None, **figures(raw, unseen, goal(space), None)})
        for tolerance in TOLERANCES[space]:
            asked = goal(space, tolerance)
            inside = Layer().network(parts, asked, recipe, seed)(unseen.x, unseen.sensitive)
            for name, z in ((report.PROJECTION, raw), (report.LAYER, inside)):
                runs.append({"space": space, "method": name, "tolerance": tolerance, **projected(z, unseen, asked)})
    return {"runs": runs}


def cut(table: Dataset, indicators: report.Indicators, seed: int) -> Parts:
    parts = split(table, seed, SHARES, stratify=())
    return with_plain_indicators(parts) if indicators == "0 and 1" else parts


def projected(scores: Tensor, part: Part, asked: Goal) -> dict[str, Any]:
    """Figures of the nearest fair scores to ``scores`` (n,): all rows of ``part`` as one batch, its targets unused."""
    solution = fo.project(scores, asked.notion, sensitive_features=part.sensitive, bounds=asked.bounds, return_solution=True)
    return figures(solution.scores, part, asked, solution.certificate.status is fo.Status.CERTIFIED)


def in_space(logits: Tensor, space: report.Space) -> Tensor:
    return torch.sigmoid(logits) if space == "probability" else logits


def with_plain_indicators(parts: Parts) -> Parts:
    """The same parts, the indicators of categories as 0 and 1; numbers stay standardised."""
    encoder = parts.encoder
    indicator = torch.tensor(["=" in name for name in encoder.names], device="cpu")
    mean = torch.where(indicator, torch.from_numpy(encoder.mean[encoder.kept]), 0.0)
    spread = torch.where(indicator, torch.from_numpy(encoder.spread[encoder.kept]), 1.0)

    def back(part: Part) -> Part:
        x = part.x.double() * spread + mean
        return replace(part, x=torch.where(indicator, x.round(), x).to(torch.float32))

    return replace(parts, train=back(parts.train), validation=back(parts.validation), held_out=back(parts.held_out))


def figures(scores: Tensor, part: Part, asked: Goal, certified: bool | None) -> dict[str, Any]:
    """Of ``scores`` (n,) in the space asked for: ranking, and the larger of the two attributes' gaps, of logits, probabilities, decisions.

    met: whether the gap in that space is inside the tolerance, in exact arithmetic. Targets of ``part`` enter the ranking alone.
    """
    try:
        from sklearn.metrics import average_precision_score, roc_auc_score
    except ImportError as error:
        raise missing("the area under the curve needs scikit-learn", "experiments") from error
    z, y = scores.double(), part.y.numpy()
    inside = asked.space == "probability"
    kinds = {"logit": torch.logit(z.clamp(MARGIN, 1 - MARGIN)) if inside else z, "probability": z if inside else torch.sigmoid(z)}
    kinds["decision"] = (kinds["probability"] >= 0.5).double()
    gaps = {kind: max(gap(values, groups) for groups in part.sensitive.values()) for kind, values in kinds.items()}
    return {
        "auc": float(roc_auc_score(y, z.numpy())),
        "ap": float(average_precision_score(y, z.numpy())),
        **{f"{kind}_gap": float(value) for kind, value in gaps.items()},
        "met": gaps[asked.space] <= Fraction(asked.tolerance),
        "certified": certified,
    }
