"""A notion over all ranks of a process group: each brings its share of the batch, and the rows hold on the union.

Two roads. Where the notion is about groups (and labels), bounds are one pair for all and every limit leaves room for rounding, the scores
stay where they are and a few numbers a cell travel (``fairopt.solve.rank_solve``). What that road cannot certify (tolerance 0, rows with a
weight for each sample, bounds for each sample, ratios, budgets, learned limits, infeasible notions, another backend) is gathered: every
rank solves the whole batch by the ordinary road and keeps its part. Either way scores, gradients and certificate are those of one process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.binned_sums import bins_for
from fairopt.basics.columns import Like, working_tensor
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.basics.ranks import Ranks
from fairopt.compiler import Compiled, OnInfeasible, compile_problem
from fairopt.contract.problem import ProjectionProblem
from fairopt.layer.agreement import Agreement, meet
from fairopt.layer.asked import Asked, word
from fairopt.layer.gathered import OnAll, gathered, weights_of
from fairopt.layer.shares import Reading, Share, read_share
from fairopt.notions import Notion
from fairopt.notions.groups import declare
from fairopt.solve import Solution
from fairopt.solve.scores import DTYPES, check_scores
from fairopt.solve.told import tell_closest
from fairopt.solve.transforms import transformed

Whole = Callable[[Compiled, OnInfeasible, Tensor, Mapping[str, Any]], Solution]  # the ordinary road for a batch that is all here
NOTHING_TOLD: Array = np.array([-math.inf, -math.inf, 0.0, 0.0, 0.0])
DEFAULT = {"backend": "auto", "gradient": "implicit", "certify": True, "solver_tol": None}


@dataclass(eq=False)
class PreparedOnRanks:
    """A notion compiled for one batch that lies in shares on the ranks of a process group; ``project`` is called by all of them.

    ``compiled`` is of all samples: one position a distinct composition where these were counted, else of the batch gathered.
    ``ranks.messages`` and ``ranks.bytes`` count what this rank has sent. ``gathered``: why the ordinary road takes a batch, '' where it
    does not.
    """

    ranks: Ranks
    asked: Asked
    share: Share
    compiled: Compiled
    sizes: list[int] | None
    cell: Tensor | None
    total: int
    weights: tuple[float, float, bool]
    whole: Whole
    gathered: str = ""
    _plan: Any = field(default=None, repr=False)
    _all: Compiled | None = field(default=None, repr=False)

    @property
    def problem(self) -> ProjectionProblem:
        return self.compiled.problem

    def project(self, scores: Any, *, return_solution: bool = False, **how: Any) -> Any:
        """The nearest fair scores of this rank's share ``scores`` (n,) or (n, 1): see ``Prepared.project``. Called by every rank.

        Raises, on every rank, InputError where one of them came with wrong scores or other settings, RankError where one is gone.
        """
        like: Like | None = None
        error: Exception | None = None
        tensor = torch.zeros(0, device="cpu")
        try:
            tensor, like = working_tensor(scores)
        except InputError as found:
            error = found
        solution = self.quiet(tensor, error=error, **how)
        tell_closest([solution])
        if return_solution:
            return solution
        return solution.scores if like is None else like.restore(solution.scores)

    def quiet(self, scores: Tensor, *, error: Exception | None = None, **how: Any) -> Solution:
        """As ``project`` with ``return_solution``. ``error``: what this rank has found wrong already; all ranks raise."""
        how = {**DEFAULT, **how}
        ends = self._met(scores, error, how)
        if how != DEFAULT:
            return self._on_all(scores, how, "another backend, gradient or certificate than the default was asked for")
        if not self.gathered:
            solution = self._driven(scores, ends)
            if solution is not None:
                return solution
            self.gathered = "the driven road does not certify this batch"
        return self._on_all(scores, how, self.gathered)

    def _met(self, scores: Tensor, error: Exception | None, how: Mapping[str, Any]) -> tuple[float, float]:
        """The least and the largest score of all ranks, once all have come with scores that are right."""
        low, high = math.inf, -math.inf
        if error is None:
            try:
                low, high = _ends(scores, self.share.n)
            except (InputError, UnsupportedError) as found:
                error = found
        settings = {
            "the scores' dtype": str(scores.dtype),
            "whether scores require gradients": repr(scores.requires_grad and torch.is_grad_enabled()),
            **{name: word(value) for name, value in how.items()},
        }
        told = np.concatenate([[-low, high], NOTHING_TOLD[2:]])  # as long as a batch's: a rank that is out of step is found out at once
        found_ends = meet(self.ranks, settings, error, told, b"scores")
        return -float(found_ends[0]), float(found_ends[1])

    # the driven road ------------------------------------------------------------------------------------------------------------

    def _driven(self, scores: Tensor, ends: tuple[float, float]) -> Solution | None:
        from fairopt.solve.passes.interface import Samples
        from fairopt.solve.passes.rank_passes import RankPasses
        from fairopt.solve.rank_solve import solve_on_ranks

        plan = self._planned()
        if plan is None or self.cell is None:
            return None
        lightest, heaviest, weighted = self.weights
        w = weights_of(self.share) if weighted else None
        lb, ub = self.problem.lb, self.problem.ub
        samples = Samples(self.cell, plan.cells, lb, ub, w)
        passes = RankPasses(scores.detach().reshape(-1), samples, self.ranks, ends, self.total, lightest, heaviest)
        return solve_on_ranks(scores, self.problem, plan, passes)

    def _planned(self) -> Any:
        """The plan of the counted problem, made once; None where it has none. Weights are summed by cell over all ranks."""
        from fairopt.solve.passes.rank_passes import TERMS
        from fairopt.solve.plan import Extents, cell_plan

        if self._plan is None and self.cell is not None:
            lightest, heaviest, weighted = self.weights
            opened = self.problem.rows.counts.astype(np.float64)
            if weighted:
                inverse = 1.0 / weights_of(self.share)
                bins = bins_for(1.0 / lightest, self.total)
                zero = torch.zeros(opened.shape[0], dtype=torch.float64, device="cpu")
                own = np.stack([zero.index_add(0, self.cell, part).numpy() for part in bins.cut(inverse)])
                opened = bins.total(self.ranks.add(own.reshape(-1), b"weights").reshape(own.shape))
            lb, ub = self.problem.lb, self.problem.ub
            assert isinstance(lb, float)
            assert isinstance(ub, float)
            extents = Extents(opened, lightest, heaviest, (lb, lb), (ub, ub), True, weighted)
            self._plan = cell_plan(self.problem, extents, terms=TERMS) or False
        return self._plan or None

    # the ordinary road on the batch gathered ------------------------------------------------------------------------------------

    def _on_all(self, scores: Tensor, how: Mapping[str, Any], reason: str) -> Solution:
        if self._all is None:
            self._all, self.sizes = gathered(self.ranks, self.asked, self.share)
        assert self.sizes is not None
        start = sum(self.sizes[: self.ranks.rank])
        own = slice(start, start + self.share.n)
        compiled, sizes = self._all, self.sizes
        wanted = torch.is_grad_enabled() and scores.requires_grad
        limits = [t for t in self.asked.reading.notion.parameters.values() if t.requires_grad and torch.is_grad_enabled()]
        found: list[Solution] = []

        def solved(z: Tensor) -> Tensor:
            found.append(self.whole(compiled, self.asked.on_infeasible, z, how))
            return found[0].scores

        flat = scores.reshape(-1)
        if wanted or limits:
            y: Tensor = OnAll.apply(flat, self.ranks, sizes, own, solved, *limits)  # type: ignore[no-untyped-call]
        else:
            y = solved(self.ranks.joined(flat, sizes))[own]
        message = found[0].message or f"every rank solved the batch gathered: {reason}"
        return replace(found[0], scores=y.view(scores.shape), message=message)


def _ends(scores: Any, n: int) -> tuple[float, float]:
    """The least and the largest score; infinite and the wrong way round where there is none. InputError as ``check_scores``."""
    if isinstance(scores, Tensor) and transformed(scores):
        raise UnsupportedError("scores: inside torch.func or forward mode, which is not supported on a process group; use backward()")
    if n == 0 and isinstance(scores, Tensor) and tuple(scores.shape) in ((0,), (0, 1)) and scores.dtype in DTYPES:
        return math.inf, -math.inf
    low, high = torch.aminmax(check_scores(scores, n).detach())
    return float(low), float(high)


def prepare_on_ranks(
    agreement: Agreement,
    asked: Asked,
    whole: Whole,
    *,
    n: int | None,
    sensitive_features: Any,
    targets: Any,
    weights: Any,
    check: Callable[[], None] | None = None,
) -> PreparedOnRanks:
    """The batch that the ranks hold in shares, compiled. Called by all of them; what is wrong on one is an error on all.

    ``check`` raises what is wrong on this rank beside its columns.
    """
    ranks = agreement.ranks
    share, error, numbers = None, None, NOTHING_TOLD
    settings: dict[str, str] = {}
    try:
        if check is not None:
            check()
        share = read_share(asked.reading, n, sensitive_features, targets, weights, asked.bounds)
        numbers = _facts(share, agreement)
        settings = asked.settings()
    except Exception as found:  # noqa: BLE001  told to all, and raised here again
        error = found
    met = meet(ranks, settings, error, numbers, b"batch")
    assert share is not None
    w = (-float(met[0]), float(met[1]), met[2] > 0.0)
    if math.isinf(w[0]):
        raise InputError("the batch is empty on every rank; at least one sample is needed")
    reason = "bounds for each sample, numbers as an attribute, or too many compositions" if met[3] > 0.0 else ""
    if not reason and met[4] > 0.0 and not agreement.learn(share.kinds or []):
        reason = "too many compositions"
    counted = None if reason else _counted(agreement, asked, share)
    if counted is not None:
        compiled, cell, total = counted
        reason = _left(compiled)
        return PreparedOnRanks(ranks, asked, share, compiled, None, cell, total, w, whole, reason)
    compiled, sizes = gathered(ranks, asked, share)
    reason = reason or "rows with a weight for each sample"
    return PreparedOnRanks(ranks, asked, share, compiled, sizes, None, sum(sizes), w, whole, reason, _all=compiled)


def _facts(share: Share, agreement: Agreement) -> Array:
    """What is told of a share in numbers: minus the least weight, the largest, whether there are weights, whether it has to be gathered,
    whether a composition is new."""
    w, gather = share.weights, share.kinds is None or share.by_sample
    low, high = (1.0, 1.0) if w is None else (float(w.min()), float(w.max()))
    ends = (-low, high) if share.n else (-math.inf, -math.inf)
    new = not gather and not agreement.knows(share.kinds or [])
    return np.array([*ends, float(w is not None), float(gather), float(new)])


def _counted(agreement: Agreement, asked: Asked, share: Share) -> tuple[Compiled, Tensor, int] | None:
    """The problem of one position a composition, each sample's cell (n,), and the samples of all; None where rows weigh single samples."""
    places = agreement.places(share.kinds or [], share.where)
    counts = agreement.counts(places)
    present = np.flatnonzero(counts)
    features, targets = agreement.features(present)
    r = asked.reading
    try:
        compiled = compile_problem(
            r.notion, n=present.shape[0], sensitive_features=features or {"": [0]}, targets=targets, bounds=(share.lb, share.ub),
            vocabularies=r.vocabularies, grow=r.grow, missing_group=r.missing_group, on_missing=asked.on_missing,
            on_infeasible=asked.on_infeasible, copies=counts[present],
        )  # fmt: skip
    except UnsupportedError:
        return None
    position = np.zeros(counts.shape[0], dtype=np.int64)
    position[present] = np.arange(present.shape[0])
    cell = compiled.problem.rows.cell[torch.from_numpy(position[places])]
    return compiled, cell, int(counts.sum())


def _left(compiled: Compiled) -> str:
    """Why a counted problem has to be gathered all the same; '' where nothing is against it."""
    problem = compiled.problem
    if compiled.has_parameters:
        return "learned limits"
    if not problem.feasible:
        return "no scores meet the notion"
    return ""


def compile_on_ranks(notion: Notion, ranks: Ranks, whole: Whole, *, sensitive_features: Any, **facts: Any) -> PreparedOnRanks:
    """``compile`` for ``ranks``."""
    try:
        if not isinstance(notion, Notion):
            raise InputError(f"notion must be a notion such as DemographicParity('sex', tolerance=0.05), came {notion!r}")
        reading = Reading(notion, declare(facts["groups"]), True, facts["missing_group"], facts["pos_label"])
    except InputError as error:
        meet(ranks, {}, error, NOTHING_TOLD, b"batch")  # raises it, and tells the others
        raise
    asked = Asked(reading, facts["bounds"], facts["on_missing"], facts["on_infeasible"])
    return prepare_on_ranks(
        Agreement(ranks, notion.attributes), asked, whole, n=None, sensitive_features=sensitive_features, targets=facts["targets"],
        weights=facts["weights"],
    )  # fmt: skip
