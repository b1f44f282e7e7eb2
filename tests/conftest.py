"""What holds for every test: one thread, fixed seeds, hypothesis settings, and no silent skip in the full environment."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Generator, Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import settings

# The draws are the same in every run: a red test is red again. FAIROPT_EXPLORE=1 draws anew each time.
settings.register_profile("fixed", deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("explore" if os.environ.get("FAIROPT_EXPLORE") else "fixed")

torch.set_num_threads(1)

# `make test` installs every solver; only an accelerator, the data sets, a GPL rival of the experiments and what draws pages may be missing.
FULL = bool(os.environ.get("FAIROPT_FULL"))
ALLOWED_SKIPS = ("CUDA", "FAIROPT_DATA", "GPL 3", "node is not here", "Chromium is not here")


# Those that were there at the start, and those of ours and of threads. Packages set others of their own when they are first imported.
VARIABLES = {*os.environ, "FAIROPT_DATA", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"} - {"PYTEST_CURRENT_TEST"}


def _process() -> dict[str, object]:
    """What belongs to the whole process, and to no test."""
    return {
        "torch's default dtype": torch.get_default_dtype(),
        "torch's thread count": torch.get_num_threads(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "numpy's error handling": np.geterr(),
        "csv's field limit": csv.field_size_limit(),
        "Python's recursion limit": sys.getrecursionlimit(),
        **{f"the variable {name}": os.environ.get(name) for name in VARIABLES},
        "the working folder": os.getcwd(),
    }


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """No test, and no code that it runs, leaves the process another: the next one must not depend on who ran before."""
    torch.manual_seed(0)
    before = _process()
    yield
    after = _process()
    changed = [name for name in before if before[name] != after[name]]
    assert not changed, f"this test leaves the process another: {', '.join(changed)}"


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    """A skip becomes a failure in the full environment, unless its reason names one of these; expected failures stay."""
    if FULL and report.skipped and not hasattr(report, "wasxfail") and not any(word in str(report.longrepr) for word in ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"skipped in the full environment: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse(report)
    return report
