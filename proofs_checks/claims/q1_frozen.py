"""Q1: what a frozen layer promises on the population."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

import fairopt as fo
from fairopt.layer.frozen import FrozenLayer
from proofs_checks.batches import FloatArray, IntArray
from proofs_checks.claim import Claim, Generator, Measurement, worst

STATEMENT = """
iid calibration samples, disjoint groups, weights equal within a group, scores in a box of width R; prices fixed on the calibration
set, then y = clip(z - shift_g). With probability >= 1 - alpha, for all pairs at once, `population gap <= calibration gap + R sum
over the two groups of sqrt(log(2 K / alpha) / (2 n_g))`, uniformly over the shifts. On a held-out half, which did not choose the
shifts, `R sqrt(log(1 / alpha) (1/n_a + 1/n_b) / 2)` suffices, for any number K of groups: a, b the
smallest two. Equal opportunity cannot be frozen: its shift needs the label, unknown when the score is sent.
"""
PROOF = """
For every s, `|E clip(Z - s) - mean clip(z_i - s)| <= integral over the box of |F - F_n| <= R sup |F - F_n|`: one event for all
shifts. Dvoretzky-Kiefer-Wolfowitz with Massart's constant bounds it by sqrt(log(2K/alpha) / (2 n_g)) with probability 1 - alpha/K;
union over K groups; a pair adds its two margins. Fixed shifts: the population's extreme pair is a fixed pair, whatever the sample
says, so one one-sided Hoeffding inequality on its difference of means serves: the sample gap is at least that pair's difference.
"""
LOOSE = """
Searches reach about .45 of the bound: a union over K groups, uniformity over the shift, and two groups whose errors must point
apart, each at its worst at once, while the shift is chosen on the same data, against the gap.
"""
Freeze = Callable[[fo.FairnessLayer, FloatArray, IntArray], tuple[FrozenLayer, float, float]]


def freeze(layer: fo.FairnessLayer, z: FloatArray, codes: IntArray) -> tuple[FrozenLayer, float, float]:
    """The frozen layer, its calibration gap and its margin at 95 %."""
    frozen = layer.freeze(torch.from_numpy(z), sensitive_features={"g": codes.tolist()}, confidence=0.95)
    bound = frozen.bounds[0]
    assert bound.margin is not None
    return frozen, bound.gap, bound.margin


def margin_of_the_whole(layer: fo.FairnessLayer, z: FloatArray, codes: IntArray) -> tuple[FrozenLayer, float, float]:
    """Takes the margin for n_g as if every group had ten times the samples."""
    frozen, gap, margin = freeze(layer, z, codes)
    return frozen, gap, margin / np.sqrt(10.0)


def margin_smaller(size: float) -> Freeze:
    """A margin that is too small by the part ``size``."""

    def off(layer: fo.FairnessLayer, z: FloatArray, codes: IntArray) -> tuple[FrozenLayer, float, float]:
        frozen, gap, margin = freeze(layer, z, codes)
        return frozen, gap, (1 - size) * margin

    return off


def shift_smaller(size: float) -> Freeze:
    def off(layer: fo.FairnessLayer, z: FloatArray, codes: IntArray) -> tuple[FrozenLayer, float, float]:
        frozen, gap, margin = freeze(layer, z, codes)
        frozen.shifts.mul_(1 - size)
        return frozen, gap, margin

    return off


def shift_reversed(layer: fo.FairnessLayer, z: FloatArray, codes: IntArray) -> tuple[FrozenLayer, float, float]:
    frozen, gap, margin = freeze(layer, z, codes)
    frozen.shifts.neg_()
    return frozen, gap, margin


def law(rng: Generator, kind: int, size: int) -> FloatArray:
    """A population of ``size`` atoms in [0, 1]: uniform, two points, beta, a lump at a bound, nearly constant."""
    if kind == 1:
        return np.asarray((rng.random(size) < rng.uniform(0.2, 0.8)).astype(np.float64))
    if kind == 2:
        return np.asarray(rng.beta(rng.uniform(0.3, 4.0), rng.uniform(0.3, 4.0), size))
    if kind == 3:
        return np.clip(rng.normal(0.9, 0.4, size), 0, 1)
    if kind == 4:
        return np.clip(rng.normal(rng.uniform(0, 1), 0.02, size), 0, 1)
    return rng.uniform(0, 1, size)


def check(rng: Generator, freeze: Freeze) -> Measurement:
    """K groups with a law each, 1 to 60 calibration samples a group; population means exact over the atoms."""
    groups = int(rng.integers(2, 5))
    population = [law(rng, int(rng.integers(5)), 400) for _ in range(groups)]
    counts = rng.integers(1, 61, groups)
    z = np.concatenate([rng.choice(p, n) for p, n in zip(population, counts, strict=True)])
    codes = np.repeat(np.arange(groups), counts)
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=float(rng.choice([0.0, 0.05]))), bounds=(0.0, 1.0))
    frozen, gap, margin = freeze(layer, z, codes)
    wanted = 1 / np.array(counts)
    pair = float(np.sort(wanted)[-2:].sum())
    sent = frozen.predict(torch.from_numpy(z), sensitive_features={"g": codes.tolist()}).numpy()
    held = np.array([sent[codes == g].mean() for g in range(groups)])
    each = np.minimum(np.sqrt(np.log(2 * groups / 0.05) * wanted / 2), 1.0)
    stated = float(each.sum() if groups == 2 else (held + each).max() - held.max() + held.min() - (held - each).min())
    told = frozen.bounds[0].held_out_margin or 0.0
    means = [float(frozen.predict(torch.from_numpy(p), sensitive_features={"g": [g] * p.size}).mean()) for g, p in enumerate(population)]
    labelled = fo.FairnessLayer(fo.EqualOpportunity("g", tolerance=0.0), bounds=(0.0, 1.0))
    return worst(
        Measurement(max(means) - min(means) - gap, margin),
        Measurement(abs(margin - stated), 0.0, 1e-9, note="the margin is the claim's"),
        Measurement(abs(told - float(np.sqrt(np.log(1 / 0.05) * pair / 2))), 0.0, 1e-9, note="the held-out margin is the claim's"),
        Measurement(abs(gap - float(np.ptp(held))), 0.0, 1e-9, note="the calibration gap"),
        _label_refused(labelled, z, codes),
    )


def _label_refused(layer: fo.FairnessLayer, z: FloatArray, codes: IntArray) -> Measurement:
    targets = np.arange(z.size) % 2
    if len({(c, t) for c, t in zip(codes.tolist(), targets.tolist(), strict=True)}) < 4:
        return Measurement(0.0, 0.0)
    try:
        frozen = layer.freeze(torch.from_numpy(z), sensitive_features={"g": codes.tolist()}, targets=targets)
    except fo.UnsupportedError:
        return Measurement(0.0, 0.0)
    return Measurement(float(np.abs(frozen.shifts.numpy()).max()), 0.0, 1e-12, note="equal opportunity was frozen with a shift")


CLAIMS = (
    Claim(
        "Q1",
        "a frozen layer on the population",
        "bound",
        "ours",
        STATEMENT,
        PROOF,
        check,
        freeze,
        {"margin of ten times the samples": margin_of_the_whole, "shift reversed": shift_reversed},
        loose=LOOSE.strip(),
        deviations={"margin smaller": margin_smaller, "shifts smaller": shift_smaller},
    ),
)
