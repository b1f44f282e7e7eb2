"""Claims L6 and L7: the closed forms of one disjoint attribute without a box, against the layer."""

from __future__ import annotations

import numpy as np
import torch

import fairopt.testing.claims.formulas as formulas
from fairopt.basics.arrays import Array
from fairopt.layer.one_shot import compile as compile_notion
from fairopt.notions import DemographicParity
from fairopt.testing.claims.measurement import Measurement
from fairopt.testing.claims.subject import Case, Generator, Layer, scale_of

ACCURACY = 1e-9


def groups_case(rng: Generator, groups: int, max_n: int = 40) -> tuple[Case, Array, float]:
    """One attribute of ``groups`` groups, sizes mixed and often 1, weights or none, ties and extreme scores among them: case, codes,
    eps.
    """
    n = int(rng.integers(groups, max_n + 1))
    codes = np.concatenate([np.arange(groups), np.minimum(rng.geometric(0.5, n - groups) - 1, groups - 1)])
    rng.shuffle(codes)
    z = rng.normal(0.5, 0.5, n) + rng.normal(0, 1, groups)[codes] * rng.choice([0.0, 0.3, 3.0, 300.0])
    if rng.uniform() < 0.2:
        z = np.round(z)
    eps = float(rng.choice([0.0, 0.01, 0.05, 0.3, 2.0]))
    weights = np.exp(rng.uniform(-2, 2, n)) if rng.uniform() < 0.5 else None
    prepared = compile_notion(
        DemographicParity("a", tolerance=eps), sensitive_features={"a": codes.tolist()},
        weights=None if weights is None else torch.from_numpy(weights),
    )  # fmt: skip
    return Case(torch.from_numpy(z), prepared.problem, description=f"{groups} groups, n={n}, eps={eps}"), codes, eps


def two_groups(rng: Generator) -> Case:
    return groups_case(rng, 2)[0]


def sizes_and_means(case: Case, codes: Array, groups: int) -> tuple[Array, Array, Array]:
    """(K,) counts n_g, effective sizes N_g = n_g^2 / sum 1/w_i, means."""
    counts = np.bincount(codes, minlength=groups).astype(np.float64)
    inverse = np.bincount(codes, weights=1.0 / case.w, minlength=groups)
    return counts, counts**2 / inverse, np.bincount(codes, weights=case.z, minlength=groups) / counts


def moved_to(case: Case, codes: Array, shifts: Array) -> Array:
    """(n,) scores whose group means are lowered by ``shifts`` (K,) at least cost: sample i moves by shift * (n_g / w_i) / sum_g 1/w."""
    counts = np.bincount(codes, minlength=len(shifts))
    inverse = np.bincount(codes, weights=1.0 / case.w, minlength=len(shifts))
    return np.asarray(case.z - (shifts * counts / inverse)[codes] / case.w)


HUGE, HUGE_SHARE = 100_000, 0.01


def check_two_groups(rng: Generator, layer: Layer) -> Measurement:
    """L6, with weights; one instance in a hundred with up to 100,000 samples."""
    case, codes, eps = groups_case(rng, 2, HUGE if rng.uniform() < HUGE_SHARE else 40)
    _, sizes, means = sizes_and_means(case, codes, 2)
    shifts = formulas.two_group_shifts(float(means[0]), float(means[1]), float(sizes[0]), float(sizes[1]), eps)
    y, _ = layer.project(case.scores, case.problem)
    return Measurement(float(np.abs(y - moved_to(case, codes, np.array(shifts))).max()) / scale_of(case, y), ACCURACY)


def window(means: Array, sizes: Array, eps: float) -> float:
    """The lower end t of the window: the root of ``formulas.imbalance`` between its sorted breakpoints."""
    points = np.sort(np.concatenate([means, means - eps]))
    values = [float(formulas.imbalance(means.tolist(), sizes.tolist(), float(t), eps)) for t in points]
    k = int(np.searchsorted(values, 0.0))
    if k == 0:
        return float(points[0])
    a, b = values[k - 1], values[k]
    return float(points[k - 1] + (points[k] - points[k - 1]) * (-a / (b - a)))


def check_many_groups(rng: Generator, layer: Layer) -> Measurement:
    """L7, with weights: new means clip(mu_g, t, t + eps) and the moves of the samples; some with up to 100,000 samples."""
    groups = int(rng.integers(2, 9))
    case, codes, eps = groups_case(rng, groups, HUGE if rng.uniform() < HUGE_SHARE else 40)
    _, sizes, means = sizes_and_means(case, codes, groups)
    new = formulas.window_means(means.tolist(), window(means, sizes, eps), eps)
    y, _ = layer.project(case.scores, case.problem)
    return Measurement(float(np.abs(y - moved_to(case, codes, means - np.array(new))).max()) / scale_of(case, y), ACCURACY)
