"""The layer: what goes in and comes out, what it learns of groups, what its parameters are and how they move."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import fairopt as fo
from fairopt.compiler import compile_problem

F64 = torch.float64


def batch(n: int, seed: int = 0, groups: int = 2) -> tuple[Tensor, dict[str, list[str]], Tensor]:
    """Scores (n,) float64 whose groups differ, sensitive features, targets (n,) in {0, 1}; every group has both targets."""
    rng = np.random.default_rng(seed)
    code = np.arange(n) % groups
    scores = 0.5 + 0.2 * rng.standard_normal(n) + 0.15 * code
    return torch.from_numpy(scores), {"g": [f"g{c}" for c in code]}, torch.from_numpy((np.arange(n) // groups) % 2).to(F64)


def parity(tolerance: Any = 0.05) -> fo.Notion:
    return fo.DemographicParity("g", tolerance=tolerance)


def gap(y: Tensor, features: dict[str, list[str]], column: str = "g") -> float:
    """max - min of the group means, exact sums."""
    by: dict[str, list[float]] = {}
    for v, g in zip(y.detach().reshape(-1).double().tolist(), features[column], strict=True):
        by.setdefault(g, []).append(v)
    means = [math.fsum(vs) / len(vs) for vs in by.values()]
    return max(means) - min(means)


def grad(t: Any) -> Tensor:
    """The gradient that backward has left."""
    assert t.grad is not None
    return t.grad


def certificate(layer: fo.FairnessLayer) -> fo.Certificate:
    """Of this thread's last call."""
    assert layer.certificate is not None
    return layer.certificate


# shapes, dtypes, memory --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("column", [False, True])
def test_shape_and_dtype_come_back_and_the_rows_hold(dtype: torch.dtype, bounds: Any, column: bool) -> None:
    z, features, _ = batch(40)
    scores = z.to(dtype).reshape(-1, 1) if column else z.to(dtype)
    scores.requires_grad_()
    before = scores.detach().clone()
    layer = fo.FairnessLayer(parity(), bounds=bounds)
    y = layer(scores, sensitive_features=features)
    assert (y.shape, y.dtype, y.device) == (scores.shape, dtype, scores.device)
    assert torch.equal(scores.detach(), before)
    assert gap(scores, features) > 0.1
    assert certificate(layer).dtype == str(dtype).removeprefix("torch.")
    if certificate(layer).status is fo.Status.CERTIFIED:
        assert gap(y, features) <= 0.05
    else:  # 8 bits of mantissa need not hold such means
        assert dtype in (torch.bfloat16, torch.float16)
        assert gap(y, features) <= 0.05 + certificate(layer).max_violation + 1e-12
    y.sum().backward()
    assert grad(scores).dtype == dtype
    assert torch.isfinite(grad(scores)).all()


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(2, 4), st.sampled_from(["stride", "reversed", "column", "expanded"]))
def test_the_layout_in_memory_does_not_matter(seed: int, n: int, groups: int, layout: str) -> None:
    n = max(n, groups)
    z, features, _ = batch(n, seed, groups)
    if layout == "expanded":
        z = torch.full((1,), 0.3, dtype=F64).expand(n)
    spread = {
        "stride": lambda: torch.stack([z, -z], 1)[:, 0],
        "reversed": lambda: z.flip(0).flip(0),
        "column": lambda: torch.stack([z, -z], 1)[:, :1],
        "expanded": lambda: z,
    }[layout]()
    layer = fo.FairnessLayer(parity(), bounds=(0, 1))
    plain = layer(z.contiguous(), sensitive_features=features)
    assert torch.equal(layer(spread, sensitive_features=features).reshape(-1), plain)


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, (0, 1), (0.45, 0.55)]), st.booleans())
def test_nothing_that_comes_in_is_modified(seed: int, bounds: Any, targets_too: bool) -> None:
    z, features, t = batch(24, seed, 3)
    codes = torch.tensor([int(v[1:]) for v in features["g"]])
    weights = torch.linspace(0.5, 2, 24, dtype=F64)
    lower = torch.full((24,), -1.0)
    notion = fo.EqualOpportunity("g", tolerance=0.05) if targets_too else parity()
    given_tensors = [z, codes, t, weights, lower]
    before = [x.clone() for x in given_tensors]
    layer = fo.FairnessLayer(notion, bounds=bounds or (lower, 2.0))
    z.requires_grad_()
    y = layer(z, sensitive_features={"g": codes}, targets=t, weights=weights)
    kept = y.detach().clone()
    (y**2).sum().backward()
    assert torch.equal(y.detach(), kept)
    assert all(torch.equal(a.detach(), b) for a, b in zip(given_tensors, before, strict=True))
    assert y.data_ptr() != z.data_ptr()


def test_a_feasible_batch_comes_back_as_its_own_bits_in_memory_of_its_own() -> None:
    z, features, _ = batch(10)
    layer = fo.FairnessLayer(parity(10.0))
    y = layer(z, sensitive_features=features)
    assert torch.equal(y, z)
    y.add_(1.0)
    assert not torch.equal(y, z)


def test_without_grad_no_graph_is_made() -> None:
    z, features, _ = batch(12)
    z.requires_grad_()
    layer = fo.FairnessLayer(parity(nn.Parameter(torch.tensor(0.05, dtype=F64))), bounds=(0, 1))
    with torch.no_grad():
        assert not layer(z, sensitive_features=features).requires_grad
    with torch.inference_mode():
        y = layer(z, sensitive_features=features)
        distance = float((y - z).norm())
        y.add_(1.0)
        assert certificate(layer).distance == pytest.approx(distance)
    assert y.is_inference()
    assert layer(z, sensitive_features=features).requires_grad
    assert fo.FairnessLayer(parity())(z.detach(), sensitive_features=features).requires_grad is False


def test_the_graph_is_freed_with_the_scores() -> None:
    """The layer keeps a certificate, not the graph."""
    import gc
    import weakref

    z, features, _ = batch(12)
    z.requires_grad_()
    layer = fo.FairnessLayer(parity(), bounds=(0, 1))
    y = layer(z, sensitive_features=features)
    node = weakref.ref(y.grad_fn)
    gc.disable()
    try:
        del y
        assert node() is None
    finally:
        gc.enable()


# spaces ------------------------------------------------------------------------------------------------------------------------


def test_value_and_logit_take_the_numbers_as_they_are() -> None:
    z, features, _ = batch(20)
    plain = fo.project(3 * z, parity(), sensitive_features=features)
    for space in ("value", "logit"):
        assert torch.equal(fo.FairnessLayer(parity(), space=space)(3 * z, sensitive_features=features), plain)


def test_probability_takes_logits_and_gives_probabilities() -> None:
    z, features, _ = batch(20)
    z = (3 * z).requires_grad_()
    layer = fo.FairnessLayer(parity(), space="probability")
    assert layer.bounds == (0.0, 1.0)
    y = layer(z, sensitive_features=features)
    assert torch.equal(y, fo.project(torch.sigmoid(z), parity(), sensitive_features=features, bounds=(0, 1)))
    assert gap(y, features) <= 0.05
    assert torch.autograd.gradcheck(lambda x: layer(x, sensitive_features=features), (z,))
    assert fo.FairnessLayer(parity(), space="probability", bounds=(0.2, 0.8)).bounds == (0.2, 0.8)


# groups ------------------------------------------------------------------------------------------------------------------------


def test_groups_grow_in_train_mode_only_and_stay_sorted() -> None:
    layer = fo.FairnessLayer(parity())
    assert layer.groups == {}
    layer(torch.tensor([0.1, 0.9]), sensitive_features={"g": ["z", "m"]})
    assert layer.groups == {"g": ["m", "z"]}
    layer(torch.tensor([0.1, 0.9]), sensitive_features={"g": ["b", "m"]})
    assert layer.groups == {"g": ["b", "m", "z"]}
    layer.eval()
    with pytest.raises(
        fo.InputError, match=r"sensitive_features\['g'\] has the unknown value 'q'; the groups seen in training are \['b', 'm', 'z'\]"
    ):
        layer(torch.tensor([0.1, 0.9]), sensitive_features={"g": ["q", "m"]})
    assert layer.groups == {"g": ["b", "m", "z"]}
    layer.train()(torch.tensor([0.1, 0.9]), sensitive_features={"g": ["q", "m"]})
    assert layer.groups == {"g": ["b", "m", "q", "z"]}


def test_a_new_layer_in_eval_mode_knows_nothing() -> None:
    with pytest.raises(fo.InputError, match="no group is known yet"):
        fo.FairnessLayer(parity()).eval()(torch.tensor([0.1, 0.9]), sensitive_features={"g": ["a", "b"]})


def test_the_order_of_arrival_does_not_matter() -> None:
    z, features, _ = batch(12, 0, 3)
    shifted = {"g": [*features["g"][1:], features["g"][0]]}
    first, second = fo.FairnessLayer(parity()), fo.FairnessLayer(parity())
    first(z, sensitive_features=features)
    second(z, sensitive_features=shifted)
    a, b = (m.solution(z, sensitive_features=features) for m in (first, second))
    assert first.groups == second.groups
    assert torch.equal(a.scores, b.scores)
    assert torch.equal(a.prices, b.prices)
    assert a.labels == b.labels


def test_declared_groups_never_change_and_absent_ones_are_listed() -> None:
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.05, to="overall"), groups={"g": ["a", "b", "c"]})
    for mode in (True, False):
        layer.train(mode)
        y = layer(torch.tensor([0.1, 0.9], dtype=F64), sensitive_features={"g": ["a", "b"]})
        assert gap(y, {"g": ["a", "b"]}) <= 0.1
        ((label, reason),) = certificate(layer).dropped
        assert "c" in label
        assert reason
        with pytest.raises(fo.InputError, match=r"unknown value 'x'; the declared groups are \['a', 'b', 'c'\]"):
            layer(torch.tensor([0.1, 0.9]), sensitive_features={"g": ["a", "x"]})
    assert layer.groups == {"g": ["a", "b", "c"]}


def test_a_group_of_missing_values_does_not_join_the_declared_ones() -> None:
    layer = fo.FairnessLayer(parity(), groups={"g": ["a", "b"]}, missing_group="own")
    for mode in (True, False):
        y = layer.train(mode)(torch.tensor([0.1, 0.5, 0.9], dtype=F64), sensitive_features={"g": ["a", "b", None]})
        assert float(y.max() - y.min()) <= 0.05
        assert layer.groups == {"g": ["a", "b"]}
    fresh = fo.FairnessLayer(parity(), groups={"g": ["a", "b"]})
    fresh.load_state_dict(layer.state_dict(), strict=True)


def test_a_failed_batch_teaches_no_groups() -> None:
    layer = fo.FairnessLayer(parity())
    with pytest.raises(fo.InputError):
        layer(torch.tensor([0.1, 0.9, 0.2]), sensitive_features={"g": ["a", "b"]})
    assert layer.groups == {}


def test_two_threads_that_learn_at_once_lose_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both compile with {a}; one learns b, the other c: as many values as the first one's, but not the same."""
    layer = fo.FairnessLayer(parity())
    layer(torch.tensor([0.1, 0.2]), sensitive_features={"g": ["a", "a"]})
    meet = threading.Barrier(2)

    def compile_and_meet(*args: Any, **kwargs: Any) -> Any:
        compiled = compile_problem(*args, **kwargs)
        meet.wait(10)
        return compiled

    monkeypatch.setattr("fairopt.layer.fairness_layer.compile_problem", compile_and_meet)
    threads = [
        threading.Thread(target=lambda v=v: layer(torch.tensor([0.1, 0.9]), sensitive_features={"g": ["a", v]})) for v in ("b", "c")
    ]  # fmt: skip
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert layer.groups == {"g": ["a", "b", "c"]}


def test_missing_values_are_a_group_of_their_own_where_asked() -> None:
    layer = fo.FairnessLayer(parity(), missing_group="own")
    y = layer(torch.tensor([0.1, 0.9], dtype=F64), sensitive_features={"g": ["a", None]})
    assert layer.groups == {"g": ["a", None]}
    assert float(y[1] - y[0]) <= 0.05
    layer.eval()(torch.tensor([0.1, 0.9]), sensitive_features={"g": [None, "a"]})


# targets, weights, certificate -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "notion",
    [fo.EqualOpportunity("g", tolerance=0.1), fo.MeanResidual("g", tolerance=0.1), parity() & fo.EqualizedOdds("g", tolerance=0.2)],
)
def test_a_notion_about_labels_refuses_to_run_without_them(notion: fo.Notion) -> None:
    z, features, t = batch(16)
    layer = fo.FairnessLayer(notion)
    for mode in (True, False):
        layer.train(mode)
        with pytest.raises(fo.InputError, match=r"targets: got None, expected one label a sample.*layer\.freeze\("):
            layer(z, sensitive_features=features)
        layer.train()(z, sensitive_features=features, targets=t)
        assert certificate(layer).used_targets is True


def test_a_notion_without_labels_used_none() -> None:
    z, features, t = batch(16)
    layer = fo.FairnessLayer(parity())
    layer(z, sensitive_features=features, targets=t)
    assert certificate(layer).used_targets is False


def test_weights_are_those_of_the_distance() -> None:
    z = torch.tensor([0.0, 1.0], dtype=F64)
    layer = fo.FairnessLayer(parity(0.0))
    y = layer(z, sensitive_features={"g": ["a", "b"]}, weights=torch.tensor([3.0, 1.0]))
    assert torch.allclose(y, torch.full((2,), 0.25, dtype=F64), atol=1e-12)
    assert certificate(layer).distance == pytest.approx(math.sqrt(3 * 0.25**2 + 0.75**2))


def test_the_certificate_is_the_calling_thread_s_own() -> None:
    z, features, _ = batch(16)
    layer = fo.FairnessLayer(parity())
    assert layer.certificate is None
    layer(z, sensitive_features=features)
    mine = certificate(layer)
    seen: list[Any] = []

    def other() -> None:
        seen.append(layer.certificate)
        layer(z + 0.5, sensitive_features=features, weights=torch.linspace(1, 2, 16))
        seen.append(layer.certificate)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen[0] is None
    assert seen[1] is not None
    assert seen[1].problem_hash != mine.problem_hash
    assert layer.certificate is mine


def test_the_distance_is_not_read_off_scores_that_have_changed() -> None:
    """z is a tensor that an optimiser changes in place after the call."""
    z, features, _ = batch(16)
    for change in ("scores", "fair"):
        for bounds in (None, (0, 1)):
            layer = fo.FairnessLayer(parity(), bounds=bounds)
            scores = z.clone().requires_grad_()
            y = layer(scores, sensitive_features=features)
            expected = float((y - scores).detach().norm())
            own = certificate(layer)
            known = copy.deepcopy(own)
            with torch.no_grad():
                (scores if change == "scores" else y).add_(1.0)
            with pytest.raises(
                fo.InputError, match="scores: changed in place since the projection, expected certificate.distance to be read"
            ):
                _ = own.distance
            assert known.distance == pytest.approx(expected)


# learned parameters ------------------------------------------------------------------------------------------------------------


def parameter(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value, dtype=F64))


LEARNED: dict[str, Callable[[nn.Parameter], fo.Notion]] = {
    "tolerance": parity,
    "tolerance_joined": lambda p: parity(p) & fo.GroupMeanBound("g", upper=0.7),
    "overall": lambda p: fo.DemographicParity("g", tolerance=p, to="overall"),
    "residual": lambda p: fo.MeanResidual("g", tolerance=p),
    "lower": lambda p: fo.GroupMeanBound("g", lower=p * 1),
    "rho": lambda p: parity(0.01).priced(p),
    "budget": lambda p: parity(0.01).budgeted(p),
    "gamma": lambda p: parity(0.01).penalised(p),
}
STARTS = {"lower": 0.6, "rho": 0.7, "budget": 0.6, "gamma": 15.0}


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("bounds", [None, (0.3, 0.75)])
def test_the_gradient_of_a_learned_number_is_its_central_difference(name: str, bounds: Any) -> None:
    z, features, t = batch(30, 3, 3)
    direction = torch.sin(torch.arange(30, dtype=F64))

    def loss(value: Tensor) -> Tensor:
        layer = fo.FairnessLayer(LEARNED[name](value), bounds=bounds)  # type: ignore[arg-type]
        return (direction * layer(z, sensitive_features=features, targets=t)).sum()

    start = STARTS.get(name, 0.06)
    p = parameter(start)
    loss(p).backward()
    step = 1e-6
    numeric = float(loss(torch.tensor(start + step, dtype=F64)) - loss(torch.tensor(start - step, dtype=F64))) / (2 * step)
    assert abs(numeric) > 1e-4
    assert float(grad(p)) == pytest.approx(numeric, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize(
    "name, registered", [("tolerance", "tolerance"), ("tolerance_joined", "tolerance_0"), ("rho", "rho"), ("gamma", "gamma")]
)
def test_a_learned_number_is_a_parameter_of_the_layer_and_an_optimiser_moves_it(name: str, registered: str) -> None:
    z, features, t = batch(30, 3, 3)
    p = parameter(STARTS.get(name, 0.06))
    layer = fo.FairnessLayer(LEARNED[name](p))
    assert dict(layer.named_parameters()) == {registered: p}
    before = layer(z, sensitive_features=features, targets=t)
    optimiser = torch.optim.SGD(layer.parameters(), lr=1e-3)
    ((before - z) ** 2).sum().backward()
    optimiser.step()
    after = layer(z, sensitive_features=features, targets=t)
    assert float(((after - z) ** 2).sum()) < float(((before - z) ** 2).sum())
    fresh = fo.FairnessLayer(LEARNED[name](float(p)))  # type: ignore[arg-type]
    assert torch.allclose(after, fresh(z, sensitive_features=features, targets=t), atol=1e-12)


def test_the_certificate_names_the_learned_limit() -> None:
    z, features, _ = batch(20)
    p = parameter(0.05)
    layer = fo.FairnessLayer(parity(p))
    layer(z, sensitive_features=features)
    with torch.no_grad():
        p.fill_(0.02)
    y = layer(z, sensitive_features=features)
    ((_, upper),) = certificate(layer).limits.values()
    assert upper == 0.02
    assert gap(y, features) <= 0.02


def test_a_learned_tolerance_that_has_left_its_domain_is_named() -> None:
    z, features, _ = batch(20)
    p = parameter(0.05)
    layer = fo.FairnessLayer(parity(p))
    with torch.no_grad():
        p.fill_(-0.1)
    with pytest.raises(fo.InputError, match="tolerance"):
        layer(z, sensitive_features=features)


def test_a_plain_tensor_is_used_and_not_registered() -> None:
    z, features, _ = batch(20)
    raw = parameter(-3.0)
    layer = fo.FairnessLayer(parity(nn.functional.softplus(raw)))
    assert list(layer.parameters()) == []
    layer(z, sensitive_features=features).square().sum().backward()
    assert float(grad(raw)) != 0


def test_parameters_put_in_from_outside_are_the_ones_that_count() -> None:
    """``load_state_dict(assign=True)`` and ``functional_call`` replace the tensor instead of filling it."""
    z, features, _ = batch(20)
    layer = fo.FairnessLayer(parity(parameter(0.05)))
    y = torch.func.functional_call(layer, {"tolerance": torch.tensor(0.01, dtype=F64)}, (z,), {"sensitive_features": features})
    assert gap(y, features) <= 0.01
    assert 0.04 < gap(layer(z, sensitive_features=features), features) <= 0.05
    tolerance = torch.tensor(0.02, dtype=F64)
    layer.load_state_dict({**layer.state_dict(), "tolerance": tolerance}, assign=True)
    assert 0.019 < gap(layer(z, sensitive_features=features), features) <= 0.02
    assert layer.notion == parity(parameter(0.02))
    layer(z, sensitive_features=features).square().sum().backward()
    assert layer.tolerance.grad is not None


@fo.notion
def named_badly(batch: Any, attribute: str, groups: Any) -> Any:
    yield batch.range(batch.groups(attribute)) <= groups


def test_a_parameter_whose_name_the_layer_uses_itself_is_registered_under_another() -> None:
    z, features, _ = batch(20)
    p = parameter(0.05)
    layer = fo.FairnessLayer(named_badly("g", groups=p))
    assert dict(layer.named_parameters()) == {"notion_groups": p}
    assert gap(layer(z, sensitive_features=features), features) <= 0.05
    assert layer.groups == {"g": ["g0", "g1"]}


@pytest.mark.parametrize("notion", [fo.MeanResidual("g", tolerance=0.02), fo.ResidualParity("g", tolerance=0.02)])
@pytest.mark.parametrize("bounds", [None, (0.2, 0.8)])
def test_targets_of_residual_notions_have_a_gradient(notion: fo.Notion, bounds: Any) -> None:
    z, features, _ = batch(18, 5, 3)
    targets = (0.4 + 0.1 * torch.cos(torch.arange(18, dtype=F64))).requires_grad_()
    layer = fo.FairnessLayer(notion, bounds=bounds)
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: layer(a, sensitive_features=features, targets=b), (z, targets))


def test_the_layer_s_jacobian_is_that_of_the_projection() -> None:
    z, features, t = batch(18, 5, 3)
    z.requires_grad_()
    layer = fo.FairnessLayer(parity(0.02) & fo.EqualOpportunity("g", tolerance=0.03), bounds=(0.3, 0.9))

    def call(x: Tensor) -> Tensor:
        return layer(x, sensitive_features=features, targets=t)

    assert torch.autograd.gradcheck(call, (z,))
    jacobian = torch.autograd.functional.jacobian(call, z)
    assert torch.allclose(jacobian, jacobian.T, atol=1e-9)
    assert torch.allclose(jacobian @ jacobian, jacobian, atol=1e-9)
    assert 0 < float(jacobian.trace()) < 18


def test_the_native_gradient_is_the_implicit_one() -> None:
    z, features, _ = batch(18, 5)
    direction = torch.sin(torch.arange(18, dtype=F64))
    found = []
    for gradient in ("implicit", "native"):
        scores = z.clone().requires_grad_()
        layer = fo.FairnessLayer(parity(0.02), bounds=(0.3, 0.9), backend="cvxpylayers", gradient=gradient)
        (direction * layer(scores, sensitive_features=features)).sum().backward()
        found.append(grad(scores))
    assert torch.allclose(found[0], found[1], atol=1e-4)


def test_infeasible_batches() -> None:
    z, features, _ = batch(10)
    notion = fo.GroupMeanBound("g", lower=2.0)
    with pytest.raises(fo.InfeasibleError) as caught:
        fo.FairnessLayer(notion, bounds=(0, 1))(z, sensitive_features=features)
    assert caught.value.rows
    layer = fo.FairnessLayer(notion, bounds=(0, 1), on_infeasible="passthrough")
    assert torch.equal(layer(z, sensitive_features=features), z)
    assert certificate(layer).status is fo.Status.INFEASIBLE
    nearest = fo.FairnessLayer(notion, bounds=(0, 1), on_infeasible="closest")(z, sensitive_features=features)
    assert torch.allclose(nearest, torch.ones(10, dtype=F64), atol=1e-9)


def test_on_missing_groups() -> None:
    z = torch.tensor([0.1, 0.9], dtype=F64)
    groups = {"g": ["a", "b", "c"]}
    notion = fo.DemographicParity("g", tolerance=0.05, to="overall")
    with pytest.warns(fo.FairoptWarning, match="absent groups"):
        fo.FairnessLayer(notion, groups=groups, on_missing="warn")(z, sensitive_features={"g": ["a", "b"]})
    with pytest.raises(fo.InputError, match="absent groups"):
        fo.FairnessLayer(notion, groups=groups, on_missing="raise")(z, sensitive_features={"g": ["a", "b"]})


def test_the_layer_says_what_it_is() -> None:
    text = repr(fo.FairnessLayer(parity(), bounds=(0, 1), backend=fo.backend("dual_newton", max_iter=9)))
    assert (
        text
        == "FairnessLayer(DemographicParity('g', tolerance=0.05), bounds=(0, 1), backend='dual_newton', gradient='implicit', space='value')"
    )
