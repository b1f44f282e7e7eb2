"""The six kinds of stream on which the controllers are measured: scores in [0, 1] and group codes.

    kind         what happens
    stationary   30 % of group 1, raw gap 0.30
    drift        group 1 grows from 10 % to 90 %
    simpson      no gap within either half, 0.40 over both: level 0.7 with 10 % of group 1, then level 0.2 with 90 %
    runs         150 of group 0, then 50 of group 1, over and over
    late         group 1 is first seen after a quarter
    three        groups 0, 1, 2 with shares 60, 30, 10 % and levels 0.4, 0.6, 0.8

A score is level + 0.3 * group (three: 0.2) + N(0, 0.1), clipped to [0, 1]. The draws come in a fixed order (uniforms for the groups, or one
choice of three, then the noise) from ``default_rng([seed, index of kind])``, so a stream is the same everywhere.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fairopt.basics.errors import InputError

KINDS = ("stationary", "drift", "simpson", "runs", "late", "three")
TOLERANCE = 0.05
LENGTH = 20_000


def stream(kind: str, seed: int, n: int = LENGTH) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Scores (n,) and groups (n,) of one stream."""
    if kind not in KINDS:
        raise InputError(f"kind: unknown stream {kind!r}; known: {', '.join(KINDS)}")
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    position = np.arange(n)
    time = position / n
    first_half = time < 0.5
    share = {"drift": 0.1 + 0.8 * time, "simpson": np.where(first_half, 0.1, 0.9)}.get(kind, np.full(n, 0.3))
    level = np.where(first_half, 0.7, 0.2) if kind == "simpson" else np.full(n, 0.4)
    lift = {"simpson": 0.0, "three": 0.2}.get(kind, 0.3)
    groups = (rng.random(n) < share).astype(np.int64)
    if kind == "runs":
        groups = (position // 50 % 4 == 0).astype(np.int64)
    elif kind == "late":
        groups[: n // 4] = 0
    elif kind == "three":
        groups = rng.choice(3, n, p=[0.6, 0.3, 0.1]).astype(np.int64)
    return np.clip(level + lift * groups + rng.normal(0, 0.1, n), 0, 1), groups
