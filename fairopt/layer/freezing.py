"""Fitting the shifts of a fairness layer on calibration scores, so that single rows are served without a solver.

Where a shift depends on the groups alone it can be frozen. Where it depends on the label (equal opportunity, equalized odds) it cannot:
the label is not known when the score is sent.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from math import inf, isfinite
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.columns import numbers, plain_values, read_features
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.basics.sparse import same_columns
from fairopt.contract.problem import Distance, ProjectionProblem
from fairopt.contract.registry import BackendLike
from fairopt.layer.freezing_soft import soft_attribute, soft_shifts
from fairopt.layer.frozen import FrozenLayer, Key, OnUnknown
from fairopt.layer.guaranteed_shifts import Calibration, OnFew, guaranteed_shifts, tightened
from fairopt.layer.population_bound import PopulationBound, furthest, mean_rows, population_bounds, promised_bounds
from fairopt.layer.prepared import Prepared
from fairopt.layer.promises import Outside
from fairopt.notions import Notion
from fairopt.solve import solve
from fairopt.solve.passes.kl_map import mapped


class Freezable(Protocol):
    """What is frozen: a ``FairnessLayer``, or what behaves like one."""

    @property
    def notion(self) -> Notion: ...
    @property
    def bounds(self) -> Any: ...
    @property
    def space(self) -> str: ...
    @property
    def backend(self) -> BackendLike: ...
    def train(self) -> Self: ...
    def prepare(self, n: int, sensitive_features: Any, targets: Any = None) -> Prepared: ...


def freeze(
    layer: Freezable,
    scores: Any,
    *,
    sensitive_features: Any,
    targets: Any = None,
    confidence: float = 0.95,
    guarantee: float | None = None,
    on_few: OnFew = "error",
    seed: int = 0,
    on_unknown: OnUnknown = "error",
) -> FrozenLayer:
    """Fit the shifts of ``layer`` on calibration ``scores`` (n,) or (n, 1) and bound what they give on the population.

    scores      a tensor, or any other container of numbers (numpy, pandas, polars, pyarrow, a list)

    confidence  of what ``guarantees`` say of shifts that meet the notion on these rows (claim Q1)
    guarantee   a probability such as 0.95: the shifts meet the notion in the *population* that these rows are i.i.d. draws of, with that
                probability over them, for all constraints at once (claim Q3). The limits are tightened by as much
                as the rows justify; ``guarantees`` then say the limits themselves. For probabilities and other scores with two bounds, and
                groups that do not overlap. Needs scipy. A page of its own: docs/guarantee.md
    on_few      where the rows are too few for that: "error", an InputError that names the group and how many it would take; "tighten as
                far as possible": shifts that aim at no gap at all, and ``guarantees`` say what they give
    seed        of the draw of the rows that choose targets, and of the numbers that levels by rank are drawn with. Choose it before you see
                what it gives: trying seeds until one is granted voids the probability
    on_unknown  what the frozen layer does with groups that calibration had not, and with missing ones: see ``FrozenLayer``.

    With ``sensitive_features={"race": fo.Soft(P, values)}`` the frozen layer serves without the attribute: ``predict`` takes a Soft of the
    new rows, whose scores move by the mean of the shifts under their probabilities. It has no ``guarantees`` then.

    Raises UnsupportedError where a shift would depend on the label, or on more than the groups (weights, per-sample bounds, covariance
    rows).
    """
    _check_asked(confidence, guarantee, on_few)
    lb, ub = _scalar_bounds(layer.bounds)
    raw = numbers(scores, None, "scores").detach().cpu()  # (n,)
    calibrated = copy.deepcopy(layer).train()  # a copy: calibration may show groups that training had not
    sensitive_features = read_features(sensitive_features, layer.notion.attributes)
    prepared = calibrated.prepare(raw.shape[0], sensitive_features, targets)
    problem = prepared.problem
    soft = soft_attribute(layer.notion.attributes, sensitive_features)
    dense = problem.rows.dense is not None
    if dense and soft is None:
        raise weighs_samples(layer.notion)
    if dense and guarantee is not None:
        raise UnsupportedError(f"guarantee: got {guarantee!r} beside groups known in probability, expected None: there is no such bound")
    z = (torch.sigmoid(raw) if layer.space == "probability" else raw).double()
    solution = prepared.project(z, backend=layer.backend, return_solution=True)
    prices = np.asarray(solution.prices, dtype=np.float64)
    names = layer.notion.attributes
    if dense and soft is not None:
        of_groups = soft_shifts(problem, prices, soft, repr(layer.notion))
        return FrozenLayer(
            names, [(value,) for value in of_groups], list(of_groups.values()), lb=lb, ub=ub, space=layer.space, guarantees=(),
            notion=repr(layer.notion), on_unknown=on_unknown, distance=problem.distance,
        )  # fmt: skip
    cell_shifts = prices @ problem.rows.coefficients  # (C,)
    keys, code = group_keys(names, sensitive_features, problem.n)
    shifts = group_shifts(problem, cell_shifts, code, len(keys), repr(layer.notion))
    if guarantee is None:
        frozen_y = np.clip(moved(problem.distance, z.numpy(), np.array(shifts)[code]), lb, ub)
        bounds = population_bounds(problem, mean_rows(problem, frozen_y), cell_shifts, lb, ub, confidence)
    else:
        if problem.distance != "squared":
            raise UnsupportedError(f"guarantee: got {guarantee!r} with distance {problem.distance!r}, expected None, or distance='squared'")
        plain = {name: plain_values(sensitive_features[name], f"sensitive_features[{name!r}]") for name in names}
        natural = (0.0, 1.0) if layer.space == "probability" else (lb, ub)
        words = [_words(names, key) for key in keys]
        data = Calibration(z.numpy(), code, words, lb, ub, natural, problem, _projection(calibrated, z, plain))
        shifts, bounds = _guaranteed(data, shifts, guarantee, on_few, seed)
    return FrozenLayer(
        names, keys, shifts, lb=lb, ub=ub, space=layer.space, guarantees=bounds, notion=repr(layer.notion), on_unknown=on_unknown,
        distance=problem.distance, outside=_outside(layer.space, z, lb, ub, guarantee),
    )  # fmt: skip


def _outside(space: str, z: Tensor, lb: float, ub: float, guarantee: float | None) -> Outside:
    """A guarantee from calibration scores that were all inside the box assumes as much of later ones."""
    inside = space == "value" and isfinite(ub - lb) and bool(((z >= lb) & (z <= ub)).all())
    return "pass" if not inside else "warn" if guarantee is None else "error"


def weighs_samples(notion: Notion) -> UnsupportedError:
    return UnsupportedError(f"freeze: {notion!r} has rows with a weight of its own a sample; its shift is not one number a group")


def _check_asked(confidence: float, guarantee: float | None, on_few: OnFew) -> None:
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence: expected a number in (0, 1), got {confidence!r}")
    if guarantee is not None and not (isinstance(guarantee, (int, float)) and 0.0 < guarantee < 1.0):
        raise InputError(f"guarantee: got {guarantee!r}, expected None or a probability between 0 and 1, such as 0.95")
    if on_few not in ("error", "tighten as far as possible"):
        raise InputError(f"on_few: got {on_few!r}, expected 'error' or 'tighten as far as possible'")


def group_shifts(problem: ProjectionProblem, cell_shifts: Array, code: IntArray, groups: int, notion: str) -> list[float]:
    """The one shift of each group, from the cells' (C,); ``code`` (n,): the group of each row. UnsupportedError where a group has two."""
    cell, shifts = problem.rows.cell.numpy(), []
    for k in range(groups):
        cells = np.unique(cell[code == k])
        if not same_columns(problem.rows.coefficients, cells):
            raise UnsupportedError(
                f"freeze: {notion} moves samples of one group by their label, which is unknown when a score is sent; freeze "
                "a notion without labels (DemographicParity), or one on residuals (MeanResidual), whose shift depends on the group alone"
            )
        shifts.append(float(cell_shifts[cells[0]]))
    return shifts


def moved(distance: Distance, z: npt.NDArray[np.float64], shifts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(n,) scores z at ``shifts`` (n,), before clipping."""
    return z - shifts if distance == "squared" else mapped(distance, z, shifts)


def _projection(layer: Freezable, z: Tensor, features: Mapping[str, Sequence[Any]]) -> Callable[[IntArray, float], Array]:
    """(rows, margin) -> the scores of some rows, projected by themselves with limits that are ``margin`` stricter."""

    def project(rows: IntArray, margin: float) -> Array:
        few = {name: [column[i] for i in rows.tolist()] for name, column in features.items()}
        asked = tightened(layer.prepare(len(rows), few, None).problem, margin)
        answer = solve(z[torch.from_numpy(rows)], asked, backend=layer.backend, certify=False)
        return np.asarray(answer.scores.double().numpy())

    return project


def _guaranteed(
    data: Calibration, shifts: Sequence[float], guarantee: float, on_few: OnFew, seed: int
) -> tuple[list[float], tuple[PopulationBound, ...]]:
    """The shifts that hold for people, where the notion reads a group, and what is promised of each constraint."""
    moved, margin, excess = guaranteed_shifts(data, guarantee, on_few, np.random.default_rng(seed))
    now = [moved.get(k, shift) for k, shift in enumerate(shifts)]
    values = mean_rows(data.problem, np.clip(data.z - np.array(now)[data.key], data.lb, data.ub))
    most = furthest(data.problem, data.lb, data.ub)
    return now, promised_bounds(data.problem, values, most, margin=margin, excess=excess, guarantee=guarantee)


def _words(names: Sequence[str], key: Key) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in zip(names, key, strict=True))


def group_keys(names: Sequence[str], sensitive_features: Any, n: int) -> tuple[list[Key], npt.NDArray[np.int64]]:
    """The combinations of values that occur, sorted, and the position (n,) of each sample's."""
    columns = [plain_values(sensitive_features[name], f"sensitive_features[{name!r}]") for name in names]
    rows = list(zip(*columns, strict=True))
    keys = sorted(set(rows), key=lambda row: [(v is None, type(v).__name__, v if v is not None else 0) for v in row])
    position = {key: k for k, key in enumerate(keys)}
    return keys, np.array([position[row] for row in rows], dtype=np.int64).reshape(n)


def _scalar_bounds(bounds: Any) -> tuple[float, float]:
    if bounds is None:
        return -inf, inf
    low, high = bounds
    for b in (low, high):
        if isinstance(b, Tensor) and b.numel() > 1:
            raise UnsupportedError("freeze: bounds of its own for each sample cannot be frozen; give one pair of numbers")
    return (-inf if low is None else float(low)), (inf if high is None else float(high))
