"""Every shipped notion passes the notion kit, and planted wrong ones fail by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fairopt as fo
from fairopt.basics.errors import ConformanceError, InputError
from fairopt.notions.batch import Batch
from fairopt.testing import NOTION_PROPERTIES, check_notion

DRAWS = 12
SHIPPED: dict[str, Callable[[], Any]] = {
    "parity": lambda: fo.DemographicParity("sex", tolerance=0.05),
    "parity, tolerance 0": lambda: fo.DemographicParity("sex", tolerance=0.0),
    "overall": lambda: fo.DemographicParity("sex", tolerance=0.05, to="overall"),
    "intersection": lambda: fo.DemographicParity(("sex", "race"), tolerance=0.1),
    "strata": lambda: fo.DemographicParity("sex", tolerance=0.1, given="region"),
    "opportunity": lambda: fo.EqualOpportunity("sex", tolerance=0.1),
    "predictive equality": lambda: fo.PredictiveEquality("sex", tolerance=0.1),
    "odds": lambda: fo.EqualizedOdds("sex", tolerance=0.1),
    "residual": lambda: fo.MeanResidual("sex", tolerance=0.1),
    "residual parity": lambda: fo.ResidualParity("sex", tolerance=0.1),
    "ratio": lambda: fo.ImpactRatio("sex", ratio=0.8),
    "bound": lambda: fo.GroupMeanBound("sex", lower=0.3, upper=0.6),
    "joined": lambda: fo.DemographicParity("sex", tolerance=0.05) & fo.DemographicParity("race", tolerance=0.1),
    "priced": lambda: fo.DemographicParity("sex", tolerance=0.05).priced(2.0),
    "budgeted": lambda: (fo.DemographicParity("sex", tolerance=0.0) & fo.EqualOpportunity("race", tolerance=0.0)).budgeted(1.5),
    "penalised": lambda: fo.EqualizedOdds("sex", tolerance=0.02).penalised(10.0),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_notions_pass(name: str) -> None:
    check_notion(SHIPPED[name](), draws=DRAWS)


def test_a_reference_group_passes() -> None:
    check_notion(fo.DemographicParity("sex", tolerance=0.05, to=fo.Reference("b")), draws=DRAWS, values={"sex": ["a", "b", "c"]})


def test_a_continuous_attribute_passes() -> None:
    check_notion(fo.ScoreCovariance("age", tolerance=0.01), draws=DRAWS, continuous=["age"])


@fo.notion
def _counted(batch: Batch, attribute: str, tolerance: float) -> Iterator[Any]:
    """Remembers how often it was called."""
    _counted_calls.append(1)
    for a, b in batch.pairs(attribute):
        yield abs(batch.mean(a) - batch.mean(b)) <= tolerance * len(_counted_calls)


_counted_calls: list[int] = []


@fo.notion
def _positional(batch: Batch, attribute: str, tolerance: float) -> Iterator[Any]:
    """Looks at the position of the samples."""
    first = np.arange(batch.n) < batch.n // 2
    for a in batch.groups(attribute):
        yield abs(batch.mean(a & first) - batch.mean(a)) <= tolerance


@fo.notion
def _names_matter(batch: Batch, attribute: str, tolerance: float) -> Iterator[Any]:
    """The first group in the order of the names is held to half."""
    first = next(iter(batch.groups(attribute)))
    yield abs(batch.mean(first) - 0.5) <= tolerance


class _Unpicklable(fo.DemographicParity):
    def __reduce__(self) -> Any:
        return fo.DemographicParity, (), {}


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda: _counted("sex", tolerance=0.01), "same_rows"),
        (lambda: _positional("sex", tolerance=0.01), "notion_permutation"),
        (lambda: _names_matter("sex", tolerance=0.01), "notion_relabelling"),
        (lambda: _Unpicklable("sex", tolerance=0.01), "same_rows"),
    ],
    ids=["counts its calls", "looks at positions", "looks at names", "does not pickle"],
)
def test_wrong_notions_fail_by_name(make: Callable[[], Any], expected: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_notion(make(), draws=DRAWS)
    assert caught.value.property == expected, str(caught.value)
    assert expected in NOTION_PROPERTIES


def test_names_that_mean_something_are_not_renamed() -> None:
    check_notion(_names_matter("sex", tolerance=0.01), draws=DRAWS, values={"sex": ["a", "b"]}, properties=["notion_relabelling"])


def test_wrong_arguments() -> None:
    with pytest.raises(InputError, match="properties"):
        check_notion(SHIPPED["parity"](), properties=["nothing"])
    with pytest.raises(InputError, match="notion"):
        check_notion("parity")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="draws"):
        check_notion(SHIPPED["parity"](), draws=0)
