"""Many rows of which some share samples: matrices in parts against the same ones written out, and whole projections by either road."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import fairopt as fo
from fairopt.basics.sparse import Matrix, SparseRows
from fairopt.basics.wide_rows import WideRows, wide_shares
from fairopt.solve import fast, road
from fairopt.solve.dual import pieces as pieces_module
from fairopt.solve.dual import structure as structures
from fairopt.solve.dual.active_piece import read_piece
from fairopt.solve.dual.bordered import BorderedInverse, Sandwich, split
from fairopt.solve.dual.structure import numbers, structure

Floats = NDArray[np.float64]


def drawn(seed: int) -> tuple[WideRows, Floats, np.random.Generator]:
    """Rows of 40 groups, most of them compared with one of two wide masks, in parts and written out."""
    draw = np.random.default_rng(seed)
    groups, cells = 40, 60
    masks = np.zeros((groups + 2, cells), dtype=np.bool_)
    masks[np.concatenate([np.arange(groups), draw.integers(0, groups, cells - groups)]), draw.permutation(cells)] = True
    masks[groups, :30] = masks[groups + 1, 30:] = True
    scales = np.zeros((groups, groups + 2))
    scales[np.arange(groups), np.arange(groups)] = draw.choice([1.0, -2.0], groups)
    scales[:20, groups], scales[18:, groups + 1] = -1.0, draw.normal(size=groups - 18)
    counts = masks @ draw.integers(1, 9, cells)
    rows = wide_shares(SparseRows.of_dense(scales), SparseRows.of_dense(masks), counts)
    assert isinstance(rows, WideRows)
    return rows, (scales / counts) @ masks, draw


def near(a: Any, b: Any) -> None:
    np.testing.assert_allclose(np.asarray(a), b, rtol=1e-11, atol=1e-13)


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_rows_with_wide_masks_are_what_they_stand_for(seed: int) -> None:
    rows, full, draw = drawn(seed)
    x, p = draw.normal(size=rows.columns), draw.normal(size=len(rows))
    near(rows.toarray(), full)
    near(rows @ x, full @ x)
    near(p @ rows, p @ full)
    near((rows**2).toarray(), full**2)
    near(abs(rows).toarray(), np.abs(full))
    near((rows * x).toarray(), full * x)
    near((rows / x).toarray(), full / x)
    near(rows.take(np.array([3, 19])), full[[3, 19]])
    near(rows[3], full[3])
    near(rows.sum(0), full.sum(0))
    near(rows.sum(1), full.sum(1))
    assert (rows.parts_sum(np.ones(full.shape[1], dtype=np.int64)) >= np.abs(full).sum(1) * (1 - 1e-12)).all()


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.booleans())
def test_what_rows_reach_between_bounds(seed: int, open_ends: bool) -> None:
    rows, full, draw = drawn(seed)
    low = draw.normal(size=rows.columns)
    high = low + draw.random(rows.columns)
    if open_ends:
        low[draw.integers(0, rows.columns)], high[draw.integers(0, rows.columns)] = -np.inf, np.inf
    clean = np.where(np.abs(full) < 1e-12, 0.0, full)
    with np.errstate(invalid="ignore"):
        expected = np.where(clean > 0, clean * low, np.where(clean < 0, clean * high, 0.0)).sum(1)
    near(rows.reach(low, high), expected)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from(["wide", "sparse", "dense"]))
def test_a_model_in_parts_is_the_product_written_out(seed: int, kind: str) -> None:
    rows, full, draw = drawn(seed)
    slope = draw.random(rows.columns) * (draw.random(rows.columns) < 0.7)
    forms: dict[str, Matrix] = {"wide": rows, "sparse": SparseRows.of_dense(full), "dense": full}
    coefficients = forms[kind]
    M = Sandwich(coefficients, slope, split(coefficients))
    expected = (full * slope) @ full.T
    x = draw.normal(size=len(rows))
    near(M @ x, expected @ x)
    near(M.diagonal(), np.diag(expected))


A, B = "a", "b"
NOTIONS: dict[str, Callable[[float], fo.Notion]] = {
    "two": lambda t: fo.DemographicParity(A, tolerance=t) & fo.DemographicParity(B, tolerance=t),
    "overall": lambda t: fo.DemographicParity(A, tolerance=t, to="overall"),
    "reference": lambda t: fo.DemographicParity(A, tolerance=t, to=fo.Reference(0)),
    "overall and pairs": lambda t: fo.DemographicParity(A, tolerance=t, to="overall") & fo.DemographicParity(B, tolerance=t),
    "ratio and bound": lambda t: fo.ImpactRatio(A, ratio=1 - t) & fo.GroupMeanBound(B, upper=0.7),
    "soft": lambda t: fo.DemographicParity(A, tolerance=t).penalised(9.0) & fo.DemographicParity(B, tolerance=t).priced(9.0),
    "budget": lambda t: (fo.DemographicParity(A, tolerance=t) & fo.DemographicParity(B, tolerance=t, to="overall")).budgeted(20.0),
}


def batch(seed: int, n: int, groups: int, *, box: bool, weighted: bool = False) -> tuple[torch.Tensor, dict[str, Any]]:
    draw = np.random.default_rng(seed)
    a = np.concatenate([np.arange(groups), draw.integers(0, groups, n - groups)])
    z = 0.3 + 0.4 * draw.random(n) + 0.3 * draw.random(groups)[a]
    low, high = np.quantile(z, [0.1, 0.9])
    facts: dict[str, Any] = {"sensitive_features": {A: a, B: draw.integers(0, 6, n)}, "return_solution": True}
    if box:
        facts["bounds"] = (float(low), float(high))
    if weighted:
        facts["weights"] = draw.uniform(0.5, 2.0, n)
    return torch.tensor(z, requires_grad=True), facts


@pytest.mark.parametrize("box", [False, True])
@pytest.mark.parametrize("name", list(NOTIONS))
def test_either_road_gives_the_same_scores_and_gradient(name: str, box: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    z, facts = batch(5, 900, 70, box=box, weighted=box)
    found = {}
    for border in (structures.BORDER, -1):
        monkeypatch.setattr(structures, "BORDER", border)
        with road.closed():  # the compiled road writes its model out
            solution = fo.project(z, NOTIONS[name](0.05), **facts)
        assert structure(solution.certificate.problem).bordered == (border > 0)
        assert solution.status is fo.Status.CERTIFIED
        (gradient,) = torch.autograd.grad((solution.scores * torch.linspace(-1, 1, 900)).sum(), z)
        found[border] = solution.scores.detach(), gradient
    (y, gradient), (expected, of_expected) = found.values()
    assert float((y - z.detach()).abs().max()) > 1e-3
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(gradient, of_expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", list(NOTIONS))
def test_a_piece_in_parts_solves_its_saddle_system(name: str) -> None:
    z, facts = batch(3, 700, 70, box=False)
    problem = fo.project(z, NOTIONS[name](0.02), **facts).certificate.problem
    draw = np.random.default_rng(1)
    shape = structure(problem)
    assert shape.bordered
    coefficients = problem.rows.coefficients
    M = Sandwich(coefficients, problem.rows.counts * draw.uniform(0.2, 1.0, problem.rows.counts.shape[0]), split(coefficients))
    piece = read_piece(shape, numbers(problem), draw.normal(0.5, 1.0, problem.m), np.zeros(problem.m))
    inverse = piece.inverse(M)
    assert isinstance(inverse, BorderedInverse)
    assert isinstance(piece.E, SparseRows)
    full = np.asarray(coefficients)
    K = ((full * M.slope) @ full.T)[np.ix_(piece.index, piece.index)]
    if piece.gamma_inverse is not None:
        K = K + piece.gamma_inverse.toarray()  # type: ignore[union-attr]
    E = piece.E.toarray()
    system = np.block([[K, E.T], [E, np.zeros((E.shape[0], E.shape[0]))]])
    rhs = system @ draw.normal(size=system.shape[0])  # one that can be met, where rows are redundant
    scale = piece.scale(K.diagonal())
    np.testing.assert_allclose(scale * (system @ (inverse @ rhs)), scale * rhs, rtol=0, atol=1e-8 * np.abs(scale * rhs).max())


@pytest.mark.parametrize("name", ["overall", "overall and pairs", "two"])
def test_thousands_of_groups_make_no_dense_matrix(name: str) -> None:
    z, facts = batch(7, 20_000, 2_000, box=True)
    solution = fo.project(z.detach(), NOTIONS[name](0.05), **facts)
    assert solution.status is fo.Status.CERTIFIED
    problem = solution.certificate.problem
    assert structure(problem).bordered
    coefficients = problem.rows.coefficients
    assert isinstance(coefficients, SparseRows)
    assert coefficients.values.size < 40 * problem.m


# two attributes of about as many groups ----------------------------------------------------------------------------------------------


def two_attributes(seed: int, n: int, groups: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """Groups of mixed sizes, so that the finest rows are now of one attribute and now of the other; a tenth of the scores beyond [0, 1]."""
    draw = np.random.default_rng(seed)
    a, b = (np.concatenate([np.arange(groups), draw.integers(0, groups, n - groups)]) for _ in range(2))
    z = draw.normal(0.5, 0.3, n) + draw.normal(0, 0.2, groups)[a] + draw.normal(0, 0.2, groups)[b]
    return torch.tensor(z), {"sensitive_features": {A: a, B: draw.permutation(b)}, "bounds": (0.0, 1.0)}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60))
def test_simple_rows_share_no_cell_and_are_no_fewer_than_those_of_one_attribute(seed: int, groups: int) -> None:
    _, facts = two_attributes(seed, 20 * groups, groups)
    prepared = fo.compile(NOTIONS["two"](0.0), **facts)
    found = split(prepared.problem.rows.coefficients)
    held = np.asarray(prepared.problem.rows.coefficients)[found.simple] != 0
    assert int(held.sum(0).max()) <= 1
    assert found.simple.sum() >= max(prepared.problem.m - groups, 1)
    met = (np.asarray(prepared.problem.rows.coefficients)[~found.simple] != 0) & held.any(0)
    assert met.any(1).all()  # none is left that could join them


@pytest.mark.parametrize("seed", range(4))
def test_two_attributes_of_many_groups_give_what_the_written_out_model_gives(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    z, facts = two_attributes(seed, 3_000, 60)
    how: dict[str, Any] = {"backend": "dual_newton", "return_solution": True}
    monkeypatch.setattr(fast, "plan_of", lambda problem: None)
    found = {}
    for border in (structures.BORDER, -1):
        monkeypatch.setattr(structures, "BORDER", border)
        solution = fo.project(z, NOTIONS["two"](0.05), **facts, **how)
        assert structure(solution.certificate.problem).bordered == (border > 0)
        assert solution.status is fo.Status.CERTIFIED
        found[border] = solution.scores
    torch.testing.assert_close(*found.values(), rtol=0, atol=1e-10)


def test_the_model_is_minimised_in_few_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the right piece a search ends: what float64 cannot resolve takes no more steps."""
    pieces: list[Any] = []

    def kept(*args: Any) -> Any:
        pieces.append(read_piece(*args))
        return pieces[-1]

    monkeypatch.setattr(pieces_module, "read_piece", kept)
    z, facts = two_attributes(1, 20_000, 200)
    with road.closed():
        solution = fo.project(z, NOTIONS["two"](0.05), **facts, return_solution=True)
    assert solution.status is fo.Status.CERTIFIED
    assert 0 < len(pieces) <= 6 * (solution.iterations + 1)
