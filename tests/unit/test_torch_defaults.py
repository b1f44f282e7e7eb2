"""torch's default dtype and device are the user's: whatever they are, every entry point gives what it gives without them."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _device

import fairopt as fo
from fairopt.layer.decisions import decide
from fairopt.streaming import Cumulative, PooledParity, PrimalDual
from fairopt.testing import check_backend, check_notion
from fairopt.training import FairClassifier, FairRegressor, StratifiedBatches, fit

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
NOTION = fo.DemographicParity("g", tolerance=0.05)
RNG = np.random.default_rng(3)
N = 60
Z = RNG.random(N)
Y = RNG.integers(0, 2, N)
X = RNG.normal(size=(N, 3))
FEATURES: dict[str, Any] = {"g": list("abc" * (N // 3)), "s": RNG.random(N)}
NOTIONS = {
    "one row": (fo.DemographicParity("h", tolerance=0.05), None),
    "range": (NOTION, None),
    "joined": (NOTION & fo.MeanResidual("h", tolerance=0.2), Y.astype(float)),
    "labels": (fo.EqualizedOdds("g", tolerance=0.05), Y),
    "dense": (NOTION & fo.ScoreCovariance("s", tolerance=0.001), None),
    "ratio": (fo.ImpactRatio("g", ratio=0.9), None),
    "penalised": (NOTION.penalised(30.0), None),
    "priced": (NOTION.priced(0.05), None),
    "budgeted": (NOTION.budgeted(0.01) & fo.GroupMeanBound("h", upper=0.5), None),
}
FEATURES["h"] = list("xy" * (N // 2))


def scores(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(Z).to(dtype)


def projected(name: str, dtype: torch.dtype, backend: str = "auto", **options: Any) -> Callable[[], Any]:
    notion, targets = NOTIONS[name]

    def call() -> Any:
        z = scores(dtype).requires_grad_()
        given: dict[str, Any] = {"sensitive_features": FEATURES, "targets": targets, "bounds": (0.0, 1.0), **options}
        solution = fo.project(z, notion, **given, backend=backend, return_solution=True)
        (solution.scores**2).sum().backward()
        assert z.grad is not None
        return [solution.scores, z.grad, solution.prices, solution.status.name]

    return call


def solvers() -> Any:
    """The installed solvers that are written in torch."""
    there = [name for name, package in {"qpth": "qpth", "theseus": "theseus", "moreau": "moreau"}.items() if find_spec(package)]
    return [projected("range", torch.float64, name)() for name in there]


def per_sample_bounds() -> Any:
    ends = (torch.zeros(N, dtype=torch.float64, device=CPU), np.linspace(0.5, 1, N))
    return [projected("range", dtype, bounds=ends)() for dtype in (torch.float32, torch.float64)]


def weighted() -> Any:
    z = scores(torch.float32)
    return fo.project(z, NOTION, sensitive_features=FEATURES, weights=np.linspace(1, 2, N), bounds=(0.1, 0.9), gradient="implicit")


def learned_tolerance() -> Any:
    tolerance = torch.tensor(0.03, dtype=torch.float64, device=CPU, requires_grad=True)
    solution = fo.project(scores(), fo.DemographicParity("g", tolerance=tolerance), sensitive_features=FEATURES, return_solution=True)
    (solution.scores**2).sum().backward()
    return [solution.scores, tolerance.grad]


def no_solution(way: str) -> Callable[[], Any]:
    def call() -> Any:
        options: dict[str, Any] = {"sensitive_features": FEATURES, "bounds": (0, 0.5), "return_solution": True, "on_infeasible": way}
        with warnings.catch_warnings(action="ignore"):
            solution = fo.project(scores(torch.float32), fo.GroupMeanBound("g", lower=0.6), **options)
        return [solution.scores, solution.status.name]

    return call


def layered() -> Any:
    layer = fo.FairnessLayer(NOTION, bounds=(0, 1), space="probability")
    out = layer(scores(torch.float32), sensitive_features=FEATURES)
    other = fo.FairnessLayer(NOTION, bounds=(0, 1), space="probability")
    other.load_state_dict(layer.state_dict())
    frozen = layer.freeze(scores(torch.float32), sensitive_features=FEATURES)
    return [out, frozen.shifts, frozen.predict(Z.tolist(), sensitive_features=FEATURES), frozen.predict(0.3, sensitive_features={"g": "a"})]


def exported() -> Any:
    program = fo.FairnessLayer(NOTION, bounds=(0, 1)).freeze(scores(), sensitive_features=FEATURES).export(dtype=torch.float64)
    return program.module()(scores(), torch.zeros(N, dtype=torch.int64, device=CPU))


def streamed(make: Callable[[], Any]) -> Callable[[], Any]:
    def call() -> Any:
        controller = make()
        for dtype in (torch.float32, torch.float64):
            step = controller.step(scores(dtype), sensitive_features=FEATURES["g"])
        return [step.scores, controller.step(0.4, sensitive_features="a").scores]

    return call


def audited() -> Any:
    report = fo.audit(Z, NOTION, sensitive_features=FEATURES, targets=Y)
    return [report.holds, fo.gaps(scores(torch.float32), NOTION, sensitive_features=FEATURES).rows]


def decided() -> Any:
    p = scores(torch.float32)
    return decide(p, sensitive_features=FEATURES["g"], generator=torch.Generator().manual_seed(1))


def estimated() -> Any:
    table = {"a": X[:, 0], "b": X[:, 1], "g": np.array(FEATURES["g"])}
    import pandas as pd

    frame = pd.DataFrame(table)
    made: dict[str, Any] = {"sensitive_columns": ["g"], "epochs": 2, "random_state": 0, "batch_size": 20}
    classifier = FairClassifier(fo.DemographicParity, tolerance=0.3, **made).fit(frame, Y)
    regressor = FairRegressor(fo.DemographicParity, tolerance=0.3, **made).fit(frame, X[:, 2])
    return [classifier.predict_proba(frame), regressor.predict(frame), regressor.transduce(frame)]


def trained() -> Any:
    with CPU:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 1, dtype=torch.float32), nn.Flatten(0))
    x, y = torch.from_numpy(X).float(), torch.from_numpy(Y).float()
    model = fo.FairModel(network, fo.FairnessLayer(NOTION, bounds=(0, 1), space="probability"))

    def loss(rows: list[int]) -> Tensor:
        said = model(x[rows], sensitive_features={"g": [FEATURES["g"][k] for k in rows]})
        return nn.functional.binary_cross_entropy(said.clamp(1e-6, 1 - 1e-6), y[rows])

    batches = StratifiedBatches({"g": FEATURES["g"]}, batch_size=20, seed=1)
    fit(model, loss, batches, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), epochs=2)
    return [list(p) for p in network.parameters()]


ENTRIES: dict[str, Callable[[], Any]] = {
    **{f"{name} {dtype}": projected(name, dtype) for name in NOTIONS for dtype in (torch.float16, torch.float32, torch.float64)},
    **{f"unrolled {name}": projected(name, torch.float64, "unrolled") for name in ("range", "penalised", "dense")},
    "solvers": solvers,
    "bounds per sample": per_sample_bounds,
    "weights": weighted,
    "tensor tolerance": learned_tolerance,
    "passthrough": no_solution("passthrough"),
    "closest": no_solution("closest"),
    "layer": layered,
    "export": exported,
    "pooled": streamed(lambda: PooledParity(NOTION, bounds=(0, 1))),
    "cumulative": streamed(lambda: Cumulative(NOTION, bounds=(0, 1))),
    "primal-dual": streamed(lambda: PrimalDual(NOTION, bounds=(0, 1))),
    "audit": audited,
    "decide": decided,
    "estimators": estimated,
    "training": trained,
    "backend kit": lambda: check_backend("dual_newton", draws=1),
    "notion kit": lambda: check_notion(NOTION, draws=3),
}
DEFAULTS: dict[str, tuple[torch.dtype | None, str | None]] = {
    "meta": (None, "meta"),
    "float64": (torch.float64, None),
    "float16": (torch.float16, None),
    "bfloat16, meta": (torch.bfloat16, "meta"),
}


@contextmanager
def defaults(dtype: torch.dtype | None, device: str | None) -> Iterator[None]:
    old = torch.get_default_dtype()
    if dtype is not None:
        torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(old)


def plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        assert value.device == CPU
        return (str(value.dtype), value.detach().tolist())
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("setting", DEFAULTS)
@pytest.mark.parametrize("name", ENTRIES)
def test_defaults_of_torch_change_nothing(name: str, setting: str) -> None:
    expected = plain(ENTRIES[name]())
    with defaults(*DEFAULTS[setting]):
        got = ENTRIES[name]()
    assert plain(got) == expected


def test_a_device_context_changes_nothing() -> None:
    expected = plain(ENTRIES["layer"]())
    with torch.device("meta"):
        got = ENTRIES["layer"]()
    assert plain(got) == expected


def test_no_tensor_is_made_without_saying_where() -> None:
    """What a default device would move, by torch's own list. Methods (``new_zeros``) and ``*_like`` follow a tensor."""
    makers = {f.__name__ for f in _device._device_constructors()}
    silent = []
    for path in sorted([*(ROOT / "fairopt").rglob("*.py"), *(ROOT / "backends").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in makers
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "torch"
                and not any(keyword.arg in ("device", None) for keyword in node.keywords)
            ):
                silent.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert silent == []
