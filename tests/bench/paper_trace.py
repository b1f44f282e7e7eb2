"""Write the trace of the paper's own package that tests/streaming compares ``PrimalDual`` with.

    python tests/bench/paper_trace.py tests/streaming/paper_trace.json

Needs ``fairness-training`` 0.1.0, cvxpy and cvxpylayers on the path (``pip install --no-deps fairness-training==0.1.0`` beside the pinned
closure). The package is run unchanged but for the solver's settings: once as it comes, once with SCS at 1e-10.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairness_training import fair_model

EPS, ETA, B_TAU = 0.05, 0.5, 32
TIGHT = {"eps_abs": 1e-10, "eps_rel": 1e-10, "max_iters": 200_000}
SIZES = (1, 2, 3, 5, 8, 8, 13, 20, 31, 32, 40)
METRICS = {"mean_pred": 1, "mean_pred, two attributes": 2, "mean_residual": 1}
Layer: Any = fair_model.CvxpyLayer


class TightLayer(Layer):  # type: ignore[misc]
    """The package's layer with the solver tightened."""

    def __call__(self, *params: Any) -> Any:
        return super().__call__(*params, solver_args=dict(TIGHT))


def batches(attributes: int, seed: int, both: bool) -> list[dict[str, Any]]:
    """Batches of scores, binary attributes and targets, rounded so that the file is short.

    both: every batch has both groups. The package raises on a batch of residuals without; elsewhere such a row has gap 0.
    """
    rng = np.random.default_rng(seed)
    out = []
    for k in range(33):
        n = max(2, SIZES[k % len(SIZES)]) if both else SIZES[k % len(SIZES)]
        codes = [(rng.random(n) < 0.4).astype(int) for _ in range(attributes)]
        if both:
            codes = [np.concatenate([[0, 1], c[2:]]) for c in codes]
        z = np.round(np.clip(0.35 + 0.3 * codes[0] + rng.normal(0, 0.15, n), 0, 1), 4)
        out.append({"z": z.tolist(), "codes": [c.tolist() for c in codes], "targets": (rng.random(n) < 0.5).astype(float).tolist()})
    return out


def trace(metric: str, attributes: int, stream: list[dict[str, Any]], tight: bool) -> list[dict[str, Any]]:
    """Scores and the price after each batch."""
    fair_model.CvxpyLayer = TightLayer if tight else Layer
    model = fair_model.FairModel(
        input_dim=attributes + 1, protected_attr_idx=list(range(attributes)), prediction_bounds=(0.0, 1.0), fairness_tolerance=EPS,
        b_tau=B_TAU, eta_0=ETA, fairness_metric=metric.split(",")[0], custom_network=Last(),
    )  # fmt: skip
    out = []
    for batch in stream:
        x = torch.tensor([*batch["codes"], batch["z"]], dtype=torch.float64).T
        targets = torch.tensor(batch["targets"], dtype=torch.float64) if metric == "mean_residual" else None
        with torch.no_grad():
            y = model(x, targets, inference=True)
        out.append({"y": [round(v, 10) for v in y[:, 0].tolist()], "price": round(float(model.lambda_dual), 10)})
    return out


class Last(torch.nn.Module):
    """The "network": the scores themselves, the last column."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, -1:]


def main(path: Path) -> None:
    warnings.simplefilter("ignore")
    out: dict[str, Any] = {"eps": EPS, "eta_0": ETA, "b_tau": B_TAU, "streams": {}}
    for seed, (metric, attributes) in enumerate(METRICS.items()):
        stream = batches(attributes, seed, both=metric == "mean_residual")
        out["streams"][metric] = {
            "batches": stream,
            "tight": trace(metric, attributes, stream, tight=True),
            "default": trace(metric, attributes, stream, tight=False),
        }
    path.write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
