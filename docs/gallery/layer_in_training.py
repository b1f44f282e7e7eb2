"""The layer inside training

A network is trained as it is, and with the fairness layer as its last one. On batches that it was not trained on, the plain one has the
gap of its data; the other one has the gap that was asked for, on every batch.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import fairopt as fo

torch.manual_seed(0)
draw = np.random.default_rng(7)


def batch(n):
    group = draw.integers(0, 2, n)
    x = torch.tensor(draw.normal(size=(n, 4)) + 0.6 * group[:, None], dtype=torch.float32)
    return x, torch.tensor(draw.random(n) < 1 / (1 + np.exp(-x.sum(1).numpy() / 2 + 1))).float(), group


notion = fo.DemographicParity("group", tolerance=0.05)
gaps = {}
for fair in (False, True):
    network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))
    layer = fo.FairnessLayer(notion, bounds=(1e-4, 1 - 1e-4), space="probability")
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    gaps[fair] = []
    for _ in range(200):
        x, y, group = batch(256)
        logits = network(x)
        p = layer(logits, sensitive_features={"group": group}) if fair else torch.sigmoid(logits)
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy(p, y).backward()
        optimizer.step()
        gaps[fair].append(float((p[group == 1].mean() - p[group == 0].mean()).abs().detach()))
print("largest gap of a batch, plain and with the layer:", [round(max(gaps[fair]), 3) for fair in (False, True)])

plt.plot(gaps[False], label="plain")
plt.plot(gaps[True], label="with the layer")
plt.axhline(0.05, color="k", linestyle="--", linewidth=0.8, label="tolerance")
plt.xlabel("step")
plt.ylabel("gap of the batch")
plt.legend()
plt.show()
