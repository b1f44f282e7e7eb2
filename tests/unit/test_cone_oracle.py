"""Every distance and kind of output against a cone solver's answer made exact (``fairopt.testing.cone_oracle``): 1e-8 in every score."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

import fairopt as fo
from fairopt.basics.errors import UnsupportedError
from fairopt.contract.problem import ProjectionProblem
from fairopt.contract.registry import backend as named
from fairopt.solve import solve
from fairopt.solve.choosing import choose
from fairopt.testing.cone_oracle import cone_reference
from fairopt.testing.optimality import written_out
from fairopt.testing.other_draws import KINDS, other_draws
from fairopt.testing.score_map import ScoreMap
from tests.unit.class_draws import class_draws
from tests.unit.kl_draws import kl_draws

pytest.importorskip("clarabel")
NEAR = 1e-8
GRANTED = (fo.Status.CERTIFIED, fo.Status.WITHIN_ROUNDING)
LARGEST = 2e7  # numbers of the sides written out, beyond which the reference is not asked
ROADS = ("simplex squared", "simplex kl", "one kl", "one kl_positive", "soft squared", "soft kl")
Drawn = tuple[ProjectionProblem, np.ndarray, Any, str]  # problem, scores (n,), what asks for the answer (n,), words


def soft_draws(count: int, seed: int, distance: str, max_n: int) -> Iterator[Drawn]:
    """2 to 12 groups known in probability."""
    for k in range(count):
        rng = np.random.default_rng([seed, k, 7])
        n, K = round(float(np.exp(rng.uniform(np.log(3.0), np.log(max_n))))), int(rng.integers(2, 13))
        soft = fo.Soft(rng.dirichlet(np.full(K, rng.choice([0.1, 1.0])), n), list(range(K)))
        z = rng.beta(1.0, 2.0, n) * 0.6 + 0.4 * soft.probabilities[:, 0]
        notions = (
            fo.DemographicParity("g", tolerance=float(rng.choice([0.0, 0.01, 0.1]))),
            fo.DemographicParity("g", tolerance=0.01).penalised(20.0),
            fo.DemographicParity("g", tolerance=0.02).priced(0.1),
        )
        notion = notions[int(rng.integers(3))]
        prepared = fo.compile(notion, sensitive_features={"g": soft}, bounds=(0, 1), distance=distance)
        yield (
            prepared.problem,
            z,
            partial(prepared.project, return_solution=True),
            f"soft_draws({count}, {seed}, {distance!r}, {max_n}): {k}, {notion!r}, {n}, {K}",
        )


def drawn(road: str, count: int, seed: int, max_n: int, most: int) -> Iterator[Drawn]:
    kind, distance = road.split()
    if kind == "soft":
        yield from soft_draws(count, seed, distance, max_n)
    elif kind == "one":
        for d in kl_draws(count, seed, distance=distance, max_n=max_n):  # type: ignore[arg-type]
            yield d.problem, d.scores.numpy(), partial(solve, problem=d.problem), d.words
    else:
        for c in class_draws(count, seed, distance, max_n=max_n, most=most):
            yield (
                c.prepared.problem_for(c.z.shape[1]),
                c.z.T.reshape(-1).numpy(),
                partial(of_classes, c.prepared),
                c.words,
            )


def of_classes(prepared: Any, flat: torch.Tensor) -> Any:
    return prepared.project(flat.reshape(-1, prepared.n).T.contiguous(), return_solution=True)


def sides(problem: ProjectionProblem) -> int:
    return 2 * problem.linear + sum((part.stop - part.start) ** 2 for part in problem.range_slices)


def agreed(road: str, count: int, seed: int, max_n: int, most: int = 8) -> int:
    """How many of the drawn problems had a reference, each within NEAR of ours."""
    compared = 0
    for problem, z, project, words in drawn(road, count, seed, max_n, most):
        if sides(problem) * problem.n > LARGEST:
            continue
        reference = cone_reference(z, problem)
        if reference is None:
            continue
        solution = project(torch.from_numpy(z))
        y = solution.scores.numpy()
        y = y.T.reshape(-1) if problem.classes > 1 else y
        size = max(1.0, float(reference.y.max()))
        assert solution.status in GRANTED, (words, solution.status)
        assert np.abs(y - reference.y).max() <= NEAR * size, words
        compared += 1
    return compared


@pytest.mark.parametrize("road", ROADS)
def test_a_cone_solver_made_exact_agrees(road: str) -> None:
    assert agreed(road, 60, 31, 60) >= 45


@pytest.mark.slow
@pytest.mark.parametrize("road", ROADS)
def test_a_cone_solver_made_exact_agrees_on_thousands(road: str) -> None:
    assert agreed(road, 2000, 32, 2000, most=20) >= 1500


def test_the_reference_refuses_what_is_not_optimal() -> None:
    """Multipliers that are off leave a residual."""

    d = next(d for d in other_draws(20, 3, "kl", "simplex") if d.problem.m and np.abs(project(d).prices.numpy()).max() > 1e-2)
    found = cone_reference(d.scores.numpy(), d.problem)
    assert found is not None
    shifted = ScoreMap(d.problem, written_out(d.problem), d.scores.numpy())
    assert np.abs(shifted.at(found.prices)[0] - found.y).max() <= 1e-14
    assert np.abs(shifted.at(found.prices * 1.01)[0] - found.y).max() > 1e-7


def project(d: Any, backend: Any = "dual_newton") -> Any:
    from fairopt.solve.simplex.front import solve_simplex

    if d.problem.classes == 1:
        return solve(d.scores, d.problem, backend=backend)
    return solve_simplex(d.table, d.problem, choose(backend, d.problem, None), kl=d.problem.distance != "squared")


@pytest.mark.parametrize(("distance", "kind"), KINDS)
@pytest.mark.parametrize("name", ["cvxpylayers", "diffcp", "unrolled", "proxqp", "qpsolvers:osqp", "qpsolvers:piqp"])
def test_other_solvers_take_what_they_declare(name: str, distance: Any, kind: Any) -> None:
    if not any(row["name"] == name.partition(":")[0] and row["available"] for row in fo.backends()):
        pytest.skip(f"{name} is not here")
    can = named(name).capabilities
    declared = distance in can.distances and kind in can.outputs
    for d in [d for d in other_draws(12, 8, distance, kind) if d.problem.m][:4]:
        if not declared:
            with pytest.raises(UnsupportedError, match="outputs|distance"):
                project(d, name)
            continue
        ours, theirs = project(d), project(d, name)
        assert theirs.status in GRANTED, (name, d.words, theirs.message)
        assert theirs.backend == theirs.certificate.backend == name
        assert float((ours.scores - theirs.scores).abs().max()) <= NEAR, d.words


def test_gradients_are_those_of_the_conditions_whoever_solved() -> None:
    pytest.importorskip("cvxpylayers")
    g = torch.arange(30) % 3
    z = torch.softmax(torch.randn(30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + g[:, None] * 0.3, 1)
    asked: tuple[tuple[Any, torch.Tensor], ...] = (("simplex", z), ("one", z[:, 0].contiguous()))
    for outputs, scores in asked:
        prepared: Any = fo.compile(fo.DemographicParity("g", tolerance=0.01), sensitive_features=g, outputs=outputs, distance="kl")
        found = []
        for backend in ("auto", "cvxpylayers", "unrolled"):
            x = scores.clone().requires_grad_(True)
            y = prepared.project(x, backend=backend)
            found.append(torch.autograd.grad(y.square().sum(), x)[0])
        assert torch.allclose(found[0], found[1], rtol=1e-7, atol=1e-9)
        assert torch.allclose(found[0], found[2], rtol=1e-7, atol=1e-9)
        with pytest.raises(UnsupportedError, match="native"):
            prepared.project(scores, backend="cvxpylayers", gradient="native")


def test_a_step_that_solves_the_problem_is_taken_where_slopes_are_rounding() -> None:
    """Scores of .002 beside prices of 64: the slopes of the dual along the last step are 1e-14, all of it rounding (INACCURATE before)."""
    problem, z, project, _ = next(islice(drawn("one kl_positive", 2000, 32, 2000, 20), 866, None))
    solution = project(torch.from_numpy(z))
    reference = cone_reference(z, problem)
    assert solution.status is fo.Status.CERTIFIED
    assert solution.iterations <= 5
    assert reference is not None
    assert np.abs(solution.scores.numpy() - reference.y).max() <= NEAR
