"""One problem of n samples for each class, joined to one over all (class, sample) pairs: position c n + i is class c of sample i.

That the probabilities of a sample sum to 1 is no row of it: the map from prices to scores sees to that (``dual``). So what is proved
infeasible without is infeasible, and not the other way round (``summed``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import IntArray
from fairopt.basics.errors import UnsupportedError
from fairopt.basics.sparse import SparseRows, dense
from fairopt.contract.problem import Distance, ProjectionProblem
from fairopt.contract.rows import Rows
from fairopt.notions.several import Part

MOST_ROWS = 4096
Box = tuple[float | Tensor, float | Tensor]


def joined(parts: Sequence[tuple[Part, ProjectionProblem]], classes: int, distance: Distance, box: Box | None = None) -> ProjectionProblem:
    """The problem of ``classes`` numbers a sample, from (part, its problem). ``box``: of each number; None: they are probabilities that
    sum to 1.

    UnsupportedError for rows with a weight of their own a sample, and for more rows than are written out.
    """
    n = parts[0][1].n // (classes if parts[0][0].index is None else 1)
    if any(p.rows.dense is not None for _, p in parts):
        raise UnsupportedError(
            "outputs: rows with a weight of their own a sample (ScoreCovariance) are not supported for several numbers a sample"
        )
    if sum(p.m for _, p in parts) > MOST_ROWS:
        raise UnsupportedError(f"outputs: {sum(p.m for _, p in parts)} rows, at most {MOST_ROWS} are supported; name fewer classes=")
    cell, count = _cells([(part.index, p.rows.cell.numpy()) for part, p in parts], classes, n)
    masks, scales, linear, ranges, offset = [], [], [], [], []
    terms: list[tuple[int, float, int, int]] = []
    values: list[Tensor] = []
    first = 0
    for part, p in parts:
        rows, c = p.rows, part.index
        where = slice(None) if c is None else slice(c * n, (c + 1) * n)
        own = cell[where]
        holds = np.zeros((rows.masks.shape[0], count), dtype=bool)
        inside = rows.masks.toarray() if isinstance(rows.masks, SparseRows) else rows.masks  # (M, K)
        holds[:, own] = np.asarray(inside, dtype=bool)[:, rows.cell.numpy()]
        masks.append(holds)
        scales.append(np.asarray(dense(rows.scales)))
        offset.append(rows.offset)
        base, shown = sum(len(m) for m in masks[:-1]), len(values)
        terms += [(first + k, s, base + j if j >= 0 else -1, shown + v if v >= 0 else -1) for k, s, j, v in rows.offset_terms]
        for value in rows.values:
            wide = torch.zeros(n * classes, dtype=torch.float64, device="cpu")
            wide[where] = value
            values.append(wide)
        linear += list(range(first, first + p.linear))
        ranges += list(range(first + p.linear, first + p.m))
        first += p.m
    place = np.argsort(np.array(linear + ranges, dtype=np.int64))  # where each row goes
    whole = np.zeros((first, sum(len(m) for m in masks)))
    row = column = 0
    for s in scales:
        whole[row : row + s.shape[0], column : column + s.shape[1]] = s
        row, column = row + s.shape[0], column + s.shape[1]
    order = np.array(linear + ranges, dtype=np.int64)
    rows = Rows(
        cell=torch.from_numpy(cell),
        masks=np.concatenate(masks),
        scales=whole[order],
        offset=np.concatenate(offset)[order],
        offset_terms=tuple((int(place[k]), s, j, v) for k, s, j, v in terms),
        values=tuple(values),
    )
    return _assembled(rows, parts, classes, distance, box)


def _cells(parts: list[tuple[int | None, IntArray]], classes: int, n: int) -> tuple[IntArray, int]:
    """(classes n,) the cell of each pair, and their number: what tells samples apart in any problem of a class."""
    cell, count = np.zeros(classes * n, dtype=np.int64), 0
    for c in range(classes):
        columns = [own if k == c else own[c * n : (c + 1) * n] for k, own in parts if k == c or k is None]
        if columns:
            _, code = np.unique(np.stack(columns, 1), axis=0, return_inverse=True)
        else:
            code = np.zeros(n, dtype=np.int64)
        cell[c * n : (c + 1) * n] = code.reshape(-1) + count
        count += int(code.max()) + 1
    return cell, count


def _worded(label: str, name: str) -> str:
    return f"{label} ({name})" if name else label


def _assembled(
    rows: Rows, parts: Sequence[tuple[Part, ProjectionProblem]], classes: int, distance: Distance, box: Box | None
) -> ProjectionProblem:
    problems = [p for _, p in parts]
    names = [part.name for part, _ in parts]
    labels = [[_worded(label, name) for label in p.labels] for name, p in zip(names, problems, strict=True)]
    constraint = [[_worded(label, name) for label in p.constraint_labels] for name, p in zip(names, problems, strict=True)]
    softness = [p.softness for p in problems]
    blocks = [max([s.block for s in p.softness] + [-1]) + 1 for p in problems]
    if any(s.kind == "budget" for p in problems for s in p.softness) and len(problems) > 1:
        starts = np.concatenate([[0], np.cumsum(blocks)])[:-1]
        softness = [
            tuple(type(s)(s.kind, s.weight, s.block + int(start) if s.block >= 0 else -1) for s in part)
            for part, start in zip(softness, starts, strict=True)
        ]
    sizes = [int(k) for p in problems for k in np.diff(p.range_starts)]
    linear = sum(p.linear for p in problems)
    low, high = (0.0, 1.0) if box is None else box
    weights = problems[0].weights
    weights = weights if weights is None or parts[0][0].index is None else weights.repeat(classes)
    return ProjectionProblem(
        rows=rows,
        lower=np.concatenate([p.lower for p in problems]),
        upper=np.concatenate([p.upper for p in problems]),
        width=np.concatenate([p.width for p in problems]),
        range_starts=np.cumsum([linear, *sizes]).astype(np.int64),
        lb=low.repeat(classes) if isinstance(low, Tensor) else low,
        ub=high.repeat(classes) if isinstance(high, Tensor) else high,
        weights=weights,
        softness=tuple(s for p, part in zip(problems, softness, strict=True) for s in part[: p.linear])
        + tuple(s for p, part in zip(problems, softness, strict=True) for s in part[p.linear :]),
        labels=tuple(x for p, part in zip(problems, labels, strict=True) for x in part[: p.linear])
        + tuple(x for p, part in zip(problems, labels, strict=True) for x in part[p.linear :]),
        constraint_labels=tuple(x for p, part in zip(problems, constraint, strict=True) for x in part[: p.linear])
        + tuple(x for p, part in zip(problems, constraint, strict=True) for x in part[p.linear :]),
        dropped=tuple(d for p in problems for d in p.dropped),
        used_targets=any(p.used_targets for p in problems),
        group_counts=problems[0].group_counts,
        vacuous=all(p.vacuous for p in problems),
        ratio=np.concatenate([p.ratio for p in problems]),
        distance=distance,
        classes=classes if box is None else 1,
    )
