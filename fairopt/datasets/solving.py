"""From a survey to prices: the notion compiled on one position a composition, prices guessed from histograms, found by passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.errors import InputError
from fairopt.compiler import compile_problem
from fairopt.contract.problem import ProjectionProblem
from fairopt.datasets.guess import BinnedPasses, Histograms, Key, first_prices
from fairopt.datasets.reading import Block
from fairopt.datasets.shard_passes import Box, Proved, ShardPasses
from fairopt.datasets.survey import Asked, Survey
from fairopt.notions.algebra import Notion
from fairopt.notions.batch import Batch
from fairopt.notions.groups import Missing, Vocabulary
from fairopt.solve.drive import Driven, drive
from fairopt.solve.dual.evaluator import round_inward
from fairopt.solve.passes.whole_sums import UNIT
from fairopt.solve.plan import CellPlan, Extents, cell_plan


@dataclass(frozen=True)
class Uses:
    """What a notion reads of rows. by_target: it compares targets; dense: it weighs each row on its own."""

    by_target: bool
    dense: bool


def uses_of(notion: Notion, block: Block, missing: Missing) -> Uses:
    """Found by asking the notion about a few rows. InputError as the notion raises it."""
    few = slice(0, 1000)
    features: dict[str, Any] = {name: [block.values[name][k] for k in codes[few].tolist()] for name, codes in block.codes.items()}
    features |= {name: values[few] for name, values in block.numbers.items()}
    targets = None if block.targets is None else block.targets
    batch = Batch(len(block.scores[few]), features, None if targets is None else targets[few], missing_group=missing)
    return _uses(notion, batch)


def compares_targets(notion: Notion, positions: Positions, missing: Missing) -> bool:
    """Whether a notion compares targets where all groups are there."""
    return _uses(notion, positions.batch(missing)).by_target


def _uses(notion: Notion, batch: Batch) -> Uses:
    read = [constraint for leaf in notion.leaves() for constraint in leaf.notion.constraints(batch)]
    dense = any(f.dense for constraint in read for f in constraint.functionals)
    return Uses(any(not column.attribute for column in batch.columns), dense)


def sorted_keys(keys: set[Key]) -> list[Key]:
    """Compositions in the order of their values, missing ones last. InputError where an attribute has values of several types."""
    if not keys:
        return []
    width = len(next(iter(keys)))
    ranks: list[dict[Any, int]] = []
    for j in range(width):
        values = {key[j] for key in keys}
        if any(isinstance(v, float) for v in values):
            ranks.append({v: k for k, v in enumerate(sorted(values))})
        else:
            ranks.append(Vocabulary.of(values, name="a column of groups").index)
    return sorted(keys, key=lambda key: tuple(rank[v] for rank, v in zip(ranks, key, strict=True)))


@dataclass(frozen=True, eq=False)
class Positions:
    """What stands for the data set when a notion is compiled. copies (P,): rows of each; first (K,): the first position of a composition;
    owner (P,): the composition of a position.

    Targets that a notion only sums are any numbers with the same sum: the exact one of a composition as a few floats.
    """

    features: dict[str, list[Any]]
    targets: Array | None
    copies: IntArray
    first: IntArray
    owner: IntArray

    def spread(self, sums: Sequence[Fraction]) -> list[Fraction]:
        """(P,) sums (K,) of the compositions, at their first positions."""
        out = [Fraction(0)] * len(self.copies)
        for p, value in zip(self.first.tolist(), sums, strict=True):
            out[p] = value
        return out

    def batch(self, missing: Missing) -> Batch:
        return Batch(len(self.copies), self.features, self.targets, missing_group=missing, copies=self.copies)


def positions_of(survey: Survey, asked: Asked) -> Positions:
    """One position a composition, or a few where targets are summed."""
    names = asked.wanted.groups
    owner: list[int] = []
    copies: list[int] = []
    targets: list[float] = []
    first: list[int] = []
    for k, (key, count) in enumerate(zip(survey.keys, survey.counts.tolist(), strict=True)):
        first.append(len(owner))
        if asked.by_target or asked.wanted.target is None:
            parts = [(float(key[len(names)]) if asked.by_target else 0.0, count)]
        else:
            parts = _as_floats(survey.targets[k], count)
        for value, many in parts:
            owner.append(k)
            copies.append(many)
            targets.append(value)
    features = {name: [survey.keys[k][j] for k in owner] for j, name in enumerate(names)}
    told = None if asked.wanted.target is None else np.array(targets, dtype=np.float64)
    return Positions(features, told, *(np.array(part, dtype=np.int64) for part in (copies, first, owner)))


def _as_floats(total: int, count: int) -> list[tuple[float, int]]:
    """``count`` numbers whose exact sum is ``total`` units of 2^-UNIT: (number, how often)."""
    rest, parts = Fraction(total, 1 << UNIT), []
    try:
        while rest:
            parts.append((float(rest), 1))
            rest -= Fraction(parts[-1][0])
    except OverflowError as error:
        raise InputError("targets: their sum over a group is beyond the largest double") from error
    if len(parts) > count:
        raise InputError(f"targets: the sum of {count} of them needs {len(parts)} doubles; expected targets of one size")
    return [*parts, (0.0, count - len(parts))] if count > len(parts) else parts


@dataclass(frozen=True, eq=False)
class Found:
    """A solve that ended. problem; shift (K,) of each composition; box; driven, proved: None where nothing was asked of the scores."""

    problem: ProjectionProblem
    plan: CellPlan | None
    shift: Array
    box: Box
    proved: Proved
    driven: Driven[Proved] | None


def problem_of(notion: Notion, positions: Positions, bounds: tuple[float, float], missing: Missing) -> ProjectionProblem:
    """The projection problem of the whole data set. Raises InfeasibleError, InputError."""
    return compile_problem(
        notion, n=len(positions.copies), sensitive_features=positions.features, targets=positions.targets, bounds=bounds,
        missing_group=missing, copies=positions.copies,
    ).problem  # fmt: skip


def box_of(bounds: tuple[float, float], single: bool) -> Box:
    """The box, rounded inward to the dtype of the scores."""
    import torch

    dtype = torch.float32 if single else torch.float64
    ends = [
        float(round_inward(torch.tensor(b, dtype=torch.float64, device="cpu"), dtype, up=up))
        for b, up in zip(bounds, (True, False), strict=True)
    ]
    return Box(*bounds, (ends[0], ends[1]))


def find_prices(
    problem: ProjectionProblem, survey: Survey, positions: Positions, passes_of: Any, box: Box, histograms: Histograms | None
) -> Found | None:
    """Certified scores, as the shifts that make them; None where this road cannot certify any.

    passes_of: cell (K,), their number -> ShardPasses.
    """
    cell = problem.rows.cell.numpy()[positions.first]
    cells = int(problem.rows.masks.shape[1])
    passes: ShardPasses = passes_of(cell, cells)
    if box.inside[0] > box.inside[1]:
        return None
    if problem.m == 0:  # nothing is asked, or nothing that the box does not see to
        proved, *_ = passes.scores(np.zeros(cells))
        return Found(problem, None, np.zeros(len(cell)), box, proved, None)
    plan = cell_plan(problem, _extents(survey, cell, cells, box), terms=0)
    if plan is None:
        return None
    start = _start(plan, survey, cell, passes, box, histograms)
    driven = drive(problem, plan, passes, start=start)
    if not driven.certified or driven.scores is None:
        return None
    proved = driven.scores
    return Found(problem, plan, proved.shift[cell], box, proved, driven)


def _extents(survey: Survey, cell: IntArray, cells: int, box: Box) -> Extents:
    opened = np.bincount(cell, weights=survey.counts, minlength=cells).astype(np.float64)
    lightest, heaviest = 1.0, 1.0
    if survey.weighted:
        totals = [0] * cells
        for c, mass in zip(cell.tolist(), survey.masses, strict=True):
            totals[c] += mass
        opened = np.array([float(Fraction(t, 1 << UNIT)) for t in totals])
        lightest, heaviest = survey.lightest, survey.heaviest
    return Extents(opened, lightest, heaviest, (box.low, box.low), (box.high, box.high), True, survey.weighted)


def _start(plan: CellPlan, survey: Survey, cell: IntArray, passes: ShardPasses, box: Box, histograms: Histograms | None) -> Array | None:
    """Prices (m,) to begin with: without a box those of the sums that are known, else of histograms; None where there are none."""
    if box.open:
        return first_prices(plan, passes)
    if histograms is None:
        histograms = Histograms(survey.least, survey.largest + 1e-9 * (1.0 + abs(survey.largest)))
        passes.count(histograms)
    binned = histograms.by_cell(survey.keys, cell, weighted=survey.weighted)
    if binned is None:
        return None
    return first_prices(plan, BinnedPasses(histograms, binned, box.low, box.high, passes.extent()))
