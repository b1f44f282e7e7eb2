"""Forward mode and torch.func: refused with a word, never answered with zeros or with a foreign error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, functional

import fairopt as fo

Z = torch.tensor([0.1, 0.9, 0.3, 0.7, 0.2, 0.6], dtype=torch.float64)
GROUPS = {"g": list("ababab"), "h": list("xxyyxy")}
ONE = fo.DemographicParity("g", tolerance=0.05)  # the short road
TWO = ONE & fo.DemographicParity("h", tolerance=0.05)


def through(notion: fo.Notion) -> Callable[[Tensor], Tensor]:
    return lambda z: fo.project(z, notion, sensitive_features=GROUPS)


def layer(notion: fo.Notion, space: Any = "value") -> Callable[[Tensor], Tensor]:
    made = fo.FairnessLayer(notion, space=space)
    return lambda z: made(z, sensitive_features=GROUPS)


def dual(f: Callable[[Tensor], Tensor]) -> Any:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(Z, torch.ones_like(Z)))).tangent


ROADS = {"short": through(ONE), "general": through(TWO), "layer": layer(TWO), "probability": layer(ONE, "probability")}
REFUSED: dict[str, Callable[[Callable[[Tensor], Tensor]], Any]] = {
    "forward-mode jacobian": lambda f: functional.jacobian(f, Z, strategy="forward-mode", vectorize=True),
    "vectorised jacobian": lambda f: functional.jacobian(f, Z, vectorize=True),
    "dual number": dual,
    "jvp": lambda f: torch.func.jvp(f, (Z,), (torch.ones_like(Z),)),
    "jacfwd": lambda f: torch.func.jacfwd(f)(Z),
    "grad": lambda f: torch.func.grad(lambda z: f(z).square().sum())(Z),
    "jacrev": lambda f: torch.func.jacrev(f)(Z),
    "vjp": lambda f: torch.func.vjp(f, Z),
    "vmap": lambda f: torch.func.vmap(f)(torch.stack([Z, Z])),
}


@pytest.mark.parametrize("road", ROADS.values(), ids=ROADS)
@pytest.mark.parametrize("transform", REFUSED.values(), ids=REFUSED)
def test_what_is_not_supported_is_refused(road: Callable[[Tensor], Tensor], transform: Any) -> None:
    with pytest.raises(fo.UnsupportedError, match="use reverse mode"):
        transform(road)


@pytest.mark.parametrize("road", ROADS.values(), ids=ROADS)
def test_reverse_mode_is_right(road: Callable[[Tensor], Tensor]) -> None:
    jacobian = functional.jacobian(road, Z)
    step = 1e-6
    columns = [(road(Z + step * e) - road(Z - step * e)) / (2 * step) for e in torch.eye(6, dtype=torch.float64)]
    assert torch.allclose(jacobian, torch.stack(columns, 1), atol=1e-7)


def test_a_dual_level_without_a_tangent_is_no_matter() -> None:
    with forward_ad.dual_level():
        assert torch.equal(ROADS["general"](Z), through(TWO)(Z))
