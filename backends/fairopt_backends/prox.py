"""The dual proximal step of every softness, differentiable by autograd: what ``unrolled`` iterates.

With phi the cost of violations as a function of f, the dual step is  p <- prox of phi* at v with step tau.  By Moreau's identity
each constraint first takes the hard step (a = v / tau, the wanted functional values)

    linear   h = tau (a - upper)_+ - tau (lower - a)_+                       range   p = tau (a - clip(a, t, b)),  sum p = 0, b - t = width

and softness then shrinks it: quadratic divides by 1 + tau / gamma, priced caps abs(h), and budget widens all limits of its block by
one mu >= 0 until sum abs(h_k) + sum P_r = rho, where P_r is the sum of the positive prices of range r. For a range the same two
rules act on P_r:  b(P) - t(P) = width + mu + P / gamma,  P <= rho, with b and t the water levels that cut tau * P off the top
and the bottom. Everything is piecewise linear: the pieces are found without autograd, the value is then one formula on the piece.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fairopt.problem import Array, BoolArray, ProjectionProblem


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

    def __call__(self, v: Tensor, tau: float) -> Tensor:
        """(m,) -> (m,)"""
        p = self.problem
        a = v / tau
        linear = p.linear
        hard = tau * (torch.relu(a[:linear] - self.upper) - torch.relu(self.lower - a[:linear]))
        widen = self._widening(a, hard, tau)
        if widen is not None:
            hard = torch.sign(hard) * torch.relu(hard.abs() - tau * widen[:linear])
        cap = self.cap[:linear]
        pieces = [torch.minimum(torch.maximum(hard / (1 + tau * self.slope[:linear]), -cap), cap)]
        for r, rows in enumerate(p.range_slices):
            k = linear + r
            width = self.width[r] if widen is None else self.width[r] + widen[k]
            pieces.append(_range_step(a[rows], width, tau, self.slope[k], self.cap[k]))
        return torch.cat(pieces)

    def _widening(self, a: Tensor, hard: Tensor, tau: float) -> Tensor | None:
        """(L + R,) mu of each constraint's budget block, 0 elsewhere; None when no block is over its budget."""
        total: Tensor | None = None
        for members, rho in self.budget:
            mu = self._block_widening(members, rho, a, hard, tau)
            if mu is not None:
                indicator = torch.zeros(self.problem.linear + self.problem.ranges, dtype=torch.float64)
                indicator[list(members)] = 1.0
                total = indicator * mu if total is None else total + indicator * mu
        return total

    def _block_widening(self, members: tuple[int, ...], rho: Tensor, a: Tensor, hard: Tensor, tau: float) -> Tensor | None:
        """mu with sum (abs(h_k) - tau mu)_+ + sum P_r(mu) = rho: convex and falling in mu, so Newton from 0 ends."""
        linear = [k for k in members if k < self.problem.linear]
        ranges = [k - self.problem.linear for k in members if k >= self.problem.linear]
        size = hard.detach().abs().numpy()[linear]
        values = a.detach().numpy()
        target, mu = float(rho.detach()), 0.0
        for _ in range(4 * (len(members) + self.problem.m) + 8):
            active = size > tau * mu
            total, slope = float((size - tau * mu)[active].sum()), tau * int(active.sum())
            pieces: list[tuple[int, BoolArray, BoolArray]] = []
            for r in ranges:
                found = range_piece(values[self.problem.range_slices[r]], float(self.width.detach()[r]) + mu, tau, 0.0, np.inf)
                if found is not None:
                    top, bottom, price = found
                    pieces.append((r, top, bottom))
                    total += price
                    slope += 1.0 / (1.0 / (tau * top.sum()) + 1.0 / (tau * bottom.sum()))
            if total <= target * (1 + 1e-15) or slope == 0.0:
                break
            mu += (total - target) / slope
        else:
            total = target
        if mu == 0.0:
            return None
        return self._mu_on_piece(linear, size > tau * mu, pieces, rho, a, hard, tau)

    def _mu_on_piece(
        self,
        linear: list[int],
        active: BoolArray,
        pieces: list[tuple[int, BoolArray, BoolArray]],
        rho: Tensor,
        a: Tensor,
        hard: Tensor,
        tau: float,
    ) -> Tensor:
        """mu as a differentiable formula on the piece that was found."""
        chosen = [k for k, on in zip(linear, active.tolist(), strict=True) if on]
        excess, slope = -rho, tau * len(chosen)
        if chosen:
            excess = excess + hard[chosen].abs().sum()
        for r, top, bottom in pieces:
            rows = a[self.problem.range_slices[r]]
            rate = 1.0 / (1.0 / (tau * top.sum()) + 1.0 / (tau * bottom.sum()))
            excess = excess + rate * (rows[torch.from_numpy(top)].mean() - rows[torch.from_numpy(bottom)].mean() - self.width[r])
            slope += rate
        if slope == 0.0:  # rho = 0: every price is 0, however much mu is
            return hard.abs().max() / tau + a.abs().max() * 2 + 1
        return excess / slope


def range_piece(a: Array, width: float, tau: float, slope: float, cap: float) -> tuple[BoolArray, BoolArray, float] | None:
    """The rows above b, the rows below t, and P, or None when the range of ``a`` fits. ``a`` (K,)."""
    order = np.argsort(a)
    up = a[order]
    down = up[::-1]
    if down[0] - up[0] <= width or cap == 0.0:
        return None
    count = np.arange(1, up.size)
    # P at which the next row joins the top or the bottom
    top_breaks = tau * (np.cumsum(down)[:-1] - count * down[1:])
    bottom_breaks = tau * (count * up[1:] - np.cumsum(up)[:-1])
    top_sum, bottom_sum = np.cumsum(down), np.cumsum(up)
    breaks = np.sort(np.concatenate([top_breaks, bottom_breaks]))
    tops = np.searchsorted(top_breaks, breaks, side="left") + 1
    bottoms = np.searchsorted(bottom_breaks, breaks, side="left") + 1
    gap = (top_sum[tops - 1] - breaks / tau) / tops - (bottom_sum[bottoms - 1] + breaks / tau) / bottoms - width - slope * breaks
    i = int(np.count_nonzero(gap > 0))  # falling in P: the root lies before breaks[i]
    if i < breaks.size:
        h, low = int(tops[i]), int(bottoms[i])
    else:
        h = low = up.size
    price = (top_sum[h - 1] / h - bottom_sum[low - 1] / low - width) / (1 / (tau * h) + 1 / (tau * low) + slope)
    if price > cap:
        price = cap
        h = int(np.searchsorted(top_breaks, cap, side="left")) + 1
        low = int(np.searchsorted(bottom_breaks, cap, side="left")) + 1
    top, bottom = np.zeros(a.size, dtype=np.bool_), np.zeros(a.size, dtype=np.bool_)
    top[order[::-1][:h]] = True
    bottom[order[:low]] = True
    return top, bottom, float(price)


def _range_step(a: Tensor, width: Tensor, tau: float, slope: Tensor, cap: Tensor) -> Tensor:
    """(K,) prices of one range: tau (a - b) above b, tau (a - t) below t, 0 between."""
    limits = [float(t.detach()) for t in (width, slope, cap)]
    found = range_piece(a.detach().numpy(), limits[0], tau, limits[1], limits[2])
    if found is None:
        return torch.zeros_like(a)
    top, bottom = torch.from_numpy(found[0]), torch.from_numpy(found[1])
    h, low = int(top.sum()), int(bottom.sum())
    mean_top, mean_bottom = a[top].mean(), a[bottom].mean()
    capped = found[2] >= limits[2]
    price = cap if capped else (mean_top - mean_bottom - width) / (1 / (tau * h) + 1 / (tau * low) + slope)
    above = torch.where(top, tau * (a - mean_top) + price / h, torch.zeros_like(a))
    below = torch.where(bottom, tau * (a - mean_bottom) - price / low, torch.zeros_like(a))
    return above + below
