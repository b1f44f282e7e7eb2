"""Every adapter by itself, before any polish: right scores and prices, honest status, a right gradient of its own, no shared state.

The conformance kit (tests/conformance) holds the same adapters to their declarations through the front door.
"""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fairopt.basics.errors import BackendError, InfeasibleError, InputError, MissingExtraError, UnsupportedError
from fairopt.contract.backend import Backend, Status
from fairopt.contract.problem import Limits
from fairopt.testing.draws import Draw, draw, infeasible, wild
from fairopt.testing.oracle import OracleSolution, accepted_oracle, solve_reference
from fairopt.testing.sensitivity import exact_jacobian, generic

pytest.importorskip("daqp")
# name -> (class, the module of the solver)
CLASSES = {
    "unrolled": ("unrolled:Unrolled", "torch"),
    "cvxpylayers": ("cvxpylayers:CvxpyLayers", "cvxpylayers"),
    "diffcp": ("diffcp:Diffcp", "diffcp"),
    "qpth": ("qpth:Qpth", "qpth"),
    "theseus": ("theseus:Theseus", "theseus"),
    "proxqp": ("proxqp:ProxQP", "proxsuite"),
    "moreau": ("moreau:Moreau", "moreau"),
}
SOLVERS = {"clarabel": "clarabel", "daqp": "daqp", "highs": "highspy", "osqp": "osqp", "piqp": "piqp", "scs": "scs"}
ALL = [*CLASSES, *(f"qpsolvers:{name}" for name in SOLVERS)]
NATIVE = list(CLASSES)
SLOW = ("theseus", "qpth")


@cache
def make(name: str) -> Backend:
    family, _, solver = name.partition(":")
    module, cls = ("qpsolvers", "QPSolvers") if solver else CLASSES[family][0].split(":")
    pytest.importorskip("qpsolvers" if solver else CLASSES[family][1])
    if solver:
        pytest.importorskip(SOLVERS[solver])
    kind = getattr(importlib.import_module(f"fairopt_backends.{module}"), cls)
    made: Backend = kind(solver) if solver else kind()
    return made


@cache
def references() -> tuple[tuple[Draw, OracleSolution], ...]:
    found = ((d, accepted_oracle(d)) for d in wild(60, 21, max_n=16, avoid=("infeasible", "huge", "tiny")))
    return tuple((d, o) for d, o in found if o is not None)


@cache
def generic_cases() -> tuple[tuple[Draw, OracleSolution], ...]:
    found = ((d, generic(d)) for d in wild(80, 22, max_n=14, avoid=("infeasible", "huge", "tiny", "far")))
    return tuple((d, o) for d, o in found if o is not None)


def taken(backend: Backend, cases: tuple[tuple[Draw, OracleSolution], ...], most: int) -> Iterator[tuple[Draw, OracleSolution]]:
    count = 0
    for d, o in cases:
        if count < most and {s.kind for s in d.problem.softness} <= backend.capabilities.softness:
            count += 1
            yield d, o


def size(o: OracleSolution) -> float:
    return max(1.0, float(np.abs(o.y).max()))


@pytest.mark.parametrize("name", ALL)
def test_raw_scores_and_prices_are_right(name: str) -> None:
    backend = make(name)
    kinds, count = set(), 0
    for d, o in taken(backend, references(), 12 if name in SLOW else 40):
        before = d.scores.clone()
        raw = backend.solve(d.scores, d.problem)
        assert torch.equal(d.scores, before)
        assert raw.status is None, d
        assert raw.y is not None
        assert raw.y.dtype == torch.float64
        assert np.abs(raw.y.numpy() - o.y).max() <= 1e-6 * size(o), d
        assert raw.prices is not None
        w = 1.0 if d.problem.weights is None else d.problem.weights.numpy()
        lb, ub = (np.asarray(b) for b in (d.problem.lb, d.problem.ub))
        from_prices = np.clip(d.scores.numpy() - (d.problem.rows.matrix().numpy().T @ raw.prices) / w, lb, ub)
        assert np.abs(from_prices - o.y).max() <= 1e-5 * max(size(o), float(d.scores.abs().max())), d
        kinds |= {s.kind for s in d.problem.softness}
        count += 1
    assert count >= 10
    assert kinds == backend.capabilities.softness or count < 40


@pytest.mark.parametrize("name", NATIVE)
def test_the_native_gradient_is_the_exact_one_at_generic_points(name: str) -> None:
    backend = make(name)
    assert backend.capabilities.accuracy_native_gradient is not None
    rng, count = np.random.default_rng(0), 0
    for d, o in taken(backend, generic_cases(), 8 if name in SLOW else 20):
        v = torch.from_numpy(rng.normal(size=d.problem.n))
        z = d.scores.clone().to(torch.float32 if count % 4 == 0 else torch.float64).requires_grad_(True)
        y = backend.solve_native(z, d.problem, d.problem.limits())
        assert y.dtype == torch.float64
        (g,) = torch.autograd.grad(y @ v, z)
        assert g.dtype == z.dtype
        if z.dtype == torch.float64:
            assert np.abs(y.detach().numpy() - o.y).max() <= 1e-6 * size(o), d
            exact = exact_jacobian(d, o).T @ v.numpy()
            assert np.abs(g.numpy() - exact).max() <= backend.capabilities.accuracy_native_gradient * max(1.0, float(v.abs().max())), d
        count += 1
    assert count >= 8


@pytest.mark.parametrize("name", NATIVE)
def test_the_native_gradient_reaches_every_kind_of_limit(name: str) -> None:
    """Against central differences of the reference: tolerances, offsets, rho and gamma."""
    backend = make(name)
    rng, seen = np.random.default_rng(1), set()
    for d, _ in taken(backend, generic_cases(), 6 if name in SLOW else 14):
        if any(s.kind == "budget" for s in d.problem.softness):
            continue
        plain = d.problem.limits()
        limits = Limits(*(t.requires_grad_(True) for t in plain.tensors()))
        v = torch.from_numpy(rng.normal(size=d.problem.n))
        found = torch.autograd.grad(backend.solve_native(d.scores, d.problem, limits) @ v, limits.tensors(), allow_unused=True)
        for k, (t, g) in enumerate(zip(limits.tensors(), found, strict=True)):
            i = int(rng.integers(t.shape[0])) if t.shape[0] else 0
            fixed = k < 2 and t.shape[0] and bool(limits.lower[i] == limits.upper[i])
            if not t.shape[0] or fixed or not bool(torch.isfinite(t[i])) or (k == 2 and float(t[i].detach()) < 1e-5):
                continue
            ends = []
            for sign in (1.0, -1.0):
                moved = [u.detach().clone() for u in limits.tensors()]
                moved[k][i] += sign * 1e-6
                ends.append(solve_reference(d.scores.numpy(), d.problem.with_limits(Limits(*moved))).y @ v.numpy())
            slope = 0.0 if g is None else float(g[i])
            assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-4, rel=1e-3), (d, k)
            if slope != 0.0:
                seen.add(k)
    assert {1, 3} & seen


@pytest.mark.parametrize(
    ("name", "draws"),
    [*((name, 1 if name == "unrolled" else 4 if name in SLOW else 8) for name in ALL), pytest.param("unrolled", 4, marks=pytest.mark.slow)],
)
def test_an_infeasible_problem_is_never_solved(name: str, draws: int) -> None:
    backend = make(name)  # unrolled runs all its steps before it may say so
    for d in infeasible(draws, 3, max_n=10):
        raw = backend.solve(d.scores, d.problem)
        assert raw.status is Status.INFEASIBLE, (d, raw.status, raw.message)
        if name in NATIVE and name != "unrolled":
            with pytest.raises(InfeasibleError):
                backend.solve_native(d.scores.clone().requires_grad_(True), d.problem, d.problem.limits())


@pytest.mark.parametrize("name", ALL)
def test_one_iteration_is_not_called_solved(name: str) -> None:
    family, _, solver = name.partition(":")
    kind = type(make(name))
    short = kind(*([solver] if solver else []), **{"steps" if family == "unrolled" else "max_iter": 1})
    statuses = set()
    for d, o in taken(short, references(), 6):
        raw = short.solve(d.scores, d.problem)
        statuses.add(raw.status)
        if raw.status is None:
            assert raw.y is not None
            assert np.abs(raw.y.numpy() - o.y).max() <= 1e-4 * size(o), d
    assert statuses <= {None, Status.ITERATION_LIMIT, Status.INACCURATE, Status.FAILED}


@pytest.mark.parametrize("name", ALL)
def test_a_copy_and_a_pickle_answer_the_same(name: str) -> None:
    backend = make(name)
    d, _ = next(taken(backend, references(), 1))
    first = backend.solve(d.scores, d.problem).y
    assert first is not None
    for other in (copy.deepcopy(backend), pickle.loads(pickle.dumps(backend))):
        assert other.name == backend.name
        again = other.solve(d.scores, d.problem).y
        assert again is not None
        assert torch.equal(first, again)


@pytest.mark.parametrize("name", ALL)
def test_a_batch_is_a_loop(name: str) -> None:
    backend = make(name)
    d = draw("range", 3, ["box"], max_n=10)
    scores = torch.stack([d.scores, d.scores.flip(0), 2 * d.scores])
    for row, raw in zip(scores, backend.solve_batch(scores, d.problem), strict=True):
        alone = backend.solve(row, d.problem)
        assert raw.y is not None
        assert alone.y is not None
        assert torch.allclose(raw.y, alone.y, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", NATIVE)
def test_threads_and_interleaved_layers_keep_their_own_gradients(name: str) -> None:
    """Forwards of several layers first, backwards later, in four threads: the answers of one after the other."""
    backend = make(name)
    jobs = [d for d, _ in taken(backend, generic_cases(), 4)] * (2 if name in SLOW else 6)

    def gradient(d: Draw) -> torch.Tensor:
        z = d.scores.clone().requires_grad_(True)
        y = backend.solve_native(z, d.problem, d.problem.limits())
        (g,) = torch.autograd.grad(y @ torch.arange(d.problem.n, dtype=torch.float64), z)
        return torch.cat([y.detach(), g])

    expected = [gradient(d) for d in jobs]
    with ThreadPoolExecutor(4) as pool:
        for a, b in zip(expected, pool.map(gradient, jobs), strict=True):
            assert torch.allclose(a, b, rtol=1e-6, atol=1e-7)
    inputs = [d.scores.clone().requires_grad_(True) for d in jobs[:4]]
    outputs = [backend.solve_native(z, d.problem, d.problem.limits()) for z, d in zip(inputs, jobs, strict=False)]
    for z, y, expected_one, d in reversed(list(zip(inputs, outputs, expected, jobs, strict=False))):
        (g,) = torch.autograd.grad(y @ torch.arange(d.problem.n, dtype=torch.float64), z)
        assert torch.allclose(torch.cat([y.detach(), g]), expected_one, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ALL)
def test_the_default_dtype_does_not_matter(name: str) -> None:
    backend = make(name)
    d, _ = next(taken(backend, generic_cases(), 1))

    def answer() -> torch.Tensor:
        z = d.scores.clone().requires_grad_(True)
        raw = backend.solve(d.scores, d.problem)
        assert raw.y is not None
        if name not in NATIVE:
            return raw.y
        y = backend.solve_native(z, d.problem, d.problem.limits())
        return torch.cat([raw.y, y.detach(), torch.autograd.grad(y[0], z)[0]])

    in_float32 = answer()
    torch.set_default_dtype(torch.float64)
    try:
        in_float64 = answer()
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.allclose(in_float32, in_float64, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", [n for n in ALL if n != "unrolled"])
def test_an_absent_solver_is_named_with_the_line_that_installs_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = make(name)
    family, _, solver = name.partition(":")
    module = "qpsolvers" if solver else CLASSES[family][1]
    for known in [m for m in sys.modules if m.split(".")[0] == module]:
        monkeypatch.setitem(sys.modules, known, None)
    monkeypatch.setitem(sys.modules, module, None)
    fresh = copy.deepcopy(backend)
    d, _ = next(taken(backend, references(), 1))
    if name == "theseus":
        importlib.import_module("fairopt_backends.theseus_cost").cost_class.cache_clear()
    with pytest.raises(MissingExtraError, match="pip install"):
        fresh.solve(d.scores, d.problem)


def test_a_solver_that_breaks_at_import_is_reported_as_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from fairopt_backends import modules

    (tmp_path / "a_broken_solver.py").write_text("raise RuntimeError('wrong build')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(modules.INSTALL, "a_broken_solver", "nothing")
    with pytest.raises(BackendError, match="RuntimeError: wrong build"):
        modules.load("a_broken_solver")


def test_solvers_without_a_gradient_of_their_own_say_so() -> None:
    """OSQP's adjoint is wrong as soon as a slack is below 3e-4, so it is not offered."""
    d, _ = references()[0]
    for solver in SOLVERS:
        with pytest.raises(UnsupportedError, match="implicit"):
            make(f"qpsolvers:{solver}").solve_native(d.scores, d.problem, d.problem.limits())


@pytest.mark.parametrize("name", ["qpth", "theseus"])
def test_a_softness_that_is_not_declared_is_refused(name: str) -> None:
    d = draw("range", 1, ["priced"], max_n=10)
    with pytest.raises(UnsupportedError, match="priced"):
        make(name).solve(d.scores, d.problem)
    with pytest.raises(UnsupportedError, match="priced"):
        make(name).solve_native(d.scores, d.problem, d.problem.limits())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unrolled", {"steps": 0}),
        ("unrolled", {"method": "adam"}),
        ("cvxpylayers", {"solver": "OSQP"}),
        ("cvxpylayers", {"cache_size": 0}),
        ("diffcp", {"mode": "lpgd"}),
        ("qpth", {"max_iter": 2.5}),
        ("theseus", {"rho": -1.0}),
        ("proxqp", {"solver_tol": 0.0}),
        ("moreau", {"method": "simplex"}),
        ("qpsolvers:highs", {"solver_tol": 1e-12}),
        ("qpsolvers:daqp", {"max_iter": True}),
    ],
)
def test_a_wrong_option_is_an_input_error_that_names_it(name: str, options: dict[str, object]) -> None:
    solver = name.partition(":")[2]
    with pytest.raises(InputError, match=next(iter(options))):
        type(make(name))(*([solver] if solver else []), **options)


def test_an_unknown_member_of_qpsolvers_is_an_input_error() -> None:
    kind: Any = type(make("qpsolvers:daqp"))
    with pytest.raises(InputError, match="gurobi"):
        kind("gurobi")
