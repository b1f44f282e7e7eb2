"""Fairness over a stream: controllers that keep the *pooled* gap of everything sent near the tolerance. Importing this loads no torch.

    controller = PooledParity(notion, bounds=(0, 1))
    controller.step(0.7, sensitive_features="a").scores

Source: claims P1-P6, S1-S5, N1, N2 (docs/streaming.md).
"""

from __future__ import annotations

from fairopt.streaming.controller import Controller
from fairopt.streaming.cumulative import Cumulative
from fairopt.streaming.durable.store import DurableStream
from fairopt.streaming.families import NOTIONS, Family, anchored, named, parity
from fairopt.streaming.plan import Plan
from fairopt.streaming.pooled import PooledParity
from fairopt.streaming.primal_dual import PrimalDual
from fairopt.streaming.report import StreamReport, StreamStep
from fairopt.streaming.windows import AllTime, Forget, Sliding

__all__ = [
    "NOTIONS",
    "AllTime",
    "Controller",
    "Cumulative",
    "DurableStream",
    "Family",
    "Forget",
    "Plan",
    "PooledParity",
    "PrimalDual",
    "Sliding",
    "StreamReport",
    "StreamStep",
    "anchored",
    "named",
    "parity",
]
