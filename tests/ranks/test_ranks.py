"""A notion over the ranks of a process group: everything that one process has on all the samples."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fairopt as fo

FILE = Path(__file__).with_name("drawing.py")
spec = importlib.util.spec_from_file_location("rank_drawing", FILE)
assert spec is not None
assert spec.loader is not None
drawing: Any = importlib.util.module_from_spec(spec)
sys.modules["rank_drawing"] = drawing
spec.loader.exec_module(drawing)

EXACT = ("status", "group_counts", "labels", "dropped", "limits")
OF_ALL = ("prices", "violation", "distance", "problem_hash", "gathered", "certificate", *EXACT)


def joined(found: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.concatenate([one[name] for one in found])


def same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else bool(a == b)


def compare(batch: Any, found: list[dict[str, Any]], other: dict[str, Any]) -> None:
    """What the ranks found against one process, and against each other."""
    where = (batch.name, batch.seed)
    for one in found[1:]:
        assert all(same(one[name], found[0][name]) for name in OF_ALL), where
    for name in EXACT:
        assert found[0][name] == other[name], (where, name)
    size = max(1.0, float(np.abs(batch.arguments["scores"]).max()))
    assert np.abs(joined(found, "scores") - other["scores"]).max() <= 1e-12 * size, where
    assert np.abs(joined(found, "gradient") - other["gradient"]).max() <= 1e-12 * np.abs(batch.arguments["incoming"]).sum(), where
    finite = np.isfinite(other["violation"])
    assert (np.isfinite(found[0]["violation"]) == finite).all()
    assert np.abs(found[0]["violation"][finite] - other["violation"][finite]).max(initial=0.0) <= 1e-11 * size, where
    assert abs(found[0]["distance"] - other["distance"]) <= 1e-11 * size * batch.n, where


def check(pool: Any, batches: list[Any], seed: int, sizes: tuple[int, ...] = (1, 2, 3, 4)) -> dict[str, int]:
    """Every batch on one rank and on more. Counts what went which way."""
    seen = {"driven": 0, "gathered": 0}
    found = {}
    for ranks in sizes:
        shares = [batch.shares(drawing.cuts_of(batch, ranks, seed)) for batch in batches]
        answers = pool.run(ranks, "many", [{"cases": [share[rank] for share in shares]} for rank in range(ranks)])
        found[ranks] = [[answer[k] for answer in answers] for k in range(len(batches))]
    for k, batch in enumerate(batches):
        other = drawing.alone(batch)
        for ranks in found:
            compare(batch, found[ranks][k], other)
            if found[ranks][k][0]["gathered"]:
                continue
            for name in ("scores", "gradient"):  # the same bits, whoever holds what
                assert same(joined(found[ranks][k], name), joined(found[1][k], name)), (batch.name, batch.seed, ranks, name)
            assert all(same(found[ranks][k][0][name], found[1][k][0][name]) for name in OF_ALL), (batch.name, batch.seed)
        seen["gathered" if found[2][k][0]["gathered"] else "driven"] += 1
    return seen


def test_every_shipped_notion_over_ranks(pool: Any) -> None:
    seen = check(pool, [drawing.draw(name, seed) for name in drawing.NOTIONS for seed in range(1)], 0)
    assert seen["driven"] >= 5
    assert seen["gathered"] >= 3


def test_weights_and_open_boxes_over_ranks(pool: Any) -> None:
    """Weights that only one rank has, and boxes of every kind, all on the driven road."""
    batches = []
    for seed, bounds in enumerate(((0.0, 1.0), (0.0, None), (None, 0.9), None, (-40.0, 60.0))):
        w = np.exp(np.random.default_rng(seed).uniform(-2.0, 2.0, 50))
        w[25:] = 1.0
        batches += [plain(50, seed, bounds=bounds, weights=w), plain(50, seed, bounds=bounds)]
    assert check(pool, batches, 1) == {"driven": 10, "gathered": 0}


@pytest.mark.parametrize(("n", "road"), [(80, "driven"), (5_000, "gathered")])
def test_targets_that_are_real_numbers(pool: Any, n: int, road: str) -> None:
    """Each is a composition of its own; beyond some thousands of them the batch is gathered."""
    targets = np.random.default_rng(n).normal(0.5, 0.2, n)
    batch = plain(n, notion=fo.MeanResidual("g", tolerance=0.01), targets=targets)
    found = pool.run(2, "project", batch.shares([0, n // 4, n]))
    compare(batch, found, drawing.alone(batch))
    assert bool(found[0]["gathered"]) == (road == "gathered")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_five_hundred_problems_over_ranks(pool: Any, part: int) -> None:
    names = list(drawing.NOTIONS)
    batches = [drawing.draw(names[k % len(names)], 100 + k, most=300 if k % 5 else 12) for k in range(50 * part, 50 * part + 50)]
    assert check(pool, batches, part)["driven"] >= 15


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_two_hundred_problems_over_seven_ranks(fresh: Any, part: int) -> None:
    """As many processes as divide nothing evenly, shares that are empty among them."""
    names = list(drawing.NOTIONS)
    batches = [drawing.draw(names[k % len(names)], 1_000 + k, most=300 if k % 5 else 12) for k in range(50 * part, 50 * part + 50)]
    assert check(fresh(7, 120.0), batches, 40 + part, (1, 2, 4, 7))["driven"] >= 15


def plain(n: int, seed: int = 0, **facts: Any) -> Any:
    rng = np.random.default_rng(seed)
    g = rng.integers(0, 3, n)
    notion = fo.DemographicParity("g", tolerance=0.05) & fo.DemographicParity("h", tolerance=0.02)
    arguments = {"notion": notion, "scores": rng.normal(0.5, 0.4, n) + 0.2 * g, "features": {"g": g, "h": rng.integers(0, 2, n)}}
    return drawing.Batch("plain", seed, n, {**arguments, "bounds": (0.0, 1.0), "incoming": rng.normal(size=n), **facts})


def test_bytes_do_not_grow_with_the_batch(pool: Any) -> None:
    sent = {}
    for n in (600, 60_000):
        batch = plain(n)
        found = pool.run(2, "project", batch.shares([0, n // 3, n]))
        assert not found[0]["gathered"]
        sent[n] = (found[0]["bytes"], found[0]["messages"], found[0]["iterations"])
    one, other = sent.values()
    evaluations = other[1] - one[1]
    assert abs(other[0] - one[0]) <= abs(evaluations) * 8 * (3 * 6 + 6 + 4) + 64  # a message more or less, no more
    assert max(one[0], other[0]) < 4_000


def raised(pool: Any, members: int, name: str, arguments: Any) -> list[tuple[str, str]]:
    """The error's class and words of each rank; all have to raise."""
    found = pool.outcomes(members, name, arguments)
    assert not any(well for well, _ in found), found
    return [(what[0], what[1]) for _, what in found]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"notion": fo.DemographicParity("g", tolerance=0.06)}, "notion"),
        ({"bounds": (0.0, 2.0)}, "bounds"),
        ({"dtype": "float32"}, "dtype"),
        ({"incoming": None}, "gradients"),
        ({"missing_group": "own"}, "missing_group"),
        ({"on_infeasible": "closest"}, "on_infeasible"),
        ({"groups": {"g": [0, 1, 2]}}, "groups"),
        ({"backend": "dual_newton"}, "backend"),
        ({"certify": False}, "certify"),
    ],
)
def test_what_ranks_differ_in_is_said_on_each(pool: Any, changed: dict[str, Any], words: str) -> None:
    batch = plain(60, notion=fo.DemographicParity("g", tolerance=0.05))
    shares = batch.shares([0, 20, 40, 60])
    shares[1].update(changed)
    for kind, message in raised(pool, 3, "project", shares):
        assert kind == "InputError"
        assert f"the ranks differ in {words}" in message or ("the ranks differ in " in message and words in message)
        assert "rank 0 has" in message
        assert "rank 1 has" in message
    assert pool.run(3, "project", batch.shares([0, 20, 40, 60]))[0]["status"] == "CERTIFIED"  # and the group is as good as before


def test_versions_differ(pool: Any) -> None:
    for kind, message in raised(pool, 2, "other_version", {"scores": [0.1, 0.9], "g": [0, 1]}):
        assert kind == "InputError"
        assert "fairopt's version: rank 0 has 9.9.0, rank 1 has 9.9.1" in message


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"scores": np.array([0.1, np.nan] * 10)}, "InputError", "nan at position 1"),
        ({"scores": np.zeros(19)}, "InputError", "19"),
        ({"features": {"g": np.zeros(20)}}, "InputError", "no attribute 'h'"),
        ({"features": {"g": [None] * 20, "h": [0] * 20}}, "InputError", "missing value"),
        ({"features": {"g": [0] * 19, "h": [0] * 20}}, "InputError", "h"),
        ({"weights": np.full(20, -1.0)}, "InputError", "weights"),
        ({"notion": "parity"}, "InputError", "notion must be"),
        ({"dtype": "int64"}, "InputError", "dtype"),
    ],
)
def test_a_fault_on_one_rank_is_an_error_on_all(pool: Any, changed: dict[str, Any], kind: str, words: str) -> None:
    batch = plain(60, incoming=None)
    shares = batch.shares([0, 20, 40, 60])
    shares[2].update(changed)
    found = raised(pool, 3, "project", shares)
    assert found[2][0] == kind
    assert words in found[2][1]
    for theirs, message in found[:2]:
        assert theirs == "InputError"
        assert "rank 2 of 3 cannot go on" in message
        assert words in message
    assert pool.run(3, "project", batch.shares([0, 20, 40, 60]))[0]["status"] == "CERTIFIED"


def test_types_of_groups_that_differ_between_ranks(pool: Any) -> None:
    shares = plain(20, notion=fo.DemographicParity("g", tolerance=0.1)).shares([0, 10, 20])
    shares[1]["features"]["g"] = ["a", "b"] * 5
    for kind, message in raised(pool, 2, "project", shares):
        assert kind == "InputError"
        assert "int and str" in message


def test_nobody_has_a_sample(pool: Any) -> None:
    batch = plain(10, incoming=None)
    for kind, message in raised(pool, 2, "project", batch.shares([0, 0, 0])):
        assert kind == "InputError"
        assert "empty" in message


def test_infeasible_on_the_union(pool: Any) -> None:
    """Each rank alone could be served; the union cannot."""
    notion = fo.GroupMeanBound("g", lower=0.5) & fo.GroupMeanBound("h", upper=0.3)
    arguments = {"notion": notion, "scores": np.full(4, 0.4), "features": {"g": [0, 0, 0, 0], "h": [1, 1, 1, 1]}, "bounds": (0.0, 1.0)}
    batch = drawing.Batch("infeasible", 0, 4, arguments)
    for kind, _ in raised(pool, 2, "project", batch.shares([0, 1, 4])):
        assert kind == "InfeasibleError"
    for choice, status in (("closest", "CLOSEST"), ("passthrough", "INFEASIBLE")):
        shares = drawing.Batch("infeasible", 0, 4, {**arguments, "on_infeasible": choice}).shares([0, 1, 4])
        found = pool.run(2, "project", shares)
        assert [one["status"] for one in found] == [status] * 2
        assert all("gathered" in one["message"] for one in found) or choice == "passthrough"


def test_a_layer_learns_groups_together(pool: Any) -> None:
    """Whoever meets a value tells the others; where nothing is new, no words travel."""
    rng = np.random.default_rng(0)

    def batch(values: list[str]) -> dict[str, Any]:
        return {"scores": rng.normal(0.5, 0.3, len(values)), "g": values}

    first = [[batch(["b"] * 5), batch(["b", "c"] * 3), batch(["c", "b"] * 2)], [batch(["a", "c"] * 4), batch([]), batch(["a"] * 3)]]
    found = pool.run(2, "layer_steps", [{"batches": mine, "options": {}, "evaluate": 2} for mine in first])
    for told in found:
        assert [groups for _, groups, _ in told] == [{"g": ["a", "b", "c"]}] * 3
        assert [objects for _, _, objects in told] == [1, 0, 0]
    whole = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.05))
    for k in range(3):
        z = torch.tensor(np.concatenate([mine[k]["scores"] for mine in first]))
        whole.train(k != 2)
        y = whole(z, sensitive_features={"g": [v for mine in first for v in mine[k]["g"]]}).numpy()
        assert np.abs(np.concatenate([told[k][0] for told in found]) - y).max() < 1e-12
    unknown = [[batch(["a", "b"]), batch(["a", "b"])], [batch(["a", "b"]), batch(["z", "a"])]]
    for kind, message in raised(pool, 2, "layer_steps", [{"batches": mine, "options": {}, "evaluate": 1} for mine in unknown]):
        assert kind == "InputError"
        assert "unknown value 'z'" in message


@pytest.mark.parametrize("how", [{}, {"learned": True}, {"micro": 7}, {"sharded": True}], ids=["ddp", "learned", "accumulated", "fsdp"])
def test_a_parallel_step_is_the_step_of_one_process(pool: Any, how: dict[str, Any]) -> None:
    learned = "learned" in how
    rng = np.random.default_rng(3)
    n = 48
    x, g, t = rng.normal(size=(n, 4)), rng.integers(0, 3, n), rng.random(n)
    alone = pool.run(1, "parallel_step", {"x": x, "g": g, "targets": t, "total": n, "learned": learned})[0]
    cuts = [0, 31, n]
    shares = [{"x": x[a:b], "g": g[a:b], "targets": t[a:b], "total": n, **how} for a, b in itertools.pairwise(cuts)]
    for found in pool.run(2, "parallel_step", shares):
        assert found.keys() == alone.keys()
        assert ("layer.tolerance" in found) == learned
        for name, value in alone.items():
            assert np.abs(found[name] - value).max() < 1e-12, name


def test_double_backward(pool: Any) -> None:
    rng = np.random.default_rng(4)
    z, g = rng.normal(0.5, 0.3, 40), rng.integers(0, 3, 40)
    first, second = pool.run(1, "twice_differentiated", {"scores": z, "g": g})[0]
    found = pool.run(3, "twice_differentiated", [{"scores": z[a:b], "g": g[a:b]} for a, b in ((0, 7), (7, 30), (30, 40))])
    assert np.abs(np.concatenate([one[0] for one in found]) - first).max() < 1e-12
    assert np.abs(np.concatenate([one[1] for one in found]) - second).max() < 1e-11


def test_a_learned_tolerance_gets_its_gradient_in_shares(pool: Any) -> None:
    rng = np.random.default_rng(5)
    z, g, v = rng.normal(0.5, 0.3, 30), rng.integers(0, 3, 30), rng.normal(size=30)
    whole, by_scores = pool.run(1, "learned_tolerance", {"scores": z, "g": g, "incoming": v})[0]
    parts = [{"scores": z[a:b], "g": g[a:b], "incoming": v[a:b]} for a, b in ((0, 4), (4, 30))]
    found = pool.run(2, "learned_tolerance", parts)
    assert abs(sum(one[0] for one in found) - whole) < 1e-12
    assert abs(whole) > 1e-3
    assert np.abs(np.concatenate([one[1] for one in found]) - by_scores).max() < 1e-12


def test_exact_sums_travel(pool: Any) -> None:
    batch = plain(80)
    decided = pool.run(3, "decided_exactly", batch.shares([0, 5, 5, 80]))
    floats = pool.run(3, "project", batch.shares([0, 5, 5, 80]))
    for one, other in zip(decided, floats, strict=True):
        assert one["status"] == "CERTIFIED"
        assert not one["gathered"]
        assert (one["scores"] == other["scores"]).all()
        assert (one["violation"] == decided[0]["violation"]).all()
        assert np.abs(one["violation"] - other["violation"]).max() < 1e-15


@pytest.mark.parametrize("kind", ["list", "array", "column", "float32", "bfloat16", "float16"])
def test_containers_shapes_and_dtypes(pool: Any, kind: str) -> None:
    rng = np.random.default_rng(6)
    z, g = rng.uniform(0.0, 1.0, 30), rng.integers(0, 2, 30)
    found = pool.run(2, "container", [{"scores": z[a:b], "g": g[a:b], "kind": kind} for a, b in ((0, 12), (12, 30))])
    names = {"list": ("list", ""), "array": ("ndarray", "float64"), "column": ("Tensor", "torch.float64")}
    for (name, dtype, shape, _, status), n in zip(found, (12, 18), strict=True):
        assert (name, dtype) == names.get(kind, ("Tensor", f"torch.{kind}"))
        assert shape == ((n, 1) if kind == "column" else (n,))
        assert status == "CERTIFIED"
    y = np.concatenate([one[3] for one in found])
    assert abs(y[g == 0].mean() - y[g == 1].mean()) <= 0.05 + 1e-12
    assert np.abs(y - fo.project(z, fo.DemographicParity("g", tolerance=0.05), sensitive_features={"g": g}, bounds=(0, 1))).max() < 0.02


@pytest.mark.parametrize("when", [5, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2, 3, 4, 6, 7, 8))])
def test_a_rank_that_dies_is_an_error_for_the_others(fresh: Any, when: int) -> None:
    pool = fresh(3, 20.0)
    rng = np.random.default_rng(7)
    arguments = [{"scores": rng.normal(0.5, 0.6, 20), "g": np.arange(20) % 3, "when": when} for _ in range(3)]
    try:
        pool.outcomes(3, "dies", arguments)
    except EOFError:  # of the one that died
        pass
    else:
        raise AssertionError("the last rank is still there")
    for rank in (0, 1):
        assert pool.last[rank][0] is False
        assert pool.last[rank][1][0] == "RankError", pool.last[rank]


@pytest.mark.slow
def test_a_rank_that_does_not_come(fresh: Any) -> None:
    pool = fresh(2, 8.0)
    found = pool.outcomes(2, "late", {"scores": [0.1, 0.2], "g": [0, 1], "seconds": 12.0})
    assert found[0][0] is False
    assert found[0][1][0] == "RankError"
    assert "rank 0 of 2" in found[0][1][1]


def test_ranks_out_of_step(fresh: Any) -> None:
    pool = fresh(2, 10.0)
    for kind, message in raised(pool, 2, "out_of_step", {"scores": [0.1, 0.2], "g": [0, 1]}):
        assert kind == "RankError"
        assert "out of step" in message


def test_a_layer_on_a_group_is_not_pickled(pool: Any) -> None:
    for kind, message in raised(pool, 2, "pickled", {}):
        assert kind == "UnsupportedError"
        assert "state_dict" in message


def test_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    notion = fo.DemographicParity("g", tolerance=0.1)
    for group in ("world", object()):
        if group == "world":  # a process that runs by itself
            monkeypatch.setenv("WORLD_SIZE", "1")
            found = fo.project([0.1, 0.5], notion, sensitive_features={"g": [0, 1]}, process_group="world")
            assert found == fo.project([0.1, 0.5], notion, sensitive_features={"g": [0, 1]})
            layer = fo.FairnessLayer(notion, process_group="world")
            assert layer.process_group == "world"
            assert layer(torch.tensor([0.1, 0.5]), sensitive_features={"g": [0, 1]}).shape == (2,)
            monkeypatch.setenv("WORLD_SIZE", "2")  # one of several, which were not made a group
        with pytest.raises(fo.InputError, match="process_group: torch.distributed is not initialised"):
            fo.project([0.1, 0.2], notion, sensitive_features={"g": [0, 1]}, process_group=group)


def test_the_world_of_the_pool(pool: Any) -> None:
    batch = plain(80, group="world")
    found = pool.run(4, "in_the_world", [{k: v for k, v in one.items() if k != "group"} for one in batch.shares([0, 5, 5, 60, 80])])
    other = pool.run(1, "project", [{k: v for k, v in batch.arguments.items() if k != "group"}])[0]
    assert np.array_equal(joined(found, "scores"), other["scores"])


@pytest.mark.slow
def test_lightning_over_ranks(fresh: Any) -> None:
    """Under strategy="ddp" with equal shares: the run of one process, and its logs."""
    pytest.importorskip("lightning", reason="needs Lightning")
    rng = np.random.default_rng(8)
    x, g = rng.normal(size=(40, 4)), np.repeat([0, 1], 20)
    x[:, 0] += 2.0 * g
    order = rng.permutation(40)
    x, g = x[order], g[order]
    pool = fresh(2, 60.0)
    shares = [{"x": x[a:b], "g": g[a:b], "shared": True, "steps": 3} for a, b in ((0, 20), (20, 40))]
    found = pool.run(2, "lightning_run", shares)
    apart = pool.run(2, "lightning_run", [{**share, "shared": False} for share in shares])
    lone = fresh(1, 60.0).run(1, "lightning_run", {"x": x, "g": g, "shared": False, "steps": 3})[0]
    for one in found:
        assert all(np.abs(a - b).max() < 1e-12 for a, b in zip(one["parameters"], lone["parameters"], strict=True))
        assert one["logged"].keys() == lone["logged"].keys()
        for name, value in lone["logged"].items():
            assert one["logged"][name] == pytest.approx(value, rel=1e-5, abs=1e-7), name
    assert found[0]["logged"]["parity/val_gap"] <= 0.02 + 1e-9
    assert apart[0]["logged"] == apart[1]["logged"]
    assert apart[0]["logged"]["parity/val_gap"] > 0.02 + 1e-6  # on each rank apart, and not on the union
