"""The notion: a generator of constraints on a batch, with joins and softness.

``a & b`` asks for both. ``.priced(rho)``, ``.budgeted(rho)`` and ``.penalised(gamma)`` replace "never violated" by a price. Notions are
values: they compare by content, print as the call that makes them, pickle, and keep a tolerance that is a tensor as that tensor.

Source: DESIGN 1 (softness) and 4.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.errors import InputError
from fairopt.contract.problem import SoftnessKind
from fairopt.notions.amount import check_at_least
from fairopt.notions.batch import Batch
from fairopt.notions.functional import Constraint

_METHOD: dict[SoftnessKind, str] = {"priced": "priced", "budget": "budgeted", "quadratic": "penalised"}


@dataclass(frozen=True, eq=False)
class Leaf:
    """One plain notion inside a join: what its violations cost. ``source`` numbers the softening, for budget blocks; -1 where hard."""

    notion: Notion
    kind: SoftnessKind = "hard"
    weight: Any = float("inf")
    source: int = -1


class Notion(ABC):
    """A parity notion. A subclass names its arguments in ``arguments`` and yields constraints in ``constraints``.

    Examples:
        >>> notion = fo.DemographicParity("sex", tolerance=0.1) & fo.EqualOpportunity("race", tolerance=0.05)
        >>> notion.attributes, notion.needs_targets
        (('sex', 'race'), True)
    """

    @property
    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments by name."""

    @property
    @abstractmethod
    def attributes(self) -> tuple[str, ...]:
        """The keys of ``sensitive_features`` that the notion reads, each once."""

    @property
    @abstractmethod
    def needs_targets(self) -> bool:
        """Whether the notion reads targets."""

    @abstractmethod
    def constraints(self, batch: Batch) -> Iterator[Constraint]:
        """Yield the constraints of one batch."""

    @property
    def name(self) -> str:
        """The word that labels begin with."""
        return type(self).__name__

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The arguments that are tensors (tolerance, rho, gamma ...), as they were given. Names are fit for ``register_parameter``."""
        return {k: v for k, v in self.arguments.items() if isinstance(v, Tensor)}

    @property
    def signature(self) -> str | None:
        """What two notions share only if they ask the same of every batch; None where nothing says it: tensors change, and so may a
        notion of a user's own."""
        return None

    def leaves(self) -> tuple[Leaf, ...]:
        """The plain notions that this one joins, with their softness."""
        return (Leaf(self),)

    def __and__(self, other: object) -> Notion:
        if not isinstance(other, Notion):
            raise InputError(f"a notion can be joined with another notion, came {other!r}")
        return Joined((*_parts(self), *_parts(other)))

    def priced(self, rho: Any) -> Notion:
        """Pay rho times the sum of all violations instead of forbidding them (rho >= 0)."""
        return Softened(self, "priced", rho)

    def budgeted(self, rho: Any) -> Notion:
        """Pay rho times the largest violation of the whole notion (rho >= 0)."""
        return Softened(self, "budget", rho)

    def penalised(self, gamma: Any) -> Notion:
        """Pay gamma / 2 times the sum of squared violations (gamma > 0)."""
        return Softened(self, "quadratic", gamma)

    def __bool__(self) -> bool:
        raise InputError("a notion has no truth value; join notions with &, not with 'and'")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Notion) or type(self) is not type(other):
            return False
        mine, theirs = self.arguments, other.arguments
        return self.name == other.name and mine.keys() == theirs.keys() and all(_same(mine[k], theirs[k]) for k in mine)

    def __hash__(self) -> int:
        return hash((type(self), self.name, self.attributes))

    def __repr__(self) -> str:
        shown = [_shown(v) if k == "attribute" else f"{k}={_shown(v)}" for k, v in self.arguments.items() if v is not None]
        return f"{self.name}({', '.join(shown)})"


class Joined(Notion):
    """``a & b & ...``: all ``parts`` at once.

    Examples:
        >>> notion = fo.DemographicParity("sex", tolerance=0.1) & fo.GroupMeanBound("sex", lower=0.3)
        >>> len(notion.parts), fo.project(torch.tensor([0.1, 0.6]), notion, sensitive_features=["f", "m"])
        (2, tensor([0.3000, 0.4000]))
    """

    def __init__(self, parts: tuple[Notion, ...]) -> None:
        self.parts = parts

    @property
    def arguments(self) -> dict[str, Any]:
        return {"parts": self.parts}

    @property
    def attributes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(a for p in self.parts for a in p.attributes))

    @property
    def needs_targets(self) -> bool:
        return any(p.needs_targets for p in self.parts)

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {f"{name}_{k}": t for k, p in enumerate(self.parts) for name, t in p.parameters.items()}

    def leaves(self) -> tuple[Leaf, ...]:
        found: list[Leaf] = []
        used = 0  # numbers of softened parts already given out
        for part in self.parts:
            leaves = part.leaves()
            top = max((leaf.source for leaf in leaves), default=-1)
            found += [Leaf(x.notion, x.kind, x.weight, x.source + used if x.source >= 0 else -1) for x in leaves]
            used += top + 1
        return tuple(found)

    def constraints(self, batch: Batch) -> Iterator[Constraint]:
        for part in self.parts:
            yield from part.constraints(batch)

    @property
    def signature(self) -> str | None:
        words = [part.signature for part in self.parts]
        return None if type(self) is not Joined or None in words else " & ".join(map(str, words))

    def __repr__(self) -> str:
        return " & ".join(repr(p) for p in self.parts)


class Softened(Notion):
    """A ``notion`` whose violations cost something instead of being forbidden; made by ``priced``, ``budgeted``, ``penalised``.

    ``kind`` and ``weight`` (>= 0) are those of ``Softness``. InputError for a notion that is soft already.

    Examples:
        >>> notion = fo.DemographicParity("sex", tolerance=0).penalised(2.0)
        >>> fo.project(torch.tensor([0.2, 0.6]), notion, sensitive_features=["f", "m"])
        tensor([0.3600, 0.4400])
    """

    def __init__(self, notion: Notion, kind: SoftnessKind, weight: Any) -> None:
        if any(leaf.kind != "hard" for leaf in notion.leaves()):
            raise InputError(f"{notion!r} is soft already; soften its hard parts before joining them")
        word = "gamma" if kind == "quadratic" else "rho"
        check_at_least(weight, 0.0, f"{word} of .{_METHOD[kind]}", open_end=kind == "quadratic")
        self.notion, self.kind, self.weight = notion, kind, weight

    @property
    def arguments(self) -> dict[str, Any]:
        return {"notion": self.notion, "kind": self.kind, "weight": self.weight}

    @property
    def attributes(self) -> tuple[str, ...]:
        return self.notion.attributes

    @property
    def needs_targets(self) -> bool:
        return self.notion.needs_targets

    @property
    def parameters(self) -> dict[str, Tensor]:
        word = "gamma" if self.kind == "quadratic" else "rho"
        return {**self.notion.parameters, **({word: self.weight} if isinstance(self.weight, Tensor) else {})}

    def leaves(self) -> tuple[Leaf, ...]:
        return tuple(Leaf(leaf.notion, self.kind, self.weight, 0) for leaf in self.notion.leaves())

    def constraints(self, batch: Batch) -> Iterator[Constraint]:
        yield from self.notion.constraints(batch)

    @property
    def signature(self) -> str | None:
        plain = type(self) is Softened and isinstance(self.weight, (int, float, np.number))
        return repr(self) if plain and self.notion.signature is not None else None

    def __repr__(self) -> str:
        inner = f"({self.notion!r})" if isinstance(self.notion, Joined) else repr(self.notion)
        return f"{inner}.{_METHOD[self.kind]}({_shown(self.weight)})"


def _parts(notion: Notion) -> tuple[Notion, ...]:
    return notion.parts if isinstance(notion, Joined) else (notion,)


def _same(a: Any, b: Any) -> bool:
    """Equal content; tensors by value, dtype and whether they learn."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
            return False
        return a is b or (a.dtype == b.dtype and a.requires_grad == b.requires_grad and torch.equal(a.detach().cpu(), b.detach().cpu()))
    return bool(a == b)


def _shown(value: Any) -> str:
    if isinstance(value, Tensor) and value.numel() == 1:
        return f"{type(value).__name__}({float(value.detach()):g})"
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return repr(value.item())
    return repr(value)


def constraints_on(notion: Notion, batch: Batch, *, written_out: bool = False) -> list[tuple[Leaf, Constraint]]:
    """Every constraint of ``notion`` on ``batch``, with the leaf that it comes from. InputError for labels that it does not mean.

    ``written_out``: ranges with a ratio as their pairs.
    """
    found = [(leaf, constraint) for leaf in notion.leaves() for constraint in leaf.notion.constraints(batch)]
    batch.check_labels()
    return [(leaf, part) for leaf, c in found for part in c.written_out()] if written_out else found
