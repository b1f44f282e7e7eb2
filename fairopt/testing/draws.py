"""Deterministic projection problems, drawn as (structure, seed, mutations), never as arrays of floats.

A *structure* says which rows a problem has; a *mutation* changes one thing about it (a box, weights, a softness, ties ...). Each
mutation has a random stream of its own, so that leaving one out keeps the rest of the problem: failures shrink well. Problems with
hard rows are feasible by construction: limits are moved, where they must be, to admit a witness inside the box. The one exception is
the mutation ``infeasible``.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing
from fairopt.contract.problem import ProjectionProblem
from fairopt.testing import mutate
from fairopt.testing.assembly import INF, Assembly
from fairopt.testing.structures import STRUCTURES, Setting, add_structure, make_setting

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

SCALES = {"tiny": 1e-3, "huge": 1e3}
MUTATIONS = (
    "box", "narrow_box", "wide_box", "one_sided_box", "sample_box", "weights", "wild_weights",
    "priced", "budget", "quadratic", "mixed_softness", "zero_tolerance", "loose",
    "duplicate", "redundant", "scaled_rows", "singleton", "ties", "constant_scores", "far", "tiny", "huge", "infeasible",
)  # fmt: skip
SOFT = frozenset({"priced", "budget", "quadratic", "mixed_softness"})
Generator = np.random.Generator


@dataclass(frozen=True, eq=False)
class Draw:
    """One drawn problem. ``scores`` (n,) float64; ``witness`` (n,) meets all hard rows inside the box (None when infeasible);
    ``max_n``: what n was drawn up to, None where n was given. ``structure``, ``seed`` and ``mutations`` draw it again; ``scale`` is the
    size of its numbers.

    Examples:
        >>> from fairopt.testing import draw
        >>> drawn = draw("pairs", seed=3, n=5)
        >>> drawn.problem.n, drawn.scores.shape, drawn.structure
        (5, torch.Size([5]), 'pairs')
    """

    problem: ProjectionProblem
    scores: Tensor
    structure: str
    seed: int
    mutations: frozenset[str]
    scale: float
    witness: Array | None
    max_n: int | None = None

    @property
    def description(self) -> str:
        """What rebuilds this draw."""
        mutations = ", ".join(repr(m) for m in sorted(self.mutations))
        size = f"n={self.problem.n}" if self.max_n is None else f"max_n={self.max_n}"
        return f"draw({self.structure!r}, {self.seed}, [{mutations}], {size})"

    def __repr__(self) -> str:
        return self.description


def draw(structure: str, seed: int, mutations: Collection[str] = (), *, n: int | None = None, max_n: int = 400) -> Draw:
    """The problem of this structure, seed and mutations; n samples, or a number from 2 to ``max_n`` that the seed chooses.

    Raises InputError for an unknown structure or mutation.

    Examples:
        >>> from fairopt.testing import draw
        >>> first, again = draw("pairs", seed=3), draw("pairs", seed=3)
        >>> torch.equal(first.scores, again.scores)
        True
    """
    chosen = frozenset(mutations)
    if structure not in STRUCTURES:
        raise InputError(f"structure: got {structure!r}, expected one of {', '.join(STRUCTURES)}")
    if not chosen <= set(MUTATIONS):
        raise InputError(f"mutations: got {sorted(chosen - set(MUTATIONS))}, expected a subset of {', '.join(MUTATIONS)}")
    if "infeasible" in chosen:
        chosen -= SOFT
    rng = stream(seed, structure)
    drawn_up_to = max_n if n is None else None
    if n is None:
        n = max(2, round(float(np.exp(rng.uniform(np.log(2.0), np.log(max_n + 0.49))))))
    scale = next((s for name, s in SCALES.items() if name in chosen), 1.0)
    setting = make_setting(rng, n, scale, singleton="singleton" in chosen)
    assembly = Assembly(n)
    tolerance = _tolerance(setting, stream(seed, "tolerance"), chosen)
    add_structure(structure, assembly, setting, rng, tolerance)
    for name in ("duplicate", "redundant", "scaled_rows"):
        if name in chosen:
            mutate.ROWS[name](assembly, stream(seed, name))
    scores = _scores(setting, seed, chosen)
    lb, ub = _box(setting, seed, chosen)
    weights = _weights(n, seed, chosen)
    witness: Array | None = np.clip(_witness(structure, setting), lb, ub)
    for name in sorted(chosen & SOFT):
        mutate.soften(assembly, name, stream(seed, name), scale, n)
    assert witness is not None
    assembly.widen(witness, 1e-12 * scale)
    if "infeasible" in chosen:
        mutate.conflict(assembly, stream(seed, "infeasible"), scale, lb, ub)
        witness = None
    return Draw(assembly.problem(lb, ub, weights), torch.from_numpy(scores), structure, seed, chosen, scale, witness, drawn_up_to)


def stream(seed: int, name: str) -> Generator:
    """A random stream of its own for each purpose."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def wild(count: int, seed: int = 0, *, max_n: int = 400, avoid: Collection[str] = ("infeasible",)) -> Iterator[Draw]:
    """``count`` draws over all structures, with 0 to 6 mutations each, none of ``avoid``, from ``seed``; ``max_n`` the most samples.

    Examples:
        >>> from fairopt.testing import wild
        >>> len({drawn.structure for drawn in wild(20, max_n=10)}) > 3
        True
    """
    allowed = [m for m in MUTATIONS if m not in set(avoid)]
    for k in range(count):
        rng = stream(seed, f"wild {k}")
        structure = STRUCTURES[int(rng.integers(len(STRUCTURES)))]
        size = min(len(allowed), int(rng.integers(0, 7)))
        mutations = {allowed[int(i)] for i in rng.choice(len(allowed), size, replace=False)}
        if {"tiny", "huge"} <= mutations:
            mutations.remove("tiny")
        yield draw(structure, int(rng.integers(2**31)), mutations, max_n=max_n)


def drawn_problems(
    *, max_n: int = 400, structures: Collection[str] = STRUCTURES, avoid: Collection[str] = ("infeasible",)
) -> SearchStrategy[Draw]:
    """A hypothesis strategy: draws a structure, a seed and a set of mutations. Raises MissingExtraError without hypothesis.

    ``max_n`` the most samples, ``structures`` the names to draw from (all), ``avoid`` mutations to leave out.

    Examples:
        >>> from hypothesis import given, settings
        >>> from fairopt.testing import drawn_problems, violation_exact
        >>> @settings(max_examples=3, database=None, deadline=None)
        ... @given(drawn_problems(max_n=20))
        ... def test_a_witness_meets_every_row(drawn):
        ...     exact = violation_exact(drawn.problem, torch.from_numpy(drawn.witness))
        ...     assert max(map(float, exact.constraints), default=0) <= 1e-6 * drawn.scale
        >>> test_a_witness_meets_every_row()
    """
    try:
        from hypothesis import strategies as st
    except ImportError as error:
        raise missing("drawn_problems needs hypothesis", "testing") from error
    mutations = st.sets(st.sampled_from([m for m in MUTATIONS if m not in set(avoid)]), max_size=6)
    return st.builds(
        lambda structure, seed, chosen: draw(structure, seed, chosen, max_n=max_n),
        st.sampled_from(sorted(structures)),
        st.integers(0, 2**31 - 1),
        mutations,
    )


def infeasible(count: int, seed: int = 0, *, max_n: int = 24) -> Iterator[Draw]:
    """``count`` problems whose hard rows contradict one another or the box."""
    for k in range(count):
        rng = stream(seed, f"infeasible {k}")
        structure = STRUCTURES[int(rng.integers(len(STRUCTURES)))]
        extra = [m for m in ("box", "weights", "zero_tolerance") if rng.uniform() < 0.4]
        yield draw(structure, int(rng.integers(2**31)), ["infeasible", *extra], max_n=max_n)


def with_scores(original: Draw, scores: Tensor) -> Draw:
    """The same problem with other scores (n,)."""
    return replace(original, scores=scores.to(torch.float64))


def _tolerance(setting: Setting, rng: Generator, chosen: frozenset[str]) -> float:
    if "zero_tolerance" in chosen:
        return 0.0
    share = float(rng.uniform(0.5, 3.0)) if "loose" in chosen else float(np.exp(rng.uniform(np.log(1e-3), np.log(0.3))))
    return share * setting.scale


def _scores(setting: Setting, seed: int, chosen: frozenset[str]) -> Array:
    rng = stream(seed, "scores")
    n = setting.codes[0].shape[0]
    shift = rng.normal(0.0, 0.5, size=setting.codes[0].max() + 1)[setting.codes[0]]
    z = 0.3 + shift + rng.normal(0.0, 0.6, n)
    if "ties" in chosen:
        z = np.round(z * 2.0) / 2.0
    if "constant_scores" in chosen:
        z = 0.3 + shift
    if "far" in chosen:
        z = z * float(np.exp(stream(seed, "far").uniform(np.log(5.0), np.log(200.0))))
    return np.asarray(z * setting.scale)


def _box(setting: Setting, seed: int, chosen: frozenset[str]) -> tuple[float | Array, float | Array]:
    """Bounds around the setting's constant, so that a common constant lies inside, except for about half of the boxes by sample."""
    rng = stream(seed, "box")
    n, s, c = setting.codes[0].shape[0], setting.scale, setting.constant
    lb, ub = -INF, INF
    if chosen & {"box", "far"}:
        lb, ub = 0.0, s
    if "narrow_box" in chosen:
        lb, ub = c - 0.1 * s * float(rng.uniform(0.1, 1.0)), c + 0.1 * s * float(rng.uniform(0.1, 1.0))
    if "wide_box" in chosen:
        lb, ub = max(lb, -50.0 * s), min(ub, 50.0 * s)
    if "one_sided_box" in chosen:
        lb, ub = (max(lb, 0.0), INF) if rng.uniform() < 0.5 else (-INF, min(ub, s))
    if "sample_box" in chosen:
        apart = 0.4 * s * float(rng.integers(2))
        lows = np.asarray(c - rng.uniform(0.0, 0.8, n) * s + apart * rng.normal(size=n))
        highs = np.maximum(lows, np.asarray(c + rng.uniform(0.0, 0.8, n) * s + apart * rng.normal(size=n)))
        lows[rng.uniform(size=n) < 0.2] = -np.inf
        highs[rng.uniform(size=n) < 0.2] = np.inf
        pinned = (rng.uniform(size=n) < 0.05) & np.isfinite(lows)
        highs[pinned] = lows[pinned]
        return lows, highs
    return lb, ub


def _weights(n: int, seed: int, chosen: frozenset[str]) -> Array | None:
    if "wild_weights" in chosen:
        return np.asarray(np.exp(stream(seed, "wild_weights").uniform(np.log(1e-2), np.log(1e2), n)))
    if "weights" in chosen:
        return np.asarray(stream(seed, "weights").uniform(0.3, 3.0, n))
    return None


def _witness(structure: str, setting: Setting) -> Array:
    """A point that meets the rows as they are, where the structure has a simple one (claim L2)."""
    n = setting.codes[0].shape[0]
    if structure in ("residual", "residual_range"):
        return setting.targets
    return np.full(n, setting.constant)
