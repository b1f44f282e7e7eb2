"""The race at equal gap: the frontier, what is read off it, and a whole run on a made table."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairopt.basics.errors import MissingExtraError
from fairopt.experiments.data.tabular import Dataset, Part, split
from fairopt.experiments.methods.base import Recipe
from fairopt.experiments.reproduce import Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies import trade_off
from fairopt.experiments.studies.trade_off_entries import Entry, Setting, entries
from fairopt.experiments.studies.trade_off_figures import At, Points, at, best_of, difference, frontier, verdicts

pytest.importorskip("sklearn", reason="the splits need scikit-learn")


def drawn(seed, settings, seeds=3):
    """Random settings, the first without any gap, as the constant."""
    rng = np.random.default_rng(seed)
    gap = rng.random((settings, seeds)) * 0.3
    gap[0] = 0.0
    return Points(rng.random((settings, seeds)), gap)


@given(seed=st.integers(0, 10_000), settings=st.integers(1, 7), target=st.floats(0.001, 0.4))
def test_the_frontier_is_the_best_mix_of_two_inside_the_target(seed, settings, target):
    """Against a fine grid of all mixes of all pairs."""
    points = drawn(seed, settings)
    mix = frontier(points, target)
    accuracy, gap = mix.of(points.accuracy).mean(), mix.of(points.gap).mean()
    assert gap <= target + 1e-12
    a, g = points.accuracy.mean(1), points.gap.mean(1)
    for weight in np.linspace(0, 1, 101):
        mixed = (1 - weight) * a[:, None] + weight * a[None, :]
        inside = (1 - weight) * g[:, None] + weight * g[None, :] <= target
        assert accuracy >= mixed[inside].max(initial=0.0) - 1e-9


def test_tuned_figures_are_those_of_the_setting_that_validation_asks_for():
    validation = Points(np.array([[0.5, 0.5], [0.7, 0.6], [0.8, 0.9]]), np.array([[0.0, 0.0], [0.02, 0.0], [0.3, 0.02]]))
    held_out = Points(np.array([[0.5, 0.5], [0.65, 0.66], [0.75, 0.77]]), np.array([[0.0, 0.0], [0.03, 0.04], [0.2, 0.25]]))
    found = at(0.02, validation, held_out)
    # seed 0: setting 1 alone has gap 0.02 (any mix with setting 2 would exceed it); seed 1: setting 2
    assert found.tuned_accuracy.tolist() == pytest.approx([0.65, 0.77])
    assert found.tuned_gap.tolist() == pytest.approx([0.03, 0.25])
    # at equal gap: mean gaps 0, 0.035, 0.225: 4/7 of setting 1 and 3/7 of the constant
    assert found.accuracy.tolist() == pytest.approx([0.5 + 4 / 7 * 0.15, 0.5 + 4 / 7 * 0.16])


def one(level, tuned=None, chosen=0.0, wiggle=0.001):
    values = level + wiggle * np.array([-1.0, 0.0, 1.0])
    return At(values, values if tuned is None else tuned + 0 * values, 0 * values, chosen)


def test_verdicts_name_who_is_ahead_and_who_loses_to_a_trivial_reference():
    found = {"a": one(0.80, chosen=0.9), "b": one(0.81, chosen=0.8), "rival": one(0.805), "level": one(0.7999), "linear": one(0.795)}
    assert best_of(found, ["a", "b"]) == "a"  # validation chooses, not the held-out figure
    said = verdicts(found, ["a", "b"], ["rival", "level"], ["linear"], 0.02)
    assert "a (chosen on validation) minus the best rival, rival: -0.0050 ± 0.0000" in said[0]
    assert "With a higher mean: rival (+0.0050" in said[0]
    assert "level" not in said[0]
    assert not any("trivial reference" in words for words in said)
    assert said[1].startswith("Gap 0.02, tuned on validation: a has 0.8000 at a held-out gap of 0.000. ")
    assert said[1].endswith("With a higher mean: rival (+0.0050 ± 0.0000, gap 0.000).")
    weak = verdicts({**found, "rival": one(0.79)}, ["a"], ["rival"], ["linear"], 0.02)
    assert "No rival has a higher mean" in weak[0]
    assert weak[-1] == "Gap 0.02: worse than the trivial reference linear (0.7950): rival."


def test_one_seed_gives_no_verdict():
    def alone(level):
        return At(np.array([level]), np.array([level]), np.array([0.01]), level)

    said = verdicts({"a": alone(0.7), "rival": alone(0.9), "linear": alone(0.8)}, ["a"], ["rival"], ["linear"], 0.02)
    assert said == ["Gap 0.02: one seed gives no verdict."]


def test_differences_are_paired():
    first, second = np.array([0.8, 0.6, 0.7]), np.array([0.79, 0.59, 0.69])
    mean, error = difference(first, second)
    assert [mean, error] == pytest.approx([0.01, 0.0], abs=1e-12)
    mean, error = difference(np.array([1.0, 2.0, 3.0]), np.zeros(3))
    assert [mean, error] == pytest.approx([2.0, 1 / 3**0.5])


def test_figures_count_random_decisions_with_their_probabilities():
    part = Part(torch.zeros(6, 1), torch.tensor([1.0, 1, 0, 1, 0, 0]), {"g": np.array(list("aaabbb"))})
    decided = np.array([1.0, 0.5, 0.0, 0.5, 0.25, 0.0])
    parity = trade_off.figures(decided, part, "g", odds=False)
    assert parity == {"accuracy": pytest.approx((1 + 0.5 + 1 + 0.5 + 0.75 + 1) / 6), "gap": pytest.approx(0.5 - 0.25)}
    odds = trade_off.figures(decided, part, "g", odds=True)
    assert odds["gap"] == pytest.approx(0.75 - 0.5)  # among positives; among negatives 0.125


def made(n=300):
    rng = np.random.default_rng(0)
    group = rng.choice(["a", "b", "c"], n)
    x = rng.normal(size=(n, 3)) + (group == "b")[:, None]
    y = (x[:, 0] + rng.normal(size=n) > 0.5).astype(float)
    return Dataset("made", x, ("u", "v", "w"), y, {"g": group})


def test_groups_are_features_of_every_method():
    parts = split(made(), 0)
    wider = trade_off.with_groups(parts, "g")
    for before, after in ((parts.train, wider.train), (parts.held_out, wider.held_out)):
        assert torch.equal(after.x[:, :3], before.x)
        assert after.x[:, 3].numpy().tolist() == (before.sensitive["g"] == "b").astype(float).tolist()
        assert after.x[:, 4].numpy().tolist() == (before.sensitive["g"] == "c").astype(float).tolist()
        assert after.x.shape[1] == 5


@pytest.fixture
def race(monkeypatch):
    small = trade_off.Race(lambda path: made(), "g", Recipe((4,), 0.0, 2, 64, 1e-2, 1e-3), "made rows")
    monkeypatch.setitem(trade_off.RACES, "compas", small)
    return small


def test_a_method_without_its_package_has_a_row_that_says_so(race):
    def absent():
        raise MissingExtraError("pip install it")

    work = trade_off.Work(split(made(), 0), race, 0, {})
    record = trade_off.cell(work, "demographic parity", Entry("gone", (Setting("x", 0.0, absent),)))
    assert record == {"absent": "pip install it", "points": []}


def test_a_run_has_all_methods_and_a_second_one_computes_nothing(race, tmp_path, monkeypatch):
    def cheap(odds):  # dozens of fits a setting; test_methods has it
        return tuple(e for e in entries(odds) if e.name != "ExponentiatedGradient")

    monkeypatch.setattr(trade_off, "entries", cheap)
    settings = Settings("compas", quick=True, seeds=(0, 1))
    with Store(tmp_path / "cells.jsonl", "compas") as store:
        result = trade_off.run(settings, store, lambda _: None)
    assert [s.title for s in result.sections] == ["Demographic parity", "Equalized odds"]
    for section, odds in zip(result.sections, (False, True), strict=True):
        rows = {row[0]: dict(zip(section.rows.columns, row, strict=True)) for row in section.rows.rows}
        assert list(rows) == [e.name for e in cheap(odds)]
        shares = [max(d, 1 - d) for d in (float(split(made(), s).held_out.y.mean()) for s in (0, 1))]
        assert rows["constant"]["accuracy at gap 0.02"] == pytest.approx(np.mean(shares), abs=0.2)
        assert all(
            row["accuracy at gap 0.05"] >= row["accuracy at gap 0.02"] - 1e-12 for row in rows.values() if row["accuracy at gap 0.02"]
        )
        assert section.verdicts
        assert section.picture is not None
        section.picture(tmp_path / "picture.png")
        assert (tmp_path / "picture.png").stat().st_size > 10_000
    monkeypatch.setattr(trade_off, "cell", lambda *_: pytest.fail("a finished cell was computed again"))
    with Store(tmp_path / "cells.jsonl", "compas") as store:
        again = trade_off.run(settings, store, lambda _: None)
    assert [s.rows for s in again.sections] == [s.rows for s in result.sections]


def test_fair_decisions_keep_their_gap_in_a_cell(race):
    """On the held-out rows, through everything: the gap is the tolerance of the setting or less."""
    work = trade_off.Work(trade_off.with_groups(split(made(), 0), "g"), race, 0, {})
    entry = next(e for e in entries(False) if e.name == "fair decisions")
    record = trade_off.cell(work, "demographic parity", entry)
    for point in record["points"]:
        for part in ("validation", "held_out"):
            assert point[part]["gap"] <= point["tolerance"] + 1e-9


def test_networks_of_a_seed_are_trained_once(race, monkeypatch):
    work = trade_off.Work(split(made(), 0), race, 0, {})
    for name in ("projection", "fair decisions", "plain network", "fairness layer", "fairness layer + fair decisions"):
        trade_off.cell(work, "demographic parity", next(e for e in entries(False) if e.name == name))
    assert len(work.trained) == 1 + len({s.tolerance for e in entries(False) if e.name == "fairness layer" for s in e.settings})
    fresh = dataclasses.replace(work, trained={})
    entry = next(e for e in entries(False) if e.name == "projection")
    assert trade_off.cell(fresh, "demographic parity", entry) == trade_off.cell(work, "demographic parity", entry)
