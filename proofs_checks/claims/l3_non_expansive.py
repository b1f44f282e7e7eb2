"""L3: the layer is non-expansive in the norm of its weights."""

from __future__ import annotations

import numpy as np
import torch

from fairopt.testing.claims.closed import groups_case
from fairopt.testing.claims.projection import check_non_expansive
from fairopt.testing.claims.subject import Layer, norm
from proofs_checks.broken_layers import PricesOff, WeightsIgnored, WrongSign
from proofs_checks.claim import Claim, Measurement

STATEMENT = """
For one batch (the same rows, box and weights) and any z, z': `||y(z) - y(z')||_W <= ||z - z'||_W`, for hard rows and for every
softness. The norm is that of the weights. In the Euclidean norm weights (1, 100) with one member a group already give a factor
1.400; for the largest change of one score see N4.
"""
PROOF = """
Let g be the convex softness (0 or infinite for hard rows), y = argmin g + 1/2 ||. - z||_W^2. Then `W(z - y)` is a subgradient of g
at y, and `W(z' - y')` one at y'. Subgradients are monotone: `<W(z - y) - W(z' - y'), y - y'> >= 0`, that is `||y - y'||_W^2 <= <W(z
- z'), y - y'>`. Cauchy-Schwarz gives the claim (and firm non-expansiveness). Equality: both points feasible.
"""


def tight(layer: Layer) -> Measurement:
    """No row binds: the layer is the identity."""
    case, _, _ = groups_case(np.random.default_rng(0), 2)
    y, _ = layer.project(case.scores, case.problem)
    other, _ = layer.project(torch.from_numpy(y + 1.0), case.problem)
    return Measurement(norm(other - y, case.w), norm(np.ones_like(y), case.w), 1e-9)


CLAIMS = (
    Claim(
        "L3",
        "non-expansive in the W-norm",
        "bound",
        "textbook",
        STATEMENT,
        PROOF,
        check_non_expansive,
        Layer(),
        {"weights ignored": WeightsIgnored(), "wrong sign": WrongSign()},
        tight=tight,
        deviations={"prices too large": PricesOff},
    ),
)
