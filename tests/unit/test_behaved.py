"""Every public object under threads, copies, pickles, saved states, processes and devices; and the same bits for the same input."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fairopt as fo
from fairopt.basics.facts import to_tensor
from fairopt.contract.registry import installed

F64 = torch.float64
GROUPS = {"g": [0, 1, 2] * 8, "h": [0, 0, 1, 1] * 6}
TARGETS = torch.tensor([0, 0, 0, 1, 1, 1] * 4, dtype=F64)
PARITY = fo.DemographicParity("g", tolerance=0.05)
BOTH = PARITY & fo.EqualOpportunity("h", tolerance=0.04)


def scores(seed: int = 0) -> Tensor:
    noise = torch.randn(24, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return 0.4 + 0.2 * noise + 0.1 * torch.tensor(GROUPS["g"])


def grad(t: Any) -> Tensor:
    """The gradient that backward has left."""
    assert t.grad is not None
    return t.grad


@fo.notion
def my_parity(batch: Any, attribute: str, tolerance: float) -> Any:
    yield batch.range(batch.groups(attribute)) <= tolerance


class Network(nn.Module):
    """Takes the scores as they are, times a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1.5, dtype=F64))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def layer(**options: Any) -> fo.FairnessLayer:
    tolerance = nn.Parameter(torch.tensor(0.05, dtype=F64))
    notion = fo.DemographicParity("g", tolerance=tolerance) & fo.EqualOpportunity("h", tolerance=0.04).priced(0.5)
    return fo.FairnessLayer(notion, **{"bounds": (0.0, 1.0), **options})


def solution() -> fo.Solution:
    z = scores().requires_grad_()
    found = fo.project(z, BOTH, sensitive_features=GROUPS, targets=TARGETS, bounds=(0.1, 0.9), return_solution=True)
    assert not found.scores.is_leaf
    return found


def compiled(tolerance: Any = 0.05) -> fo.Prepared:
    notion = fo.DemographicParity("g", tolerance=tolerance) & fo.EqualOpportunity("h", tolerance=0.04)
    return fo.compile(notion, sensitive_features=GROUPS, targets=TARGETS, bounds=(0.1, 0.9), weights=torch.linspace(1, 2, 24))


def used(prepared: fo.Prepared) -> fo.Prepared:
    """With every cache filled."""
    prepared.project(scores())
    prepared.project(scores().float(), backend="dual_newton")
    return prepared


def call(module: nn.Module, seed: int = 0) -> Tensor:
    return module(scores(seed), sensitive_features=GROUPS, targets=TARGETS)


def used_module(module: nn.Module) -> nn.Module:
    call(module)
    return module


PARAMETER = nn.Parameter(torch.tensor(0.05, dtype=F64))
ERRORS = {
    "InputError": fo.InputError("scores: got x, expected y"),
    "InfeasibleError": fo.InfeasibleError("no scores", ("row 1", "row 2")),
    "UnsupportedError": fo.UnsupportedError("cannot"),
    "BackendError": fo.BackendError("failed"),
    "MissingExtraError": fo.MissingExtraError("pip install it"),
    "StateError": fo.StateError("run.db: closed"),
    "RankError": fo.RankError("process_group: rank 0 of 2 lost the others"),
    "ConformanceError": fo.ConformanceError("idempotent", "is not"),
    "FairoptError": fo.FairoptError("any"),
    "FairoptWarning": fo.FairoptWarning("careful"),
}
NOTIONS = {
    "DemographicParity": PARITY,
    "DemographicParity learned": fo.DemographicParity("g", tolerance=PARAMETER),
    "DemographicParity reference": fo.DemographicParity(("g", "h"), tolerance=0.1, to=fo.Reference((0, 1)), given="h"),
    "EqualOpportunity": fo.EqualOpportunity("g", tolerance=0.1),
    "PredictiveEquality": fo.PredictiveEquality("g", tolerance=0.1),
    "EqualizedOdds": fo.EqualizedOdds("g", tolerance=0.1),
    "MeanResidual": fo.MeanResidual("g", tolerance=0.1),
    "ResidualParity": fo.ResidualParity("g", tolerance=0.1),
    "ImpactRatio": fo.ImpactRatio("g"),
    "GroupMeanBound": fo.GroupMeanBound("g", lower=0.1),
    "ScoreCovariance": fo.ScoreCovariance("g", tolerance=0.1),
    "decorated": my_parity("g", tolerance=0.1),
    "joined": PARITY & my_parity("h", tolerance=PARAMETER),
    "priced": PARITY.priced(0.5),
    "budgeted": (PARITY & fo.MeanResidual("g", tolerance=0)).budgeted(0.5),
    "penalised": PARITY.penalised(PARAMETER),
    "Reference": fo.Reference(3),
}
BACKENDS = {name: fo.backend("qpsolvers:daqp" if name == "qpsolvers" else name) for name in installed()}
OTHERS: dict[str, Callable[[], Any]] = {
    "FairnessLayer": lambda: layer(),
    "FairnessLayer used": lambda: used_module(layer()),
    "FairnessLayer instance": lambda: used_module(layer(backend=fo.backend("dual_newton", max_iter=40), groups={"g": [0, 1, 2]})),
    "FairModel": lambda: used_module(fo.FairModel(Network(), layer())),
    "FrozenLayer": lambda: fo.FairnessLayer(PARITY, bounds=(0, 1)).freeze(scores(), sensitive_features=GROUPS),
    "PopulationBound": lambda: fo.FairnessLayer(PARITY, bounds=(0, 1)).freeze(scores(), sensitive_features=GROUPS).guarantees[0],
    "Soft": lambda: fo.Soft([[0.25, 0.75], [1.0, 0.0]], ["a", "b"]),
    "Prepared": lambda: compiled(),
    "Prepared used": lambda: used(compiled()),
    "Prepared learned": lambda: used(compiled(nn.Parameter(torch.tensor(0.05, dtype=F64)))),
    "ProjectionProblem": lambda: compiled().problem,
    "ProjectionProblem used": lambda: used(compiled()).problem,
    "Rows": lambda: used(compiled()).problem.rows,
    "Softness": lambda: fo.Softness("budget", 0.5, 1),
    "Limits": lambda: compiled().problem.limits(),
    "Limits in a graph": lambda: compiled(nn.Parameter(torch.tensor(0.05, dtype=F64))).compiled.limits(),
    "Solution": lambda: solution(),
    "Solution short road": lambda: fo.project(
        scores().requires_grad_(), fo.DemographicParity("h", tolerance=0.01), sensitive_features=GROUPS, return_solution=True
    ),
    "Certificate": lambda: solution().certificate,
    "Status": lambda: fo.Status.CERTIFIED,
    "Capabilities": lambda: BACKENDS["dual_newton"].capabilities,
    "RawSolution": lambda: fo.RawSolution(scores(), np.zeros(2), fo.Status.FAILED, 3, "why"),
    "Table": lambda: fo.gaps(scores(), BOTH, sensitive_features=GROUPS, targets=TARGETS),
    "Table of backends": lambda: fo.backends(),
    "Audit": lambda: fo.audit(scores(), PARITY, sensitive_features=GROUPS, draws=100),
    "Race": lambda: fo.Race(({"backend": "dual_newton", "n": 8},), {"format": 1}),
}
EVERY: dict[str, Callable[[], Any]] = {
    **{k: partial(copy.copy, v) for k, v in ERRORS.items()},
    **{f"notion {k}": partial(copy.copy, v) for k, v in NOTIONS.items()},
    **{f"backend {k}": partial(copy.copy, v) for k, v in BACKENDS.items()},
    **OTHERS,
}


def content(value: Any) -> Any:
    """What an object says, in comparable form: numbers by their bits, modules and problems by what they do or hold."""
    if isinstance(value, Tensor):
        return ("tensor", str(value.dtype), tuple(value.shape), value.detach().to(F64).numpy().tobytes())
    if isinstance(value, np.ndarray):
        return ("array", str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, BaseException):
        return (type(value), str(value), getattr(value, "rows", None), getattr(value, "property", None))
    if isinstance(value, fo.Certificate):
        return value.to_dict()
    if isinstance(value, fo.Prepared):
        found = value.solution(scores())
        return (content(value.problem), content(found))
    if isinstance(value, fo.Backend):
        found = fo.project(scores(), PARITY, sensitive_features=GROUPS, backend=value, return_solution=True)
        return (type(value), content(found))
    if isinstance(value, fo.FairnessLayer):
        return (value.groups, repr(value), value.training, content(call(value)))
    if isinstance(value, fo.FairModel):
        return (content(value.layer), content(call(value)))
    if isinstance(value, nn.Module):
        return {name: content(t) for name, t in value.state_dict().items()}
    if isinstance(value, fo.Table):
        return (value.columns, value.rows, value.title)
    if isinstance(value, fo.Soft):
        return (value.probabilities.tolist(), value.values)
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value), {f.name: content(getattr(value, f.name)) for f in fields(value)})
    if isinstance(value, (tuple, list)):
        return [content(v) for v in value]
    if isinstance(value, dict):
        return {k: content(v) for k, v in value.items()}
    return value


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def saved(value: Any) -> Any:
    """torch.save of the object itself; loading objects needs weights_only=False."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


# copies ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [copy.deepcopy, pickled, saved, copy.copy], ids=["deepcopy", "pickle", "torch.save", "copy"])
@pytest.mark.parametrize("name", EVERY)
def test_a_copy_says_the_same(name: str, how: Callable[[Any], Any]) -> None:
    value = EVERY[name]()
    duplicate = how(value)
    assert type(duplicate) is type(value)
    assert content(duplicate) == content(value)


def test_every_public_class_is_among_them() -> None:
    seen = {type(make()).__name__ for make in EVERY.values()}
    abstract = {"Backend", "Notion", "DatasetReport"}  # the last is made by a run over files
    public = {n for n in fo.__all__ if isinstance(getattr(fo, n), type)}
    assert public - seen == abstract


def test_results_copy_as_numbers_and_keep_their_own_graph() -> None:
    found = solution()
    duplicate = copy.deepcopy(found)
    assert not duplicate.scores.requires_grad
    assert torch.equal(duplicate.scores, found.scores)
    found.scores.sum().backward()  # the original is still connected


def test_a_copied_layer_shares_nothing_that_moves() -> None:
    first = layer()
    call(first)
    second = copy.deepcopy(first)
    assert second.certificate is None
    assert first.certificate is not None
    assert second.tolerance_0 is not first.tolerance_0
    assert second.notion.parameters["tolerance_0"] is second.tolerance_0  # one tensor, as before
    with torch.no_grad():
        second.tolerance_0.fill_(0.5)
    second(scores(), sensitive_features={**GROUPS, "g": [9, *GROUPS["g"][1:]]}, targets=TARGETS)
    assert second.groups["g"] == [0, 1, 2, 9]
    assert first.groups["g"] == [0, 1, 2]
    assert torch.equal(call(first), call(copy.deepcopy(first)))
    assert first.get_parameter("tolerance_0").item() == 0.05


@pytest.mark.parametrize("module", [layer, lambda: fo.FairModel(Network(), layer())], ids=["layer", "model"])
@pytest.mark.parametrize("before", [False, True], ids=["unused", "used"])
@pytest.mark.parametrize("assign", [False, True])
def test_a_state_saved_and_loaded(module: Callable[[], nn.Module], before: bool, assign: bool) -> None:
    """weights_only=True reads it, strict=True takes it, into a layer that has run or not."""
    first = module()
    with torch.no_grad():
        for p in first.parameters():
            p.mul_(0.8)
    call(first)
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    second = module()
    if before:
        second(scores(), sensitive_features={"g": [0, 3] * 12, "h": GROUPS["h"]}, targets=TARGETS)
    second.load_state_dict(state, strict=True, assign=assign)
    assert torch.equal(call(second), call(first))
    assert content(second.state_dict()) == content(first.state_dict())
    second.load_state_dict(state, strict=True)  # again, after a forward
    assert torch.equal(call(second.eval()), call(first.eval()))


def test_a_state_of_string_groups_is_plain() -> None:
    """A vocabulary of numpy strings would break weights_only loading."""
    first = fo.FairnessLayer(PARITY)
    first(scores(), sensitive_features={"g": np.array(["a", "b"] * 12)})
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second = fo.FairnessLayer(PARITY)
    second.load_state_dict(torch.load(buffer, weights_only=True), strict=True)
    assert second.groups == {"g": ["a", "b"]}
    assert type(second.groups["g"][0]) is str


def test_a_state_of_other_declared_groups_or_a_newer_format_is_refused() -> None:
    first, second = (fo.FairnessLayer(PARITY, groups={"g": g}) for g in ([0, 1, 2], [0, 1]))
    with pytest.raises(fo.InputError, match=r"state: got groups \[0, 1, 2\] of 'g', expected the declared ones \[0, 1\]"):
        second.load_state_dict(first.state_dict())
    assert second.groups == {"g": [0, 1]}
    second.load_state_dict(fo.FairnessLayer(PARITY).state_dict())  # knows no groups yet
    assert second.groups == {"g": [0, 1]}
    states: list[Any] = [
        to_tensor({**first.facts(), "format": 3}),
        to_tensor({"groups": {}}),
        torch.ones(3),
        b"{}",
        torch.tensor([255, 0, 7]).byte(),
    ]
    for wrong in states:
        with pytest.raises(
            fo.InputError, match="state 'facts': (got format .*, expected at most 2|got .* expected a uint8 tensor|it is damaged)"
        ):
            first.load_state_dict({"facts": wrong})


# processes, threads, devices ---------------------------------------------------------------------------------------------------


def test_two_processes() -> None:
    """joblib's default processes: the layer travels there and its answers back."""
    fair = used_module(layer()).eval()
    prepared, expected = used(compiled()), [call(fair, s).detach() for s in range(4)]
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(_work)(fair, prepared, seed) for seed in range(4))
    for seed, (y, answer) in enumerate(found):
        assert torch.equal(y, expected[seed])
        assert torch.equal(answer.scores, prepared.solution(scores(seed)).scores)
        assert answer.certificate.to_dict() == prepared.solution(scores(seed)).certificate.to_dict()


def _work(fair: nn.Module, prepared: fo.Prepared, seed: int) -> tuple[Tensor, fo.Solution]:
    return call(fair, seed).detach(), prepared.solution(scores(seed))


THREADED: dict[str, Callable[[], fo.FairnessLayer]] = {
    "box, overlapping, learned, soft": layer,
    "short road": lambda: fo.FairnessLayer(fo.DemographicParity("h", tolerance=0.02)),
    "closed form, ranges": lambda: fo.FairnessLayer(PARITY),
    "tolerance 0": lambda: fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.0)),
}


@pytest.mark.parametrize("name", THREADED)
def test_four_threads_on_one_layer_get_the_sequential_results(name: str) -> None:
    """200 calls each, forward and backward, bit for bit; each thread's certificate is that of its own last call."""
    shared = THREADED[name]()
    kinds = 10

    def one(seed: int) -> tuple[bytes, bytes, float]:
        z = scores(seed).requires_grad_()
        # other group sizes in every call: another problem, another certificate
        features = {"g": [0] * seed + GROUPS["g"][seed:], "h": GROUPS["h"]}
        y = shared(z, sensitive_features=features, targets=TARGETS)
        certificate = shared.certificate
        assert certificate is not None
        (gradient,) = torch.autograd.grad((y * torch.arange(24)).sum(), z)
        return y.detach().numpy().tobytes(), gradient.numpy().tobytes(), certificate.distance

    expected = [one(seed) for seed in range(kinds)]
    start = threading.Barrier(4)

    def work(offset: int) -> int:
        start.wait(30)
        return sum(one((offset + k) % kinds) != expected[(offset + k) % kinds] for k in range(200))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [0, 0, 0, 0]


def test_four_threads_on_one_prepared_batch() -> None:
    expected = [used(compiled()).project(scores(k)) for k in range(8)]
    shared = compiled()  # its caches are filled by the threads

    def work(offset: int) -> bool:
        return all(torch.equal(shared.project(scores((offset + k) % 8)), expected[(offset + k) % 8]) for k in range(50))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_one_layer_used_twice_in_one_graph() -> None:
    shared = layer()
    first, second = scores(1).requires_grad_(), scores(2).requires_grad_()
    ys = call_with(shared, first), call_with(shared, second)
    again = call_with(shared, ys[0] + ys[1])  # a third time, on its own outputs
    (again.square().sum() + ys[1].sum()).backward()
    apart = scores(1).requires_grad_(), scores(2).requires_grad_()
    outs = call_with(layer(), apart[0]), call_with(layer(), apart[1])
    end = call_with(layer(), outs[0] + outs[1])
    (end.square().sum() + outs[1].sum()).backward()
    assert torch.equal(again, end)
    assert torch.equal(grad(first), grad(apart[0]))
    assert torch.equal(grad(second), grad(apart[1]))


def call_with(module: nn.Module, z: Tensor) -> Tensor:
    return module(z, sensitive_features=GROUPS, targets=TARGETS)


@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_the_same_input_gives_the_same_bits(dtype: torch.dtype) -> None:
    z = scores().to(dtype)
    makers: list[Callable[[], Any]] = [lambda: layer(), lambda: fo.FairnessLayer(PARITY), lambda: layer(backend="cvxpylayers")]
    for make in makers:
        shared, results = make(), []
        for k in range(6):
            module = shared if k % 2 else make()
            module(scores(k + 5), sensitive_features=GROUPS, targets=TARGETS)  # what came before leaves no trace
            x = z.clone().requires_grad_()
            y = call_with(module, x)
            y.square().sum().backward()
            results.append((content(y), content(x.grad)))
        assert all(r == results[0] for r in results)


def test_moving_the_layer_moves_its_parameters() -> None:
    fair = layer()
    assert fair.to("cpu") is fair
    fair.to(torch.float32)
    assert fair.tolerance_0.dtype == torch.float32
    assert fair.notion.parameters["tolerance_0"] is fair.tolerance_0
    y = call(fair)
    assert y.dtype == F64
    y.sum().backward()
    assert grad(fair.tolerance_0).dtype == torch.float32
    assert fair.double().tolerance_0.dtype == F64
    call(fair).sum().backward()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA is not here")
def test_cuda_in_cuda_out() -> None:
    fair = layer().to("cuda")
    z = scores().to("cuda").requires_grad_()
    y = fair(z, sensitive_features={k: torch.tensor(v, device="cuda") for k, v in GROUPS.items()}, targets=TARGETS.to("cuda"))
    assert y.device.type == "cuda"
    y.square().sum().backward()
    assert grad(z).device.type == "cuda"
    assert torch.allclose(y.cpu(), call(layer()), atol=1e-12)
