"""The dual proximal step of every softness, differentiable by autograd: what ``unrolled`` iterates.

With phi the cost of violations as a function of f, the dual step is  p <- prox of phi* at v with step tau, one step a row.  By
Moreau's identity each constraint first takes the hard step (a = v / tau, the wanted functional values)

    linear   h = tau (a - upper)_+ - tau (lower - a)_+                       range   p = tau (a - clip(a, t, b)),  sum p = 0, b - t = width

(with a ratio: ratio b - t = width and positive parts that are ratio times the negative ones, P those; or, at the tip of that cone, all
values at -width / (1 - ratio), P = -sum p / (1 - ratio))

and softness then shrinks it: quadratic divides by 1 + tau / gamma, priced caps abs(h), and budget widens all limits of its block by
one mu >= 0 until sum abs(h_k) + sum P_r = rho, where P_r is the sum of the positive prices of range r. For a range the same two
rules act on P_r:  b(P) - t(P) = width + mu + P / gamma,  P <= rho, with b and t the water levels that cut tau * P off the top
and the bottom. Everything is piecewise linear: the pieces are found without autograd, the value is then one formula on the piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, BoolArray
from fairopt.basics.range_projection import at_apex, range_flow, range_prices
from fairopt.contract.problem import ProjectionProblem


@dataclass(frozen=True, eq=False)
class DualProx:
    """The step for one problem, in scaled rows. ``lower, upper (L,), width (R,), cap, slope (L + R,)`` are scaled tensors:
    cap = rho (inf without), slope = 1 / gamma (0 without). ``budget`` lists the blocks: their constraints and their cap."""

    problem: ProjectionProblem
    lower: Tensor
    upper: Tensor
    width: Tensor
    cap: Tensor
    slope: Tensor
    budget: tuple[tuple[tuple[int, ...], Tensor], ...]

    def __call__(self, v: Tensor, tau: Tensor) -> Tensor:
        """(m,), steps (m,) -> (m,)"""
        p = self.problem
        a = v / tau
        linear = p.linear
        step = tau[:linear]
        hard = step * (torch.relu(a[:linear] - self.upper) - torch.relu(self.lower - a[:linear]))
        widen = self._widening(a, hard, tau)
        if widen is not None:
            hard = torch.sign(hard) * torch.relu(hard.abs() - step * widen[:linear])
        cap = self.cap[:linear]
        pieces = [torch.minimum(torch.maximum(hard / (1 + step * self.slope[:linear]), -cap), cap)]
        for r, rows in enumerate(p.range_slices):
            k = linear + r
            width = self.width[r] if widen is None else self.width[r] + widen[k]
            one = _range_step if p.ratio[r] == 1.0 else partial(_ratio_step, float(p.ratio[r]))
            pieces.append(one(a[rows], width, tau[rows], self.slope[k], self.cap[k]))
        return torch.cat(pieces)

    def _widening(self, a: Tensor, hard: Tensor, tau: Tensor) -> Tensor | None:
        """(L + R,) mu of each constraint's budget block, 0 elsewhere; None when no block is over its budget."""
        total: Tensor | None = None
        for members, rho in self.budget:
            mu = self._block_widening(members, rho, a, hard, tau)
            if mu is not None:
                indicator = torch.zeros(self.problem.linear + self.problem.ranges, dtype=torch.float64, device="cpu")
                indicator[list(members)] = 1.0
                total = indicator * mu if total is None else total + indicator * mu
        return total

    def _block_widening(self, members: tuple[int, ...], rho: Tensor, a: Tensor, hard: Tensor, tau: Tensor) -> Tensor | None:
        """mu with sum (abs(h_k) - tau mu)_+ + sum P_r(mu) = rho: convex and falling in mu, so Newton from 0 ends."""
        linear = [k for k in members if k < self.problem.linear]
        ranges = [k - self.problem.linear for k in members if k >= self.problem.linear]
        size = hard.detach().abs().numpy()[linear]
        steps = tau.numpy()
        step = steps[linear]
        values = a.detach().numpy()
        target, mu = float(rho.detach()), 0.0
        for _ in range(4 * (len(members) + self.problem.m) + 8):
            active = size > step * mu
            total, slope = float((size - step * mu)[active].sum()), float(step[active].sum())
            pieces: list[tuple[int, BoolArray, BoolArray]] = []
            for r in ranges:
                rows = self.problem.range_slices[r]
                width, ratio = float(self.width.detach()[r]) + mu, float(self.problem.ratio[r])
                if ratio < 1.0:
                    found = _ratio_piece(values[rows], width, steps[rows], ratio, 0.0, np.inf)
                else:
                    found = range_piece(values[rows], width, steps[rows], 0.0, np.inf)
                if found is not None:
                    top, bottom, price = found
                    pieces.append((r, top, bottom))
                    total += price
                    slope += _rate(steps[rows], top, bottom, ratio)
            if total <= target * (1 + 1e-15) or slope == 0.0:
                break
            mu += (total - target) / slope
        else:
            total = target
        if mu == 0.0:
            return None
        return self._mu_on_piece(linear, size > step * mu, pieces, rho, a, hard, tau)

    def _mu_on_piece(
        self,
        linear: list[int],
        active: BoolArray,
        pieces: list[tuple[int, BoolArray, BoolArray]],
        rho: Tensor,
        a: Tensor,
        hard: Tensor,
        tau: Tensor,
    ) -> Tensor:
        """mu as a differentiable formula on the piece that was found."""
        chosen = [k for k, on in zip(linear, active.tolist(), strict=True) if on]
        excess, slope = -rho, float(tau[chosen].sum())
        if chosen:
            excess = excess + hard[chosen].abs().sum()
        for r, top, bottom in pieces:
            rows = self.problem.range_slices[r]
            ratio = float(self.problem.ratio[r])
            rate = _rate(tau[rows].numpy(), top, bottom, ratio)
            apart = _apart(a[rows], tau[rows], torch.from_numpy(top), torch.from_numpy(bottom), ratio)
            excess = excess + rate * (apart - self.width[r])
            slope += rate
        if slope == 0.0:  # rho = 0: every price is 0, however much mu is
            return (hard.abs() / tau[: hard.shape[0]]).max() + a.abs().max() * 2 + 1
        return excess / slope


def _rate(tau: Array, top: BoolArray, bottom: BoolArray, ratio: float = 1.0) -> float:
    """How fast the flow between top and bottom falls as the width grows; at the tip, all rows are both."""
    if ratio < 1.0 and bool((top & bottom).any()):
        return float(tau[top].sum()) / (1.0 - ratio) ** 2
    above = ratio * ratio / float(tau[top].sum()) if ratio else 0.0
    return 1.0 / (above + 1.0 / float(tau[bottom].sum()))


def _apart(a: Tensor, tau: Tensor, top: Tensor, bottom: Tensor, ratio: float) -> Tensor:
    """ratio * (mean of the top) - (mean of the bottom): what exceeds the width."""
    low = _mean(a, tau, bottom)
    return ratio * _mean(a, tau, top) - low if ratio else -low


def _mean(a: Tensor, tau: Tensor, members: Tensor) -> Tensor:
    """The mean of the members of a (K,), weighted by their steps."""
    return (tau * a)[members].sum() / tau[members].sum()


def range_piece(a: Array, width: float, tau: Array, slope: float, cap: float) -> tuple[BoolArray, BoolArray, float] | None:
    """The rows above b, the rows below t, and P, or None when the range of ``a`` fits. ``a``, ``tau`` (K,)."""
    order = np.argsort(a)
    up, step_up = a[order], tau[order]
    down, step_down = up[::-1], step_up[::-1]
    if down[0] - up[0] <= width or cap == 0.0:
        return None
    top_step, bottom_step = np.cumsum(step_down), np.cumsum(step_up)
    top_sum, bottom_sum = np.cumsum(step_down * down), np.cumsum(step_up * up)
    # P at which the next row joins the top or the bottom
    top_breaks = top_sum[:-1] - top_step[:-1] * down[1:]
    bottom_breaks = bottom_step[:-1] * up[1:] - bottom_sum[:-1]
    breaks = np.sort(np.concatenate([top_breaks, bottom_breaks]))
    tops = np.searchsorted(top_breaks, breaks, side="left")
    bottoms = np.searchsorted(bottom_breaks, breaks, side="left")
    level_top, level_bottom = (top_sum[tops] - breaks) / top_step[tops], (bottom_sum[bottoms] + breaks) / bottom_step[bottoms]
    i = int(np.count_nonzero(level_top - level_bottom - width - slope * breaks > 0))  # falling in P: the root lies before breaks[i]
    if i < breaks.size:
        h, low = int(tops[i]), int(bottoms[i])
    else:
        h = low = up.size - 1
    apart = top_sum[h] / top_step[h] - bottom_sum[low] / bottom_step[low] - width
    price = apart / (1 / top_step[h] + 1 / bottom_step[low] + slope)
    if price > cap:
        price = cap
        h = int(np.searchsorted(top_breaks, cap, side="left"))
        low = int(np.searchsorted(bottom_breaks, cap, side="left"))
    top, bottom = np.zeros(a.size, dtype=np.bool_), np.zeros(a.size, dtype=np.bool_)
    top[order[::-1][: h + 1]] = True
    bottom[order[: low + 1]] = True
    return top, bottom, float(price)


def _range_step(a: Tensor, width: Tensor, tau: Tensor, slope: Tensor, cap: Tensor) -> Tensor:
    """(K,) prices of one range: tau (a - b) above b, tau (a - t) below t, 0 between."""
    limits = [float(t.detach()) for t in (width, slope, cap)]
    found = range_piece(a.detach().numpy(), limits[0], tau.numpy(), limits[1], limits[2])
    if found is None:
        return torch.zeros_like(a)
    top, bottom = torch.from_numpy(found[0]), torch.from_numpy(found[1])
    high, low = float(tau[top].sum()), float(tau[bottom].sum())
    mean_top, mean_bottom = _mean(a, tau, top), _mean(a, tau, bottom)
    price = cap if found[2] >= limits[2] else (mean_top - mean_bottom - width) / (1 / high + 1 / low + slope)
    above = torch.where(top, tau * (a - mean_top + price / high), torch.zeros_like(a))
    below = torch.where(bottom, tau * (a - mean_bottom - price / low), torch.zeros_like(a))
    return above + below


def _ratio_piece(a: Array, width: float, tau: Array, ratio: float, slope: float, cap: float) -> tuple[BoolArray, BoolArray, float] | None:
    """As ``range_piece`` with a ratio below 1; at the tip all rows are in the top and in the bottom."""
    gamma = 1.0 / slope if slope > 0.0 else np.inf
    theta = range_prices(a, 1.0 / tau, width, ratio=ratio, rho=cap, gamma=gamma)
    if not theta.any():
        return None
    flow = range_flow(theta, ratio)
    every = np.ones(a.shape, dtype=np.bool_)
    up, down = float(np.maximum(theta, 0.0).sum()), -float(np.minimum(theta, 0.0).sum())
    return (every, every, flow) if at_apex(up, down, ratio) else (theta > 0, theta < 0, flow)


def _ratio_step(ratio: float, a: Tensor, width: Tensor, tau: Tensor, slope: Tensor, cap: Tensor) -> Tensor:
    """(K,) prices of one range with a ratio below 1, as ``_range_step``."""
    limits = [float(t.detach()) for t in (width, slope, cap)]
    found = _ratio_piece(a.detach().numpy(), limits[0], tau.numpy(), ratio, limits[1], limits[2])
    if found is None:
        return torch.zeros_like(a)
    top, bottom = torch.from_numpy(found[0]), torch.from_numpy(found[1])
    rate = _rate(tau.numpy(), found[0], found[1], ratio)
    capped = found[2] >= limits[2]
    price = cap if capped else (_apart(a, tau, top, bottom, ratio) - width) / (1.0 / rate + slope)
    if bool((top & bottom).any()):  # the sum of the prices is -(1 - ratio) times the flow
        return tau * (a - _mean(a, tau, top) - (1.0 - ratio) * price / tau.sum())
    below = torch.where(bottom, tau * (a - _mean(a, tau, bottom) - price / float(tau[bottom].sum())), torch.zeros_like(a))
    if not bool(top.any()):
        return below
    above = tau * (a - _mean(a, tau, top) + ratio * price / float(tau[top].sum()))
    return torch.where(top, above, torch.zeros_like(a)) + below
