"""Parity among positives or negatives when no label is known: the labels' probabilities take the labels' place.

The mean of the scores over "target = 1" in group g is  sum t_i y_i / sum t_i  over g. At prediction t is not known; with calibrated
probabilities p the row  sum p_i y_i / sum p_i  has the same expectation, up to the rounding of a ratio. For "target = 0": 1 - p_i.
The rows are affine in the scores, so this is one more notion for the same projection. No target enters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import fairopt as fo
from fairopt.basics.errors import UnsupportedError
from fairopt.notions.parity import Parity

if TYPE_CHECKING:
    from fairopt.layer.prepared import Prepared

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.str_]
Events = tuple[int | None, ...]


def parity(notion: fo.Notion) -> tuple[str, float, Events]:
    """Attribute, tolerance and events of a parity between all pairs of groups. UnsupportedError for other notions."""
    if not isinstance(notion, Parity) or notion.to != "pairs" or notion.given is not None or len(notion.attributes) != 1:
        raise UnsupportedError(f"notion: got {notion!r}, expected parity of rates between all pairs of groups of one attribute")
    return notion.attributes[0], float(notion.tolerance), notion.events


def compiled(tolerance: float, events: Events, p: Floats, groups: Groups, bounds: tuple[float, float] | None) -> Prepared:
    """Parity of a batch with label probabilities p (n,) and groups (n,), ready to project scores (n,)."""
    notion: fo.Notion = fo.DemographicParity("group", tolerance=tolerance)
    if events != (None,):
        members = (groups == np.unique(groups)[:, None]).astype(np.float64)  # (K, n)
        weighted = [members * w for w in _weights(p, events)]
        notion = expected_parity("group", tolerance=tolerance, rows=[w / w.sum(1, keepdims=True) for w in weighted])
    return fo.compile(notion, sensitive_features={"group": groups}, bounds=bounds)


@fo.notion(needs_targets=False)
def expected_parity(batch: Any, attribute: str, tolerance: float, rows: list[Floats]) -> Iterator[Any]:
    """rows: one (K, n) array an event; its K weighted sums of the scores lie within ``tolerance`` of each other."""
    for event in rows:
        yield batch.range([batch.weighted(weights * batch.n) for weights in event]) <= tolerance


def _weights(p: Floats, events: Events) -> tuple[Floats, ...]:
    """How far each sample belongs to each event, (n,) in [0, 1]."""
    return tuple({None: np.ones_like(p), 1: p, 0: 1 - p}[event] for event in events)
