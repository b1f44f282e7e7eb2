"""``compile_problem``: a notion and the facts of one batch become one ``ProjectionProblem``."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.columns import read_features
from fairopt.basics.errors import FairoptWarning, InputError
from fairopt.compiler.assemble import Constants, assemble, rows_of
from fairopt.compiler.facts import read_bounds, read_distance, read_weights
from fairopt.compiler.gather import Gathered, gather
from fairopt.compiler.infeasible import OnInfeasible, plainly_feasible, settle
from fairopt.compiler.items import Item, Removed
from fairopt.compiler.limits import MovingLimits, widened_limits
from fairopt.compiler.presolve import Decided, presolve
from fairopt.compiler.reach import Box
from fairopt.compiler.template import from_template, key_of, remember
from fairopt.contract.problem import Distance, Limits, ProjectionProblem
from fairopt.notions.algebra import Notion
from fairopt.notions.batch import Batch
from fairopt.notions.groups import Missing, Vocabulary, declare

ULP = 2.0**-7  # relative, of the coarsest dtype
OnMissing = Literal["drop", "warn", "raise"]
CHOICES: dict[str, tuple[str, ...]] = {
    "missing_group": ("error", "own"),
    "on_missing": ("drop", "warn", "raise"),
    "on_infeasible": ("raise", "closest", "passthrough"),
}


@dataclass(frozen=True, eq=False)
class Compiled:
    """A problem, the vocabularies it was read with, and what presolve removed (label, reason)."""

    problem: ProjectionProblem
    vocabularies: dict[str, Vocabulary]
    removed: tuple[tuple[str, str], ...]
    moving: MovingLimits | None
    whole: _Whole | None = None

    def as_written(self) -> ProjectionProblem:
        """The problem for scores that may lie outside their box: with the rows that hold everywhere inside it, where these are known."""
        return self.problem if self.whole is None else self.whole.problem()

    @property
    def has_parameters(self) -> bool:
        """Whether limits hang on tensors: then ``limits()`` must be read at each call."""
        return self.moving is not None

    def limits(self) -> Limits:
        """The limits now (float64 CPU tensors), connected to tolerance, rho and gamma tensors and to targets that require grad."""
        return self.problem.limits() if self.moving is None else self.now("closest")[1] or self.problem.limits()

    def now(self, on_infeasible: OnInfeasible) -> tuple[ProjectionProblem, Limits | None]:
        """The problem and the limits to solve it with, None where these are its own. Where learned limits have moved since an infeasible
        compilation, feasibility is decided anew."""
        if self.moving is None:
            return self.problem, None
        stated = self.problem.as_stated()
        limits = self.moving.read(stated)
        if self.problem.feasible:
            return self.problem, limits
        if all(np.array_equal(a, b) for a, b in zip(stated.limits().numpy().values(), limits.numpy().values(), strict=True)):
            return self.problem, widened_limits(limits, self.problem)
        with np.errstate(all="ignore"):
            moved = settle(replace(stated, feasible=True).with_limits(limits), None, on_infeasible)
        return moved, widened_limits(limits, moved)


def compile_problem(
    notion: Notion,
    *,
    n: int,
    sensitive_features: Mapping[str, Any],
    targets: Any = None,
    bounds: Any = None,
    weights: Any = None,
    groups: Mapping[str, Iterable[Any]] | None = None,
    vocabularies: Mapping[str, Vocabulary] | None = None,
    grow: bool = True,
    missing_group: Missing = "error",
    on_missing: OnMissing = "drop",
    on_infeasible: OnInfeasible = "raise",
    pos_label: Any = None,
    copies: IntArray | None = None,
    distance: str = "squared",
    outputs: int | None = None,
) -> Compiled:
    """Compile ``notion`` for one batch of ``n`` samples.

    sensitive_features  attribute name -> n values;  targets (n,);  weights (n,) > 0 of the distance
    bounds              None, or a pair of which each side is None, a number or (n,)
    groups              declared vocabularies, attribute name -> values;  vocabularies: known so far, which may grow if ``grow``
    pos_label           the target that counts as 1, every other one as 0; None: targets are numbers
    distance            "squared", "kl" or "kl_positive" (``fairopt.compiler.facts.read_distance``)
    copies              (n,) > 0: how many samples each position stands for; the data may lie anywhere then, and bounds are one pair for all
    outputs             how many scores a sample has, of a notion that names them; the problem is of n times as many, output c of sample i
                        at c n + i, for bounds that are one pair for all. None: one
    missing_group       "error", or "own": missing values are a group
    on_missing          what to do about constraints whose group has no sample: "drop" lists them, "warn" also warns, "raise" raises
    on_infeasible       "raise" InfeasibleError with a minimal set of constraints and a proof, "closest": widen the limits by the least
                        sum of squared violations (``problem.stated`` keeps them as written), "passthrough": leave them; both mark
                        ``problem.feasible`` False

    Raises InputError, InfeasibleError. Source: DESIGN 4.
    """
    _check_arguments(notion, n, missing_group, on_missing, on_infeasible)
    _check_copies(copies, n, weights)
    if notion.needs_targets and targets is None:
        raise InputError(f"{notion!r} needs targets; pass targets= ({n},)")
    kind, bounds = read_distance(distance, bounds)
    lb, ub = read_bounds(bounds, n)
    if outputs is not None:
        lb, ub = (b.repeat(outputs) if isinstance(b, Tensor) else b for b in (lb, ub))
    if copies is not None and (isinstance(lb, Tensor) or isinstance(ub, Tensor)):
        raise InputError("bounds: got one for each position beside copies, expected one pair for all")
    known = {**(vocabularies or {}), **declare(groups)}
    sensitive_features = read_features(sensitive_features, notion.attributes)
    batch = Batch(
        n, sensitive_features, targets, vocabularies=known, grow=grow, missing_group=missing_group, pos_label=pos_label, copies=copies,
        outputs=outputs,
    )  # fmt: skip
    asked = _Asked(notion, batch, (lb, ub), weights, on_missing, on_infeasible, kind)
    with np.errstate(all="ignore"):  # what overflows among numbers near the end of float64 grants nothing
        may_leave = on_infeasible == "passthrough" or _narrow(lb, ub)
        key = None if may_leave or copies is not None or outputs is not None else key_of(notion, lb, ub, kind)
        compiled = None if key is None else _again(key, asked)
        if compiled is None:
            compiled = _anew(key, asked, may_leave=may_leave)
    if compiled.whole is None:
        batch.forget()
    return compiled


@dataclass(frozen=True, eq=False)
class _Asked:
    """What is to be compiled; ``weights`` as they came."""

    notion: Notion
    batch: Batch
    bounds: tuple[float | Tensor, float | Tensor]
    weights: Any
    on_missing: OnMissing
    on_infeasible: OnInfeasible
    distance: Distance


def _again(key: Hashable, asked: _Asked) -> Compiled | None:
    """By the template of an earlier composition; None, with no column left in the batch, where there is none."""
    found = from_template(key, asked.batch)
    if found is not None:
        template, coded = found
        _report_dropped(template.problem["dropped"], asked.on_missing)
        problem = template.filled(coded, asked.batch, read_weights(asked.weights, asked.batch.n))
        if problem is not None:
            return Compiled(problem, asked.batch.vocabularies, template.removed, None)
    asked.batch.forget()
    return None


def _anew(key: Hashable | None, asked: _Asked, *, may_leave: bool) -> Compiled:
    """From the constraints of the notion; ``key``: of the template that further compositions may have."""
    batch, bounds = asked.batch, asked.bounds
    gathered = gather(asked.notion, batch)
    _report_dropped(gathered.dropped, asked.on_missing)
    weights = read_weights(asked.weights, batch.n)
    if weights is not None and batch.outputs is not None:
        weights = weights.repeat(batch.outputs)
    made = _Made(gathered, batch, bounds, weights, asked.distance)
    whole = _Whole(made, tuple(replace(item) for item in gathered.items)) if may_leave else None
    problem, moving, removed, decided = made.problem(gathered.items, Box(*bounds, gathered.cell, batch.dense_weights))
    settled = settle(problem, _targets_witness(batch), asked.on_infeasible)
    if key is not None and settled is problem and not moving.moves and plainly_feasible(problem):
        remember(key, batch, gathered, decided, problem, removed)
    return Compiled(settled, batch.vocabularies, tuple(removed), moving if moving.moves else None, whole)


@dataclass(frozen=True, eq=False)
class _Made:
    """What problems are made of: the facts of one batch."""

    gathered: Gathered
    batch: Batch
    bounds: tuple[float | Tensor, float | Tensor]
    weights: Tensor | None
    distance: Distance = "squared"

    @cached_property
    def values(self) -> list[Tensor]:
        return [v.detach().to("cpu", torch.float64) for v in self.batch.values]

    @cached_property
    def constants(self) -> Constants:
        return Constants(self.gathered, self.values, self.batch.copies)

    def problem(self, items: list[Item], box: Box) -> tuple[ProjectionProblem, MovingLimits, Removed, Decided]:
        """The problem of ``items``, presolved for scores inside ``box``; its limits; what presolve removed, decided by counts."""
        g = self.gathered
        self.constants.fill(items)
        items, removed, decided = presolve(items, g.cells, box)
        linear = tuple(item for item in items if not item.is_range)
        ranges = tuple(item for item in items if item.is_range)
        self.constants.fill([*linear, *ranges])  # presolve makes new rows
        rows = rows_of(g, [*linear, *ranges], self.values, self.batch)
        problem = assemble(rows, linear, ranges, *self.bounds, self.weights, g, self.batch, self.distance)
        return problem, MovingLimits(linear, ranges, tuple(self.batch.values)), removed, decided


@dataclass(frozen=True, eq=False)
class _Whole:
    """The items of a batch as they were before presolve, for scores that are returned as they came, inside their box or not."""

    made: _Made
    items: tuple[Item, ...]

    def problem(self) -> ProjectionProblem:
        """The problem with the limits now, without what presolve leaves out because the box cannot break it."""
        made = self.made
        with np.errstate(all="ignore"):
            unbounded = Box(-math.inf, math.inf, made.gathered.cell, made.batch.dense_weights)
            return replace(made.problem([replace(item) for item in self.items], unbounded)[0], feasible=False)


def _narrow(lb: float | Tensor, ub: float | Tensor) -> bool:
    """Whether some dtype may have no number between two bounds: they are closer together than 2^-7 of their size, an ulp of bfloat16."""
    if isinstance(lb, Tensor) or isinstance(ub, Tensor):
        low, high = torch.as_tensor(lb, dtype=torch.float64, device="cpu"), torch.as_tensor(ub, dtype=torch.float64, device="cpu")
        return not bool((high - low >= ULP * torch.maximum(low.abs(), high.abs())).all())
    return not ub - lb >= ULP * max(abs(lb), abs(ub))


def _check_arguments(notion: object, n: int, missing: str, on_missing: str, on_infeasible: str) -> None:
    if not isinstance(notion, Notion):
        raise InputError(f"notion must be a notion such as DemographicParity('sex', tolerance=0.05), came {notion!r}")
    if n < 1:
        raise InputError("the batch is empty; at least one sample is needed")
    for word, value in (("missing_group", missing), ("on_missing", on_missing), ("on_infeasible", on_infeasible)):
        if value not in CHOICES[word]:
            raise InputError(f"{word} must be one of {', '.join(map(repr, CHOICES[word]))}, came {value!r}")


def _check_copies(copies: IntArray | None, n: int, weights: Any) -> None:
    if copies is None:
        return
    if copies.shape != (n,) or not bool((copies > 0).all()):
        raise InputError(f"copies: got shape {copies.shape}, least {copies.min(initial=1)}, expected ({n},) whole numbers above 0")
    if weights is not None:
        raise InputError("weights: got some beside copies, expected None: a position that stands for many samples has no weight")


def _report_dropped(dropped: tuple[tuple[str, str], ...], on_missing: OnMissing) -> None:
    if not dropped or on_missing == "drop":
        return
    words = "; ".join(f"{label} ({reason})" for label, reason in dropped)
    if on_missing == "raise":
        raise InputError(f"constraints about absent groups: {words}")
    warnings.warn(f"dropped constraints about absent groups: {words}", FairoptWarning, stacklevel=5)


def _targets_witness(batch: Batch) -> Array | None:
    """The targets as numpy (n,), where the notion read them."""
    if not batch.used_targets:
        return None
    targets = batch.targets.tensor.detach().to("cpu", torch.float64).numpy()
    return targets if targets.shape[0] == batch.positions else np.tile(targets, batch.outputs or 1)
