"""The evaluators of the dual: the only place where the dual methods touch all n samples.

``VectorDual`` works on whole numpy vectors in cell order: any structure, best for small n. ``SlicedDual`` walks over the cells as
slices of a torch tensor with float64 sums, without temporaries of size n: for large n, and for other devices.
"""

from __future__ import annotations

from fairopt.solve.dual.chunked import SlicedDual
from fairopt.solve.dual.evaluator import Dual, Evaluation, Transition, round_inward
from fairopt.solve.dual.vector import VectorDual

SMALL = 4096  # below it numpy on whole vectors beats sliced torch

__all__ = ["SMALL", "Dual", "Evaluation", "SlicedDual", "Transition", "VectorDual", "round_inward"]
