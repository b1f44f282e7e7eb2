"""Two ideas of "nearest"

The squared distance moves all scores of a group alike and stops them at 0 and 1, where they lose their order and their gradient. The
Kullback-Leibler distance moves log-odds alike: no score reaches an edge, and all keep a gradient.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import fairopt as fo

draw = np.random.default_rng(5)
group = draw.choice(["a", "b"], 400)
scores = torch.tensor(1 / (1 + np.exp(-draw.normal(np.where(group == "a", -1.5, 1.0), 1.5))))
notion = fo.DemographicParity("group", tolerance=0.05)
for distance in ("squared", "kl"):
    fair = fo.project(scores, notion, sensitive_features={"group": group}, bounds=(0, 1), distance=distance)
    print(f"{distance:8} at an edge: {int(((fair == 0) | (fair == 1)).sum())} of 400")
    for name, colour in (("a", "C0"), ("b", "C1")):
        mine = np.flatnonzero(group == name)
        mine = mine[np.argsort(scores[mine])]
        plt.plot(scores[mine], fair[mine], colour, linestyle="-" if distance == "kl" else ":", label=f"group {name}, {distance}")
plt.xlabel("probability before")
plt.ylabel("probability after")
plt.legend()
plt.show()
