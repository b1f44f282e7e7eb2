"""Mortgage decisions with the approval gap between races under a tolerance: plain, projected afterwards, and with the layer in training.

The three networks have the same shape, the same initial weights and the same batches. All figures are of held-out applications; no
target of theirs is seen by any method. Beside them stand references that need no network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

import fairopt as fo
from fairopt.errors import MissingExtraError
from fairopt.experiments.data import loanapp as data
from fairopt.experiments.data.tabular import Part, Parts, split
from fairopt.experiments.fit import Fitted, Recipe, fit, network
from fairopt.experiments.measure import Measured, measure
from fairopt.experiments.report import Figure, Row, difference_by_seed

CONSTANT = "constant"
LOGISTIC = "logistic regression"
LOGISTIC_PROJECTED = "logistic + projection"
PLAIN = "plain network"
AFTERWARDS = "plain + projection"
INSIDE = "fairness layer inside"
TRAINED = (PLAIN, INSIDE)
# Among the best of 17 recipes by validation loss, for the layer inside. All rows in one batch, because parity is asked of each batch, and a
# batch of 256 has some 14 hispanic applicants.
RECIPE = Recipe(hidden=(32,), dropout=0.5, epochs=200, batch_size=None, learning_rate=3e-3)


@dataclass(frozen=True)
class Settings:
    """tolerance: of the notion; bounds of the probabilities keep the loss finite (DESIGN 7)."""

    tolerance: float = 0.05
    bounds: tuple[float, float] = (1e-4, 1 - 1e-4)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    split_seed: int = 0
    recipe: Recipe = RECIPE

    def quick(self) -> Settings:
        """One seed and few epochs: to see that everything runs."""
        return replace(self, seeds=self.seeds[:1], recipe=replace(self.recipe, epochs=50))

    def notion(self) -> fo.Notion:
        return fo.DemographicParity("race", tolerance=self.tolerance)


@dataclass(frozen=True)
class Progress:
    """An epoch of one network is over: ``done`` of ``total``."""

    method: str
    seed: int
    done: int
    total: int


@dataclass(frozen=True)
class Report:
    """rows in the order of the table; counts: held-out applications by race; verdicts: what the figures say, in words."""

    rows: tuple[Row, ...]
    counts: dict[str, int]
    settings: Settings
    verdicts: tuple[str, ...]

    def row(self, method: str) -> Row:
        return next(r for r in self.rows if r.method == method)


def run(settings: Settings | None = None, on_progress: Callable[[Progress], None] = lambda _: None) -> Report:
    """Train and measure everything. ``on_progress`` hears of every epoch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the network is so small that a second thread only waits
    try:
        return _run(settings or Settings(), on_progress)
    finally:
        torch.set_num_threads(threads)


def _run(settings: Settings, on_progress: Callable[[Progress], None]) -> Report:
    parts = split(data.load(), settings.split_seed)
    rows = [*_references(parts, settings)]
    plain: list[Measured] = []
    afterwards: list[Measured] = []
    inside: list[Measured] = []
    for seed in settings.seeds:
        raw, fitted = _train_plain(parts, settings, seed, on_progress)
        plain.append(_measure(raw, parts, settings, seconds=fitted.seconds))
        afterwards.append(_projected(raw, parts, settings, seconds=fitted.seconds))
        inside.append(_train_inside(parts, settings, seed, on_progress))
    rows += [Row(PLAIN, tuple(plain)), Row(AFTERWARDS, tuple(afterwards)), Row(INSIDE, tuple(inside))]
    counts = {race: int((parts.held_out.group == race).sum()) for race in data.RACES}
    return Report(tuple(rows), counts, settings, _verdicts(rows))


def _references(parts: Parts, settings: Settings) -> tuple[Row, ...]:
    """The training share of approvals for everyone; logistic regression, as it is and projected."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingExtraError("the reference rows need scikit-learn: pip install 'fairopt[experiments]'") from error
    train, held_out = parts.train, parts.held_out
    constant = torch.full((len(held_out),), float(train.y.mean()), dtype=torch.float64)
    model = LogisticRegression(max_iter=1000).fit(train.x.numpy(), train.y.numpy())
    logistic = torch.from_numpy(model.predict_proba(held_out.x.numpy())[:, 1])
    return (
        Row(CONSTANT, (_measure(constant, parts, settings),), reference=True),
        Row(LOGISTIC, (_measure(logistic, parts, settings),), reference=True),
        Row(LOGISTIC_PROJECTED, (_projected(logistic, parts, settings),), reference=True),
    )


def _train_plain(parts: Parts, settings: Settings, seed: int, on_progress: Callable[[Progress], None]) -> tuple[Tensor, Fitted]:
    """Held-out probabilities (n,) of the plain network."""
    model = network(parts.train.x.shape[1], settings.recipe, seed)
    low, high = settings.bounds

    def forward(part: Part, rows: Tensor) -> Tensor:
        return torch.sigmoid(model(part.x[rows])[:, 0]).clamp(low, high)

    def heard(done: int) -> None:
        on_progress(Progress(PLAIN, seed, done, settings.recipe.epochs))

    fitted = fit(model, forward, F.binary_cross_entropy, parts, settings.recipe, seed, heard)
    with torch.no_grad():
        return forward(parts.held_out, torch.arange(len(parts.held_out))), fitted


def _train_inside(parts: Parts, settings: Settings, seed: int, on_progress: Callable[[Progress], None]) -> Measured:
    """The same network with the layer behind it, in training and after."""
    layer = fo.FairnessLayer(settings.notion(), bounds=settings.bounds, groups={"race": data.RACES}, space="probability")
    model = fo.FairModel(network(parts.train.x.shape[1], settings.recipe, seed), layer)

    def forward(part: Part, rows: Tensor) -> Tensor:
        scores: Tensor = model(part.x[rows], sensitive_features={"race": part.group[rows.numpy()]})
        return scores.reshape(-1)

    def heard(done: int) -> None:
        on_progress(Progress(INSIDE, seed, done, settings.recipe.epochs))

    fitted = fit(model, forward, F.binary_cross_entropy, parts, settings.recipe, seed, heard)
    with torch.no_grad():
        fair = forward(parts.held_out, torch.arange(len(parts.held_out)))
    certificate = layer.certificate
    return _measure(fair, parts, settings, certificate=certificate, seconds=fitted.seconds)


def _projected(raw: Tensor, parts: Parts, settings: Settings, seconds: float | None = None) -> Measured:
    """``raw`` (n,), projected: the nearest probabilities that meet the notion on the held-out applications."""
    solution = fo.project(
        raw, settings.notion(), sensitive_features={"race": parts.held_out.group}, bounds=settings.bounds, return_solution=True
    )
    return _measure(solution.scores, parts, settings, certificate=solution.certificate, seconds=seconds)


def _measure(
    probabilities: Tensor, parts: Parts, settings: Settings, certificate: fo.Certificate | None = None, seconds: float | None = None
) -> Measured:
    """Figures on the held-out applications; their targets enter here and nowhere else."""
    held_out = parts.held_out
    return measure(
        probabilities,
        held_out.y,
        held_out.group,
        settings.tolerance,
        violation=None if certificate is None else max(0.0, certificate.max_violation),
        certified=None if certificate is None else certificate.status is fo.Status.CERTIFIED,
        seconds=seconds,
    )


def _verdicts(rows: list[Row]) -> tuple[str, ...]:
    """The layer against its two rivals that keep the tolerance as well: who wins is read off the figures, at twice the standard error."""
    by_name = {row.method: row for row in rows}
    figures: tuple[tuple[Figure, str, bool], ...] = (
        ("log_loss", "log loss", False),
        ("accuracy", "accuracy", True),
        ("auc", "AUC", True),
        ("decision_gap", "decision gap", False),
    )
    said = []
    for rival in (AFTERWARDS, LOGISTIC_PROJECTED):
        words = []
        for figure, name, more_is_better in figures:
            difference, error = difference_by_seed(by_name[INSIDE], by_name[rival], figure)
            clear = error is not None and abs(difference) > 2 * error
            wins = "wins" if (difference > 0) == more_is_better else "loses"
            margin = "" if error is None else f" ± {error:.3f}"
            words.append(f"{name} {difference:+.3f}{margin} ({wins if clear else 'not clear'})")
        said.append(f"{INSIDE} minus {rival}: {', '.join(words)}")
    return tuple(said)
