"""``PrimalDual``: the paper's streaming rule, as it is.

    batch t, n_t samples:   y_t = argmin ||y - z_t||^2 + p_t n_t gap_t(y)  in the box        (no 1/2 before the square)
                            p_{t+1} = max(0, p_t + eta_t n_t (gap_t(y_t) - eps)),   eta_t = eta_0 / sqrt(t),   p_1 = 0

gap_t is the largest gap over all rows of the notion *in this batch*; a row without both groups counts as gap 0. Batches with
n_t >= b_tau go through the hard layer and change neither p nor t. In the terms of ``ProjectionProblem`` the step has budget softness with
limits [0, 0] and rho = p_t n_t / 2.

Proved (claims S1-S4): sum_t n_t (gap_t - eps) <= p_{T+1} / eta_T on every stream. Nothing follows for the *pooled* gap (S5): with batches
of one sample the rule does nothing at all (B4). So ``report().bound`` is None; the quantity that the rule bounds is in ``report().extra``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, sqrt
from typing import Any, ClassVar

import numpy as np

from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.streaming.controller import Controller
from fairopt.streaming.exact import ZERO
from fairopt.streaming.journal import Journal
from fairopt.streaming.ledger import Component
from fairopt.streaming.state import field, number, whole
from fairopt.streaming.step_solver import FloatArray, Touch, answer_budget, answer_hard, apply_shifts
from fairopt.streaming.vocabulary import Missing


class PrimalDual(Controller):
    """The paper's rule; for comparison. ``eta_0`` > 0 is the step length, ``b_tau`` the batch size from which the hard layer is used.

    Other arguments as in ``Controller``. InputError for a step or a size that is not positive, UnsupportedError for several tolerances.
    price, soft_steps: p_{t+1} and the number T of soft batches so far.

    Examples:
        >>> from fairopt.streaming import PrimalDual
        >>> stream = PrimalDual(fo.DemographicParity("sex", tolerance=0.1), bounds=(0, 1))
        >>> for _ in range(2):
        ...     print(stream.step(torch.tensor([0.2, 0.6]), sensitive_features=["f", "m"]).scores)
        tensor([0.2000, 0.6000])
        tensor([0.4000, 0.4000])
        >>> round(stream.price, 3), stream.soft_steps
        (0.229, 2)
    """

    name: ClassVar[str] = "PrimalDual"
    _scalars: ClassVar[tuple[str, ...]] = (*Controller._scalars, "_price", "soft_steps", "_soft_samples", "_gap_sum")

    def __init__(
        self,
        notion: object,
        *,
        bounds: Any,
        groups: Any = None,
        missing_group: Missing = "error",
        pos_label: Any = None,
        eta_0: float = 0.5,
        b_tau: int = 64,
    ) -> None:
        super().__init__(notion, bounds=bounds, groups=groups, missing_group=missing_group, pos_label=pos_label)
        if not (isinstance(eta_0, (int, float)) and isfinite(eta_0) and eta_0 > 0):
            raise InputError(f"eta_0: expected a number > 0, got {eta_0!r}")
        if isinstance(b_tau, bool) or not isinstance(b_tau, int) or b_tau < 1:
            raise InputError(f"b_tau: expected a whole number >= 1, got {b_tau!r}")
        limits = {f.limit_of_gap for f in self.plan.families}
        if len(limits) > 1 or any(f.kind == "anchored" and not f.residual for f in self.plan.families):
            raise UnsupportedError(
                "PrimalDual: the paper's rule has one tolerance for all rows, and gaps or mean residuals as rows; use PooledParity"
            )
        self.tolerance = limits.pop()
        self.eta_0, self.b_tau = float(eta_0), b_tau
        self._tolerance = self._families[0].limit_of_gap  # in units
        self._price = 0.0
        self.soft_steps = 0
        self._soft_samples = 0
        self._gap_sum = 0.0  # sum of n_t gap_t over soft batches
        self._features: dict[str, list[Any]] = {}
        self._targets: FloatArray | None = None

    @property
    def price(self) -> float:
        """p_{t+1}, in units of the scores."""
        return self._price * self.frame.unit

    @price.setter
    def price(self, price: float) -> None:
        self._price = float(price) * self.frame.inverse

    def _options(self) -> dict[str, Any]:
        return {"eta_0": self.eta_0, "b_tau": self.b_tau}

    def _extra(self) -> dict[str, Any]:
        """price; soft_steps T; batch_gap: sample-weighted mean of batch gaps; batch_gap_bound: eps + p_{T+1} / (eta_T N_T) (claim S1)."""
        bound = None
        if self._soft_samples:
            bound = self.tolerance + self.price * sqrt(self.soft_steps) / (self.eta_0 * self._soft_samples)
        return {
            "price": self.price,
            "soft_steps": self.soft_steps,
            "soft_samples": self._soft_samples,
            "gap_sum": self._gap_sum * self.frame.unit,
            "batch_gap": self._gap_sum / self._soft_samples * self.frame.unit if self._soft_samples else None,
            "batch_gap_bound": bound,
        }

    def _read_extra(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        inverse = self.frame.inverse
        return {
            "_price": number(field(extra, "price", "extra"), "extra.price", least=0.0) * inverse,
            "soft_steps": whole(field(extra, "soft_steps", "extra"), "extra.soft_steps"),
            "_soft_samples": whole(field(extra, "soft_samples", "extra"), "extra.soft_samples"),
            "_gap_sum": number(field(extra, "gap_sum", "extra"), "extra.gap_sum", least=0.0) * inverse,
        }

    def observe(self, keys: Any, targets: Any) -> None:
        raise UnsupportedError("PrimalDual: the paper's rule has no late targets; give targets with the step, or use PooledParity")

    def merge(self, other: Controller) -> None:
        raise UnsupportedError("PrimalDual: its price is no sum, so states cannot be merged; use PooledParity")

    def _keys(self, key: Any, targets: FloatArray | None, n: int) -> list[str | int] | None:
        if targets is None and self.plan.needs_targets:
            raise InputError("targets: PrimalDual needs them with the step for this notion")
        self._targets = targets
        return super()._keys(key, targets, n)

    def _place(self, features: dict[str, list[Any]], targets: FloatArray | None, provisional: FloatArray, n: int, journal: Journal) -> Any:
        self._features = features  # the general solver reads the batch again; held under the lock
        return super()._place(features, targets, provisional, n, journal)

    def _answer(self, z: FloatArray, touches: Sequence[Touch]) -> FloatArray:
        n = len(z)
        hard = n >= self.b_tau
        batch = [Touch(_empty_twin(t.component), t.where, t.codes, t.targets) for t in touches]
        simple = len(self.plan.families) == 1 and len(batch) <= 1 and self.plan.families[0].kind == "range"
        rho = 0.5 * self._price * n
        if not batch or (rho == 0.0 and not hard):
            y = z
        elif simple:
            touch = batch[0]
            shifts = answer_hard(z, touch, self._low, self._high) if hard else answer_budget(z, touch, rho, self._low, self._high)
            y = np.clip(apply_shifts(z, touch, shifts), self._low, self._high)
        else:
            y = self._general(z, None if hard else rho)
        if not hard:
            gap = max((g for t in batch if (g := _batch_gap(t, y)) is not None), default=0.0)
            self.soft_steps += 1
            self._soft_samples += n
            self._gap_sum += n * gap
            self._price = max(0.0, self._price + self.eta_0 / sqrt(self.soft_steps) * n * (gap - self._tolerance))
        for touch in touches:
            touch.component.price = self._price
        return y

    def _general(self, z: FloatArray, rho: float | None) -> FloatArray:
        """Several families or strata: one projection by the front door, with budget softness (rho) or hard limits (None)."""
        import torch

        from fairopt.compiler import compile_problem
        from fairopt.compiler.infeasible import as_asked
        from fairopt.contract.backend import Status
        from fairopt.feasibility import infeasibility
        from fairopt.solve import solve
        from fairopt.solve.told import report
        from fairopt.streaming.from_notion import notion_of

        frame = self.frame  # the front door gets the scores as they came, since targets may be labels
        families = self.plan.families
        notion = notion_of(families) if rho is None else notion_of(families, tolerance=0.0).budgeted(rho * frame.unit)
        targets = None if self._targets is None else torch.from_numpy(self._targets)
        scores = torch.from_numpy(frame.leave(z))
        compiled = compile_problem(  # a batch in which nothing is asked is no news to a stream
            notion, n=len(z), sensitive_features=self._features, targets=targets, bounds=(self.lb, self.ub)
        )
        problem, _ = compiled.now("raise")
        solution = solve(scores, problem, certify=False)
        proof = infeasibility(problem) if solution.status is Status.INFEASIBLE else None
        if proof is not None:
            as_asked(problem, proof, "raise")
        report(solution)
        return frame.enter(np.clip(np.asarray(solution.scores.detach().numpy(), dtype=np.float64), self.lb, self.ub))

    def _update_bounds(self, touches: Sequence[Touch], before: Sequence[tuple[float, float | None]]) -> None:
        del touches, before  # no bound on the pooled gap (S5)

    def _reason(self) -> str:
        return "the paper's rule bounds the mean of batch gaps, not the pooled gap (claim S5); see extra"


def _empty_twin(component: Component) -> Component:
    """The same groups with nothing sent: the rows of one batch alone."""
    twin = Component(component.family, ("",) * len(component.family.given), exact=False)
    twin.index, twin.names = component.index, component.names  # no group comes to it that is not there already
    size = len(component.counts)
    twin.counts, twin.heads, twin.means_, twin.weights = [0.0] * size, [0.0] * size, [0.0] * size, [0.0] * size
    twin.sums, twin.times = [ZERO] * size, [0] * size
    return twin


def _batch_gap(touch: Touch, y: FloatArray) -> float | None:
    """The gap of one constraint within the batch; None where vacuous."""
    values = y[touch.where] if touch.targets is None else y[touch.where] - touch.targets
    if len(values) == 1:
        return abs(float(values[0])) if touch.component.family.kind == "anchored" else None
    size = len(touch.component.counts)
    counts = np.bincount(touch.codes, minlength=size)
    means = np.bincount(touch.codes, weights=values, minlength=size)[counts > 0] / counts[counts > 0]
    if touch.component.family.kind == "anchored":
        return float(np.abs(means).max())
    return float(means.max() - means.min()) if len(means) > 1 else None
