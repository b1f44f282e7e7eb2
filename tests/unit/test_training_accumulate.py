"""Micro-batches: the one-batch gradient, parity over the whole batch, the same dropout, batch-norm's statistics once."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import fairopt as fo
from fairopt.basics.errors import InputError
from fairopt.training import Accumulation


def _network(dtype: torch.dtype, *more: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), *more, nn.ReLU(), nn.Linear(16, 1)).to(dtype)


def _gradient(network: nn.Module) -> Tensor:
    grads = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    return torch.cat(grads)


def _batch(n: int, dtype: torch.dtype, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=draw, dtype=torch.float64).to(dtype)
    sex = torch.arange(n) % 2
    y = (torch.arange(n) // 2 % 2).to(dtype)
    return x, sex, y, torch.rand(n, generator=draw, dtype=torch.float64) + 0.5


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(8, 120),
    size=st.integers(1, 130),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    notion=st.sampled_from(
        [
            fo.DemographicParity("sex", tolerance=0.01),
            fo.EqualizedOdds("sex", tolerance=0.02),
            fo.DemographicParity("sex", tolerance=0.01).penalised(3.0),
        ]
    ),
    weighted=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_gradient_is_the_one_batch_gradient(n: int, size: int, dtype: torch.dtype, notion: Any, weighted: bool, seed: int) -> None:
    network = _network(dtype)
    x, sex, y, weights = _batch(n, dtype, seed)
    gradients, scores = [], []
    for wrapped in (network, Accumulation(network, size)):
        layer = fo.FairnessLayer(notion, bounds=(1e-3, 1 - 1e-3), space="probability")
        z = wrapped(x)
        fair = layer(z, sensitive_features={"sex": sex}, targets=y, weights=weights if weighted else None)
        (F.binary_cross_entropy(fair[:, 0], y) + ((fair - torch.sigmoid(z)) ** 2).mean()).backward()
        gradients.append(_gradient(network))
        scores.append(fair)
    assert (gradients[0] - gradients[1]).norm() <= 1e-6 * gradients[0].norm()
    assert torch.allclose(scores[0], scores[1], rtol=0, atol=1e-6)


def test_parity_holds_over_the_whole_batch_and_not_in_each_micro_batch() -> None:
    """Groups come one after the other: a micro-batch has one group alone, and nothing could be asked of it."""
    network = _network(torch.float64)
    x, _, _, _ = _batch(80, torch.float64, 1)
    x[40:] += 1
    sex = torch.arange(80) // 40
    notion = fo.DemographicParity("sex", tolerance=0.01)
    model = fo.FairModel(Accumulation(network, 10), fo.FairnessLayer(notion, bounds=(0, 1), space="probability"))
    fair = model(x, sensitive_features={"sex": sex})
    assert fo.gaps(network(x).detach(), notion, sensitive_features={"sex": sex})["gap"][0] > 0.02
    assert fo.gaps(fair.detach(), notion, sensitive_features={"sex": sex})["gap"][0] <= 0.01
    fair.square().sum().backward()
    assert _gradient(network).abs().sum() > 0


def test_dropout_draws_the_same_mask_in_both_passes() -> None:
    network = _network(torch.float64, nn.Dropout(0.5))
    x, sex, _, _ = _batch(60, torch.float64, 2)
    notion = fo.DemographicParity("sex", tolerance=0.001)
    gradients = []
    for accumulated in (True, False):
        layer = fo.FairnessLayer(notion)
        torch.manual_seed(9)
        z = Accumulation(network, 25)(x) if accumulated else torch.cat([network(part) for part in x.split(25)])
        layer(z, sensitive_features={"sex": sex}).square().sum().backward()
        gradients.append(_gradient(network))
        after = torch.rand(1)  # backward leaves the random state where forward did
        gradients.append(after)
    assert torch.allclose(gradients[0], gradients[2], rtol=1e-12, atol=0)
    assert torch.equal(gradients[1], gradients[3])


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_updates_its_statistics_once(momentum: float | None) -> None:
    x, _, _, _ = _batch(50, torch.float64, 3)
    states = []
    for accumulated in (True, False):
        network = _network(torch.float64, nn.BatchNorm1d(16, momentum=momentum))
        z = Accumulation(network, 20)(x) if accumulated else torch.cat([network(part) for part in x.split(20)])
        z.square().sum().backward()
        states.append({**{name: buffer.clone() for name, buffer in network.named_buffers()}, "gradient": _gradient(network)})
    assert states[0].keys() == states[1].keys() >= {"1.running_mean", "1.num_batches_tracked"}
    assert int(states[0]["1.num_batches_tracked"]) == 3
    for name, value in states[0].items():
        assert torch.allclose(value, states[1][name], rtol=1e-12, atol=1e-14), name


class _Exp(torch.autograd.Function):
    """exp, which keeps its result for backward, in memory whose life can be watched."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: list[weakref.ref[np.ndarray]]) -> Tensor:
        memory = np.exp(x.numpy())
        kept.append(weakref.ref(memory))
        result = torch.from_numpy(memory)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        return gradient * result, None


class _Counting(nn.Module):
    """A network whose output hangs on a buffer that every call moves, as spectral norm's does; it also counts its activations alive."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 1, dtype=torch.float64)
        self.register_buffer("calls", torch.ones((), dtype=torch.float64))
        self.kept: list[weakref.ref[np.ndarray]] = []
        self.most = self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen = max(self.seen, len(x))
        self.calls.add_(1)
        hidden = _Exp.apply(self.linear(x), self.kept) * self.calls.clone()
        self.most = max(self.most, sum(ref() is not None for ref in self.kept))
        return hidden


def test_the_second_pass_sees_the_buffers_of_the_first() -> None:
    x, _, _, _ = _batch(30, torch.float64, 4)
    gradients = []
    for accumulated in (True, False):
        torch.manual_seed(0)
        network = _Counting()
        z = Accumulation(network, 10)(x) if accumulated else torch.cat([network(part) for part in x.split(10)])
        assert int(network.calls) == 4
        z.sum().backward()
        assert int(network.calls) == 4
        gradients.append(_gradient(network))
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-12, atol=0)


def test_the_activations_of_one_micro_batch_at_a_time_are_kept() -> None:
    x, _, _, _ = _batch(100, torch.float64, 5)
    plain, light = _Counting(), _Counting()
    kept = [plain(part) for part in x.split(10)]
    assert plain.most == 10
    z = Accumulation(light, 10)(x)
    assert light.most <= 2
    z.sum().backward()
    assert light.most <= 2
    assert light.seen == 10
    assert len(kept) == 10


def test_without_gradients_the_network_runs_once() -> None:
    network = _Counting()
    with torch.no_grad():
        Accumulation(network, 7)(torch.zeros(20, 6, dtype=torch.float64))
    assert int(network.calls) == 1 + 3


def test_inputs_of_several_tensors() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 1)

        def forward(self, x: Any) -> Tensor:
            (a, b), c = x["pair"], x["more"]
            return self.linear(torch.stack([a + c, b], 1))[:, 0]

    network, draw = Two(), torch.randn(3, 11)
    x = {"pair": (draw[0], draw[1]), "more": draw[2]}
    assert torch.allclose(Accumulation(network, 4, device="cpu")(x), network(x))


@pytest.mark.parametrize(
    ("x", "said"),
    [(torch.zeros(0, 6), "rows"), ((torch.zeros(2, 6), torch.zeros(3, 6)), "rows"), ("text", "x: got str"), (torch.tensor(1.0), "rows")],
)
def test_bad_inputs(x: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Accumulation(nn.Linear(6, 1), 2)(x)


@pytest.mark.parametrize(("network", "size"), [(nn.Linear(1, 1), 0), (nn.Linear(1, 1), 1.5), (lambda x: x, 2)])
def test_bad_arguments(network: Any, size: Any) -> None:
    with pytest.raises(InputError, match="network: got|micro_batch_size: got"):
        Accumulation(network, size)
