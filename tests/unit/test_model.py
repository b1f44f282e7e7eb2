"""``FairModel``: a network with its fairness layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fairopt as fo

FEATURES = {"g": [0, 1] * 8}
NOTION = fo.DemographicParity("g", tolerance=0.02)


def model(notion: fo.Notion = NOTION, **options: Any) -> fo.FairModel:
    torch.manual_seed(1)
    return fo.FairModel(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), fo.FairnessLayer(notion, **options))


def rows() -> Tensor:
    """(16, 3): features that tell the groups apart."""
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(2))
    return x + 2.0 * torch.tensor(FEATURES["g"]).reshape(-1, 1)


def test_a_model_is_its_layer_after_its_network() -> None:
    fair = model(bounds=(-1, 1))
    x = rows()
    y = fair(x, sensitive_features=FEATURES)
    assert y.shape == (16, 1)
    assert torch.equal(y, fair.layer(fair.network(x), sensitive_features=FEATURES))
    assert abs(float((y[::2].double().mean() - y[1::2].double().mean()).detach())) <= 0.02 + 1e-12


def test_gradients_reach_the_network_and_training_lowers_the_loss() -> None:
    fair = model(fo.DemographicParity("g", tolerance=nn.Parameter(torch.tensor(0.05))))
    x = rows()
    target = x[:, :1].sin()
    assert {n.partition(".")[0] for n, _ in fair.named_parameters()} == {"network", "layer"}
    optimiser = torch.optim.Adam(fair.network.parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        loss = ((fair(x, sensitive_features=FEATURES) - target) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in fair.parameters())


@pytest.mark.parametrize("space", ["value", "logit", "probability"])
def test_the_distance_is_the_mean_squared_move(space: Any) -> None:
    fair = model(space=space, bounds=(-0.5, 0.5) if space != "probability" else None)
    x = rows()
    y, distance = fair.with_distance(x, sensitive_features=FEATURES)
    z = fair.network(x)
    raw = torch.sigmoid(z) if space == "probability" else z
    assert torch.equal(y, fair(x, sensitive_features=FEATURES))
    assert torch.allclose(distance, ((y - raw) ** 2).mean())
    assert distance.shape == ()
    assert float(distance) > 0


def test_the_distance_reaches_samples_that_are_clamped() -> None:
    """At a clamped sample the loss on y is flat: only this term moves its score."""
    scores = nn.Parameter(torch.tensor([3.0, -4.0, 0.2, 0.4], dtype=torch.float64))

    class Free(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores = scores

        def forward(self, x: Tensor) -> Tensor:
            return self.scores

    fair = fo.FairModel(Free(), fo.FairnessLayer(fo.DemographicParity("g", tolerance=5.0), bounds=(0, 1)))
    features = {"g": [0, 1, 0, 1]}
    y, distance = fair.with_distance(torch.zeros(4), sensitive_features=features)
    assert y.tolist() == pytest.approx([1, 0, 0.2, 0.4])
    (flat,) = torch.autograd.grad((y[:2] * 7).sum(), scores, retain_graph=True)
    assert flat[:2].tolist() == [0, 0]
    (moved,) = torch.autograd.grad(distance, scores)
    assert moved.tolist() == pytest.approx([2 * 2.0 / 4, 2 * -4.0 / 4, 0, 0])


def test_targets_reach_the_layer() -> None:
    fair = model(fo.EqualOpportunity("g", tolerance=0.05))
    with pytest.raises(fo.InputError, match=r"targets: got None.*layer\.freeze"):
        fair(rows(), sensitive_features=FEATURES)
    for call in (fair, fair.with_distance):
        call(rows(), sensitive_features=FEATURES, targets=[1, 1, 0, 0] * 4)
        assert fair.layer.certificate is not None
        assert fair.layer.certificate.used_targets


def test_eval_mode_reaches_the_layer() -> None:
    fair = model()
    fair(rows(), sensitive_features=FEATURES)
    fair.eval()
    with pytest.raises(fo.InputError, match="unknown value 7"):
        fair(rows(), sensitive_features={"g": [0, 7] * 8})


def test_the_state_of_a_model_carries_the_groups() -> None:
    fair, other = model(), model()
    assert all(isinstance(v, torch.Tensor) for v in fair.state_dict().values())
    fair(rows(), sensitive_features=FEATURES)
    other.load_state_dict(fair.state_dict(), strict=True)
    assert other.layer.groups == {"g": [0, 1]}
    other.eval()
    assert torch.equal(other(rows(), sensitive_features=FEATURES), fair(rows(), sensitive_features=FEATURES))


def test_wrong_parts_are_named() -> None:
    layer = fo.FairnessLayer(NOTION)
    with pytest.raises(fo.InputError, match=r"network: got function, expected a torch\.nn\.Module"):
        fo.FairModel(lambda x: x, layer)  # type: ignore[arg-type]
    with pytest.raises(fo.InputError, match="layer: got DemographicParity, expected a FairnessLayer"):
        fo.FairModel(nn.Linear(1, 1), NOTION)  # type: ignore[arg-type]
    with pytest.raises(fo.InputError, match=r"scores: got shape \(16, 2\), expected \(16,\) or \(16, 1\)"):
        fo.FairModel(nn.Linear(3, 2), layer)(rows(), sensitive_features=FEATURES)
