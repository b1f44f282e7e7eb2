"""``EarlyStopping``: end training where the validation figure has not improved for a while."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fairopt.basics.errors import InputError
from fairopt.training.state import FORMAT, check_format


class EarlyStopping:
    """Says when to stop. A figure improves when it is below the best so far by more than ``min_delta``; lower is better.

    patience   epochs without improvement that are waited for: with 0, training ends at the first one
    min_delta  what counts as improvement, in the units of the figure

    ``fit`` keeps the state with the least figure, whatever ``min_delta`` says; the two questions are apart.
    InputError for a number that is negative or not finite.

    Examples:
        >>> from fairopt.training import EarlyStopping
        >>> stopping = EarlyStopping(patience=1)
        >>> [stopping.update(figure) for figure in (0.5, 0.4, 0.6, 0.7)], stopping.stopped
        ([False, False, False, True], True)
    """

    def __init__(self, patience: int = 10, min_delta: float = 0.0) -> None:
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 0:
            raise InputError(f"patience: got {patience!r}, expected a whole number of epochs >= 0")
        if not (min_delta >= 0 and math.isfinite(min_delta)):
            raise InputError(f"min_delta: got {min_delta!r}, expected a finite number >= 0")
        self.patience, self.min_delta = patience, float(min_delta)
        self.best = math.inf
        self.waited = 0

    @property
    def stopped(self) -> bool:
        """Whether more than ``patience`` epochs have gone by without improvement."""
        return self.waited > self.patience

    def update(self, figure: float) -> bool:
        """Hear the figure of one more epoch; returns whether to stop now. NaN is an InputError."""
        if math.isnan(figure):
            raise InputError("figure: got nan, expected a number")
        if figure < self.best - self.min_delta:
            self.best, self.waited = float(figure), 0
        else:
            self.waited += 1
        return self.stopped

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` takes."""
        return {"format": FORMAT, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``; patience and min_delta stay as they were given here."""
        check_format(state, "EarlyStopping")
        self.best, self.waited = float(state["best"]), int(state["waited"])
