"""Merging counts each sample once: by the identity of who sent it, whatever is merged again, copied, forked or crossed."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.streaming import Controller, PooledParity, Sliding, parity

DP = parity("g", tolerance=0.05)


def fresh(**options: object) -> PooledParity:
    return PooledParity(DP, bounds=(0, 1), **options)  # type: ignore[arg-type]


def send(controller: Controller, n: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    controller.step(rng.random(n), sensitive_features=rng.choice(["a", "b"], n))


def restored(controller: Controller) -> PooledParity:
    out = fresh()
    out.load_state_dict(json.loads(json.dumps(controller.state_dict())))
    return out


COPIES: dict[str, Callable[[PooledParity], PooledParity]] = {
    "itself": lambda c: c,
    "pickle": lambda c: pickle.loads(pickle.dumps(c)),
    "deepcopy": copy.deepcopy,
    "state": restored,
}


def begun() -> tuple[PooledParity, PooledParity]:
    main = fresh()
    send(main, 10)
    worker = main.fork()
    send(worker, 5, 1)
    return main, worker


def counted(c: Controller) -> tuple[float, int]:
    return c._components[0, ()].total, c.samples


@pytest.mark.parametrize("way", sorted(COPIES))
@pytest.mark.parametrize("before", [False, True])
def test_a_worker_is_merged_once(way: str, before: bool) -> None:
    main, worker = begun()
    twin = COPIES[way](worker) if before else None
    main.merge(worker)
    state = main.state_dict()
    twin = COPIES[way](worker) if twin is None else twin
    for _ in range(2):
        main.merge(twin)
        assert main.state_dict() == state
    assert counted(main) == (15.0, 15)
    again = restored(main)  # what was merged is in the state
    again.merge(twin)
    assert counted(again) == (15.0, 15)


@pytest.mark.parametrize("way", sorted(COPIES))
def test_a_worker_that_went_on_gives_the_new_part_exactly(way: str) -> None:
    main, worker = begun()
    main.merge(worker)
    worker = COPIES[way](worker)
    for k in range(3):
        send(worker, 4, 20 + k)
        main.merge(worker)
        main.merge(worker)
        assert counted(main) == (19.0 + 4 * k, 19 + 4 * k)
    other, whole = begun()
    for k in range(3):
        send(whole, 4, 20 + k)
    other.merge(whole)
    assert main._components[0, ()].parts() == other._components[0, ()].parts()


def test_a_copy_that_went_another_way_is_refused() -> None:
    main, worker = begun()
    twin = copy.deepcopy(worker)
    send(worker, 3, 2)
    send(twin, 3, 3)
    main.merge(worker)
    state = main.state_dict()
    with pytest.raises(fo.InputError, match="another way"):
        main.merge(twin)
    assert main.state_dict() == state
    early, late = begun()
    old = restored(late)
    send(late, 2, 5)
    early.merge(late)
    with pytest.raises(fo.InputError, match="another way"):  # an older copy: what it has is counted
        early.merge(old)
    assert counted(early) == (17.0, 17)


def test_a_main_that_went_back_takes_the_worker_again() -> None:
    main, worker = begun()
    state = main.state_dict()
    main.merge(worker)
    back = fresh()
    back.load_state_dict(state)
    back.merge(worker)
    assert counted(back) == (15.0, 15)


def test_crossings_that_would_count_twice_are_refused() -> None:
    main, worker = begun()
    inner = worker.fork()
    send(inner, 2, 4)
    for into, other in ((worker, main), (inner, main), (inner, worker), (worker, worker)):
        state = into.state_dict()
        with pytest.raises(fo.InputError, match="merge"):
            into.merge(other)
        assert into.state_dict() == state
    worker.merge(inner)  # a worker of a worker: once, on either way
    main.merge(worker)
    main.merge(inner)
    assert counted(main) == (17.0, 17)
    with pytest.raises(fo.InputError, match="twice"):
        worker.merge(main)
    third = fresh()
    send(third, 3, 8)
    third.merge(inner)
    with pytest.raises(fo.InputError, match="twice"):
        main.merge(third)
    one, two = fresh(), fresh()
    send(one, 1)
    send(two, 1, 1)
    one.merge(two)
    with pytest.raises(fo.InputError, match="twice"):
        two.merge(one)


def test_a_worker_of_another_controller_gives_its_own_part_only() -> None:
    _, worker = begun()
    other = fresh()
    send(other, 7, 9)
    other.merge(worker)
    assert counted(other) == (12.0, 12)


def test_controllers_without_a_common_past() -> None:
    empty = fresh()
    for twin in (copy.deepcopy(empty), pickle.loads(pickle.dumps(empty))):  # copies of nothing are controllers of their own
        send(twin, 2)
        empty.merge(twin)
    assert empty.samples == 4
    single = fresh()
    send(single, 2)
    with pytest.raises(fo.InputError, match="copy of this one"):
        single.merge(copy.deepcopy(single))
    main, file = fresh(), restored(single)
    main.merge(file)
    with pytest.raises(fo.InputError, match=r"fork\(\)"):  # two files of the same content cannot be told apart
        main.merge(restored(single))
    assert main.samples == 2
    a, b = fresh(), fresh()
    for c in (a, b):  # live ones can, whatever they sent
        c.step(0.5, sensitive_features="a")
    main = fresh()
    main.merge(a)
    main.merge(b)
    assert main.samples == 2


def test_a_plain_controller_and_one_restored_from_its_state_are_the_same() -> None:
    live = fresh()
    send(live, 3)
    file = restored(live)
    for mine, other in ((live, file), (file, live)):
        with pytest.raises(fo.InputError, match="restored from a state"):
            mine.merge(other)
    for first, second in ((live, file), (file, live)):
        main = fresh()
        main.merge(copy.deepcopy(first))
        for again in (main, restored(main)):
            with pytest.raises(fo.InputError, match="restored from a state"):
                again.merge(copy.deepcopy(second))
            assert again.samples == 3
    twin = fresh()
    send(twin, 3)  # live ones are told apart, whatever they sent
    twin.merge(live)
    assert twin.samples == 6


@pytest.mark.parametrize(("mine", "theirs"), [(1, "1"), (True, 1), ("True", True), (0, False)])
def test_kinds_of_values_that_differ_are_refused_in_merge_and_load(mine: object, theirs: object) -> None:
    a, b = fresh(), fresh()
    a.step(0.5, sensitive_features=mine)
    b.step(0.5, sensitive_features=theirs)
    state = a.state_dict()
    with pytest.raises(fo.InputError, match="'g' are"):
        a.merge(b)
    with pytest.raises(fo.InputError, match="'g' are"):
        a.load_state_dict(b.state_dict())
    with pytest.raises(fo.InputError, match="'g' are|declared"):
        fresh(groups=[mine]).load_state_dict(b.state_dict())
    assert a.state_dict() == state
    a.step(0.5, sensitive_features=mine)


def test_groups_that_are_not_declared_here_are_refused() -> None:
    a, b, c = fresh(groups=["a", "b"]), fresh(), fresh(missing_group="own")
    b.step(0.5, sensitive_features="c")
    c.step([0.5, 0.4], sensitive_features=["a", None])
    state = a.state_dict()
    for other, word in ((b, "declared"), (c, "missing")):
        with pytest.raises(fo.InputError, match=word):
            a.merge(other)
        with pytest.raises(fo.InputError, match=word):
            a.load_state_dict(other.state_dict())
    assert a.state_dict() == state


def test_targets_that_are_awaited_stay_with_the_parent() -> None:
    main = PooledParity(parity("g", tolerance=0.1, residual=True), bounds=(0, 1))
    first = main.step([0.2, 0.8], sensitive_features=["a", "b"], key=["x", "y"]).scores
    worker = main.fork()
    then = worker.step(0.5, sensitive_features="a", targets=1.0).scores
    with pytest.raises(fo.InputError, match="does not wait"):
        worker.observe("x", 1.0)
    main.merge(worker)
    main.observe(["x", "y"], [1.0, 0.0])
    assert counted(main) == (3.0, 3)
    assert main._components[0, ()].heads == pytest.approx([first[0] - 1.0 + then - 1.0, first[1]], abs=1e-12)


def test_counts_beyond_exact_floats_are_refused() -> None:
    state = fresh().state_dict()
    state["components"][0].update(groups=["a"], counts=[2.0**53 - 1], sums=[[2.0**52]])
    state.update(samples=2**53 - 1, steps=1)
    a, b = fresh(), fresh()
    a.load_state_dict(state)
    b.step(0.5, sensitive_features="a")
    with pytest.raises(fo.InputError, match=r"2\^53"):
        a.merge(b)
    state["components"][0]["counts"] = [2.0**53]
    with pytest.raises(fo.InputError, match=r"2\^53"):
        b.load_state_dict(state)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["send", "merge", "fork", "copy"]), st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_whatever_is_done_no_sample_is_counted_twice_in_one_controller(acts: list[tuple[str, int, int]]) -> None:
    """Every sample has a power of two for a score's weight of its own: the sum tells which samples are in a controller, and how often."""
    crew = [fresh()]  # one group: every score goes through as it came
    crew.append(crew[0].fork())  # from now on the identity is in the state
    crew[0].step(0.5, sensitive_features="a")
    used = 1
    for act, i, j in acts:
        a, b = crew[i % len(crew)], crew[j % len(crew)]
        if act == "send" and used < 45:
            used += 1
            a.step(0.5**used, sensitive_features="a")
        elif act == "merge":
            with suppress(fo.InputError):
                a.merge(b)
        elif act == "fork":
            crew.append(a.fork())
        else:
            crew.append(COPIES[["pickle", "deepcopy", "state"][j % 3]](a))
    for c in crew:
        count, total = c._components[0, ()].parts().get("a", (0.0, (0.0,)))
        bits = int(total[0] * 2.0**50)
        assert bits * 2.0**-50 == total[0]
        assert bin(bits).count("1") == count  # each once: a sample counted twice would carry into its neighbour's bit


def test_windows_are_still_refused() -> None:
    main = fresh(window=Sliding(4))
    main.step(0.5, sensitive_features="a")
    with pytest.raises(fo.UnsupportedError):
        main.merge(main.fork())
