"""B3-B6: what parity of each batch, of logits or of means does not give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import fairopt as fo
from fairopt.streaming import Controller, PooledParity, PrimalDual, StreamStep, parity
from proofs_checks.batches import FloatArray, IntArray, PerBatch, gap, pooled_gap
from proofs_checks.claim import Claim, Generator, Measurement, worst

Answer = Callable[[Tensor, list[int]], Tensor]
PARITY = fo.DemographicParity("g", tolerance=0.01)

B3 = """
(Simpson) For every d in (0, 1/2) there are two batches with gap 0 each and pooled gap 1 - 2d in the box [0, 1]: batch 1 holds the
share 1 - d of group 0 and d of group 1 at score 1, batch 2 the rest at score 0. The layer changes nothing.
"""
B3_PROOF = "M_0 = (1 - d) 1 + d 0 and M_1 = d 1 + (1 - d) 0. As d tends to 0 the pooled gap tends to the range."
B4 = """
Batches of one sample: each batch gap is undefined and counts as 0, TV of the shares is 1: the paper's rule sends every score
unchanged, its price stays 0, it reports batch gap 0, and the pooled gap is the raw gap, whatever it is.
"""
B4_PROOF = "G_t = -eps in every step, so p stays at max(0, -...) = 0 and y_t = z_t."
B5 = """
Parity of mean logits does not give parity of mean probabilities: with group 0 holding k logits at L and one at -kL, and group 1 the
mirror image, both mean logits are 0 and the gap of mean probabilities is at least (k - 1)/(k + 1) - 2 e^{-L}: as near 1 as wanted.
"""
B5_PROOF = """
sigmoid(L) >= 1 - e^{-L}: group 0's mean probability is at least k/(k + 1) (1 - e^{-L}), group 1's at most 1/(k + 1) + e^{-L}.
"""
B6 = """
Parity of mean scores does not give parity of decisions at a threshold: group 0 all at 1/2, group 1 with m of n at 1 and the others
just below 1/2 so that the means are equal: at threshold 1/2 the rates are 1 and m/n, with m/n as small as wanted.
"""
B6_PROOF = "The others sit at v = (n/2 - m)/(n - m) < 1/2, so they are decided 0; the gap of rates is 1 - m/n."


def check_simpson(rng: Generator, layer: PerBatch) -> Measurement:
    """The two batches at drawn sizes through the layer: batch gaps 0, pooled gap 1 - 2d."""
    n = int(rng.integers(4, 200))
    few = int(rng.integers(1, (n + 1) // 2))
    batches: list[tuple[FloatArray, IntArray]] = []
    for counts, level in (((n - few, few), 1.0), ((few, n - few), 0.0)):
        codes = np.repeat([0, 1], counts).astype(np.int64)
        batches.append((np.full(n, level), codes))
    sent = layer.send(batches, 0.0)
    sent = sent if len(sent) == 2 else [sent[0][:n], sent[0][n:]]
    alone = max(gap(y, c) or 0.0 for y, (_, c) in zip(sent, batches, strict=True))
    found = pooled_gap(sent, [c for _, c in batches])
    assert found is not None
    return worst(Measurement(alone, 0.0, note="batch gaps"), Measurement(1 - 2 * few / n, found, 1e-12, note="pooled gap"))


class PartlyPooled(PrimalDual):
    """The part ``size`` of each answer is the pooled rule's on the same stream."""

    size = 0.1

    def __init__(self, notion: object, *, bounds: tuple[float, float]) -> None:
        super().__init__(notion, bounds=bounds)
        self.other = PooledParity(notion, bounds=bounds)

    def step(self, scores: Any, *, sensitive_features: Any, **more: Any) -> StreamStep:
        pooled = np.asarray(self.other.step(scores, sensitive_features=sensitive_features).scores)
        mixed = (1 - self.size) * np.asarray(scores) + self.size * pooled
        step = super().step(mixed if mixed.ndim else float(mixed), sensitive_features=sensitive_features, **more)
        return step


def partly_pooled(size: float) -> type[PrimalDual]:
    return type("PartlyPooled", (PartlyPooled,), {"size": size})


def check_single(rng: Generator, make: Callable[..., Controller]) -> Measurement:
    """B4 on streams of 60 single samples."""
    eps = 0.05
    controller = make(parity("g", tolerance=eps), bounds=(0, 1))
    codes = rng.integers(0, 2, 60)
    codes[:2] = (0, 1)
    z = np.clip(rng.normal(0.3 + 0.4 * codes, 0.2), 0, 1)
    sent = [float(controller.step(float(s), sensitive_features=int(g)).scores) for s, g in zip(z, codes, strict=True)]
    moved = float(np.abs(np.array(sent) - z).max())
    found, raw = gap(np.array(sent), codes), gap(z, codes)
    assert found is not None
    assert raw is not None
    told = controller.report().extra.get("batch_gap", 1.0)
    return worst(
        Measurement(moved, 0.0, note="scores unchanged"),
        Measurement(float(told), 0.0, note="its own quantity"),
        Measurement(raw, found, 1e-12),
    )


def probabilities(z: Tensor, codes: list[int]) -> Tensor:
    """The layer on logits, and the probabilities of what it sends."""
    return torch.sigmoid(fo.FairnessLayer(PARITY, space="logit")(z, sensitive_features={"g": codes}))


def on_probabilities(z: Tensor, codes: list[int]) -> Tensor:
    sent: Tensor = fo.FairnessLayer(PARITY, space="probability")(z, sensitive_features={"g": codes})
    return sent


def partly_on_probabilities(size: float) -> Answer:
    return lambda z, codes: (1 - size) * probabilities(z, codes) + size * on_probabilities(z, codes)


def check_logits(rng: Generator, answer: Answer) -> Measurement:
    """The gap of mean probabilities of the layer's logits, as ``fo.gaps`` tells it, at drawn k and L; the mean logits are equal."""
    k, height = int(rng.integers(1, 60)), float(rng.uniform(1, 20))
    group = np.r_[np.full(k, height), -k * height]
    z = torch.from_numpy(np.r_[group, -group])
    codes = [0] * (k + 1) + [1] * (k + 1)
    p = answer(z, codes).numpy()
    found = gap(np.asarray(p, dtype=np.float64), np.array(codes))
    assert found is not None
    return Measurement((k - 1) / (k + 1) - 2 * float(np.exp(-height)), found, 1e-9)


def threshold(y: FloatArray, codes: IntArray) -> FloatArray:
    return (y >= 0.5).astype(np.float64)


def systematic(y: FloatArray, codes: IntArray) -> FloatArray:
    """``decide``: rounding whose rates follow the means (Q2)."""
    from fairopt.layer.decisions import decide

    return np.asarray(decide(y, sensitive_features={"g": codes}, generator=np.random.default_rng(0)), dtype=np.float64)


def threshold_at(level: float) -> Callable[[FloatArray, IntArray], FloatArray]:
    return lambda y, codes: (y >= level).astype(np.float64)


def check_threshold(rng: Generator, decide: Callable[[FloatArray, IntArray], FloatArray]) -> Measurement:
    """The gap of decision rates at the threshold, of what the layer sends at tolerance 1e-9, at drawn n and m."""
    n = int(rng.integers(8, 200))
    m = int(rng.integers(1, n // 4 + 1))
    codes = np.repeat([0, 1], n).astype(np.int64)
    z = np.r_[np.full(n, 0.5), np.full(m, 1.0), np.full(n - m, (n / 2 - m) / (n - m))]
    (y,) = PerBatch().send([(z, codes)], 1e-9)
    found = gap(decide(y, codes), codes)
    assert found is not None
    return Measurement(1 - m / n, found, 1e-12)


CLAIMS = (
    Claim(
        "B3",
        "Simpson: gap 0 in each batch, pooled gap near the range",
        "counterexample",
        "ours",
        B3,
        B3_PROOF,
        check_simpson,
        PerBatch(),
        {"all batches as one": PerBatch(pooled=True)},
        deviations={"a part of the whole's answer": lambda size: PerBatch(whole=size)},
    ),
    Claim(
        "B4",
        "batches of one sample: the paper's rule does nothing",
        "counterexample",
        "ours",
        B4,
        B4_PROOF,
        check_single,
        PrimalDual,
        {"pooled rule": PooledParity},
        deviations={"a part of the pooled rule's answer": partly_pooled},
        instances=200,
    ),
    Claim(
        "B5",
        "parity of logits is not parity of probabilities",
        "counterexample",
        "ours",
        B5,
        B5_PROOF,
        check_logits,
        probabilities,
        {"layer on probabilities": on_probabilities},
        deviations={"a part of the layer on probabilities": partly_on_probabilities},
    ),
    Claim(
        "B6",
        "parity of means is not parity of decisions",
        "counterexample",
        "textbook",
        B6,
        B6_PROOF,
        check_threshold,
        threshold,
        {"systematic rounding": systematic},
        deviations={
            "threshold lower": lambda size: threshold_at(0.5 * (1 - size)),
            "threshold higher": lambda size: threshold_at(0.5 * (1 + size)),
        },
    ),
)
