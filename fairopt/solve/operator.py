"""``torch.ops.fairopt.project``: a projection as one operator of a traced graph (torch.compile, torch.export).

A graph holds tensors, numbers and words. So whatever projects (a layer, a compiled batch) has a token, and the operator finds it again by
that: in the process that traced the graph. Its backward solves once more: a graph keeps no piece between its two halves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from fairopt.basics.errors import UnsupportedError


class Projects(Protocol):
    """What projects plain ``scores`` with ``facts``, tensors of n values by name."""

    def traced(self, scores: Tensor, facts: Mapping[str, Tensor]) -> Tensor: ...


_owners: WeakValueDictionary[str, Projects] = WeakValueDictionary()
_kept: dict[str, Projects] = {}  # what a graph refers to lives as long as the process
_numbers = count()
SEPARATOR = "\0"  # of the names


def token_of(owner: Projects) -> str:
    """A new word that the operator finds ``owner`` by."""
    token = f"projection {next(_numbers)}"
    _owners[token] = owner
    return token


def _owner(token: str) -> Projects:
    owner = _owners.get(token)
    if owner is None:
        raise UnsupportedError(
            f"{token}: got a graph of another process, expected one traced in this one (a graph holds no notion): trace the model here"
        )
    return owner


def _named(names: str, facts: list[Tensor]) -> dict[str, Tensor]:
    return dict(zip(names.split(SEPARATOR), facts, strict=True)) if facts else {}


@contextmanager
def _recorded() -> Iterator[None]:
    """Operators are run below autograd, where nothing is recorded: back above it."""
    excluded = torch._C._dispatch_tls_local_exclude_set()
    for key in ("AutogradFunctionality", "AutogradCPU", "AutogradCUDA", "AutogradOther", "ADInplaceOrView"):
        excluded = excluded.remove(getattr(torch._C.DispatchKey, key))
    with torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), excluded):
        yield


@torch.library.custom_op("fairopt::project", mutates_args=())
def project(scores: Tensor, facts: list[Tensor], names: str, token: str) -> Tensor:
    """Scores (n,) or (n, 1), projected by the owner of ``token``."""
    return _owner(token).traced(scores.detach(), _named(names, facts)).detach().clone()


@torch.library.custom_op("fairopt::project_backward", mutates_args=())
def project_backward(gradient: Tensor, scores: Tensor, facts: list[Tensor], names: str, token: str) -> Tensor:
    """J'v for v = ``gradient``."""
    with _recorded(), torch.enable_grad():
        x = scores.detach().requires_grad_(True)
        y = _owner(token).traced(x, _named(names, facts))
        (found,) = torch.autograd.grad(y, x, gradient.contiguous())
    return found.clone()


def _like(scores: Tensor, token: str) -> Tensor:
    _kept[token] = _owner(token)
    return torch.empty_like(scores, memory_format=torch.contiguous_format)


@project.register_fake
def _(scores: Tensor, facts: list[Tensor], names: str, token: str) -> Tensor:
    return _like(scores, token)


@project_backward.register_fake
def _(gradient: Tensor, scores: Tensor, facts: list[Tensor], names: str, token: str) -> Tensor:
    return _like(scores, token)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    scores, facts, ctx.names, ctx.token = inputs
    ctx.save_for_backward(scores, *facts)


def _backward(ctx: Any, gradient: Tensor) -> Any:
    scores, *facts = ctx.saved_tensors
    return project_backward(gradient, scores, facts, ctx.names, ctx.token), [None] * len(facts), None, None


project.register_autograd(_backward, setup_context=_remember)


def in_graph(scores: Tensor, facts: Mapping[str, Any], token: str) -> Tensor:
    """The operator's call, while a graph is traced. UnsupportedError for facts that are no tensors."""
    for name, fact in facts.items():
        if not isinstance(fact, Tensor):
            raise UnsupportedError(f"{name}: got {type(fact).__name__} under torch.compile or torch.export, expected a tensor of n values")
    y: Tensor = project(scores, list(facts.values()), SEPARATOR.join(facts), token)
    return y
