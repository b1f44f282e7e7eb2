"""The paper's employee experiment: an hourly rate from 63 columns, and no group over- or under-predicted on average.

Ten constraints, abs(mean over g of (y - t)) <= 1e-4, for the two groups of five attributes (Troxell, Roemer, Montufar 2026). Two parts:

- in sample, the paper's protocol: full batch, trained and measured on the same 1,200 rows, and the targets enter the projection;
- held out, five times five folds: the layer is frozen to shifts per group on the rows outside the fold, and nothing that is measured has
  seen a target of the fold.

The target can hardly be predicted: the references (a constant, least squares) decide what a figure is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial, reduce
from operator import and_
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fairopt as fo
from fairopt.experiments.data import employee as data
from fairopt.experiments.data.tabular import Dataset, Encoder, Part
from fairopt.experiments.measure import group_means
from fairopt.experiments.report import Run
from fairopt.experiments.reproduce import OnProgress, Progress, Result, Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies import employee_report as report
from fairopt.training import EarlyStopping, fit

TOLERANCE = 1e-4
BOUNDS = (0.0, 1.0)
FOLDS = 5
REPETITIONS = 5
CALIBRATION_SHARE = 0.2  # of the rows outside the fold: for early stopping, and for shifts calibrated apart
TOLERANCES = (1e-4, 0.01, 0.02, 0.04)
QUICK_EPOCHS = 15
Rows = npt.NDArray[np.int64]
Model = Callable[[Part], Tensor]


@dataclass(frozen=True)
class Recipe:
    """hidden width, optimiser, and how long. ``patience`` None: all epochs, and the last state is kept."""

    hidden: int
    normalised: bool
    dropout: float
    optimizer: Literal["adam", "sgd"]
    learning_rate: float
    weight_decay: float
    epochs: int
    patience: int | None


# In sample: the paper's network, 63-5-1 with a normalised hidden layer, for as many epochs as the paper's run took; its SGD, and Adam.
PAPER = Recipe(hidden=5, normalised=True, dropout=0.0, optimizer="sgd", learning_rate=0.01, weight_decay=0.0, epochs=1172, patience=None)
ADAM = Recipe(hidden=5, normalised=True, dropout=0.0, optimizer="adam", learning_rate=0.01, weight_decay=0.0, epochs=1172, patience=None)
# Held out: strong dropout and early stopping, for there is little to learn.
HELD_OUT = Recipe(hidden=16, normalised=False, dropout=0.5, optimizer="adam", learning_rate=3e-3, weight_decay=0.1, epochs=300, patience=30)


def notion(tolerance: float = TOLERANCE) -> fo.Notion:
    """The ten constraints."""
    return reduce(and_, (fo.MeanResidual(name, tolerance=tolerance) for name in data.ATTRIBUTES))


def new_layer(tolerance: float = TOLERANCE) -> fo.FairnessLayer:
    return fo.FairnessLayer(notion(tolerance), bounds=BOUNDS)


def run(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    """All parts. ``seeds``: of the networks in sample, and the repetitions of the folds; one cell a seed, and one a fold."""
    seeds = settings.seeds_or(range(REPETITIONS))
    table = data.load(settings.data)
    epochs = QUICK_EPOCHS if settings.quick else None
    recipes = [asdict(recipe) for recipe in (PAPER, ADAM, HELD_OUT)]
    store.hold({"recipes": recipes, "tolerance": TOLERANCE, "folds": FOLDS, "epochs": epochs})
    cuts = [(seed, k, *rows) for seed in seeds for k, rows in enumerate(folds(len(table), seed))]
    cuts = cuts[:2] if settings.quick else cuts

    def cells(label: str, tasks: Sequence[tuple[dict[str, int], int, Callable[[], dict[str, list[Run]]]]]) -> list[Run]:
        """The runs of (key, seed, work), each run with its seed."""
        found: list[Run] = []
        for done, (key, seed, work) in enumerate(tasks):
            found += [{**run, "seed": seed} for run in store.cell({"part": label, **key}, work)["runs"]]
            on_progress(Progress(label, done + 1, len(tasks)))
        return found

    inside = cells("in sample", [({"seed": seed}, seed, partial(in_sample, table, seed, epochs)) for seed in seeds])

    def by_fold(work: Callable[..., dict[str, list[Run]]]) -> list[tuple[dict[str, int], int, Callable[[], dict[str, list[Run]]]]]:
        return [
            ({"repetition": seed, "fold": k}, seed * FOLDS + k, partial(work, table, rest, fold, seed * FOLDS + k, epochs))
            for seed, k, rest, fold in cuts
        ]

    apart = cells("held out", by_fold(held_out))
    swept = cells("sweep of tolerance", by_fold(one_sweep)[:FOLDS])
    return Result(
        settings.name,
        "Employee: an hourly rate, and no group mispredicted on average",
        f"1,200 employees of a made-up company, 63 columns, target in [0, 1]. Ten constraints: |mean residual| <= {TOLERANCE:g} for both "
        f"groups of {', '.join(data.ATTRIBUTES)}. In sample: {len(seeds)} seeds. Held out: {len(cuts)} folds, five of each of "
        f"{len(seeds)} cuts.",
        (report.in_sample_section(inside), report.held_out_section(apart), report.trade_off_section(swept)),
    )


def folds(n: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """(rows outside the fold, rows of the fold), both in random order, five times."""
    parts = np.array_split(np.random.default_rng(seed).permutation(n), FOLDS)
    for k, fold in enumerate(parts):
        rest = np.concatenate([part for j, part in enumerate(parts) if j != k])
        yield np.random.default_rng([seed, k]).permutation(rest), fold


def in_sample(table: Dataset, seed: int, epochs: int | None = None) -> dict[str, list[Run]]:
    """Runs: one a method, trained and measured on all rows; the targets enter the projection, as in the paper."""
    encoder = Encoder.fit(table.features, table.names, quantiles=(0.0, 1.0))
    everyone = part_of(table, encoder, np.arange(len(table)))
    said = {report.CONSTANT: constant_model(everyone)(everyone), report.LINEAR: least_squares(everyone)(everyone)}
    inside = {}
    for recipe, suffix in ((PAPER, report.SGD), (ADAM, report.ADAM)):
        said[report.PLAIN + suffix] = values_of(trained(recipe, everyone, None, seed, epochs, None), everyone)
        inside[report.LAYER + suffix] = values_of(trained(recipe, everyone, None, seed, epochs, new_layer()), everyone)
    runs: list[Run] = [{"method": name, **figures(z, everyone, None)} for name, z in said.items()]
    for name, z in {**{name + report.PROJECTED: z for name, z in said.items()}, **inside}.items():
        solution = new_layer().solution(z, sensitive_features=everyone.sensitive, targets=everyone.y)
        certified = solution.certificate.status is fo.Status.CERTIFIED
        runs.append({"method": name, **figures(solution.scores, everyone, certified)})
    return {"runs": runs}


def held_out(table: Dataset, rest: Rows, fold: Rows, seed: int, epochs: int | None = None) -> dict[str, list[Run]]:
    """Runs: one a method, measured on the rows ``fold`` and learnt from the rows ``rest``. Targets of the fold enter the figures alone."""
    whole, calibration, train, unseen = cut(table, rest, fold)
    layer = partial(values_of, trained(HELD_OUT, train, calibration, seed, epochs, new_layer()))
    plain = partial(values_of, trained(HELD_OUT, train, calibration, seed, epochs, None))
    models: dict[str, Model] = {
        report.CONSTANT: constant_model(whole),
        report.CONSTANT_SHIFTED: shifted(constant_model(whole), whole),
        report.LINEAR: least_squares(whole),
        report.LINEAR_SHIFTED: shifted(least_squares(whole), whole),
        report.LINEAR_APART: shifted(least_squares(train), calibration),
        report.PLAIN: plain,
        report.PLAIN_SHIFTED: shifted(plain, whole),
        report.LAYER_SHIFTED: shifted(layer, whole),
    }
    return {"runs": [{"method": name, **figures(model(unseen), unseen, None)} for name, model in models.items()]}


def one_sweep(table: Dataset, rest: Rows, fold: Rows, seed: int, epochs: int | None = None) -> dict[str, list[Run]]:
    """Runs: three models with the frozen shifts of each tolerance, measured on the rows ``fold``."""
    whole, calibration, train, unseen = cut(table, rest, fold)
    plain = partial(values_of, trained(HELD_OUT, train, calibration, seed, epochs, None))
    runs: list[Run] = []
    for tolerance in TOLERANCES:
        layer = partial(values_of, trained(HELD_OUT, train, calibration, seed, epochs, new_layer(tolerance)))
        models: dict[str, Model] = {
            report.CONSTANT_SHIFTED: constant_model(whole), report.PLAIN_SHIFTED: plain, report.LAYER_SHIFTED: layer,
        }  # fmt: skip
        for name, model in models.items():
            values = shifted(model, whole, tolerance)(unseen)
            runs.append({"method": name, "tolerance": tolerance, **figures(values, unseen, None)})
    return {"runs": runs}


def cut(table: Dataset, rest: Rows, fold: Rows) -> tuple[Part, Part, Part, Part]:
    """(all of ``rest``, the part of it for calibration, the part for training, the fold); the encoder sees ``rest`` alone."""
    size = round(len(rest) * CALIBRATION_SHARE)
    encoder = Encoder.fit(table.features[rest], table.names, quantiles=(0.0, 1.0))
    whole, calibration, train, unseen = (part_of(table, encoder, rows) for rows in (rest, rest[:size], rest[size:], fold))
    return whole, calibration, train, unseen


def part_of(table: Dataset, encoder: Encoder, rows: npt.NDArray[np.int64]) -> Part:
    sensitive = {name: values[rows] for name, values in table.sensitive.items()}
    return Part(encoder.encode(table.features[rows]), torch.from_numpy(table.target[rows]).to(torch.float32), sensitive)


def constant_model(part: Part) -> Model:
    """The mean target of ``part`` for everyone."""
    mean = float(part.y.double().mean())
    return lambda other: torch.full((len(other),), mean, dtype=torch.float64, device="cpu")


def least_squares(part: Part) -> Model:
    """Ordinary least squares with an intercept; of the solutions for collinear columns the shortest."""

    def design(other: Part) -> npt.NDArray[np.float64]:
        return np.column_stack([np.ones(len(other)), other.x.double().numpy()])

    weights = np.linalg.lstsq(design(part), part.y.double().numpy(), rcond=None)[0]
    return lambda other: torch.from_numpy(design(other) @ weights)


def shifted(model: Model, calibration: Part, tolerance: float = TOLERANCE) -> Model:
    """``model`` behind a frozen layer: shifts per group that meet the constraints on ``calibration``. Predictions need no target."""
    facts: dict[str, Any] = {"sensitive_features": calibration.sensitive, "targets": calibration.y}
    layer = new_layer(tolerance).freeze(model(calibration), **facts, on_unknown="pass")
    return lambda other: layer.predict(model(other), sensitive_features=other.sensitive)


def network_of(recipe: Recipe, train: Part, seed: int) -> nn.Sequential:
    """One hidden layer; it starts near the mean target for everyone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, last = nn.Linear(train.x.shape[1], recipe.hidden), nn.Linear(recipe.hidden, 1)
        nn.init.kaiming_uniform_(first.weight, nonlinearity="relu")
        nn.init.zeros_(first.bias)
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.fill_(float(train.y.mean()))
        middle: list[nn.Module] = [nn.LayerNorm(recipe.hidden)] if recipe.normalised else []
        return nn.Sequential(first, *middle, nn.ReLU(), nn.Dropout(recipe.dropout), last)


def values_of(network: nn.Module, part: Part) -> Tensor:
    """(n,) float64: what the network says without a layer."""
    with torch.no_grad():
        raw: Tensor = network(part.x)
    return raw[:, 0].double()


def trained(
    recipe: Recipe, train: Part, validation: Part | None, seed: int, epochs: int | None, layer: fo.FairnessLayer | None
) -> nn.Sequential:
    """Full batch; squared error of the network's values, or of the layer's answer to them, for which it sees the targets of ``train``.

    With ``validation``, the state is kept whose values, with the frozen shifts of ``train`` where there is a layer, have the least squared
    error there.
    """
    model = network_of(recipe, train, seed)
    kind = torch.optim.SGD if recipe.optimizer == "sgd" else torch.optim.AdamW
    prepared = None if layer is None else layer.prepare(len(train), train.sensitive, train.y)

    def step(part: Part) -> Tensor:
        values = model(part.x)[:, 0]
        return F.mse_loss(values if prepared is None else prepared.project(values), part.y)

    def error_on(part: Part) -> float:
        values = values_of(model, part)
        if layer is not None:
            frozen = layer.freeze(values_of(model, train), sensitive_features=train.sensitive, targets=train.y, on_unknown="pass")
            values = frozen.predict(values, sensitive_features=part.sensitive)
        return F.mse_loss(values, part.y.double()).item()

    fit(
        model,
        step,
        [train],
        optimizer=kind(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay),
        epochs=epochs or recipe.epochs,
        validate=None if validation is None else partial(error_on, validation),
        stopping=None if recipe.patience is None else EarlyStopping(recipe.patience),
        keep="last" if validation is None else "best",
        seed=seed,
        gaps=False,
    )
    return model


def figures(values: Tensor, part: Part, certified: bool | None) -> dict[str, Any]:
    """mse; how many of the mean residuals are inside the tolerance, in exact arithmetic, and whether all are; the largest of them."""
    y, t = values.detach().double(), part.y.double()
    residuals = []
    for groups in part.sensitive.values():
        said, true = group_means(y, groups), group_means(t, groups)
        residuals += [abs(said[group] - true[group]) for group in said]
    satisfied = sum(r <= Fraction(TOLERANCE) for r in residuals)
    return {
        "mse": float(((y - t) ** 2).mean()),
        "satisfied": satisfied,
        "constraints": len(residuals),
        "worst": float(max(residuals)),
        "met": satisfied == len(residuals),
        "certified": certified,
    }
