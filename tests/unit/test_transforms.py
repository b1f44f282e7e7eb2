"""Forward mode and torch.func against finite differences on every road; what cannot be had is refused with a word, never with zeros."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, functional
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import fairopt as fo
from fairopt.solve import road

Function = Callable[[Tensor], Tensor]
F64 = torch.float64
Z = torch.tensor([0.1, 0.9, 0.3, 0.7, 0.2, 0.6], dtype=F64)
BATCH = torch.stack([Z, 0.5 * Z, Z.flip(0)])
V = torch.arange(6.0, dtype=F64)
W = torch.tensor([1.0, 2.0, 3.0, 0.5, 1.0, 4.0], dtype=F64)
GROUPS = {"g": list("ababab"), "h": list("xxyyxy")}
ONE = fo.DemographicParity("g", tolerance=0.05)  # the short road
TWO = ONE & fo.DemographicParity("h", tolerance=0.05)


def through(notion: fo.Notion, **facts: Any) -> Function:
    return lambda z: fo.project(z, notion, sensitive_features=GROUPS, **facts)


def layer(notion: fo.Notion, space: Any = "value") -> Function:
    made = fo.FairnessLayer(notion, space=space)
    return lambda z: made(z, sensitive_features=GROUPS)


ROADS = {
    "short": through(ONE),
    "general": through(TWO),
    "weights and a box": through(TWO, weights=W, bounds=(0.15, 0.8)),
    "equal means": through(fo.DemographicParity("g", tolerance=0.0), bounds=(0.15, 0.8)),
    "soft": through(TWO.penalised(4.0)),
    "layer": layer(TWO),
    "probability": layer(ONE, "probability"),
}


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def _road(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both roads, where there are two."""
    if request.param == "torch":
        with road.closed():
            yield
    else:
        yield


def differences(f: Function, z: Tensor = Z) -> Tensor:
    """The Jacobian (6, 6) by central differences."""
    step = 1e-6
    return torch.stack([(f(z + step * e) - f(z - step * e)) / (2 * step) for e in torch.eye(6, dtype=F64)], 1)


def of_batch(f: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([f(z) for z in BATCH])


def dual(f: Function) -> Tensor:
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(f(forward_ad.make_dual(Z, V))).tangent
    assert tangent is not None
    return tangent


def blocks(jacobian: Tensor) -> Tensor:
    """(3, 6, 6) of (3, 6, 3, 6): no problem of a batch moves another."""
    for k in range(3):
        others = [j for j in range(3) if j != k]
        assert not jacobian[k][:, others].any()
    return torch.stack([jacobian[k, :, k] for k in range(3)])


def loss(f: Function) -> Function:
    return lambda z: (f(z) * V).sum()


DERIVATIVES: dict[str, tuple[Callable[[Function], Tensor], Callable[[Function], Tensor]]] = {
    "jacrev": (lambda f: jacrev(f)(Z), differences),
    "jacfwd": (lambda f: jacfwd(f)(Z), differences),
    "jvp": (lambda f: jvp(f, (Z,), (V,))[1], lambda f: differences(f) @ V),
    "vjp": (lambda f: vjp(f, Z)[1](V)[0], lambda f: differences(f).T @ V),
    "grad": (lambda f: grad(loss(f))(Z), lambda f: differences(f).T @ V),
    "a dual number": (dual, lambda f: differences(f) @ V),
    "a column": (lambda f: jacrev(lambda z: f(z.unsqueeze(1)).squeeze(1))(Z), differences),
    "vmap": (lambda f: vmap(f)(BATCH), of_batch),
    "vmap over columns": (lambda f: vmap(f, in_dims=1, out_dims=1)(BATCH.T).T, of_batch),
    "vmap of grad": (lambda f: vmap(grad(loss(f)))(BATCH), lambda f: of_batch(lambda z: differences(f, z).T @ V)),
    "vmap of jacrev": (lambda f: vmap(jacrev(f))(BATCH), lambda f: of_batch(lambda z: differences(f, z))),
    "vmap of jacfwd": (lambda f: vmap(jacfwd(f))(BATCH), lambda f: of_batch(lambda z: differences(f, z))),
    "vmap twice, of grad": (
        lambda f: vmap(vmap(grad(loss(f))))(torch.stack([BATCH, BATCH]))[1],
        lambda f: of_batch(lambda z: differences(f, z).T @ V),
    ),
    "jacrev of vmap": (lambda f: blocks(jacrev(vmap(f))(BATCH)), lambda f: of_batch(lambda z: differences(f, z))),
    "jacfwd of vmap": (lambda f: blocks(jacfwd(vmap(f))(BATCH)), lambda f: of_batch(lambda z: differences(f, z))),
    "vectorised jacobian": (lambda f: functional.jacobian(f, Z, vectorize=True), differences),
    "vectorised forward jacobian": (lambda f: functional.jacobian(f, Z, strategy="forward-mode", vectorize=True), differences),
    "reverse mode": (lambda f: functional.jacobian(f, Z), differences),
}


@pytest.mark.parametrize("f", ROADS.values(), ids=ROADS)
@pytest.mark.parametrize("transform, expected", DERIVATIVES.values(), ids=DERIVATIVES)
def test_every_transform_is_right(f: Function, transform: Callable[[Function], Tensor], expected: Callable[[Function], Tensor]) -> None:
    assert torch.allclose(transform(f), expected(f), atol=1e-7)


@pytest.mark.parametrize("f", ROADS.values(), ids=ROADS)
def test_second_derivatives(f: Function) -> None:
    def cubes(z: Tensor) -> Tensor:
        return (f(z) ** 3).sum()

    expected = differences(grad(cubes))
    for found in (hessian(cubes)(Z), jacrev(grad(cubes))(Z), jacfwd(jacfwd(cubes))(Z), functional.hessian(cubes, Z)):
        assert torch.allclose(found, expected, atol=1e-6)


def test_a_mean_that_moves_no_one_has_no_zeros() -> None:
    # the forward mode of old answered zeros in silence
    assert jacfwd(ROADS["general"])(Z).abs().sum() > 1.0


def test_bad_scores_are_named_under_a_transform() -> None:
    for scores, word in ((Z[:4], "got shape"), (torch.full((6,), torch.nan, dtype=F64), "position 0"), (Z.reshape(3, 2), "shape")):
        with pytest.raises(fo.InputError, match=word):
            jacrev(ROADS["general"])(scores)


def test_what_cannot_be_had_is_refused() -> None:
    prepared = fo.compile(ONE, sensitive_features=GROUPS)
    with pytest.raises(fo.UnsupportedError, match="use reverse mode"):
        grad(lambda z: prepared.project(z, return_solution=True).scores.sum())(Z)
    learned = fo.compile(fo.DemographicParity("g", tolerance=torch.tensor(0.05, requires_grad=True)), sensitive_features=GROUPS)
    with pytest.raises(fo.UnsupportedError, match="tolerances"):
        grad(lambda z: learned.project(z).sum())(Z)


def test_only_scores_may_be_under_a_transform() -> None:
    made, groups = fo.FairnessLayer(ONE), torch.tensor([[0, 1] * 3, [1, 0] * 3])
    scores = torch.stack([Z, Z])
    for f in (
        lambda z, g: made(z, sensitive_features={"g": g}),
        lambda z, g: made(z, sensitive_features=g),
        lambda z, g: fo.project(z, ONE, sensitive_features={"g": g}),
        lambda z, g: made(Z, sensitive_features={"g": g}),
    ):
        with pytest.raises(fo.UnsupportedError, match="sensitive_features.*only scores"):
            vmap(f)(scores, groups)
    residual = fo.MeanResidual("g", tolerance=0.05)
    with pytest.raises(fo.UnsupportedError, match="targets.*only scores"):
        grad(lambda t: fo.project(Z, residual, sensitive_features=GROUPS, targets=t).sum())(V)


def test_a_dual_level_without_a_tangent_is_no_matter() -> None:
    with forward_ad.dual_level():
        assert torch.equal(ROADS["general"](Z), through(TWO)(Z))
