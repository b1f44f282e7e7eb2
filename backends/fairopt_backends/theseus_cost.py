"""The residuals of ``theseus`` as a cost function with its Jacobian written out: vmap of autograd takes ten times as long."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from fairopt_backends.modules import load


def distance(f: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """f - clip(f, lower, upper); 0 where a limit is open."""
    return torch.relu(f - upper) - torch.relu(lower - f)


@cache
def cost_class() -> Any:
    """The class, made on first use: its base lives in theseus."""
    th = load("theseus")
    base: Any = th.CostFunction

    class ProjectionCost(base):  # type: ignore[misc]
        """Residuals u - centre, sqrt(hess) extra, sqrt(rho) dist(C x + lam / rho, [lower, upper]); auxiliary variables (1, size)."""

        def __init__(self, x: Any, data: dict[str, Any], matrix: Tensor, rho: float, name: str | None = None) -> None:
            # the default weight is float32, whatever the variables are
            super().__init__(th.ScaleCostWeight(torch.ones(1, 1, dtype=torch.float64, device="cpu")), name=name)
            self.x = x
            self.names = list(data)
            for key, variable in data.items():
                setattr(self, key, variable)
            self.matrix, self.rho = matrix, rho
            self.register_optim_vars(["x"])
            self.register_aux_vars(self.names)

        def _tensor(self, key: str) -> Tensor:
            tensor: Tensor = getattr(self, key).tensor
            return tensor

        def error(self) -> Tensor:
            x, size = self.x.tensor, self._tensor("centre").shape[1]
            parts = [x[:, :size] - self._tensor("centre")]
            if "hess" in self.names:
                parts.append(torch.sqrt(self._tensor("hess")) * x[:, size:])
            if "lam" in self.names:
                beyond = distance(x @ self.matrix.T + self._tensor("lam") / self.rho, self._tensor("lower"), self._tensor("upper"))
                parts.append(self.rho**0.5 * beyond)
            return torch.cat(parts, dim=1)

        def jacobians(self) -> tuple[list[Tensor], Tensor]:
            x, size = self.x.tensor, self._tensor("centre").shape[1]
            diagonal = torch.ones_like(x)
            if "hess" in self.names:
                diagonal = torch.cat([diagonal[:, :size], torch.sqrt(self._tensor("hess")).expand(x.shape[0], -1)], dim=1)
            parts = [torch.diag_embed(diagonal)]
            if "lam" in self.names:
                f = x @ self.matrix.T + self._tensor("lam") / self.rho
                beyond = ((f > self._tensor("upper")) | (f < self._tensor("lower"))).to(x.dtype)
                parts.append(self.rho**0.5 * beyond[:, :, None] * self.matrix)
            return [torch.cat(parts, dim=1)], self.error()

        def dim(self) -> int:
            return int(self.matrix.shape[0] + self.matrix.shape[1])

        def _copy_impl(self, new_name: str | None = None) -> Any:
            data = {key: getattr(self, key).copy() for key in self.names}
            return ProjectionCost(self.x.copy(), data, self.matrix, self.rho, name=new_name)

    return ProjectionCost
