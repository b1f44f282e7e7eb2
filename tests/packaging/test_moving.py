"""The figure that moves computes what ``fairopt.project`` computes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import fairopt as fo

SCRIPT = Path(__file__).parents[2] / "docs" / "moving.js"
NODE = shutil.which("node")
RUN = "const m = require(process.argv[1]); const cases = JSON.parse(require('fs').readFileSync(0)); "


@pytest.mark.skipif(NODE is None, reason="node is not here")
def test_the_figure_that_moves_says_what_fairopt_says() -> None:
    assert NODE is not None
    draw = np.random.default_rng(0)
    cases = []
    for _ in range(200):
        a, b = (draw.normal(draw.uniform(0, 1), 0.4, draw.integers(1, 40)).clip(0, 1).tolist() for _ in range(2))
        cases.append({"a": a, "b": b, "tolerance": float(draw.choice([0.0, 0.01, 0.1, 0.5]))})
    code = RUN + "console.log(JSON.stringify(cases.map((c) => m.project(c.a, c.b, c.tolerance, 0, 1))))"
    ran = subprocess.run([NODE, "-e", code, str(SCRIPT)], input=json.dumps(cases), capture_output=True, text=True, timeout=60, check=True)
    moved = 0
    for case, came in zip(cases, json.loads(ran.stdout), strict=True):
        scores = torch.tensor(case["a"] + case["b"], dtype=torch.float64)
        groups = ["a"] * len(case["a"]) + ["b"] * len(case["b"])
        notion = fo.DemographicParity("g", tolerance=case["tolerance"])
        solution = fo.project(scores, notion, sensitive_features={"g": groups}, bounds=(0, 1), return_solution=True)
        np.testing.assert_allclose(came["a"] + came["b"], solution.scores.numpy(), atol=1e-9)
        moved += float((solution.scores - scores).abs().max()) > 1e-6
        assert came["gap"] <= case["tolerance"] + 1e-12 or came["price"] == 0
        if float(solution.scores.min()) > 0.0 and float(solution.scores.max()) < 1.0:  # the price is unique
            assert came["price"] == pytest.approx(float(solution.prices.abs().sum()), abs=1e-8)
    assert moved > 100
