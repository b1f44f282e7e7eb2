"""How fast the paper's own package is beside this one: ``make bench-paper``.

    python tests/bench/paper_speed.py build/paper [words for pip, e.g. --index-url ...]

Puts ``fairness-training`` 0.1.0 into a folder of its own, beside the versions of cvxpylayers and cvxpy that it runs with (NEW: the pinned
ones; OLD: 0.1.9 and 1.6.5), and times its hard layer and ours on the same scores: forward and backward, float32, one thread, medians of
interleaved rounds in one process. Its layer is used as it comes (SCS at 1e-4; the CVXPY problem is built again in every forward). Ours is
the default call: inputs checked, answer certified. At n = 16,384 its layer takes some seconds a call and up to 8 GB.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import fairopt as fo

PAPER = "fairness-training==0.1.0"
VERSIONS = {"NEW": (PAPER,), "OLD": (PAPER, "cvxpylayers==0.1.9", "cvxpy==1.6.5")}
EPS = 0.05
ROUNDS = {1_024: 7, 16_384: 3}
CALLS = 20  # of ours, a round
SAME = 5e-3  # how far apart the answers may be: what the paper's layer is off by at n = 16,384, and some
SCS_TOLERANCE = 1e-4  # what the paper's layer solves to


@dataclass(frozen=True)
class Bar:
    """``case`` is at least ``times`` faster than the paper's layer at n."""

    case: str
    n: int
    times: float


BARS = (
    Bar("closed_form", 1_024, 300.0),
    Bar("closed_form", 16_384, 5_000.0),
    Bar("dual_newton", 1_024, 50.0),
    Bar("dual_newton", 16_384, 1_000.0),
    Bar("cvxpylayers, SCS 1e-4", 1_024, 1.0),
)


class Given(torch.nn.Module):
    """The "network": scores that are set before the call. (Its layer takes no input that requires a gradient.)"""

    scores: Tensor

    def forward(self, _: Tensor) -> Tensor:
        return self.scores[:, None]


def paper_layer(group: Tensor) -> Callable[[Tensor], Tensor]:
    """The paper's hard layer on scores (n,): mean parity of one binary attribute inside [0, 1]."""
    network = Given()
    model = import_module("fairness_training.fair_model").FairModel(
        input_dim=1, protected_attr_idx=[0], prediction_bounds=(0.0, 1.0), fairness_tolerance=EPS, fairness_metric="mean_pred",
        custom_network=network,
    )  # fmt: skip

    def call(scores: Tensor) -> Tensor:
        network.scores = scores
        y: Tensor = model(group[:, None])[:, 0]
        return y

    return call


def contestants(n: int, spread: float, adapter: bool) -> tuple[dict[str, Callable[[Tensor], Tensor]], Tensor]:
    """Functions of scores (n,) float32; ``spread`` decides whether the bounds clamp."""
    rng = np.random.default_rng(n)
    group = rng.permutation(np.arange(n) % 2)
    z = torch.tensor(0.4 + 0.2 * group + spread * rng.uniform(-1.0, 1.0, n), dtype=torch.float32)
    notion = fo.DemographicParity("group", tolerance=EPS)
    batch = fo.compile(notion, sensitive_features={"group": group}, bounds=(0.0, 1.0))
    found = {"paper": paper_layer(torch.from_numpy(group).float())}
    if spread < 0.3:
        free = fo.compile(notion, sensitive_features={"group": group})
        found["closed_form"] = lambda x: batch.project(x, backend="closed_form")
        found["closed_form, no bounds given"] = lambda x: free.project(x, backend="closed_form")
        return found, z
    found["dual_newton"] = lambda x: batch.project(x, backend="dual_newton")
    if adapter and n <= 1_024:
        same = fo.backend("cvxpylayers", solver_tol=SCS_TOLERANCE)
        found["cvxpylayers, SCS 1e-4"] = lambda x: batch.project(x, backend=same)
        found["cvxpylayers, SCS 1e-4, native gradient"] = lambda x: batch.project(x, backend=same, gradient="native")
    return found, z


def seconds(functions: dict[str, Callable[[Tensor], Tensor]], z: Tensor) -> dict[str, float]:
    """Median seconds of forward + backward of each."""
    found: dict[str, list[float]] = {name: [] for name in functions}
    cotangent = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))

    def once(function: Callable[[Tensor], Tensor], k: int) -> None:
        x = (z + 1e-6 * k).requires_grad_(True)
        y = function(x)
        torch.autograd.backward(y, cotangent.to(y.dtype))

    for name, function in functions.items():
        if name != "paper":
            apart = float((function(z) - functions["paper"](z)).detach().abs().max())  # also compiles: a composition that is repeated
            if not apart < SAME:
                raise SystemExit(f"{name}: its scores are {apart:.1e} from the paper's layer's: not the same problem")
    for turn in range(ROUNDS[z.shape[0]]):
        for name, function in functions.items():
            calls = 1 if name == "paper" else CALLS
            start = time.perf_counter()
            for k in range(calls):
                once(function, 1 + turn * calls + k)
            found[name].append((time.perf_counter() - start) / calls)
    return {name: statistics.median(times) for name, times in found.items()}


def measure(which: str) -> None:
    """In the child: print the seconds as JSON, one line a problem."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for n in ROUNDS:
        for words, spread in (("bounds inactive", 0.25), ("bounds active", 0.6)):
            functions, z = contestants(n, spread, adapter=which == "NEW")
            print(json.dumps({"n": n, "problem": words, "seconds": seconds(functions, z)}), flush=True)


def install(which: str, folder: Path, pip_words: list[str]) -> Path:
    """The folder that holds the package and its versions; filled once."""
    target = folder / which.lower()
    if not target.is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", str(target)]
        subprocess.run([*pip, *pip_words, *VERSIONS[which]], check=True)
    return target


def main(folder: Path, pip_words: list[str]) -> None:
    """Print every time, every ratio, and the bars that are kept or missed."""
    missed = 0
    for which in VERSIONS:
        target = install(which, folder, pip_words)
        print(f"{which}: {', '.join(VERSIONS[which])}" + (" with the pinned cvxpylayers and cvxpy" if which == "NEW" else ""), flush=True)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(target.resolve()), *filter(None, [os.environ.get("PYTHONPATH")])])}
        child = subprocess.Popen([sys.executable, __file__, "--measure", which], env=environment, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("{"):
                missed += _show(json.loads(line))
        if child.wait() != 0:
            raise SystemExit(f"{which}: the measurement ended with exit code {child.returncode}")
    print(f"bars missed: {missed}")


def _show(found: dict[str, object]) -> int:
    """Print one problem; returns how many bars it misses."""
    n, taken = found["n"], found["seconds"]
    assert isinstance(taken, dict)
    missed = 0
    for name, value in taken.items():
        ratio = taken["paper"] / value
        bar = next((bar for bar in BARS if bar.case == name and bar.n == n), None)
        kept = "" if bar is None else f"  bar {bar.times:g}: {'kept' if ratio >= bar.times else 'MISSED'}"
        missed += "MISSED" in kept
        print(f"n = {n:>6,}  {found['problem']:16s} {name:40s} {value * 1e3:12.3f} ms  paper / this = {ratio:10.1f}{kept}", flush=True)
    return missed


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2])
    elif len(sys.argv) < 2:
        raise SystemExit("usage: paper_speed.py FOLDER [words for pip]")
    else:
        main(Path(sys.argv[1]), sys.argv[2:])
