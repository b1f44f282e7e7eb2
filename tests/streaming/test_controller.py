"""Interface of the controllers: types in and out, bad input, late targets, strata, windows, state, merging, threads, speed, memory."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.experiments.data.streams import stream
from fairopt.streaming import AllTime, Cumulative, Forget, PooledParity, PrimalDual, Sliding, anchored, named, parity

seeds = st.integers(0, 2**32 - 1)
DP = parity("g", tolerance=0.05)
LABEL = "DemographicParity(g)"


def fresh(notion=DP, **kwargs):
    return PooledParity(notion, bounds=(0, 1), **kwargs)


def feed(controller, n=200, seed=0, batch=1, **extra):
    rng = np.random.default_rng(seed)
    codes = (rng.random(n) < 0.3).astype(int)
    z = np.clip(0.4 + 0.3 * codes + rng.normal(0, 0.1, n), 0, 1)
    out = []
    for start in range(0, n, batch):
        if batch == 1:
            out.append(controller.step(float(z[start]), sensitive_features=int(codes[start]), **extra).scores)
        else:
            out.extend(controller.step(z[start : start + batch], sensitive_features=codes[start : start + batch], **extra).scores)
    return out


# -- types ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_tensors_come_back_as_they_were_and_are_counted_as_sent(dtype, shape):
    controller = PooledParity(DP, bounds=(0.1, 0.9))
    sent: list[list[float]] = [[], []]
    for k in range(20):
        z = torch.rand(6, generator=torch.Generator().manual_seed(k)).reshape(shape).to(dtype)
        kept = z.clone()
        codes = torch.arange(6) % 2
        y = controller.step(z, sensitive_features={"g": codes}).scores
        assert y.dtype == dtype
        assert y.shape == z.shape
        assert torch.equal(z, kept)
        assert ((y.double() >= 0.1) & (y.double() <= 0.9)).all()
        for g in (0, 1):
            sent[g] += y.double().reshape(-1)[codes == g].tolist()
    component = next(iter(controller._components.values()))
    from math import fsum

    assert component.heads == [fsum(s) for s in sent]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_arrays_lists_and_numbers(dtype):
    controller = fresh()
    y = controller.step(np.array([[0.2], [0.9]], dtype=dtype), sensitive_features=np.array(["a", "b"])).scores
    assert y.dtype == dtype
    assert y.shape == (2, 1)
    assert isinstance(controller.step([0.2, 0.4], sensitive_features=pd.Series(["a", "b"])).scores, list)
    assert type(controller.step(0.3, sensitive_features="a").scores) is float
    assert type(controller.step(np.float32(0.3), sensitive_features={"g": "a"}).scores) is float
    assert controller.samples == 6


def test_float32_arrays_stay_inside_bounds_that_are_no_float32():
    controller = PooledParity(DP, bounds=(0.7, 1.1))  # as float32 0.7 is less than 0.7, and 1.1 more than 1.1
    y = controller.step(np.array([-1.0, 2.0, 0.7, 1.1], dtype=np.float32), sensitive_features=["a", "a", "a", "a"]).scores
    assert y.dtype == np.float32
    assert all(0.7 <= float(v) <= 1.1 for v in y)
    assert controller.step(np.array([0.9], dtype=np.float32), sensitive_features=["a"]).scores[0] == np.float32(0.9)


@settings(max_examples=50)
@given(seeds)
def test_a_number_and_a_batch_of_one_are_the_same_step(seed):
    rng = np.random.default_rng(seed)
    one, batch = fresh(), fresh()
    for _ in range(60):
        z, g = float(rng.normal(0.5, 0.5)), int(rng.integers(0, 2))
        a = one.step(z, sensitive_features=g)
        b = batch.step(np.array([z]), sensitive_features=np.array([g]))
        assert a.scores == b.scores[0]
        assert (a.prices, a.pooled_gaps, a.counts, a.dropped) == (b.prices, b.pooled_gaps, b.counts, b.dropped)
    assert one.state_dict() == batch.state_dict()


def test_a_feasible_score_goes_through_with_the_same_bits_and_the_first_of_a_new_group_is_projected():
    controller = fresh(kappa=20.0)
    assert controller.step(0.2, sensitive_features="a").scores == 0.2
    assert controller.step(0.1 + 0.2 - 0.05, sensitive_features="a").scores == 0.1 + 0.2 - 0.05
    step = controller.step(0.9, sensitive_features="b")
    assert step.scores < 0.31
    assert step.pooled_gaps[LABEL] <= controller.report().bound
    assert controller.report().counts[LABEL] == {"g=a": 2.0, "g=b": 1.0}


def test_one_group_is_vacuous_and_said_so():
    step = fresh().step([0.1, 0.9], sensitive_features=["a", "a"])
    assert step.pooled_gaps == {LABEL: None}
    assert step.dropped == (LABEL,)
    assert step.scores == [0.1, 0.9]


# -- notions ----------------------------------------------------------------------------------------------------------------------


def test_notion_objects_and_families_are_the_same():
    notion = fo.DemographicParity("g", tolerance=0.05)
    assert feed(PooledParity(notion, bounds=(0, 1))) == feed(fresh())
    plan = PooledParity(fo.EqualizedOdds(("sex", "race"), tolerance=0.1, given="job"), bounds=(0, 1)).plan
    assert plan.families == named("equalized_odds", ("sex", "race"), 0.1, "job")
    assert not plan.coupled
    assert PooledParity(fo.MeanResidual("g", tolerance=0.1), bounds=(0, 1)).plan.families == named("mean_residual", "g", 0.1)
    assert PooledParity(fo.GroupMeanBound("g", lower=0.2), bounds=(0, 1)).plan.families == (anchored("g", lower=0.2, upper=float("inf")),)


def test_unsupported_notions_are_refused():
    for notion in (
        fo.DemographicParity("g", tolerance=0.1, to="overall"),
        fo.ImpactRatio("g"),
        fo.DemographicParity("g", tolerance=0.1).penalised(3.0),
    ):
        with pytest.raises(fo.UnsupportedError):
            PooledParity(notion, bounds=(0, 1))
    with pytest.raises(fo.UnsupportedError, match="tolerance"):
        PrimalDual([DP, parity("h", tolerance=0.1)], bounds=(0, 1))


def test_marginal_and_conditional_notions_have_no_neutral_reply():
    families = [DP, *named("equalized_odds", "g", 0.05)]
    with pytest.warns(fo.FairoptWarning, match="neutral"):
        controller = PooledParity(families, bounds=(0, 1))
    controller.step([0.1, 0.9], sensitive_features=["a", "b"], targets=[1, 1])
    assert controller.report().bound is None
    with pytest.raises(fo.UnsupportedError, match="neutral"):
        Cumulative(families, bounds=(0, 1))


def strata_stream(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    sex, job = rng.integers(0, 2, n), rng.choice(["x", "y", "z"], n)
    z = np.clip(0.3 + 0.3 * sex * (job == "x") - 0.2 * sex * (job == "y") + rng.normal(0, 0.1, n), 0, 1)
    return z, {"sex": sex, "job": job}, rng.integers(0, 2, n)


@pytest.mark.parametrize("batch", [1, 16])
def test_strata_intersections_and_conditions_meet_the_tolerance(batch):
    z, features, targets = strata_stream()
    controllers = {
        "strata": fresh(parity("sex", tolerance=0.05, given="job")),
        "intersection": fresh(parity(("sex", "job"), tolerance=0.05)),
        "odds": fresh(named("equalized_odds", "sex", 0.02)),
        "both": fresh([parity("sex", tolerance=0.05), parity("job", tolerance=0.05)]),
    }
    sent = {}
    for name, c in controllers.items():
        own = {k: v for k, v in features.items() if k in c.columns}
        parts = []
        for i in range(0, len(z), batch):
            part = slice(i, i + batch)
            labels = targets[part] if name == "odds" else None
            parts.append(c.step(z[part], sensitive_features={k: v[part] for k, v in own.items()}, targets=labels).scores)
        sent[name] = np.concatenate(parts)

    def spread(y, codes):
        means = [y[codes == g].mean() for g in np.unique(codes)]
        return max(means) - min(means)

    for job in "xyz":
        inside = features["job"] == job
        assert spread(sent["strata"][inside], features["sex"][inside]) <= 0.05 + 0.01
    cells = np.char.add(features["sex"].astype(str), features["job"])
    assert spread(sent["intersection"], cells) <= 0.05 + 0.01
    for t in (0, 1):
        assert spread(sent["odds"][targets == t], features["sex"][targets == t]) <= 0.02 + 0.01
    for codes in features.values():
        assert spread(sent["both"], codes) <= 0.05 + 0.01
    for c in controllers.values():
        report = c.report()
        assert report.bound is not None
        assert all(gap <= report.bounds[label] + 1e-12 for label, gap in report.pooled_gaps.items())


# -- residuals and late targets ---------------------------------------------------------------------------------------------------


def residual_stream(n=6000, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, n)
    truth = np.clip(0.5 + rng.normal(0, 0.1, n), 0, 1)
    targets = (rng.random(n) < truth).astype(float)
    return np.clip(truth + np.where(codes == 1, 0.15, -0.1), 0, 1), codes, targets


@pytest.mark.parametrize("notion", ["mean_residual", "residual_parity"])
@pytest.mark.parametrize("delay", [0, 1, 300])
def test_residual_notions_with_targets_now_or_later(notion, delay):
    z, codes, targets = residual_stream()
    controller = fresh(named(notion, "g", 0.03))
    y = np.zeros(len(z))
    for i in range(len(z)):
        if delay == 0:
            y[i] = controller.step(float(z[i]), sensitive_features=int(codes[i]), targets=float(targets[i])).scores
            continue
        y[i] = controller.step(float(z[i]), sensitive_features=int(codes[i]), key=i).scores
        if i >= delay:
            controller.observe(i - delay, targets[i - delay])
    if delay:
        assert controller.report().pending == delay
        controller.observe(list(range(len(z) - delay, len(z))), targets[len(z) - delay :])
    means = [(y - targets)[codes == g].mean() for g in (0, 1)]
    gap = max(map(abs, means)) if notion == "mean_residual" else abs(means[0] - means[1])
    raw = [(z - targets)[codes == g].mean() for g in (0, 1)]
    assert max(map(abs, raw)) > 0.08
    assert gap <= 0.03 + (0.012 if delay < 300 else 0.025)  # 300 of 6,000 samples are not yet felt
    report = controller.report()
    assert report.pending == 0
    assert report.pooled_gap == pytest.approx(gap, abs=1e-12)
    assert (report.bound is not None) == (delay == 0 and notion == "mean_residual")


def test_late_targets_are_checked():
    controller = fresh(named("mean_residual", "g", 0.05))
    with pytest.raises(fo.InputError, match="observe"):
        controller.step(0.5, sensitive_features="a")
    controller.step([0.5, 0.6], sensitive_features=["a", "b"], key=["k1", "k2"])
    with pytest.raises(fo.InputError, match="already waiting"):
        controller.step(0.5, sensitive_features="a", key="k1")
    with pytest.raises(fo.InputError, match="does not wait"):
        controller.observe(["k1", "other"], [0.0, 1.0])
    controller.observe(["k1", "k2"], [0.0, 1.0])
    with pytest.raises(fo.InputError, match="does not wait"):
        controller.observe("k1", 0.0)
    with pytest.raises(fo.InputError, match="equal|EqualOpportunity"):
        fresh(named("equal_opportunity", "g", 0.05)).step(0.5, sensitive_features="a", key=1)


def test_no_bound_is_stated_for_ranges_of_residuals():
    controller = fresh(named("residual_parity", "g", 0.05))
    for targets in ([1.0, 0.0], [2.0, 0.5]):
        controller.step([0.5, 0.5], sensitive_features=["a", "b"], targets=targets)
        report = controller.report()
        assert report.bound is None
        assert report.why_no_bound


@pytest.mark.parametrize("predict", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_the_bound_on_mean_residuals_carries_targets_outside_the_box(seed, predict):
    """A target outside the box by d moves its group's mean by at most d / N_g: the bound of every step says so, and holds."""
    rng = np.random.default_rng(seed)
    controller = fresh(named("mean_residual", "g", 0.05), kappa=float(rng.choice([0.25, 5.0])), predict=predict)
    for _ in range(60):
        n = int(rng.integers(1, 20))
        targets = rng.choice([rng.random(n), rng.normal(0.5, 2.0, n), np.full(n, rng.choice([-3.0, 1.5]))])
        step = controller.step(rng.random(n), sensitive_features=rng.choice(["a", "b"], n).tolist(), targets=targets)
        report = controller.report()
        assert report.bound is not None
        assert max(gap for gap in step.pooled_gaps.values()) <= report.bound + 1e-12


# -- bad input --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "features", "words"),
    [
        (float("nan"), "a", "finite"), ([0.1, float("inf")], ["a", "b"], "finite"), ([], [], "empty"),
        (np.zeros((2, 2)), ["a", "b"], "shape"),
        ("x", "a", "came str"), ([0.1, 0.2], ["a"], "1 values for 2 samples"), (0.1, None, "came NoneType"),
        (0.1, {"other": "a"}, "no attribute 'g'"), (0.1, {"g": None}, "missing"),
        (0.1, {"g": float("nan")}, "missing"), (0.1, {"g": 1.5}, "integral"), (0.1, {"g": 1}, "mixes"),
        (0.1, {"g": object()}, "type object"),
    ],
)  # fmt: skip
def test_bad_steps_are_clear_errors_and_change_nothing(scores, features, words):
    controller = fresh()
    controller.step([0.2, 0.6], sensitive_features=["a", "b"])
    before = controller.state_dict()
    with pytest.raises(fo.InputError, match=words):
        controller.step(scores, sensitive_features=features)
    assert controller.state_dict() == before


@pytest.mark.parametrize("bounds", [None, (0, float("inf")), (1, 0), (0.5, 0.5), "ab", (0,)])
def test_bad_bounds(bounds):
    with pytest.raises(fo.InputError, match="bounds"):
        PooledParity(DP, bounds=bounds)


def test_bad_options():
    for call in (
        lambda: fresh(kappa=0), lambda: fresh(kappa=float("nan")), lambda: fresh(staleness=-1), lambda: fresh(groups="ab"),
        lambda: fresh(groups={"other": [1]}), lambda: fresh(groups={"g": []}), lambda: fresh(groups={"g": [1, "a"]}), lambda: Sliding(0),
        lambda: Forget(0),
        lambda: parity("g", tolerance=-0.1), lambda: parity("", tolerance=0.1), lambda: named("nothing", "g", 0.1),
        lambda: PooledParity("dp", bounds=(0, 1)),
        lambda: PrimalDual(DP, bounds=(0, 1), eta_0=0), lambda: PrimalDual(DP, bounds=(0, 1), b_tau=0), lambda: fresh(missing_group="x"),
        lambda: fresh([]), lambda: anchored("g", lower=1.0, upper=0.0),
    ):  # fmt: skip
        with pytest.raises(fo.InputError):
            call()


def test_declared_groups():
    controller = fresh(groups=["a", "b"])
    controller.step(0.5, sensitive_features="a")
    with pytest.raises(fo.InputError, match="unknown value 'c'"):
        controller.step(0.5, sensitive_features="c")
    own = fresh(missing_group="own")
    own.step([0.5, 0.5], sensitive_features=["a", None])
    assert set(own.report().counts[LABEL]) == {"g=a", "g=missing"}


# -- windows ----------------------------------------------------------------------------------------------------------------------


def test_sliding_counts_the_last_n_only():
    controller = fresh(window=Sliding(50))
    rng = np.random.default_rng(0)
    sent, groups = [], []
    for k in range(300):
        n = int(rng.integers(1, 6))
        z, g = rng.random(n), rng.integers(0, 3, n)
        sent += list(controller.step(z, sensitive_features=g).scores)
        groups += g.tolist()
        y, c = np.array(sent[-50:]), np.array(groups[-50:])
        means = [y[c == v].mean() for v in np.unique(c)]
        gap = controller.report().pooled_gap
        assert len(controller._recent) == min(50, len(sent))
        assert k == 0 or gap == pytest.approx(max(means) - min(means), abs=1e-12) or len(means) < 2
    assert controller.report().bound is None
    assert "sliding" in controller.report().why_no_bound
    with pytest.raises(fo.InputError, match="larger than the window"):
        controller.step(np.zeros(51), sensitive_features=np.zeros(51, dtype=int))


def test_forget_halves_weights_and_follows_drift():
    controller = fresh(window=Forget(100))
    for _ in range(100):
        controller.step(0.2, sensitive_features="a")
    weight = controller.report().counts[LABEL]["g=a"]
    assert weight == pytest.approx((1 - 0.5) / (1 - 0.5**0.01), rel=1e-9)
    z, g = stream("simpson", 0, 8000)
    fading = PooledParity(DP, bounds=(0, 1), window=Forget(500))
    last = [fading.step(float(a), sensitive_features=int(b)).pooled_gaps[LABEL] for a, b in zip(z, g, strict=True)]
    assert max(x for x in last[4000:] if x is not None) <= 0.05 + 1.0 / (0.25 * np.sqrt(500 / np.log(2))) + 1e-9


# -- state ------------------------------------------------------------------------------------------------------------------------


def makers():
    return {
        "pooled": fresh,
        "sliding": lambda: fresh(window=Sliding(30)),
        "forget": lambda: fresh(window=Forget(30)),
        "cumulative": lambda: Cumulative(DP, bounds=(0, 1)),
        "paper": lambda: PrimalDual(DP, bounds=(0, 1)),
    }


@pytest.mark.parametrize("way", ["json", "pickle", "deepcopy", "torch"])
@pytest.mark.parametrize("name", list(makers()))
def test_state_goes_on_with_the_same_bits(name, way, tmp_path):
    make = makers()[name]
    whole, first = make(), make()
    expected = feed(whole, seed=1, batch=7) + feed(whole, seed=2)
    begun = feed(first, seed=1, batch=7)
    if way == "json":
        second = make()
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    elif way == "torch":
        torch.save(first.state_dict(), tmp_path / "s.pt")
        second = make()
        second.load_state_dict(torch.load(tmp_path / "s.pt", weights_only=True))
    else:
        second = pickle.loads(pickle.dumps(first)) if way == "pickle" else copy.deepcopy(first)
    assert begun + feed(second, seed=2) == expected
    assert second.state_dict() == whole.state_dict()
    assert second.report() == whole.report()


def test_a_foreign_state_is_refused():
    state = fresh().state_dict()
    for other, word in ((fresh(kappa=1.0), "options"), (fresh(parity("g", tolerance=0.1)), "families"),
                        (PooledParity(DP, bounds=(0, 2)), "bounds"),
                        (fresh(window=Sliding(5)), "window"), (Cumulative(DP, bounds=(0, 1)), "controller")):  # fmt: skip
        with pytest.raises(fo.InputError, match=word):
            other.load_state_dict(state)
    with pytest.raises(fo.InputError, match="newer"):
        fresh().load_state_dict({**state, "format": 2})


def test_pending_targets_are_in_the_state():
    one = fresh(named("mean_residual", "g", 0.05))
    one.step([0.2, 0.6], sensitive_features=["a", "b"], key=["x", 7])
    two = fresh(named("mean_residual", "g", 0.05))
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for c in (one, two):
        c.observe(["x", 7], [1.0, 0.0])
    assert one.state_dict() == two.state_dict()


# -- merging ----------------------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(seeds, st.integers(2, 5))
def test_merged_sums_do_not_depend_on_the_order(seed, workers):
    parts = [fresh() for _ in range(workers)]
    for k, part in enumerate(parts):
        feed(part, n=40, seed=seed + k, batch=3)
    totals = []
    for order in (range(workers), reversed(range(workers))):
        total = fresh()
        for k in order:
            total.merge(parts[k])
        component = next(iter(total._components.values()))
        totals.append({name: (component.counts[k], component.sums[k]) for k, name in enumerate(component.names)})
        assert total.samples == 40 * workers
    assert totals[0] == totals[1]


def test_a_fork_gives_back_only_its_own_part():
    main = fresh()
    feed(main, n=100)
    workers = [main.fork() for _ in range(3)]
    sent = [np.array(feed(w, n=50, seed=9 + k)) for k, w in enumerate(workers)]
    before = next(iter(main._components.values())).total
    for w in workers:
        main.merge(w)
    assert next(iter(main._components.values())).total == before + 150
    assert main.samples == 250
    assert len(sent) == 3


def test_the_bound_holds_after_a_merge():
    """Two workers that saw opposite worlds: the merged gap is far above the rule; the bound in force starts there and is never broken."""
    a, b = fresh(kappa=1.0), fresh(kappa=1.0)
    for k in range(400):
        a.step(1.0, sensitive_features=int(k % 40 == 0))
        b.step(0.0, sensitive_features=int(k % 40 != 0))
    a.merge(b)
    report = a.report()
    assert report.pooled_gap > 0.5
    assert report.bound == report.pooled_gap
    rng = np.random.default_rng(0)
    first = report.bound
    for _ in range(4000):
        step = a.step(float(rng.random()), sensitive_features=int(rng.integers(0, 2)))
        assert step.pooled_gaps[LABEL] <= a.report().bound + 1e-12
    assert a.report().bound < first / 3


def parallel(staleness, workers=20, each=50, n=12_000):
    """(mean squared change in the second half, pooled gap at the end, counts) with workers that see each other at merges only."""
    main = fresh(staleness=staleness)
    z, g = (x.tolist() for x in stream("stationary", 0, n))
    cost, at = 0.0, 0
    while at < n:
        crew = [main.fork() for _ in range(workers)]
        for worker in crew:
            for i in range(at, min(n, at + each)):
                y = worker.step(z[i], sensitive_features=g[i]).scores
                cost += (y - z[i]) ** 2 * (i >= n // 2)
            at += each
        for worker in crew:
            main.merge(worker)
    report = main.report()
    return cost / (n - n // 2), report.pooled_gap, list(report.counts[LABEL].values())


def test_the_capped_gain_prevents_the_limit_cycle_of_stale_workers():
    """Claim P5: 950 unseen samples make the plain gain several times too dear; capped, the cost is right and the gap inside P5's bound."""
    unseen = 19 * 50
    plain, capped = parallel(0.0), parallel(float(unseen))
    assert capped[0] < 0.0135 * 1.1
    assert plain[0] > 2 * capped[0]
    total = sum(capped[2])
    shares = [c / total for c in capped[2]]
    assert capped[1] <= 0.05 + np.e * unseen / (shares[0] * shares[1] * total) + unseen * sum(
        s / c for s, c in zip(shares, capped[2], strict=True)
    )


def test_merging_what_does_not_add_is_refused():
    main = fresh()
    for other in (fresh(window=Sliding(5)), PrimalDual(DP, bounds=(0, 1)), PooledParity(DP, bounds=(0, 2)), main):
        with pytest.raises((fo.UnsupportedError, fo.InputError)):
            main.merge(other)
    with pytest.raises(fo.UnsupportedError):
        PrimalDual(DP, bounds=(0, 1)).merge(PrimalDual(DP, bounds=(0, 1)))
    with pytest.raises(fo.UnsupportedError):
        fresh(window=Forget(5)).merge(fresh(window=Forget(5)))


# -- cost -------------------------------------------------------------------------------------------------------------------------


def test_eight_threads_lose_no_sample():
    controller = fresh()
    sent: list[list[tuple[float, int]]] = [[] for _ in range(8)]

    def work(k):
        rng = np.random.default_rng(k)
        for _ in range(500):
            g = int(rng.integers(0, 2))
            sent[k].append((controller.step(float(rng.random()), sensitive_features=g).scores, g))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    everything = [x for part in sent for x in part]
    component = next(iter(controller._components.values()))
    assert controller.samples == 4000
    for g in (0, 1):
        ours = [y for y, k in everything if k == g]
        k = component.index[g]
        assert component.counts[k] == len(ours)
        from math import fsum

        assert component.heads[k] == fsum(ours)


def test_the_single_number_step_is_fast():
    """Median under 10 microseconds; fails beyond 3x that, since test machines are shared."""
    z, g = (x.tolist() for x in stream("stationary", 0, 5000))
    controller = fresh()
    times = []
    for a, b in zip(z, g, strict=True):
        start = time.perf_counter_ns()
        controller.step(a, sensitive_features=b)
        times.append(time.perf_counter_ns() - start)
    assert np.median(times) < 30_000


def test_memory_does_not_grow():
    controller = fresh()
    feed(controller, n=4100)
    tracemalloc.start()
    feed(controller, n=20_000, seed=1)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 600_000  # the curve's 2,000 points at most


@pytest.mark.slow
def test_ten_million_samples_in_constant_memory():
    import resource

    controller = fresh()
    rng = np.random.default_rng(0)
    before = 0
    for k in range(1000):
        codes = rng.integers(0, 2, 10_000)
        controller.step(np.clip(0.4 + 0.3 * codes + rng.normal(0, 0.1, 10_000), 0, 1), sensitive_features=codes)
        if k == 100:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert controller.samples == 10_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 20_000  # KiB
    assert controller.report().pooled_gap <= 0.051


def test_the_single_row_path_imports_no_torch():
    code = (
        "import sys; from fairopt.streaming import PooledParity, parity; import fairopt.cli.stream; "
        "c = PooledParity(parity('g', tolerance=0.05), bounds=(0, 1)); c.step(0.2, sensitive_features='a'); "
        "c.step(0.9, sensitive_features='b'); "
        "c.step([0.9, 0.1, 0.5], sensitive_features=['b', 'a', 'c']); c.state_dict(); c.report(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_time_is_the_default_window():
    assert fresh().window == AllTime()
