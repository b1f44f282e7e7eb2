"""Positive values whose answer is many orders of magnitude smaller than they: what counts as solved is a share of the answer.

Two groups of two samples with sums A and B have equal means at  y = z sqrt(B / A)  and  z sqrt(A / B): the closed form asked for here.
"""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.basics.errors import FairoptWarning
from fairopt.solve.finish.gate import GRANTING

GROUPS = {"g": ["a", "a", "b", "b"]}


def projected(z: torch.Tensor, tolerance: float) -> fo.Solution:
    notion = fo.DemographicParity("g", tolerance=tolerance)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FairoptWarning)
        return fo.project(z, notion, sensitive_features=GROUPS, distance="kl_positive", return_solution=True)


def expected(z: torch.Tensor) -> torch.Tensor:
    a, b = float(z[:2].sum()), float(z[2:].sum())
    ratio = math.sqrt(b) / math.sqrt(a)
    return torch.cat([z[:2] * ratio, z[2:] / ratio])


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.floats(1.0, 10.0)] * 4),
    st.integers(0, 40),
    st.integers(-40, 0),
    st.sampled_from([0.0, 1e-12]),
    st.booleans(),
)
def test_an_answer_far_under_its_input_is_the_nearest(values, high, low, tolerance, swapped):
    z = torch.tensor(values, dtype=torch.float64) * torch.tensor([10.0**high, 10.0**high, 10.0**low, 10.0**low], dtype=torch.float64)
    z = (z.flip(0) if swapped else z).requires_grad_()
    solution = projected(z, tolerance * 10.0 ** ((high + low) / 2))
    want = expected(z.detach())
    assert solution.status in GRANTING
    assert solution.certificate.kkt_bound <= 1e-6 * float(want.max())
    torch.testing.assert_close(solution.scores.detach(), want, rtol=1e-8, atol=0.0)
    solution.scores.sum().backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad, want / z.detach(), rtol=1e-4, atol=0.0)  # of the sum, 2 sqrt(A B)


@pytest.mark.parametrize("values", [[1e300, 1e-300, 1.0, 2.0], [1e200, 1e200, 1e-200, 1e-200], [5e-324, 1e-310, 0.5, 0.9]])
@pytest.mark.parametrize("tolerance", [0.0, 1e-170])
def test_what_the_search_does_not_reach_is_never_granted(values, tolerance):
    z = torch.tensor(values, dtype=torch.float64)
    solution = projected(z, tolerance)
    near = bool(((solution.scores - expected(z)).abs() <= 1e-6 * expected(z).max()).all())
    assert near or solution.status not in GRANTING
