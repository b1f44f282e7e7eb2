"""The one problem that every notion compiles to and every backend solves: plain frozen data.

    minimise    sum_i w_i d(y_i, z_i)  +  softness of the constraints on  f(y) = A y + offset
    subject to  lb_i <= y_i <= ub_i

d is the squared distance (y - z)^2 / 2, or a Kullback-Leibler divergence (``Distance``). ``f`` has m rows (linear functionals of the
scores). The constraints on the rows are of two kinds:

- a *linear* constraint on one row:             lower_k <= f_k <= upper_k
- a *range* constraint on a run of K rows:      ratio * max f - min f <= width,   0 <= ratio <= 1

The range with ratio 1 is "all pairs of K groups", |f_a - f_b| <= width, as one constraint; with a ratio below 1 it is all K^2 rows
``ratio * f_b - f_a <= width`` (those with a = b, f_a >= -width / (1 - ratio), follow from the others where K >= 2).

Rows ``0 .. L-1`` are the linear ones, one constraint each; then come the runs of the R ranges. Constraints are numbered
the same way: ``0 .. L-1`` linear, ``L .. L+R-1`` ranges. A has cell structure: samples that share all masks form a cell,
and ``(A y)_k = sum_c coefficients[k, c] * (sum of y over cell c)``; rows with weights of their own a sample are ``dense``.

Prices p (m,), one per row, with the sign convention ``y = clip(z - A^T p / w, lb, ub)``: p_k > 0 pushes f_k down (its upper
limit binds), p_k < 0 pushes it up. Prices of a range are those that pairs make, p = sum_ab x_ab (ratio e_b - e_a) with x >= 0, and the
price of its width is the flow q = sum_ab x_ab. With P and N the sums of the positive and negative parts of p, such x exist where
P <= ratio N: with q on b and q on a in all, the positive parts need ratio q >= P and the sum is P - N = (ratio - 1) q. So

    ratio = 1:   P = N,         q = P               ratio < 1:   P <= ratio N,   q = (N - P) / (1 - ratio)

and P = ratio N, q = N, unless all rows of the range are equal (``fairopt.basics.range_projection``).

Source: DESIGN 1; the dual form is claim L8.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.errors import InputError
from fairopt.contract.rows import Rows
from fairopt.contract.workspace import Workspace

__all__ = ["DISTANCES", "HARD", "Distance", "Kind", "Limits", "ProjectionProblem", "Rows", "Softness", "SoftnessKind", "Stated"]

SoftnessKind = Literal["hard", "priced", "budget", "quadratic"]
Distance = Literal["squared", "kl", "kl_positive"]
"""What d(y, z) is, and with it the map from prices p to scores, s = (A'p)_i / w_i:

    squared      (y - z)^2 / 2                                          y = clip(z - s, lb, ub)
    kl           y log(y / z) + (1 - y) log((1 - y) / (1 - z))          y = clip(sigmoid(logit z - s), lb, ub),  0 <= z <= 1
    kl_positive  y log(y / z) - y + z                                   y = clip(z exp(-s), lb, ub),  z >= 0
"""
DISTANCES: tuple[Distance, ...] = ("squared", "kl", "kl_positive")
Kind = Literal["one", "simplex"]
"""What the numbers of a sample are: one score (or several without a bond), or class probabilities that sum to 1. At prices p these are

    squared      the point of the simplex nearest to z - s                kl_positive  softmax(log z - s), which is "kl" on the simplex
"""


@dataclass(frozen=True)
class Softness:
    """What a violation d >= 0 of one constraint costs, by its ``kind``.

    hard: infinite; priced: ``weight * d``; quadratic: ``weight / 2 * d^2``; budget: ``weight * max d`` over all constraints with
    the same ``block`` (a number >= 0; -1 for the other kinds).

    Examples:
        >>> notion = fo.DemographicParity("sex", tolerance=0).penalised(2.0)
        >>> fo.compile(notion, sensitive_features=["f", "m"]).problem.softness
        (Softness(kind='quadratic', weight=2.0, block=-1),)
    """

    kind: SoftnessKind = "hard"
    weight: float = float("inf")
    block: int = -1


HARD = Softness()


@dataclass(frozen=True, eq=False)
class Stated:
    """The limits as the notion states them, of a problem that is solved with wider ones: lower, upper (L,), width (R,)."""

    lower: Array
    upper: Array
    width: Array


@dataclass(frozen=True, eq=False)
class ProjectionProblem:
    """Rows, limits, box, distance weights, softness and labels of: minimise 1/2 sum_i w_i (y_i - z_i)^2 over scores y inside the box
    ``lb <= y <= ub``, subject to limits on the rows f(y) = A y + offset.

    f is ``rows.matrix() @ y + rows.offset``. First come L linear rows, lower_k <= f_k <= upper_k, then R ranges, each a run of rows with
    ratio * max f - min f <= width. Prices p (m,), one a row, give the scores: y = clip(z - A^T p / w, lb, ub), with p_k > 0 where an
    upper limit binds and p_k < 0 where a lower one does; of a range the positive prices belong to the top, its largest rows.

    lower, upper  (L,) limits of the linear constraints, -inf / inf where open, lower <= upper
    width         (R,) >= 0 limits of the ranges;  range_starts (R + 1,): range r has the rows range_starts[r] .. range_starts[r + 1] - 1
    ratio         (R,) in [0, 1] the factors of the ranges' largest rows; all ones where nothing is said
    lb, ub        a float (-inf / inf where open) or an (n,) float64 CPU tensor
    weights       (n,) float64 CPU tensor > 0, or None for all ones
    softness      (L + R) one per constraint
    labels        (m,) one per row (= per price);  constraint_labels (L + R,)
    dropped       labels of the constraints that were vacuous (a group was absent), each with the reason
    used_targets  whether labels entered the rows
    group_counts  samples by group, for the certificate
    vacuous       nothing is asked of the scores: every constraint of the notion was dropped
    feasible      False where it is proved infeasible, under on_infeasible="passthrough" / "closest"
    stated        under "closest" the limits as written: ``lower``, ``upper`` and ``width`` are then wider; else None
    distance      what the nearest scores are nearest in
    classes       above 1: so many numbers a sample, class c of sample i at position c n / classes + i, which are at least 0 and sum to 1

    InputError where ``ratio`` has another length than ``width``.

    Examples:
        >>> problem = fo.compile(fo.DemographicParity("sex", tolerance=0.1), sensitive_features=["f", "m"]).problem
        >>> problem.n, problem.m, problem.width, problem.labels
        (2, 1, array([], dtype=float64), ('DemographicParity(sex): f - m',))
    """

    rows: Rows
    lower: Array
    upper: Array
    width: Array
    range_starts: IntArray
    lb: float | Tensor = float("-inf")
    ub: float | Tensor = float("inf")
    weights: Tensor | None = None
    softness: tuple[Softness, ...] = ()
    labels: tuple[str, ...] = ()
    constraint_labels: tuple[str, ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    used_targets: bool = False
    group_counts: tuple[tuple[str, int], ...] = ()
    vacuous: bool = False
    feasible: bool = True
    stated: Stated | None = None
    ratio: Array = field(default_factory=lambda: np.ones(0))
    distance: Distance = "squared"
    classes: int = 1

    def __post_init__(self) -> None:
        if self.ratio.shape != self.width.shape:
            if not bool((self.ratio == 1.0).all()):
                raise InputError(f"ratio: got {self.ratio.shape[0]} for {self.width.shape[0]} ranges, expected one each")
            object.__setattr__(self, "ratio", np.ones_like(self.width))

    @property
    def n(self) -> int:
        """Samples."""
        return self.rows.n

    @property
    def m(self) -> int:
        """Rows."""
        return self.rows.m

    @property
    def linear(self) -> int:
        """L, the number of linear constraints."""
        return int(self.lower.shape[0])

    @property
    def ranges(self) -> int:
        """R, the number of range constraints."""
        return int(self.width.shape[0])

    @cached_property
    def workspace(self) -> Workspace:
        """What is worked out of the problem and kept with it."""
        return Workspace()

    @cached_property
    def range_slices(self) -> tuple[slice, ...]:
        """The rows of each range."""
        bounds = self.range_starts.tolist()
        return tuple(slice(a, b) for a, b in pairwise(bounds))

    @cached_property
    def all_hard(self) -> bool:
        return all(s.kind == "hard" for s in self.softness)

    @cached_property
    def has_box(self) -> bool:
        """Whether any bound is finite."""
        return any(isinstance(b, Tensor) or abs(b) != float("inf") for b in (self.lb, self.ub))

    @cached_property
    def uniform_box(self) -> bool:
        """Whether the bounds are the same for every sample."""
        return not isinstance(self.lb, Tensor) and not isinstance(self.ub, Tensor)

    @cached_property
    def softness_weight(self) -> Array:
        """(L + R,): rho or gamma of each constraint (inf for hard)."""
        return np.array([s.weight for s in self.softness], dtype=np.float64)

    @property
    def nearest_in(self) -> Distance:
        """``distance`` as it was asked for: what is "kl_positive" of numbers that sum to 1 is "kl" of class probabilities."""
        return "kl" if self.classes > 1 and self.distance == "kl_positive" else self.distance

    def as_stated(self) -> ProjectionProblem:
        """The problem with the limits as the notion states them."""
        s = self.stated
        return self if s is None else replace(self, lower=s.lower, upper=s.upper, width=s.width, stated=None, feasible=True)

    def with_limits(self, limits: Limits) -> ProjectionProblem:
        """The same problem with other numbers in its limits; the caches of ``rows`` are kept where the offset is the same."""
        numbers = limits.numpy()
        rows = self.rows
        if not np.array_equal(numbers["offset"], rows.offset):
            rows = replace(rows, offset=numbers["offset"], offset_terms=())  # the terms described the old offset
            rows.know(self.rows.known(*_OF_MATRIX))
            rows.workspace.take(self.rows.workspace, "split", "products")
        softness = tuple(replace(s, weight=float(w)) for s, w in zip(self.softness, numbers["softness_weight"], strict=True))
        return replace(self, rows=rows, lower=numbers["lower"], upper=numbers["upper"], width=numbers["width"], softness=softness)

    def limits(self) -> Limits:
        """The limits as float64 tensors."""
        return Limits(
            torch.from_numpy(self.lower.copy()),
            torch.from_numpy(self.upper.copy()),
            torch.from_numpy(self.width.copy()),
            torch.from_numpy(self.rows.offset.copy()),
            torch.from_numpy(self.softness_weight.copy()),
        )


# what depends on the cells alone, and what on the cells and the coefficients
OF_CELLS = ("counts", "mask_counts", "order", "inverse_order", "starts")
_OF_MATRIX = (*OF_CELLS, "coefficients", "absolute_sum", "term_sum", "one_row_a_cell")


@dataclass(frozen=True, eq=False)
class Limits:
    """The numbers of a problem that may carry gradients, as float64 tensors: what tolerances, targets, rho and gamma become.

    lower, upper (L,), width (R,), offset (m,), softness_weight (L + R,): see ``ProjectionProblem``.
    A copy or a pickle holds the numbers, not the graph.

    Examples:
        >>> tolerance = torch.tensor(0.1, requires_grad=True)
        >>> limits = fo.compile(fo.DemographicParity("sex", tolerance=tolerance), sensitive_features=["f", "m"]).problem.limits()
        >>> limits.lower, limits.upper
        (tensor([-0.1000], dtype=torch.float64), tensor([0.1000], dtype=torch.float64))
    """

    lower: Tensor
    upper: Tensor
    width: Tensor
    offset: Tensor
    softness_weight: Tensor

    def __getstate__(self) -> dict[str, Tensor]:
        return {name: t if t.is_leaf else t.detach() for name, t in self.__dict__.items()}

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """lower, upper, width, offset, softness_weight."""
        return self.lower, self.upper, self.width, self.offset, self.softness_weight

    def numpy(self) -> dict[str, Array]:
        """Copies by name, detached."""
        names = ("lower", "upper", "width", "offset", "softness_weight")
        return {k: t.detach().cpu().numpy().copy() for k, t in zip(names, self.tensors(), strict=True)}

    @property
    def requires_grad(self) -> bool:
        """Whether any of them asks for a gradient."""
        return any(t.requires_grad for t in self.tensors())
