"""Scores that come one by one

A batch of one has no gap, so making each batch fair does nothing. The controller looks at all that was sent so far: its gap comes down to
the tolerance and stays there, as near as a proved bound says.
"""

import matplotlib.pyplot as plt
import numpy as np

import fairopt as fo

draw = np.random.default_rng(8)
group = draw.choice(["a", "b"], 2000, p=[0.3, 0.7])
scores = np.clip(draw.normal(np.where(group == "a", 0.4, 0.65), 0.2), 0, 1)
controller = fo.streaming.PooledParity(fo.DemographicParity("group", tolerance=0.05), bounds=(0, 1))
sent = np.array([controller.step(s, sensitive_features=g).scores for s, g in zip(scores.tolist(), group.tolist(), strict=True)])


def gap_so_far(y):
    mean = {name: np.cumsum(np.where(group == name, y, 0)) / np.maximum(np.cumsum(group == name), 1) for name in "ab"}
    return np.abs(mean["a"] - mean["b"])


print("gap of all 2,000:", round(float(gap_so_far(scores)[-1]), 4), "as they came,", round(float(gap_so_far(sent)[-1]), 4), "as sent")

plt.plot(np.arange(20, 2000, 5), gap_so_far(scores)[20::5], label="as they came")
plt.plot(np.arange(20, 2000, 5), gap_so_far(sent)[20::5], label="as sent")
plt.axhline(0.05, color="k", linestyle="--", linewidth=0.8, label="tolerance")
plt.xlabel("scores so far")
plt.ylabel("gap of all so far")
plt.legend()
plt.show()
