"""``PrimalDual`` against a stored trace of the paper's own package (made by tests/bench/paper_trace.py, ``make bench-paper``)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fairopt.streaming import PrimalDual, named

TRACE = json.loads((Path(__file__).parent / "paper_trace.json").read_text())


def follow(name: str, which: str) -> tuple[float, float, int]:
    """(largest difference of a score, of a price, number of batches that went through the hard layer)."""
    stream = TRACE["streams"][name]
    attributes = [f"a{k}" for k in range(len(stream["batches"][0]["codes"]))]
    notion = "mean_residual" if name == "mean_residual" else "demographic_parity"
    families = [f for a in attributes for f in named(notion, a, TRACE["eps"])]
    controller = PrimalDual(families, bounds=(0, 1), eta_0=TRACE["eta_0"], b_tau=TRACE["b_tau"])
    scores = prices = 0.0
    hard = 0
    for batch, theirs in zip(stream["batches"], stream[which], strict=True):
        targets = batch["targets"] if name == "mean_residual" else None
        y = controller.step(batch["z"], sensitive_features=dict(zip(attributes, batch["codes"], strict=True)), targets=targets).scores
        scores = max(scores, float(np.abs(np.array(y) - np.array(theirs["y"])).max()))
        prices = max(prices, abs(controller.price - theirs["price"]))
        hard += len(y) >= TRACE["b_tau"]
    assert controller.soft_steps == len(stream["batches"]) - hard
    return scores, prices, hard


@pytest.mark.parametrize("name", list(TRACE["streams"]))
def test_it_equals_the_package_with_its_solver_tightened(name):
    scores, prices, hard = follow(name, "tight")
    assert hard >= 3
    assert scores <= 1e-6
    assert prices <= 1e-6


@pytest.mark.parametrize("name", list(TRACE["streams"]))
def test_it_is_near_the_package_as_it_comes(name):
    scores, prices, _ = follow(name, "default")
    assert scores <= 5e-3
    assert prices <= 5e-3
