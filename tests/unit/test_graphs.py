"""torch.compile and torch.export: the projection is one operator of the graph, and the graph answers what the model does."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fairopt as fo
from fairopt.solve import operator

N = 24
NOTION = fo.DemographicParity("g", tolerance=0.02) & fo.DemographicParity("h", tolerance=0.02)


def model(space: Any = "value") -> fo.FairModel:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    layer = fo.FairnessLayer(NOTION, bounds=(0.1, 0.6), groups={"g": [0, 1], "h": [0, 1, 2]}, space=space)
    return fo.FairModel(network, layer)


def batch(seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    groups = {"g": torch.randint(0, 2, (N,), generator=draw), "h": torch.randint(0, 3, (N,), generator=draw)}
    return torch.randn(N, 3, generator=draw, dtype=torch.float64), groups


def gradients(of: Any, made: fo.FairModel, seed: int) -> tuple[Tensor, list[Tensor]]:
    x, groups = batch(seed)
    made.zero_grad()
    y = of(x, sensitive_features=groups)
    y.square().sum().backward()
    return y.detach(), [p.grad.clone() for p in made.parameters() if p.grad is not None]


@pytest.mark.parametrize("space", ["value", "probability"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_whole_model_is_one_graph(space: str, backend: str) -> None:
    made = model(space)
    whole = torch.compile(made, fullgraph=True, backend=backend)
    for seed in (1, 2):  # other groups, the same graph
        expected, slopes = gradients(made, made, seed)
        found, theirs = gradients(whole, made, seed)
        assert torch.equal(found, expected)
        assert len(theirs) == 4
        assert all(torch.allclose(a, b, atol=1e-13) for a, b in zip(theirs, slopes, strict=True))
    assert made.layer.certificate is not None
    assert made.layer.certificate.status is fo.Status.CERTIFIED


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_model_answers_other_groups(strict: bool) -> None:
    made = model().eval()
    x, groups = batch(1)
    exported = torch.export.export(made, (x,), {"sensitive_features": groups}, strict=strict).module()
    x, groups = batch(3)
    assert torch.equal(exported(x, sensitive_features=groups), made(x, sensitive_features=groups))


def test_a_compiled_batch_in_a_graph() -> None:
    _, groups = batch(1)
    prepared = fo.compile(NOTION, sensitive_features=groups)
    z = torch.randn(N, dtype=torch.float64, requires_grad=True)
    y = torch.compile(lambda z: prepared.project(2 * z), fullgraph=True, backend="aot_eager")(z)
    assert torch.equal(y, prepared.project(2 * z))
    (found,) = torch.autograd.grad(y.pow(3).sum(), z)
    (expected,) = torch.autograd.grad(prepared.project(2 * z).pow(3).sum(), z)
    assert torch.allclose(found, expected, atol=1e-13)


def test_the_operator_passes_pytorchs_own_checks() -> None:
    _, groups = batch(1)
    prepared = fo.compile(NOTION, sensitive_features=groups)
    token = operator.token_of(prepared)
    z = torch.randn(N, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(operator.project, (z, [], "", token))


def test_words_for_groups_that_are_no_tensors() -> None:
    made = model()
    x, _ = batch(1)
    with pytest.raises(Exception, match="expected a tensor of n values"):
        torch.export.export(made, (x,), {"sensitive_features": {"g": [0, 1] * 12, "h": [0, 1] * 12}}, strict=False)


def test_a_graph_without_its_process_is_an_error_of_ours() -> None:
    with pytest.raises(fo.UnsupportedError, match="another process"):
        operator.project(torch.zeros(3), [], "", "projection of nobody")


def test_copies_have_tokens_of_their_own() -> None:
    made = model().layer
    prepared = fo.compile(NOTION, sensitive_features=batch(1)[1])
    things: list[Any] = [made, prepared]
    for thing in things:
        for other in (copy.deepcopy(thing), pickle.loads(pickle.dumps(thing))):
            assert other._token != thing._token
            assert operator._owners[other._token] is other
