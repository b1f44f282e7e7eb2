"""The figure that moves computes what ``fairopt.project`` computes, and does so when it is dragged."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import fairopt as fo

DOCS = Path(__file__).parents[2] / "docs"
SCRIPT = DOCS / "moving.js"
NODE = shutil.which("node")
_SPEC = importlib.util.spec_from_file_location("browser", DOCS / "_site/browser.py")  # a folder that is no package
assert _SPEC is not None
assert _SPEC.loader is not None
browser = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(browser)
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


@pytest.mark.skipif(browser.CHROMIUM is None, reason="Chromium is not here")
def test_the_figure_moves_in_a_browser(tmp_path: Path) -> None:
    figure = (DOCS / "moving.md").read_text().split('<div class="moving"')[1].split("</div>")[0]
    address = tmp_path / "page.html"
    script = (DOCS / "moving.js").as_uri()
    address.write_text(f'<!doctype html><meta charset="utf-8"><div class="moving"{figure}</div><script src="{script}"></script>')
    drag = "(() => { const s = document.querySelector('input'); s.value = '%s'; s.dispatchEvent(new Event('input')); })()"
    words = "document.querySelector('output').textContent"
    marks = "[...document.querySelectorAll('circle.a, circle.b')].map((one) => Number(one.getAttribute('cx')))"
    with browser.Browser(800) as window:
        window.open(address.as_uri())
        shown = {}
        for tolerance in (0.0, 0.1, 0.4):
            window.say(drag % tolerance)
            gap, price = (float(window.say(words).split(name)[1].split()[0]) for name in ("gap", "price"))
            shown[tolerance] = (gap, price, window.say(marks))
    assert [gap for gap, _, _ in shown.values()][:2] == [0.0, 0.1]
    assert shown[0.0][1] > shown[0.1][1] > shown[0.4][1] == 0.0  # a wide tolerance costs nothing
    assert shown[0.4][0] < 0.4
    assert shown[0.0][2] != shown[0.1][2] != shown[0.4][2]
    assert len(shown[0.0][2]) == 100
