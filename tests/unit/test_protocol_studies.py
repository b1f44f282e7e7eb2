"""The four studies of the protocol: worlds, fits and figures, pages from stored tables, and the check that makes lines again."""

from __future__ import annotations

import csv
import gzip
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairopt.basics.errors import InputError
from fairopt.experiments.data.tabular import Dataset
from fairopt.experiments.evidence import check, parts, written
from fairopt.experiments.evidence.bootstrap import Error
from fairopt.experiments.evidence.cells import Rows
from fairopt.experiments.evidence.seeds import compared_over_seeds, over_seeds
from fairopt.experiments.evidence.verdicts import interval, losses_and_wins
from fairopt.experiments.pages import TABLES, render, write_page
from fairopt.experiments.reproduce import Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies import class_fits, class_study, controllers, cost, inside, inside_report, inside_worlds
from fairopt.experiments.studies.class_figures import ClassPredictions, accuracy, decision_gap, gap, quality
from fairopt.experiments.studies.epochs import KINDS, Data, compare

for package in ("sklearn", "scipy"):
    pytest.importorskip(package, reason=f"the studies need {package}")


# Differences over seeds ------------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), m=st.integers(3, 12))
def test_seeds_without_a_common_row_have_student_s_interval(seed: int, m: int) -> None:
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(seed).normal(0.5, 1, m)
    found, other = over_seeds(values.tolist()), ttest_1samp(values, 0.0)
    interval = other.confidence_interval(0.95)
    assert [found.estimate, found.p, found.low, found.high] == pytest.approx([values.mean(), other.pvalue, interval.low, interval.high])


def test_what_shows_nothing_over_seeds() -> None:
    assert over_seeds([1.0, 2.0]).p is None
    assert over_seeds([1.0, math.nan, 2.0]).p is None
    assert over_seeds([1.0, 1.0, 1.0]).p == 1.0  # differences that do not vary at all come of rounding, or of nothing
    with pytest.raises(InputError, match="values: got none"):
        over_seeds([])


def test_losses_stand_first_and_one_seed_gives_no_verdict() -> None:
    wins, loses = [0.1, 0.11, 0.09, 0.1], [-0.1, -0.11, -0.09, -0.1]
    same = [0.0, 0.001, -0.001, 0.0]
    asked = [("a", "b", wins, same), ("a", "c", loses, same), ("a", "d", same, same), ("a", "e", wins[:1], same[:1])]
    compared = compared_over_seeds(asked)
    section = losses_and_wins(("where",), [((c.second,), c) for c in compared])
    assert [row[:4] for row in section.rows.rows] == [("loses", "c", "a", "c"), ("wins", "b", "a", "b")]
    assert section.verdicts == (
        "1 losses, 1 wins, 1 comparisons with no difference shown. 1 without a verdict: too few seeds, or a figure that a draw has not.",
    )
    assert compared[3].outcome_or_none is None
    # four comparisons are corrected together, the unknown one among them
    assert compared[0].p == pytest.approx(4 * (over_seeds(wins).p or 0))


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.1, 0.2, "[0.1000, 0.2000]"), (1.234e-5, 4.9e-5, "[0.000012, 0.000049]"), (0.5, 0.5, "[0.5000, 0.5000]"), (None, 1.0, None)],
)
def test_an_interval_shows_two_digits_of_its_width(low: float | None, high: float, words: str | None) -> None:
    assert interval(Error(0.0, 0.0, low, high, 1.0)) == words


# inside ----------------------------------------------------------------------------------------------------------------------------


def test_each_world_differs_from_the_centre_in_one_thing() -> None:
    found = inside_worlds.worlds()
    assert len({w.name for w in found}) == len(found)
    for loss in inside_worlds.LOSSES:
        own = [w for w in found if w.loss == loss and w.data == "made"]
        assert own[0] == inside_worlds.World(loss)
        for world in own[1:]:
            changed = [
                k for k in ("known", "hidden", "d", "train", "batch", "distance", "drift") if getattr(world, k) != getattr(own[0], k)
            ]
            assert changed in ([changed[0]], ["known", "distance"])


def test_made_worlds_are_what_the_protocol_says() -> None:
    world = inside_worlds.World("squared error", train=40_000, d=2.0, drift=True)
    cut = inside_worlds.parts_of(world, 3)
    assert [len(p) for p in (cut.train, cut.validation, cut.held_out)] == [40_000, 500, 4_000]
    assert cut.train.x.shape[1] == 6
    ones = cut.train.sensitive["group"] == "one"
    assert ones.mean() == pytest.approx(0.4, abs=0.01)
    # E(y | one) - E(y | zero) = .5 d + .75 d
    y = cut.train.y.numpy()
    assert y[ones].mean() - y[~ones].mean() == pytest.approx(2.5, abs=0.05)
    assert (cut.held_out.sensitive["group"] == "one").mean() == pytest.approx(0.7, abs=0.03)
    assert inside_worlds.parts_of(replace(world, known=True), 3).train.x.shape[1] == 7
    assert not torch.equal(cut.train.x, inside_worlds.parts_of(world, 4).train.x)


def test_the_seeds_of_credit_share_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    n = sum(inside_worlds.ROWS_OF_CREDIT) * inside_worlds.SEEDS_OF_CREDIT
    marks = np.arange(n, dtype=np.float64)
    sexes = np.array(["f", "m"])[np.arange(n) % 2]
    whole = Dataset("credit", np.stack([marks, marks % 7], 1), ("mark", "b"), marks % 2, {"sex": sexes, "marriage": sexes})
    monkeypatch.setattr(parts, "dataset", lambda name, path=None: whole)
    seen: list[Any] = []
    monkeypatch.setattr(inside_worlds, "_encoded", lambda world, found, names, categories: seen.append(found))
    world = next(w for w in inside_worlds.worlds() if w.data == "credit")
    for seed in range(inside_worlds.SEEDS_OF_CREDIT):
        inside_worlds.parts_of(world, seed)
    rows = np.concatenate([features[:, 0] for found in seen for features, _, _ in found])
    assert len(rows) == len(np.unique(rows)) == n


@pytest.mark.parametrize("loss", inside_worlds.LOSSES)
def test_both_networks_are_served_inside_the_limit(loss: Any) -> None:
    world = inside_worlds.World(loss, train=300, distance="squared" if loss == "squared error" else "kl")
    found = inside.cell(world, 0, epochs=1)
    assert tuple(found) == inside_report.FIGURES
    for who in ("after", "inside"):
        assert found[f"{who} batch gap"] <= world.tolerance + 1e-6
        assert found[f"{who} raw gap"] >= found[f"{who} batch gap"] - 1e-6
    assert inside.cell(world, 0, epochs=1) == found


def test_inside_learns_the_slope_within_the_groups_and_projecting_afterwards_does_not() -> None:
    """The theory of the protocol, by least squares: the lead is the within-group variance of what stands in for the group."""
    world = inside_worlds.World("squared error", train=20_000, d=2.0)
    train = inside_worlds.parts_of(world, 0).train
    x, y = train.x.double().numpy(), train.y.double().numpy()
    ones = (train.sensitive["group"] == "one").astype(float)
    within_x, within_y = x.copy(), y.copy()
    for g in (0.0, 1.0):
        within_x[ones == g] -= x[ones == g].mean(0)
        within_y[ones == g] -= y[ones == g].mean()
    total = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0][:-1]
    within = np.linalg.lstsq(within_x, within_y, rcond=None)[0]
    lead = ((within_y - within_x @ total) ** 2).mean() - ((within_y - within_x @ within) ** 2).mean()
    apart = total - within
    assert lead == pytest.approx(apart @ (within_x.T @ within_x / len(x)) @ apart, rel=1e-6)
    assert lead > 0.1


# streams ---------------------------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), order=st.sampled_from(controllers.ORDERS))
def test_an_order_holds_every_row_once(seed: int, order: str) -> None:
    groups = np.random.default_rng(seed).choice(["a", "b", "c"], 230, p=[0.6, 0.3, 0.1])
    placed = controllers.placed(groups, order)
    assert sorted(placed.tolist()) == list(range(230))
    arrived = groups[placed]
    if order == "smallest group last":
        kinds, counts = np.unique(groups, return_counts=True)
        last = kinds[counts.argmin()]
        assert (arrived[-counts.min() :] == last).all()
    if order == "runs of 50":
        for group in np.unique(groups):
            first = int(np.flatnonzero(arrived == group)[0])
            assert (arrived[first : first + min(50, int((groups == group).sum()))] == group).all()


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(InputError, match="order: got 'odd'"):
        controllers.placed(np.array(["a"]), "odd")


# cost ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_are_timed_in_pairs(kind: Any) -> None:
    import fairopt as fo

    rng = np.random.default_rng(0)
    sensitive = {a: torch.from_numpy(rng.integers(0, 2, 300)) for a in ("sex", "race")}
    data = Data("made", torch.from_numpy(rng.normal(size=(300, 4))).float(), (torch.arange(300) % 3 == 0).float(), sensitive)
    found = compare(data, (4,), fo.EqualizedOdds(("sex", "race"), tolerance=0.1), kind, 64, 2)
    assert min(found.plain, found.fair, found.clock, found.processor) > 0


# classes ---------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_class_figures_are_those_of_repeated_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, C = int(rng.integers(5, 25)), int(rng.integers(2, 5))
    groups, y = np.array(["a", "b", "c"])[rng.integers(0, 3, n)], rng.integers(0, C, n).astype(float)
    said = rng.dirichlet(np.ones(C), (n, 2))
    found = ClassPredictions(Rows(np.arange(n), y, groups, True), said)
    weights = rng.integers(0, 3, n)
    weights[0] = 1
    again = np.repeat(np.arange(n), weights)
    for k in range(2):
        p, t, g = said[again, k], y[again].astype(int), groups[again]
        best = p.argmax(1)
        assert quality(found, weights[None].astype(float))[0, k] == pytest.approx(
            np.mean([math.log(max(p[i, t[i]], 1e-6)) for i in range(len(p))])
        )
        assert accuracy(found, weights[None].astype(float))[0, k] == pytest.approx(np.mean(best == t))
        for figure, each in ((gap, p), (decision_gap, np.eye(C)[best])):
            means = [each[g == h].mean(0) for h in "abc" if (g == h).any()]
            widest = max(float(max(m[c] for m in means) - min(m[c] for m in means)) for c in range(C))
            assert figure(found, weights[None].astype(float))[0, k] == pytest.approx(widest)


def test_bands_and_the_same_number_of_settings_for_all() -> None:
    grades = np.array([0.0, 9, 10, 11, 12, 13, 14, 15, 16, 20])
    assert class_fits.classes_of(class_fits.ASKED["classes"][0], grades, grades).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    law, compas = class_fits.ASKED["classes-final"]
    train = np.arange(100.0)
    assert np.bincount(class_fits.classes_of(law, train, train).astype(int)).tolist() == [20] * 5
    assert class_fits.classes_of(compas, np.array([2.0, 0.0]), train).tolist() == [2, 0]
    counts: dict[str, int] = {}
    for fit in class_fits.fits():
        counts[fit.method] = counts.get(fit.method, 0) + 1
    assert {method: count for method, count in counts.items() if count != 6} == {"plain": 1}


# Pages -----------------------------------------------------------------------------------------------------------------------------


def _made(name: str, path: Path | None = None) -> Dataset:
    """A made table in place of every set; the target follows the first feature and the group."""
    rng = np.random.default_rng(2)
    x, n = rng.normal(size=(400, 3)), 400
    sensitive = {a: np.array(["f", "m"])[rng.integers(0, 2, n)] for a in ("sex", "race", "marriage", "address", "age_over_25")}
    value = x[:, 0] + (sensitive["sex"] == "m") + rng.normal(size=n)
    if name == "student":
        return Dataset(name, x, ("a", "b", "c"), np.clip(np.round(10 + 3 * value), 0, 20), sensitive, task="regression")
    return Dataset(name, x, ("a", "b", "c"), (value > 0.5).astype(float), sensitive)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (parts, class_fits):
        monkeypatch.setattr(module, "dataset", _made)
    monkeypatch.setattr(controllers, "SETS", {"streams": ("german",)})
    monkeypatch.setattr(inside, "worlds", lambda: tuple(inside_worlds.World(loss, train=100) for loss in inside_worlds.LOSSES))
    monkeypatch.setattr(inside, "EPOCHS", 1)
    monkeypatch.setattr(inside.cell, "__defaults__", (None, 1))
    monkeypatch.setattr(class_fits, "RECIPES", tuple(replace(r, epochs=1) for r in class_fits.RECIPES))
    monkeypatch.setattr(class_study, "fits", lambda: tuple(f for f in class_fits.fits() if f.setting == 2 or f.method == "plain"))
    monkeypatch.setattr(cost, "PAIRS", 1)
    monkeypatch.setattr(cost, "KINDS", ("stratified",))
    monkeypatch.setattr(cost, "NOTIONS", {"demographic parity": cost.NOTIONS["demographic parity"]})


@pytest.mark.parametrize("name", ["inside", "streams", "cost", "classes"])
def test_a_page_is_what_its_table_says_and_its_lines_can_be_made_again(name: str, made: None, tmp_path: Path, capsys: Any) -> None:
    module = {"inside": inside, "streams": controllers, "cost": cost, "classes": class_study}[name]
    with Store(tmp_path / "cells.jsonl", name) as store:
        result = module.run(Settings(name, seeds=(0, 1, 2)), store, lambda _: None)
    page = tmp_path / f"{name}.md"
    write_page(result, page, f"fairopt reproduce {name}")
    stored = json.loads((tmp_path / TABLES / f"{name}.json").read_text())
    assert page.read_text() == render(stored)
    assert written.protocol_words() in page.read_text()
    if name != "cost":
        assert stored["sections"][0]["title"].startswith("Losses and wins")
    assert check.main([str(tmp_path / TABLES), "3", "1"]) == 0
    assert ("a time" if name == "cost" else "the same") in capsys.readouterr().out
    if name != "cost":
        _spoil(tmp_path / TABLES / f"{name}-cells.csv.gz")
        assert check.main([str(tmp_path / TABLES), "3", "1"]) == 1
        assert "ANOTHER FIGURE" in capsys.readouterr().out


def _spoil(path: Path) -> None:
    """Every last figure a little off."""
    with gzip.open(path, "rt", newline="") as text:
        lines = list(csv.DictReader(text))
    last = list(lines[0])[-1]
    for line in lines:
        line[last] = str(float(line[last]) + 1e-4)
    with gzip.open(path, "wt", newline="") as text:
        writer = csv.DictWriter(text, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
