"""What a notion must do on every batch: commute with reordering and renaming, bear absent groups, pickle, and agree with ``gaps``."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from fairopt.auditing.gap_table import gaps
from fairopt.basics.errors import ConformanceError, FairoptWarning, InfeasibleError, InputError
from fairopt.contract.backend import Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.layer.one_shot import compile, project
from fairopt.layer.prepared import Prepared
from fairopt.notions.algebra import Notion
from fairopt.testing.draws import stream
from fairopt.testing.exact import violation_exact

ABSENT = "a group that no sample has"
CLOSE = 1e-9


@dataclass(frozen=True, eq=False)
class NotionBatch:
    """Random facts of one batch. ``scores`` (n,) float64; ``features`` attribute -> n values; ``targets`` (n,) of 0 and 1."""

    scores: Tensor
    features: dict[str, list[Any]]
    targets: Tensor
    bounds: tuple[float, float] | None
    number: int


@dataclass(frozen=True, eq=False)
class NotionSubject:
    """The notion, its batches, its attributes that hold groups, and those of them whose values are mere names (they may be renamed)."""

    notion: Notion
    batches: tuple[NotionBatch, ...]
    grouped: tuple[str, ...]
    named: tuple[str, ...]
    values: Mapping[str, Sequence[Any]]

    def facts(self, batch: NotionBatch) -> dict[str, Any]:
        targets = batch.targets if self.notion.needs_targets else None
        return {"sensitive_features": batch.features, "targets": targets}

    def project(self, batch: NotionBatch, **options: Any) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "vacuous", FairoptWarning)  # batches of one group are drawn on purpose
            found: Tensor = project(batch.scores, self.notion, bounds=batch.bounds, **{**self.facts(batch), **options})
        return found

    def compiled(self, batch: NotionBatch, notion: Notion | None = None) -> Prepared:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "vacuous", FairoptWarning)
            prepared: Prepared = compile(self.notion if notion is None else notion, bounds=batch.bounds, **self.facts(batch))
        return prepared

    def fail(self, name: str, batch: NotionBatch, message: str) -> NoReturn:
        raise ConformanceError(name, f"{self.notion!r} on batch {batch.number} ({batch.scores.shape[0]} samples): {message}")


def make_notion_subject(
    notion: Notion, batches: int, seed: int, continuous: Collection[str], values: Mapping[str, Sequence[Any]]
) -> NotionSubject:
    """``batches`` random batches of 2 to 40 samples, every second one with bounds (0, 1) where the notion is feasible there."""
    grouped = tuple(a for a in notion.attributes if a not in continuous)
    named = tuple(a for a in grouped if a not in values)
    made = []
    for number in range(batches):
        rng = stream(seed, f"notion batch {number}")
        n = int(rng.integers(2, 41))
        features: dict[str, list[Any]] = {}
        for attribute in notion.attributes:
            if attribute in continuous:
                features[attribute] = rng.normal(size=n).tolist()
            else:
                names = list(values.get(attribute, [f"group {k}" for k in range(int(rng.integers(2, 5)))]))
                features[attribute] = [names[int(k)] for k in rng.integers(len(names), size=n)]
        scores = torch.from_numpy(rng.normal(0.5, 0.4, n))
        batch = NotionBatch(scores, features, torch.from_numpy(rng.integers(0, 2, n).astype(np.float64)), None, number)
        subject = NotionSubject(notion, (), grouped, named, values)
        if number % 2 and _feasible(subject, replace(batch, bounds=(0.0, 1.0))):
            batch = replace(batch, bounds=(0.0, 1.0))
        if _feasible(subject, batch):
            made.append(batch)
    if not made:
        raise ConformanceError("feasible", f"{notion!r}: infeasible on each of {batches} random batches")
    return NotionSubject(notion, tuple(made), grouped, named, values)


def asks_something(subject: NotionSubject) -> None:
    """The notion asks something of the scores of one batch at least: where every constraint is dropped, no other check sees a row."""
    problems = [subject.compiled(batch).problem for batch in subject.batches]
    if not all(problem.vacuous for problem in problems):
        return
    dropped = next((problem.dropped for problem in problems if problem.dropped), ())
    why = f"every constraint was dropped, such as {dropped[0][0]!r}: {dropped[0][1]}" if dropped else "it yields no constraint"
    drawn = f"asked nothing on any of {len(problems)} batches, for {why}"
    raise ConformanceError("asks_something", f"{subject.notion!r} {drawn}. The kit draws targets of 0 and 1, and groups that values= names")


def declared_targets(subject: NotionSubject) -> None:
    """``needs_targets`` is right: without targets the notion compiles if it says so, else it is an InputError."""
    batch = subject.batches[0]
    try:
        compile(subject.notion, sensitive_features=batch.features)
    except InputError as error:
        if not subject.notion.needs_targets:
            subject.fail("declared_targets", batch, f"needs_targets is False, but without targets: {error}")
        return
    except InfeasibleError:
        return
    if subject.notion.needs_targets:
        subject.fail("declared_targets", batch, "needs_targets is True, but it compiles without targets")


def same_rows(subject: NotionSubject) -> None:
    """The same batch compiles to the same rows twice, and again after pickling and deepcopy; the copies are equal."""
    for batch in subject.batches[:8]:
        once = _arrays(subject.compiled(batch).problem)
        copies = {
            "itself": subject.notion,
            "its pickle": pickle.loads(pickle.dumps(subject.notion)),
            "its deepcopy": copy.deepcopy(subject.notion),
        }
        for name, other in copies.items():
            if other != subject.notion:
                subject.fail("same_rows", batch, f"{name} is not equal to the notion")
            again = _arrays(subject.compiled(batch, other).problem)
            if len(once) != len(again) or not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(once, again, strict=True)):
                subject.fail("same_rows", batch, f"{name} compiles to other rows")


def notion_permutation(subject: NotionSubject) -> None:
    """Samples in another order: the same scores in that order."""
    for batch in subject.batches:
        order = stream(batch.number, "order").permutation(batch.scores.shape[0])
        moved = replace(
            batch,
            scores=batch.scores[torch.from_numpy(order)],
            targets=batch.targets[torch.from_numpy(order)],
            features={a: [v[int(i)] for i in order] for a, v in batch.features.items()},
        )
        error = float((subject.project(moved) - subject.project(batch)[torch.from_numpy(order)]).abs().max())
        if not error <= CLOSE:
            subject.fail("notion_permutation", batch, f"off by {error:.2e}")


def notion_relabelling(subject: NotionSubject) -> None:
    """Groups by other names, which sort in another order: the same scores."""
    for batch in subject.batches:
        features = dict(batch.features)
        for attribute in subject.named:
            known = sorted(set(features[attribute]))
            names = stream(batch.number, attribute).permutation(len(known))
            rename = {old: f"renamed {int(k)}" for old, k in zip(known, names, strict=True)}
            features[attribute] = [rename[v] for v in features[attribute]]
        error = float((subject.project(replace(batch, features=features)) - subject.project(batch)).abs().max())
        if not error <= CLOSE:
            subject.fail("notion_relabelling", batch, f"off by {error:.2e}")


def absent_group(subject: NotionSubject) -> None:
    """A declared group without a sample changes nothing: its constraints are vacuous, never a gap of 0, never NaN."""
    for batch in subject.batches:
        groups = {a: [*sorted({*batch.features[a], *subject.values.get(a, ())}), ABSENT] for a in subject.grouped}
        if not groups:
            return
        y = subject.project(batch, groups=groups)
        error = float((y - subject.project(batch)).abs().max())
        if not error <= CLOSE:  # also NaN
            subject.fail("absent_group", batch, f"with an absent group declared, the scores differ by {error:.2e}")
        for record in gaps(y, subject.notion, groups=groups, threshold=None, **subject.facts(batch)):
            if any(isinstance(v, float) and np.isnan(v) for v in record.values()):
                subject.fail("absent_group", batch, f"a gap is NaN: {record}")


def one_group(subject: NotionSubject) -> None:
    """All samples in one group: finite scores, no error."""
    for batch in subject.batches[:8]:
        alone = replace(batch, features={a: [v[0]] * len(v) if a in subject.grouped else v for a, v in batch.features.items()})
        if not _feasible(subject, alone):
            continue
        if not bool(torch.isfinite(subject.project(alone)).all()):
            subject.fail("one_group", batch, "scores are not finite")


def notion_idempotence(subject: NotionSubject) -> None:
    """Fair scores are left alone: the same bits where they were certified."""
    for batch in subject.batches:
        if not subject.compiled(batch).problem.all_hard:
            continue
        once = subject.compiled(batch).project(batch.scores, return_solution=True)
        twice = subject.project(replace(batch, scores=once.scores))
        error = float((twice - once.scores).abs().max())
        if error > (0.0 if once.status is Status.CERTIFIED else CLOSE):
            subject.fail("notion_idempotence", batch, f"fair scores are moved by {error:.2e}")


def gaps_agree(subject: NotionSubject) -> None:
    """``fo.gaps`` finds a broken gap just where a constraint is broken in exact arithmetic, before and after the projection."""
    for batch in subject.batches:
        problem = subject.compiled(batch).problem
        for when, scores in (("before", batch.scores), ("after", subject.project(batch))):
            worst = max((v for v in violation_exact(problem, scores).constraints if v is not None), default=0)
            broken = any(row["status"] == "broken" for row in gaps(scores, subject.notion, threshold=None, **subject.facts(batch)))
            if broken != (worst > 0):
                subject.fail(
                    "gaps_agree", batch, f"{when} the projection gaps say {'broken' if broken else 'met'}, the rows {float(worst):.2e}"
                )


def notion_gradient(subject: NotionSubject) -> None:
    """The layer's gradient is finite."""
    for batch in subject.batches:
        z = batch.scores.clone().requires_grad_(True)
        (g,) = torch.autograd.grad((subject.project(replace(batch, scores=z)) ** 2).sum(), z)
        if not bool(torch.isfinite(g).all()):
            subject.fail("notion_gradient", batch, "not finite")


def _feasible(subject: NotionSubject, batch: NotionBatch) -> bool:
    try:
        subject.compiled(batch)
    except InfeasibleError:
        return False
    return True


def _arrays(problem: ProjectionProblem) -> list[np.typing.NDArray[Any]]:
    rows = problem.rows
    found = [
        rows.cell.numpy(),
        rows.masks,
        rows.scales,
        rows.offset,
        problem.lower,
        problem.upper,
        problem.width,
        problem.range_starts,
        problem.ratio,
    ]
    return [np.asarray(a) for a in found] + ([] if rows.dense is None else [rows.dense.numpy()])
