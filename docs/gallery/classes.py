"""Parity of every class

Three classes, two groups: the mean probability of each class becomes the same in both groups, to .02, and each row stays a distribution.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import fairopt as fo

draw = np.random.default_rng(6)
group = draw.choice(["a", "b"], 300)
logits = draw.normal(0, 1, (300, 3)) + np.where((group == "a")[:, None], [0.8, 0.0, -0.4], [-0.3, 0.0, 0.7])
probabilities = torch.softmax(torch.tensor(logits), 1)
notion = fo.DemographicParity("group", tolerance=0.02)
solution = fo.project(
    probabilities, notion, sensitive_features={"group": group}, outputs="simplex", distance="kl", bounds=(0, 1), return_solution=True
)
fair = solution.scores
print(solution.status.name, "rows sum to 1 within", f"{float((fair.sum(1) - 1).abs().max()):.0e}")

for k, (words, y) in enumerate((("before", probabilities), ("after", fair))):
    for j, name in enumerate("ab"):
        means = y[group == name].mean(0).numpy()
        plt.bar(np.arange(3) + 0.2 * j + 0.45 * k, means, width=0.18, color=f"C{j}", alpha=1 - 0.5 * k, label=f"group {name}, {words}")
plt.xticks(np.arange(3) + 0.32, ["class 0", "class 1", "class 2"])
plt.ylabel("mean probability")
plt.legend()
plt.show()
