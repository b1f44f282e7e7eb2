"""The numbers of a subject: groups, scores, targets and the vector that is sent backwards, from a seed and the subject's name alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.contract.problem import ProjectionProblem
from fairopt.layer.classes import PreparedClasses
from fairopt.layer.one_shot import compile
from fairopt.layer.prepared import Prepared
from fairopt.notions import DemographicParity, EqualizedOdds, EqualOpportunity, ImpactRatio, MeanResidual, Notion
from fairopt.race.cells import Box, Subject

TOLERANCE = 0.05
VARIANTS = 4
BOUNDS: dict[Box, tuple[float, float] | None] = {"none": None, "inactive": (-10.0, 10.0), "active": (0.1, 0.9)}
INSIDE = (1e-4, 1 - 1e-4)  # "inactive" of probabilities under "kl"


@dataclass(frozen=True, eq=False)
class Drawn:
    """``scores`` (1 + VARIANTS, n), of class probabilities (1 + VARIANTS, n, classes): the first is judged, the others are timed, so that
    no answer can be remembered; ``cotangent``: as one of them."""

    subject: Subject
    notion: Notion
    features: dict[str, IntArray]
    targets: Array | None
    scores: Tensor
    cotangent: Tensor

    @property
    def fingerprint(self) -> str:
        """What the drawn numbers hash to: worker and judge must speak of the same ones."""
        digest = hashlib.sha256(self.scores.numpy().tobytes() + self.cotangent.numpy().tobytes())
        for values in (*self.features.values(), self.targets):
            digest.update(b"" if values is None else values.tobytes())
        return digest.hexdigest()

    def prepare(self) -> Prepared | PreparedClasses:
        """The compiled batch; what it takes is part of a backend's set-up time."""
        subject = self.subject
        if subject.classes > 1:
            return compile(
                self.notion, sensitive_features=self.features, targets=self.targets, distance=subject.distance, outputs="simplex"
            )
        bounds = INSIDE if (subject.distance, subject.box) == ("kl", "inactive") else BOUNDS[subject.box]
        return compile(self.notion, sensitive_features=self.features, targets=self.targets, distance=subject.distance, bounds=bounds)

    def problem(self, prepared: Prepared | PreparedClasses) -> ProjectionProblem:
        """What a backend is handed."""
        return prepared.problem if isinstance(prepared, Prepared) else prepared.problem_for(self.subject.classes)


def in_positions(table: Tensor) -> Tensor:
    """Numbers (n,) or (n, classes) as a problem has them: class by class."""
    return table if table.dim() == 1 else table.T.reshape(-1)


def draw(subject: Subject, seed: int) -> Drawn:
    """The same numbers in every process. float32 scores are the float64 ones, rounded."""
    name = f"{seed} {subject.notion} {subject.n} {subject.groups} {subject.box} {subject.distance} {subject.classes}"
    rng = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
    n, k = subject.n, subject.groups
    first = rng.permutation(np.arange(n) % k)  # every group is there, of nearly equal size
    second = rng.permutation(np.arange(n) % 2)
    raw = rng.normal(0.5, 0.25, n) + 0.3 * first / (k - 1) - 0.15 + 0.1 * second
    notion, targets = _notion(subject, first, rng)
    numbers = np.vstack([raw, raw + rng.normal(0.0, 0.01, (VARIANTS, n))])
    dtype = getattr(torch, subject.dtype)
    scores = _scores(torch.from_numpy(numbers), subject, rng).to(dtype)
    cotangent = torch.from_numpy(rng.normal(0.0, 1.0, tuple(scores.shape[1:]))).to(dtype)
    return Drawn(subject, notion, {"first": first, "second": second}, targets, scores, cotangent)


def _scores(numbers: Tensor, subject: Subject, rng: np.random.Generator) -> Tensor:
    """Scores out of ``numbers`` (1 + VARIANTS, n): as they are, as logits of probabilities, or as that of one class among others."""
    if subject.classes > 1:
        others = torch.from_numpy(rng.normal(0.0, 1.0, (subject.n, subject.classes - 1))).expand(numbers.shape[0], -1, -1)
        return torch.softmax(torch.cat([4.0 * numbers[..., None] - 2.0, others], dim=-1), dim=-1)
    return torch.sigmoid(4.0 * numbers - 2.0) if subject.distance == "kl" else numbers


def _notion(subject: Subject, first: IntArray, rng: np.random.Generator) -> tuple[Notion, Array | None]:
    labels = _labels(first, max(subject.classes, 2), rng)
    match subject.notion:
        case "demographic_parity":
            return DemographicParity("first", tolerance=TOLERANCE), None
        case "two_attributes":
            return DemographicParity("first", tolerance=TOLERANCE) & DemographicParity("second", tolerance=TOLERANCE), None
        case "impact_ratio":
            return ImpactRatio("first", ratio=0.9), None
        case "equal_opportunity":
            return EqualOpportunity("first", tolerance=TOLERANCE), labels
        case "equalized_odds":
            return EqualizedOdds("first", tolerance=TOLERANCE), labels
        case "mean_residual":
            if subject.classes > 1:
                return MeanResidual("first", tolerance=TOLERANCE), labels
            return MeanResidual("first", tolerance=TOLERANCE), np.asarray(rng.uniform(0.2, 0.8, first.shape[0]))


def _labels(first: IntArray, values: int, rng: np.random.Generator) -> Array:
    """Targets (n,) of 0 to ``values`` - 1, each of them in every group."""
    labels = np.asarray(rng.integers(0, values, first.shape[0]), dtype=np.float64)
    for group in np.unique(first):
        members = np.flatnonzero(first == group)
        labels[members[:values]] = np.arange(values)
    return labels
