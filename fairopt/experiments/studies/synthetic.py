"""The paper's 32 synthetic regressions: is a network with the layer inside better than least squares with a projection behind it?

Source: Troxell, Roemer, Montufar 2026, synthetic experiment. A bit shifts the target; predictions must have group means within 0.05 and
lie in a box. The networks here start at least squares and add what is quadratic, so that "inside against afterwards" compares two
networks that fit, not two that do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

import fairopt as fo
from fairopt.experiments.data import synthetic as data
from fairopt.experiments.data.tabular import Part, Parts
from fairopt.experiments.methods.base import Goal, Recipe
from fairopt.experiments.methods.wide_deep import LeastSquares, WideDeep
from fairopt.experiments.reproduce import OnProgress, Progress, Result, Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies.four_ways import predict, squashed, train
from fairopt.experiments.studies.serving import serve, stream
from fairopt.experiments.studies.synthetic_tables import (
    CONSTANT,
    LAYER,
    LEAST,
    LEAST_PROJECTED,
    PENALTY,
    PLAIN,
    PROJECTED,
    STRICT_PENALTY,
    sections,
)
from fairopt.experiments.threads import one_thread

TOLERANCE = 0.05
RECIPE = Recipe(hidden=(64,), dropout=0.0, epochs=60, batch_size=2000, learning_rate=3e-3, weight_decay=1e-3)
# A penalty must move the groups together by itself, from least squares: it gets longer steps.
PENALTY_RATE = 1e-2
# A strict one starts flat, with short steps: else it drives all predictions into a corner of the box, where gap and gradient are 0.
STRICT_RATE = 1e-3
# Decades of the paper's grid; below 1 the gap stays open, for a gap costs about 0.7 of squared error.
PENALTIES = (1.0, 10.0)
STRICT = 5000.0
SIZES = {"2000": 2000, "16": 16, "all": None}
SWEEP = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0)
QUICK_SETS = (1, 19)  # nonlinear, a loose and a tight box
QUICK_EPOCHS = 20

Scores = Callable[[Part], Tensor]


@one_thread()
def run(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    """All 32 sets, or two and fewer epochs where ``settings.quick``; the seeds are those of the networks' weights and batches."""
    recipe = replace(RECIPE, epochs=QUICK_EPOCHS) if settings.quick else RECIPE
    numbers = QUICK_SETS if settings.quick else tuple(range(data.SETS))
    seeds = settings.seeds_or((0,))
    store.hold(
        {"recipe": asdict(recipe), "tolerance": TOLERANCE, "penalties": PENALTIES, "rates": [PENALTY_RATE, STRICT_RATE], "sweep": SWEEP}
    )
    records = []
    for seed in seeds:
        for number in numbers:
            key = {"set": number, "seed": seed}
            records.append({**key, **store.cell(key, lambda n=number, s=seed: _one_set(n, s, recipe))})  # type: ignore[misc]
            on_progress(Progress("synthetic sets", len(records), len(seeds) * len(numbers)))
    return Result(settings.name, "Synthetic regressions", _text(recipe, seeds, numbers), sections(records, TOLERANCE))


def _text(recipe: Recipe, seeds: tuple[int, ...], numbers: tuple[int, ...]) -> str:
    return (
        f"{len(numbers)} of the paper's 32 sets, drawn from its recipe: 40,000 rows, 150 features and the group, 24,000 training rows, "
        f"10,000 for validation, 6,000 held out; network seeds {', '.join(map(str, seeds))}. Predictions lie in the set's box and their "
        f"group means within {TOLERANCE:g}. Networks: a linear part in (a, x, a x) that starts at least squares, and {recipe.hidden[0]} "
        f"units that square what they see; {recipe.epochs} epochs of Adam, batches of {recipe.batch_size} with the groups' shares; the "
        f"state with the least validation figure is kept. Penalty: strength {' or '.join(f'{p:g}' for p in PENALTIES)}, chosen on "
        f"validation; strict: {STRICT:g}. No prediction uses a held-out target."
    )


def goal_of(number: int) -> Goal:
    """Parity of group means within the tolerance, in the set's box."""
    return Goal(lambda tolerance: fo.DemographicParity(data.ATTRIBUTE, tolerance=tolerance), TOLERANCE, data.design(number).bounds)


def _one_set(number: int, seed: int, recipe: Recipe) -> dict[str, Any]:
    """All methods on one set: method -> what was measured."""
    parts, goal = data.parts(number), goal_of(number)
    start = LeastSquares(parts.train.x, parts.train.y)
    mean = parts.train.y.double().mean()
    measured: dict[str, Any] = {
        CONSTANT: _measure(lambda part: mean.expand(len(part)), parts, goal, project=False),
        LEAST: _measure(lambda part: start(part.x).double(), parts, goal, project=False),
        LEAST_PROJECTED: _measure(lambda part: start(part.x).double(), parts, goal, project=True),
    }
    plain, seconds = _network(start.weights, parts, goal, recipe, seed)
    measured[PLAIN] = _measure(plain, parts, goal, project=False) | {"seconds": seconds}
    measured[PROJECTED] = _measure(plain, parts, goal, project=True) | {"seconds": seconds}
    strengths = {}
    for strength in (*PENALTIES, STRICT):
        begin, rate = (_flat(start, mean), STRICT_RATE) if strength == STRICT else (start.weights, PENALTY_RATE)
        scores, seconds = _network(begin, parts, goal, replace(recipe, learning_rate=rate), seed, penalty=strength)
        validation = serve(scores(parts.validation), parts.validation, data.ATTRIBUTE, goal, None, project=False)
        figures = _measure(scores, parts, goal, project=False)
        strengths[strength] = (validation.gap > TOLERANCE, validation.error, figures | {"seconds": seconds, "strength": strength})
    measured[STRICT_PENALTY] = strengths.pop(STRICT)[2]
    measured[PENALTY] = min(strengths.values(), key=lambda tried: tried[:2])[2]
    layer = fo.FairnessLayer(goal.notion, bounds=goal.bounds)
    inside, seconds = _network(start.weights, parts, goal, recipe, seed, layer=layer)
    measured[LAYER] = _measure(inside, parts, goal, project=True) | {"seconds": seconds}
    return {"methods": measured, "design": data.design(number).words, "linear": data.design(number).linear}


def _flat(start: LeastSquares, mean: Tensor) -> Tensor:
    """First weights of a network that says ``mean`` everywhere."""
    weights = torch.zeros_like(start.weights)
    weights[0] = mean
    return weights


def _network(
    start: Tensor, parts: Parts, goal: Goal, recipe: Recipe, seed: int, *, penalty: float | None = None, layer: Any = None
) -> tuple[Scores, float]:
    """A trained network as scores of a part, and the training seconds of an epoch. With a penalty its scores are inside the box."""
    network = WideDeep(start, recipe.hidden[0], seed)
    decay = recipe.weight_decay
    trained = train(
        network,
        parts.train,
        parts.validation,
        goal,
        recipe,
        seed,
        penalty=penalty,
        layer=layer,
        parameters=lambda _: network.groups(decay),
    )

    def scores(part: Part) -> Tensor:
        raw = predict(network, part, goal)
        return raw if penalty is None else squashed(raw, goal)

    return scores, trained.seconds


def _measure(scores: Scores, parts: Parts, goal: Goal, *, project: bool) -> dict[str, Any]:
    """Held out, in the ways of ``SIZES``; for projected scores also as a stream of 16 at a time, and over a sweep of tolerance."""
    held_out = parts.held_out
    said = scores(held_out)
    found: dict[str, Any] = {
        name: serve(said, held_out, data.ATTRIBUTE, goal, size, project=project).record() for name, size in SIZES.items()
    }
    if project:
        groups = parts.validation.sensitive[data.ATTRIBUTE]
        found["stream"] = stream(said, held_out, scores(parts.validation), groups, data.ATTRIBUTE, goal, 16).record()
        swept = [(t, serve(said, held_out, data.ATTRIBUTE, goal.within(t), None, project=True)) for t in SWEEP]
        found["sweep"] = [{"tolerance": t, "gap": served.gap, "error": served.error} for t, served in swept]
    return found
