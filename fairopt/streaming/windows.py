"""Which past counts: all of it, the last n samples, or all with a fading weight. The guarantee of each stands beside it.

| window            | memory                       | bound on the pooled gap D, two groups                                     |
|-------------------|------------------------------|---------------------------------------------------------------------------|
| ``AllTime()``     | a few numbers a group        | eps + pi R / (kappa sqrt(N))                (Theorem B)                   |
| ``Forget(h)``     | a few numbers a group        | the same with N = sum of the weights        (Theorem B holds: see below)  |
| ``Sliding(n)``    | n samples, about 200 n bytes | none: a sample that leaves can raise the gap, whatever is sent            |

Why Theorem B survives forgetting: fading by f multiplies all counts and sums, so no mean moves. A saturated step then gives
``|D_t| <= |D_{t-1}| f N_{t-1} / N_t``, and the threshold falls by sqrt(N_{t-1} / N_t) at most, which is no less, since f <= 1 and
N_t >= f N_{t-1}. With N at its limit 1 / (1 - f) = h / ln 2 the bound stands still at eps + pi R / (kappa sqrt(h / ln 2)).

The means are kept as such, beside the weights, and no weight underflows (``ledger``): a group that is long absent keeps its mean and
its part in the gap, however little it weighs, and what comes of it next counts for nearly all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fairopt.basics.errors import InputError


@dataclass(frozen=True)
class AllTime:
    """Every sample ever sent counts the same.

    Examples:
        >>> from fairopt.streaming import AllTime, PooledParity
        >>> stream = PooledParity(fo.DemographicParity("sex", tolerance=0.1), bounds=(0, 1), window=AllTime())
        >>> for _ in range(3):
        ...     step = stream.step([0.2, 0.6], sensitive_features=["f", "m"])
        >>> step.counts
        {'DemographicParity(sex)': {'sex=f': 3.0, 'sex=m': 3.0}}
    """

    @property
    def fading(self) -> float:
        """What a sample's weight is multiplied by when the next one comes: 1."""
        return 1.0


@dataclass(frozen=True)
class Sliding:
    """The last ``n`` samples count, the others not. Holds n samples in memory (about 200 bytes each). No bound is proved.

    InputError for n below 1.

    Examples:
        >>> from fairopt.streaming import PooledParity, Sliding
        >>> stream = PooledParity(fo.DemographicParity("sex", tolerance=0.1), bounds=(0, 1), window=Sliding(2))
        >>> for _ in range(3):
        ...     step = stream.step([0.2, 0.6], sensitive_features=["f", "m"])
        >>> step.counts
        {'DemographicParity(sex)': {'sex=f': 1.0, 'sex=m': 1.0}}
    """

    n: int

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 1:
            raise InputError(f"Sliding: n must be a whole number >= 1, got {self.n!r}")

    @property
    def fading(self) -> float:
        """As ``AllTime``: inside the window every sample counts the same."""
        return 1.0


@dataclass(frozen=True)
class Forget:
    """A sample's weight halves every ``half_life`` samples (of its stratum). Weighted sums are plain floats, not exact ones.

    InputError for a half-life that is not above 0.

    Examples:
        >>> from fairopt.streaming import Forget, PooledParity
        >>> stream = PooledParity(fo.DemographicParity("sex", tolerance=0.1), bounds=(0, 1), window=Forget(half_life=1000))
        >>> stream.step(torch.tensor([0.2, 0.6]), sensitive_features=["f", "m"]).scores
        tensor([0.2879, 0.5121])
    """

    half_life: float

    def __post_init__(self) -> None:
        if isinstance(self.half_life, bool) or not isinstance(self.half_life, (int, float)) or not 0 < self.half_life < float("inf"):
            raise InputError(f"Forget: half_life must be a number > 0 (in samples), got {self.half_life!r}")

    @property
    def fading(self) -> float:
        """What a sample's weight is multiplied by when the next one of its stratum comes."""
        return float(0.5 ** (1.0 / self.half_life))


Window = AllTime | Sliding | Forget


def window_to_dict(window: Window) -> dict[str, Any]:
    """For state_dict and the store."""
    if isinstance(window, Sliding):
        return {"kind": "sliding", "n": window.n}
    if isinstance(window, Forget):
        return {"kind": "forget", "half_life": window.half_life}
    return {"kind": "all"}
