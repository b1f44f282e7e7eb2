"""What a controller tells: one step's outcome, and the whole run's report with thinned curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple


class StreamStep(NamedTuple):
    """The outcome of one step, for the components (constraint and stratum) that it touched.

    scores       in the type, shape, dtype and device that came: the numbers that were counted
    prices       price of each constraint's limit (>= 0) at this step
    pooled_gaps  the figure that the tolerance limits, over all that was sent so far (or the window); None while vacuous
    counts       samples by constraint and group
    dropped      constraints that are still vacuous: fewer than two groups seen

    Examples:
        >>> from fairopt.streaming import PooledParity
        >>> stream = PooledParity(fo.DemographicParity("sex", tolerance=0.1), bounds=(0, 1))
        >>> step = stream.step(torch.tensor([0.2, 0.6]), sensitive_features=["f", "m"])
        >>> step.scores, step.counts
        (tensor([0.2879, 0.5121]), {'DemographicParity(sex)': {'sex=f': 1.0, 'sex=m': 1.0}})
    """

    scores: Any
    prices: dict[str, float]
    pooled_gaps: dict[str, float | None]
    counts: dict[str, dict[str, float]]
    dropped: tuple[str, ...]


class Curve:
    """At most ``capacity`` points (samples, gap, bound, distortion); when full, every second one goes and the stride doubles."""

    __slots__ = ("capacity", "points", "seen", "stride")

    def __init__(self, capacity: int = 2000) -> None:
        self.capacity = capacity
        self.points: list[tuple[int, float | None, float | None, float]] = []
        self.stride = 1
        self.seen = 0

    @property
    def due(self) -> bool:
        """Count one step; whether it is to be recorded."""
        self.seen += 1
        return self.seen % self.stride == 0

    def add(self, samples: int, gap: float | None, bound: float | None, distortion: float) -> None:
        self.points.append((samples, gap, bound, distortion))
        if len(self.points) >= self.capacity:
            self.points = self.points[1::2]
            self.stride *= 2

    def save(self) -> tuple[list[tuple[int, float | None, float | None, float]], int, int, int]:
        """All that ``restore`` needs; the points are not copied."""
        return self.points, len(self.points), self.stride, self.seen

    def restore(self, saved: tuple[list[tuple[int, float | None, float | None, float]], int, int, int]) -> None:
        self.points, length, self.stride, self.seen = saved
        del self.points[length:]

    def to_dict(self) -> dict[str, Any]:
        return {"stride": self.stride, "seen": self.seen, "points": [list(p) for p in self.points]}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Curve:
        """A curve from ``to_dict``; foreign data raise any of KeyError, TypeError, ValueError."""
        curve = cls()
        curve.stride, curve.seen = int(state["stride"]), int(state["seen"])
        if curve.stride < 1 or curve.seen < 0:
            raise ValueError(f"stride {curve.stride}, seen {curve.seen}")
        curve.points = [(int(n), _float(gap), _float(bound), float(change)) for n, gap, bound, change in state["points"]]
        if not len(curve.points) < curve.capacity:
            raise ValueError(f"{len(curve.points)} points, at most {curve.capacity - 1} are kept")
        return curve


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


@dataclass(frozen=True)
class StreamReport:
    """The state of a stream.

    controller   the controller's name;  samples, steps  what it has sent
    pooled_gaps  by constraint and stratum, None while vacuous;  limits  what each must not exceed in the long run
    pooled_gap   the largest of them relative to its limit, and its limit; None while all are vacuous
    bound        the proved bound on that gap now in force, None where none is proved (``why_no_bound`` says why)
    bounds       by constraint and stratum
    distortion   mean squared change of the scores
    prices       of the last step that touched each constraint
    counts       samples by constraint and group;  pending  sent samples whose targets have not come
    curve        points (samples, pooled gap, bound, distortion so far), at most 2,000
    window       the window that the figures are of, as in ``to_dict``
    extra        what only this controller knows

    Examples:
        >>> from fairopt.streaming import PooledParity
        >>> stream = PooledParity(fo.DemographicParity("sex", tolerance=0.1), bounds=(0, 1))
        >>> step = stream.step([0.2, 0.6], sensitive_features=["f", "m"])
        >>> report = stream.report()
        >>> report.samples, report.counts, round(report.pooled_gap, 3)
        (2, {'DemographicParity(sex)': {'sex=f': 1.0, 'sex=m': 1.0}}, 0.224)
    """

    controller: str
    samples: int
    steps: int
    pooled_gap: float | None
    limit: float
    bound: float | None
    why_no_bound: str
    pooled_gaps: dict[str, float | None]
    limits: dict[str, float]
    bounds: dict[str, float | None]
    distortion: float
    prices: dict[str, float]
    counts: dict[str, dict[str, float]]
    pending: int
    window: dict[str, Any]
    curve: tuple[tuple[int, float | None, float | None, float], ...]
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def vacuous(self) -> bool:
        """Whether nothing was compared so far: there were never two groups of one constraint."""
        return self.pooled_gap is None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {"format": 1, **asdict(self), "vacuous": self.vacuous}

    def __str__(self) -> str:
        def show(x: float | None, none: str = "vacuous") -> str:
            return none if x is None else f"{x:.5f}"

        lines = [
            f"{self.controller}: {self.samples:,} samples in {self.steps:,} steps",
            f"  pooled gap   {show(self.pooled_gap)}  (limit {self.limit:g})",
            f"  bound        {show(self.bound, 'none')}" + (f"  ({self.why_no_bound})" if self.bound is None else ""),
            f"  distortion   {self.distortion:.6f}  (mean squared change)",
        ]
        lines += [f"  {label}: gap {show(gap)}, price {self.prices[label]:.4g}" for label, gap in self.pooled_gaps.items()]
        if self.pending:
            lines.append(f"  {self.pending} samples wait for their targets")
        return "\n".join(lines)
