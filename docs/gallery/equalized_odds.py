"""Equalized odds

Among those whose label is 1, and among those whose label is 0, both groups get the same mean score, to .02. What separates the labels
stays: the two pairs of bars keep their distance.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import fairopt as fo

draw = np.random.default_rng(3)
group, label = draw.choice(["a", "b"], 600), draw.integers(0, 2, 600)
scores = torch.tensor(np.clip(draw.normal(0.3 + 0.3 * label + 0.15 * (group == "b"), 0.15), 0, 1))
notion = fo.EqualizedOdds("group", tolerance=0.02)
fair = fo.project(scores, notion, sensitive_features={"group": group}, targets=label, bounds=(0, 1))
print(fo.gaps(fair, notion, sensitive_features={"group": group}, targets=label))

places = [(g, t) for t in (0, 1) for g in "ab"]
for k, (words, y) in enumerate((("before", scores), ("after", fair))):
    heights = [float(y[(group == g) & (label == t)].mean()) for g, t in places]
    plt.bar(np.arange(4) + 0.4 * k, heights, width=0.38, label=words)
plt.xticks(np.arange(4) + 0.2, [f"group {g}, label {t}" for g, t in places])
plt.ylabel("mean score")
plt.legend()
plt.show()
