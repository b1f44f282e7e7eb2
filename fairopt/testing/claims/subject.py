"""What the layer claims are checked on: a projector (any backend) and a source of problems (drawn ones, or a notion on random batches)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import InfeasibleError, UnsupportedError
from fairopt.contract.backend import Backend
from fairopt.contract.problem import ProjectionProblem
from fairopt.contract.registry import resolve
from fairopt.layer.one_shot import compile as compile_notion
from fairopt.notions import Notion, ScoreCovariance
from fairopt.notions.batch import NamesOutput
from fairopt.solve import Solution, solve
from fairopt.testing.draws import MUTATIONS, SOFT, draw
from fairopt.testing.optimality import size_of, written_out
from fairopt.testing.sensitivity import strictness
from fairopt.testing.structures import STRUCTURES
from fairopt.testing.subject import refused_mutations, within

Generator = np.random.Generator
_TRIES = 400
OUTPUTS = 3  # scores a sample, at least, for a notion that names them


@dataclass(frozen=True, eq=False)
class Case:
    """One projection to look at; ``witness`` (n,) meets the hard rows inside the box, where one is known."""

    scores: Tensor
    problem: ProjectionProblem
    witness: Array | None = None
    description: str = ""

    @property
    def z(self) -> Array:
        return np.asarray(self.scores.numpy())

    @property
    def w(self) -> Array:
        return np.ones(self.problem.n) if self.problem.weights is None else np.asarray(self.problem.weights.numpy())


class Layer:
    """The projection under check. Mutants override ``project`` or ``vjp``.

    backend  a name, class or instance;  notion  problems come from it on random batches, else from the drawn problems of the test kit
    """

    def __init__(self, backend: str | type[Backend] | Backend = "auto", notion: Notion | None = None) -> None:
        self.backend: Any = backend
        self.notion = notion
        named = isinstance(backend, str) and backend == "auto"
        self.capabilities = None if named else resolve(backend).capabilities
        self.accuracy = 1e-9 if self.capabilities is None else max(1e-9, self.capabilities.accuracy_y)

    def solution(self, scores: Tensor, problem: ProjectionProblem) -> Solution:
        return solve(scores, problem, backend=self.backend)

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        """(scores (n,), prices (m,)) as float64 numpy."""
        with torch.no_grad():
            found = self.solution(scores, problem)
        return np.asarray(found.scores.double().numpy()), np.asarray(found.prices, dtype=np.float64)

    def vjp(self, scores: Tensor, problem: ProjectionProblem, g: Array) -> Array:
        """J^T g (n,)."""
        z = scores.detach().clone().requires_grad_(True)
        (out,) = torch.autograd.grad(self.solution(z, problem).scores, z, torch.from_numpy(g))
        return np.asarray(out.numpy())

    def case(self, rng: Generator, *, max_n: int = 24, hard: bool = True, strict: bool = False, avoid: tuple[str, ...] = ()) -> Case:
        """A problem that the backend takes. ``hard``: no soft constraint; ``strict``: the active set does not change nearby (1e-3)."""
        asked = 0
        for _ in range(_TRIES):
            case = self._from_notion(rng, max_n) if self.notion is not None else self._drawn(rng, max_n, hard, avoid)
            if case is None or not case.problem.m:
                continue  # nothing is asked on this batch
            asked += 1
            problem = case.problem
            if self.capabilities is not None and not within(problem, self.capabilities):
                continue
            if hard and not problem.all_hard:
                continue
            if strict:
                y, p = self.project(case.scores, problem)
                if not strictness(problem, case.z, y, p) >= 1e-3 or _idle_equality(problem, p):
                    continue
            return case
        if not asked:
            raise UnsupportedError(f"vacuous: {self.notion!r} asks nothing in {_TRIES} draws")
        raise UnsupportedError(f"no fitting problem in {_TRIES} draws")

    def _drawn(self, rng: Generator, max_n: int, hard: bool, avoid: tuple[str, ...]) -> Case:
        refused = {"infeasible", *avoid} | (SOFT if hard else frozenset())
        if self.capabilities is not None:
            refused |= refused_mutations(self.capabilities)
        allowed = [m for m in MUTATIONS if m not in refused]
        structure = STRUCTURES[int(rng.integers(len(STRUCTURES)))]
        count = min(len(allowed), int(rng.integers(0, 5)))
        mutations = {allowed[int(i)] for i in rng.choice(len(allowed), count, replace=False)}
        if {"tiny", "huge"} <= mutations:
            mutations.remove("tiny")
        d = draw(structure, int(rng.integers(2**31)), mutations, max_n=max_n)
        return Case(d.scores, d.problem, d.witness, d.description)

    def _from_notion(self, rng: Generator, max_n: int) -> Case | None:
        """The notion on a random batch; None where no scores can meet it there (claim L2)."""
        assert self.notion is not None
        n = int(rng.integers(2, max_n + 1))
        continuous = {leaf.notion.attributes[0] for leaf in self.notion.leaves() if isinstance(leaf.notion, ScoreCovariance)}
        groups = int(rng.integers(2, 5))
        features = {
            name: rng.normal(size=n).tolist() if name in continuous else rng.integers(0, groups, n).tolist()
            for name in self.notion.attributes
        }
        targets: Any = rng.integers(0, 2, n) if self.notion.needs_targets else None
        bounds = (0.0, 1.0) if rng.uniform() < 0.5 else None
        try:
            prepared = compile_notion(self.notion, sensitive_features=features, targets=targets, bounds=bounds)
            problem, count = prepared.problem, 1
        except NamesOutput as named:  # labels that do not exclude each other: one problem of so many scores each
            count = max(OUTPUTS, named.output + 1)
            targets = rng.integers(0, 2, (n, count)) if self.notion.needs_targets else None
            try:
                several = compile_notion(self.notion, sensitive_features=features, targets=targets, bounds=bounds, outputs="independent")
                problem = several.problem_for(count)
            except InfeasibleError:
                return None
        except InfeasibleError:
            return None
        return Case(torch.from_numpy(rng.normal(0.5, 0.6, n * count)), problem, None, f"{self.notion!r} on {features}")


def _idle_equality(problem: ProjectionProblem, p: Array) -> bool:
    """Whether an equality holds by itself at z, so that some price of it is 0: scores then come back as they are, gradients too."""
    idle = p == 0.0
    linear = any(problem.lower[k] == problem.upper[k] and idle[k] for k in range(problem.linear))
    return linear or any(
        w == 0.0 and q == 1.0 and bool(idle[part].any())
        for part, w, q in zip(problem.range_slices, problem.width, problem.ratio, strict=True)
    )


def excess(problem: ProjectionProblem, y: Array) -> float:
    """By how much y leaves the box or breaks a hard constraint, <= 0 where it does not."""
    d = written_out(problem)
    f = d.a @ y + d.offset
    found = [float(np.maximum(d.lb - y, y - d.ub).max())]
    for k, value in enumerate(distances(problem, f)):
        if problem.softness[k].kind == "hard":
            found.append(value)
    return max(found)


def distances(problem: ProjectionProblem, f: Array) -> list[float]:
    """(L + R,) signed distance of each constraint beyond its limits at the row values f (m,)."""
    linear = [float(max(f[k] - problem.upper[k], problem.lower[k] - f[k])) for k in range(problem.linear)]
    ranges = zip(problem.range_slices, problem.width, problem.ratio, strict=True)
    return linear + [float(ratio * f[part].max() - f[part].min() - width) for part, width, ratio in ranges]


def constraint_prices(problem: ProjectionProblem, p: Array) -> Array:
    """(L + R,) prices of the constraints: signed for the linear ones, the flow for a range (``fairopt.contract.problem``)."""
    flows = [
        float(np.clip(p[part], 0, None).sum()) if ratio == 1.0 else -float(p[part].sum()) / (1.0 - float(ratio))
        for part, ratio in zip(problem.range_slices, problem.ratio, strict=True)
    ]
    return np.array([*p[: problem.linear], *flows])


def row_values(problem: ProjectionProblem, y: Array) -> Array:
    """(m,) A y + offset."""
    d = written_out(problem)
    return np.asarray(d.a @ y + d.offset)


def clipped(case: Case, p: Array) -> Array:
    """(n,) y = clip(z - A^T p / w, lb, ub): claim L8."""
    d = written_out(case.problem)
    return np.asarray(np.clip(case.z - (d.a.T @ p) / d.w, d.lb, d.ub))


def scale_of(case: Case, y: Array) -> float:
    return size_of(case.z, y)


def norm(x: Array, w: Array) -> float:
    """||x||_W."""
    return float(np.sqrt(np.sum(w * x * x)))
