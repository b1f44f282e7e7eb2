"""Small images, a convolutional network, parity between skin tones: a stand-in for the paper's CelebA and FairFace.

Two questions with base rates that differ between the groups because rows were left out (``fairopt.experiments.data.emoji``): is the drawn
person a woman (5 tones, 10 pairs)? Does the drawing show a profession (10 groups of gender and tone, 45 pairs)? Parity is asked of the
logits, as in the paper, and of the probabilities, which are what is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

import fairopt as fo
from fairopt.experiments.data import emoji as data
from fairopt.experiments.data.tabular import Part, Parts
from fairopt.experiments.methods.base import Goal, Recipe
from fairopt.experiments.methods.convolutional import SmallCNN
from fairopt.experiments.methods.references import Constant, Linear
from fairopt.experiments.reproduce import OnProgress, Progress, Result, Section, Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies.four_ways import predict, train
from fairopt.experiments.studies.image_figures import figures, measured
from fairopt.experiments.studies.image_tables import (
    CONSTANT,
    LAYER,
    LOGISTIC,
    LOGISTIC_PROJECTED,
    PENALTY,
    PLAIN,
    PROJECTED,
    WEAK_PENALTY,
    paper_table,
    section,
    trade_off,
)
from fairopt.experiments.threads import one_thread

SEEDS = (0, 1, 2, 3, 4)
RECIPE = Recipe(hidden=(16, 32, 32), dropout=0.3, epochs=30, batch_size=64, learning_rate=3e-3, weight_decay=1e-4)
QUICK_EPOCHS = 8
PENALTIES = (1.0, 10.0)
WEAK = 0.1  # of a second penalty, whatever gap it leaves
LOGIT_TOLERANCE = 1e-3  # the paper's for CelebA
PROBABILITY_TOLERANCE = 0.02
BOX = (1e-4, 1 - 1e-4)
SWEEP = (0.001, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)

Scores = Callable[[Part], Tensor]


@dataclass(frozen=True)
class Question:
    """target, and the attribute whose groups get the share ``rates`` of ones."""

    target: str
    attribute: str
    rates: Mapping[str, float]
    words: str


QUESTIONS = (
    Question("woman", "tone", {tone: 0.3 + 0.1 * k for k, tone in enumerate(data.TONES)}, "A woman? (5 tones, 10 pairs)"),
    Question(
        "role",
        "gender and tone",
        {f"{gender}, {tone}": base + 0.06 * k for gender, base in (("man", 0.35), ("woman", 0.2)) for k, tone in enumerate(data.TONES)},
        "A profession? (gender and tone, 10 groups, 45 pairs)",
    ),
)


@one_thread()
def run(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    """Both questions for each seed, which decides about rows, split, weights and batches; quick: one seed, few epochs."""
    recipe = replace(RECIPE, epochs=QUICK_EPOCHS) if settings.quick else RECIPE
    seeds = settings.seeds_or(SEEDS)
    common = {"recipe": asdict(recipe), "penalties": PENALTIES, "sweep": SWEEP, "tolerances": [LOGIT_TOLERANCE, PROBABILITY_TOLERANCE]}
    store.hold(common | {"rates": {q.target: dict(q.rates) for q in QUESTIONS}})
    records = []
    for question in QUESTIONS:
        for seed in seeds:
            key = {"target": question.target, "seed": seed}
            made = store.cell(key, lambda q=question, s=seed: _one(q, s, recipe, settings))  # type: ignore[misc]
            weak = store.cell({**key, "penalty": WEAK}, lambda q=question, s=seed: _weak(q, s, recipe, settings))  # type: ignore[misc]
            spaces = {space: methods | {WEAK_PENALTY: weak[space]} for space, methods in made["spaces"].items()}
            records.append({**key, "spaces": spaces})
            on_progress(Progress("emoji", len(records), len(seeds) * len(QUESTIONS)))
    return Result(settings.name, "Images: drawn people and their skin tone", _text(recipe, seeds), _sections(records))


def _text(recipe: Recipe, seeds: tuple[int, ...]) -> str:
    widths, strengths = ", ".join(map(str, recipe.hidden)), " or ".join(f"{p:g}" for p in PENALTIES)
    return (
        "850 drawings of 32 x 32 pixels (Twemoji, CC BY 4.0), no real persons: a stand-in for CelebA and FairFace, whose pictures are not "
        "here. The set is balanced; rows were left out at random until the share of ones rises from tone 1 to tone 5 (woman: 0.30 to 0.70; "
        f"role: 0.35 to 0.59 for men, 0.20 to 0.44 for women). Seeds {', '.join(map(str, seeds))}; a drawing lies in one part with all its "
        "tones: half training, a fifth validation, the rest held out, served as one batch. Network: "
        f"{len(recipe.hidden)} convolutions of {widths} channels, images mirrored at random, {recipe.epochs} epochs of Adam, batches of "
        f"{recipe.batch_size} with the groups' shares, the state with the least validation figure. Logits: all pairs of groups within "
        f"{LOGIT_TOLERANCE:g}; probabilities: within {PROBABILITY_TOLERANCE:g}. Penalty: strength {strengths}, chosen on validation; "
        f"weak: {WEAK:g}. No prediction uses a held-out target."
    )


def _sections(records: list[dict[str, Any]]) -> tuple[Section, ...]:
    """Each question: parity of logits with the paper's figures beside it, parity of probabilities, and the trade-off."""
    made = []
    for question in QUESTIONS:
        own = [record["spaces"] for record in records if record["target"] == question.target]
        title = "The paper's accuracies, of other data: real faces, larger images, larger networks. For orientation alone."
        paper = paper_table(("celeba", "fairface"), title) if question is QUESTIONS[0] else None
        made += [
            section(f"{question.words} Parity of logits", [spaces["logits"] for spaces in own], paper),
            section(f"{question.words} Parity of probabilities", [spaces["probabilities"] for spaces in own]),
            trade_off(f"{question.words} Accuracy against gap", [spaces["probabilities"] for spaces in own]),
        ]
    return tuple(made)


def goals_of(attribute: str) -> dict[str, Goal]:
    """The two spaces in which parity is asked."""

    def make(tolerance: float) -> fo.Notion:
        return fo.DemographicParity(attribute, tolerance=tolerance)

    return {"logits": Goal(make, LOGIT_TOLERANCE, None, "logit"), "probabilities": Goal(make, PROBABILITY_TOLERANCE, BOX, "probability")}


def _one(question: Question, seed: int, recipe: Recipe, settings: Settings) -> dict[str, Any]:
    """All methods in both spaces: space -> method -> figures."""
    parts = _parts(question, seed, settings)
    spaces = goals_of(question.attribute)
    plain = _network(parts, spaces["logits"], recipe, seed)
    made = {space: _methods(plain, parts, goal, recipe, seed) for space, goal in spaces.items()}
    return {"spaces": made, "rows": [len(part) for part in (parts.train, parts.validation, parts.held_out)]}


def _weak(question: Question, seed: int, recipe: Recipe, settings: Settings) -> dict[str, Any]:
    """The weak penalty in both spaces: space -> figures."""
    parts, goals = _parts(question, seed, settings), goals_of(question.attribute)
    scores = {space: _network(parts, goal, recipe, seed, penalty=WEAK)(parts.held_out) for space, goal in goals.items()}
    return {space: measured(scores[space], parts.held_out, goal, project=False) for space, goal in goals.items()}


def _parts(question: Question, seed: int, settings: Settings) -> Parts:
    whole = data.load(settings.data, target=question.target)
    return data.split(data.induced(whole, question.attribute, question.rates, seed), seed)


def _methods(plain: Scores, parts: Parts, goal: Goal, recipe: Recipe, seed: int) -> dict[str, Any]:
    """method -> figures. ``plain``: the logits of the plain network."""
    constant, logistic = (_of(method.fit(parts, goal, recipe, seed)) for method in (Constant(), Linear()))
    scores = _as(plain, goal)
    inside = _network(parts, goal, recipe, seed, layer=fo.FairnessLayer(goal.notion, bounds=goal.bounds))

    def of(scores: Scores, *, project: bool) -> dict[str, Any]:
        sweep = SWEEP if goal.space == "probability" else ()
        return measured(scores(parts.held_out), parts.held_out, goal, project=project, sweep=sweep)

    penalised, strength = _penalty(parts, goal, recipe, seed)
    return {
        CONSTANT: of(constant, project=False),
        LOGISTIC: of(logistic, project=False),
        LOGISTIC_PROJECTED: of(logistic, project=True),
        PLAIN: of(scores, project=False),
        PROJECTED: of(scores, project=True),
        PENALTY: of(penalised, project=False) | {"strength": strength},
        LAYER: of(inside, project=True),
    }


def _network(parts: Parts, goal: Goal, recipe: Recipe, seed: int, **how: Any) -> Scores:
    """A trained network as scores of a part, in the goal's space. ``how``: penalty or layer."""
    network = SmallCNN(data.SIDE, recipe.hidden, recipe.dropout, seed)
    train(network, parts.train, parts.validation, goal, recipe, seed, **how)
    return lambda part: predict(network, part, goal)


def _as(logits: Scores, goal: Goal) -> Scores:
    return (lambda part: torch.sigmoid(logits(part))) if goal.space == "probability" else logits


def _of(predictor: Callable[[Tensor, Any], Tensor]) -> Scores:
    return lambda part: predictor(part.x, part.sensitive).double()


def _penalty(parts: Parts, goal: Goal, recipe: Recipe, seed: int) -> tuple[Scores, float]:
    """The strength with the least validation loss of those that keep the gap there; where none does, the one with the least gap."""
    tried = []
    for strength in PENALTIES:
        scores = _network(parts, goal, recipe, seed, penalty=strength)
        seen = figures(scores(parts.validation), parts.validation, goal)
        gap = seen["logit_gap"] if goal.space == "logit" else seen["score_gap"]
        tried.append((not seen["met"], seen["log_loss"] if seen["met"] else gap, strength, scores))
    _, _, strength, scores = min(tried, key=lambda t: t[:3])
    return scores, strength
