"""A given network trained in four ways, and its scores served: fairopt.experiments.studies.four_ways, serving, wide_deep."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import fairopt as fo
from fairopt.basics.errors import InputError
from fairopt.experiments.data.tabular import Part
from fairopt.experiments.methods.base import Goal, Recipe
from fairopt.experiments.methods.wide_deep import LeastSquares, WideDeep, wide_inputs
from fairopt.experiments.studies import four_ways
from fairopt.experiments.studies.four_ways import exact_batches, predict, squashed, train
from fairopt.experiments.studies.serving import Served, serve, stream

RECIPE = Recipe(hidden=(8,), dropout=0.0, epochs=30, batch_size=64, learning_rate=2e-2, weight_decay=0.0)


def _goal(tolerance: float = 0.05, bounds: tuple[float, float] | None = (-3.0, 3.0)) -> Goal:
    return Goal(lambda t: fo.DemographicParity("a", tolerance=t), tolerance, bounds)


def _part(rows: int, seed: int, share: float = 0.4) -> Part:
    """A group that shifts the target by 2, and five features; the first input is the group."""
    generator = torch.Generator().manual_seed(seed)
    a = (torch.rand(rows, generator=generator) < share).float()
    a[:2] = torch.tensor([0.0, 1.0])
    x = torch.randn(rows, 5, generator=generator)
    y = 2 * a - 1 + x[:, 0] + 0.5 * x[:, 1] ** 2 + 0.1 * torch.randn(rows, generator=generator)
    return Part(torch.cat([a[:, None], x], dim=1), y, {"a": a.int().numpy().astype(str)})


def _linear(seed: int = 0) -> nn.Module:
    class Flat(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, 0]

    torch.manual_seed(seed)
    return Flat(6, 1)


def _gap(scores: Tensor, part: Part) -> float:
    one = torch.from_numpy(part.sensitive["a"] == "1")
    return abs(float(scores[one].mean() - scores[~one].mean()))


@pytest.fixture(scope="module")
def parts() -> tuple[Part, Part]:
    return _part(400, 0), _part(300, 1)


# -- training -------------------------------------------------------------------------------------------------------------------------


def test_plain_training_finds_the_least_squares(parts: tuple[Part, Part]) -> None:
    training, validation = parts
    network = _linear()
    recipe = Recipe(epochs=80, batch_size=64, learning_rate=5e-2, weight_decay=0.0)
    trained = train(network, training, validation, _goal(), recipe, 0)
    table = np.column_stack([np.ones(len(training)), training.x.numpy()])
    weights, *_ = np.linalg.lstsq(table, training.y.numpy(), rcond=None)
    best = np.mean((np.column_stack([np.ones(len(validation)), validation.x.numpy()]) @ weights - validation.y.numpy()) ** 2)
    said = predict(network, validation, _goal())
    assert said.dtype == torch.float64
    assert float(((said - validation.y) ** 2).mean()) == pytest.approx(trained.figure, rel=1e-5)
    assert trained.figure < 1.05 * best
    assert 1 <= trained.best_epoch <= 80


def test_a_penalty_closes_the_gap_and_the_layer_keeps_it_exactly(parts: tuple[Part, Part]) -> None:
    training, validation = parts
    goal = _goal()
    plain, penalised, inside = _linear(), _linear(), _linear()
    layer = fo.FairnessLayer(goal.notion, bounds=goal.bounds)
    train(plain, training, validation, goal, RECIPE, 0)
    train(penalised, training, validation, goal, RECIPE, 0, penalty=20.0)
    figure = train(inside, training, validation, goal, RECIPE, 0, layer=layer).figure
    assert _gap(predict(plain, validation, goal), validation) > 1.0
    assert _gap(squashed(predict(penalised, validation, goal), goal), validation) < 0.3
    fair = layer(predict(inside, validation, goal), sensitive_features=validation.sensitive)
    assert _gap(fair, validation) <= goal.tolerance + 1e-12
    assert not layer.training
    assert float(((fair - validation.y) ** 2).mean()) == pytest.approx(figure, rel=1e-4)  # the figure is that of the layer's answer


def test_the_same_seed_gives_the_same_network_and_targets_are_seen_in_the_loss_alone(parts: tuple[Part, Part]) -> None:
    training, validation = parts
    outcomes = []
    for _ in range(2):
        network = _linear()
        train(network, training, validation, _goal(), RECIPE, 3, penalty=1.0)
        outcomes.append(predict(network, validation, _goal()))
    assert torch.equal(*outcomes)
    others = Part(validation.x, torch.randn(len(validation)), validation.sensitive)
    assert torch.equal(predict(network, others, _goal()), outcomes[1])


def test_the_rows_may_be_read_when_they_are_taken(parts: tuple[Part, Part], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the validation rows' x is asked for at once, so that images can stay on disk."""
    training, validation = parts
    monkeypatch.setattr(four_ways, "BLOCK", 50)

    class Lazy:
        def __init__(self, part: Part) -> None:
            self.part, self.y, self.sensitive, self.most = part, part.y, part.sensitive, 0

        def __len__(self) -> int:
            return len(self.part)

        def take(self, rows: Tensor) -> Part:
            self.most = max(self.most, len(rows))
            return self.part.take(rows)

    outcomes, lazy = [], Lazy(validation)
    for rows in (validation, lazy):
        network = _linear()
        train(network, training, rows, _goal(), RECIPE, 0)
        outcomes.append(predict(network, rows, _goal()))
    torch.testing.assert_close(*outcomes)
    assert lazy.most == 50


def test_predictions_are_those_of_eval_mode(parts: tuple[Part, Part]) -> None:
    _, validation = parts
    network = nn.Sequential(nn.Dropout(0.5), _linear())
    network.train()
    assert torch.equal(predict(network, validation, _goal()), predict(network[1], validation, _goal()))


def test_bad_ways_are_refused(parts: tuple[Part, Part]) -> None:
    training, validation = parts
    with pytest.raises(InputError, match="penalty, layer: got both"):
        train(_linear(), training, validation, _goal(), RECIPE, 0, penalty=1.0, layer=fo.FairnessLayer(_goal().notion))
    with pytest.raises(InputError, match="epochs: got 0"):
        train(_linear(), training, validation, _goal(), Recipe(epochs=0), 0)


@given(low=st.floats(-5, 0), width=st.floats(0.5, 8), where=st.floats(-20, 20))
def test_squashing_stays_in_the_box_with_slope_one_in_the_middle(low: float, width: float, where: float) -> None:
    goal = _goal(bounds=(low, low + width))
    assert low <= float(squashed(torch.tensor(where, dtype=torch.float64), goal)) <= low + width
    middle = torch.tensor(low + width / 2, dtype=torch.float64, requires_grad=True)
    said = squashed(middle, goal)
    (slope,) = torch.autograd.grad(said, middle)
    torch.testing.assert_close(said, middle)
    assert float(slope) == pytest.approx(1.0)


# -- the network ------------------------------------------------------------------------------------------------------------------------


def test_least_squares_are_least() -> None:
    part = _part(200, 5)
    model = LeastSquares(part.x, part.y)
    table = np.column_stack([np.ones(200), wide_inputs(part.x).numpy()]).astype(np.float64)
    weights, *_ = np.linalg.lstsq(table, part.y.double().numpy(), rcond=None)
    np.testing.assert_allclose(model(part.x).numpy(), table @ weights, atol=1e-5)
    with pytest.raises(InputError, match="x: got 11 rows, expected at least 12"):
        LeastSquares(part.x[:11], part.y[:11])


def test_the_network_starts_at_least_squares_and_learns_what_is_quadratic() -> None:
    training, validation = _part(1500, 0), _part(500, 1)
    model = LeastSquares(training.x, training.y)
    network = WideDeep(model.weights, 16, seed=0)
    torch.testing.assert_close(network(validation.x), model(validation.x), atol=1e-5, rtol=0)
    before = float(((model(validation.x) - validation.y) ** 2).mean())
    trained = train(network, training, validation, _goal(), RECIPE, 0, parameters=lambda _: network.groups(1e-3))
    assert before > 0.3
    assert trained.figure < 0.02  # the noise is 0.01
    assert [group["weight_decay"] for group in network.groups(0.5)] == [0.0, 0.5]


def test_the_network_is_quadratic_along_every_line() -> None:
    network = WideDeep(torch.zeros(12), 8, seed=0).double()
    nn.init.normal_(network.out.weight)
    start, way = torch.randn(2, 6, dtype=torch.float64)
    way[0] = 0.0  # within a group
    values = network(torch.stack([start + k * way for k in range(5)])).detach()
    torch.testing.assert_close(values.diff(n=3), torch.zeros(2, dtype=torch.float64), atol=1e-9, rtol=0)
    assert float(values.diff(n=2).abs().min()) > 1e-3


def test_first_weights_depend_on_the_seed_alone() -> None:
    start = torch.zeros(12)
    state = torch.get_rng_state()
    first, again, other = WideDeep(start, 4, 0), WideDeep(start, 4, 0), WideDeep(start, 4, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.hidden.weight, again.hidden.weight)
    assert not torch.equal(first.hidden.weight, other.hidden.weight)


# -- serving ----------------------------------------------------------------------------------------------------------------------------


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=4), data=st.data())
def test_exact_batches_have_the_same_groups_and_no_row_twice(counts: list[int], data: st.DataObject) -> None:
    group = np.repeat([f"g{k}" for k in range(len(counts))], counts)
    size = data.draw(st.integers(len(counts), len(group)))
    batches, left_out = exact_batches(group, size, seed=1)
    rows = np.concatenate(batches) if batches else np.zeros(0, dtype=np.int64)
    assert len(set(rows.tolist())) == len(rows) == len(group) - left_out
    assert all(len(batch) == size for batch in batches)
    compositions = {tuple(np.unique(group[batch], return_counts=True)[1].tolist()) for batch in batches}
    assert len(compositions) <= 1


@pytest.mark.parametrize(
    "counts, size, expected", [([20, 20, 20, 20], 6, [1, 1, 2, 2]), ([97, 1, 1, 1], 10, [7, 1, 1, 1]), ([75, 25], 10, [8, 2])]
)
def test_a_batch_is_shared_out_in_proportion(counts: list[int], size: int, expected: list[int]) -> None:
    batches, _ = exact_batches(np.repeat([f"g{k}" for k in range(len(counts))], counts), size, 0)
    found = [int((np.repeat(range(len(counts)), counts)[batches[0]] == k).sum()) for k in range(len(counts))]
    assert sorted(found) == sorted(expected)
    assert found[0] == max(found) or len(set(counts)) == 1


def test_exact_batches_of_two_groups_follow_the_shares() -> None:
    group = np.array(["0"] * 800 + ["1"] * 200)
    batches, left_out = exact_batches(group, 100, 0)
    assert (len(batches), left_out) == (10, 0)
    assert {int((group[batch] == "1").sum()) for batch in batches} == {20}
    with pytest.raises(InputError, match="size: got 1, expected from 2"):
        exact_batches(group, 1, 0)


@pytest.mark.parametrize("size", [None, 40])
def test_projected_batches_keep_the_tolerance_and_the_box(size: int | None) -> None:
    part, goal = _part(240, 2), _goal(bounds=(0.0, 2.0))
    scores = part.y.double() + 0.3
    served = serve(scores, part, "a", goal, size, project=True)
    assert served.certified == served.batches >= 1
    assert served.batch_gap is not None
    assert served.batch_gap <= 0.05 + 1e-12
    assert served.gap <= 0.05 + 1e-9  # all batches have the same counts
    assert Served(**served.record()) == served  # type: ignore[arg-type]
    shuffled = Part(part.x, part.y.flip(0), part.sensitive)
    other = serve(scores, shuffled, "a", goal, size, project=True)
    assert (other.gap, other.batch_gap) == (served.gap, served.batch_gap)  # what is sent does not depend on the targets
    assert other.error != served.error


def test_scores_that_are_not_projected_are_clamped() -> None:
    part, goal = _part(240, 2), _goal(bounds=(0.0, 2.0))
    scores = part.y.double()
    served = serve(scores, part, "a", goal, None, project=False)
    inside = scores.clamp(0.0, 2.0)
    assert served.gap == pytest.approx(_gap(inside, part))
    assert served.error == pytest.approx(float(((inside - part.y) ** 2).mean()))
    assert (served.batch_gap, served.certified, served.left_out) == (None, None, 0)


@pytest.mark.parametrize("bounds", [(-3.0, 3.0), (0.0, 3.0)])
def test_a_stream_ends_within_the_tolerance_at_little_cost(bounds: tuple[float, float]) -> None:
    part, calibration, goal = _part(4000, 3), _part(3000, 4), _goal(bounds=bounds)
    scores, known = part.y.double(), calibration.y.double()
    sent = stream(scores, part, known, calibration.sensitive["a"], "a", goal, 16)
    offline = serve(scores, part, "a", goal, None, project=True)
    assert sent.gap <= goal.tolerance
    assert sent.batches == 250
    assert sent.error < offline.error + 0.05
    far = 0.1 * torch.from_numpy(calibration.sensitive["a"] == "1")  # shifts that are off by this: the controller has to mend it
    off = stream(scores, part, known + far, calibration.sensitive["a"], "a", goal, 16)
    near = stream(scores, part, known - far, calibration.sensitive["a"], "a", goal, 16)
    assert max(off.gap, near.gap) <= goal.tolerance
    assert near.gap > 0.9 * goal.tolerance  # and no further than that
    with pytest.raises(InputError, match="bounds: got None"):
        stream(scores, part, known, calibration.sensitive["a"], "a", _goal(bounds=None), 16)
