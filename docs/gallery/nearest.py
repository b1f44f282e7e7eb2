"""The nearest fair scores

Every score of a group moves by the same amount, except where it meets its bounds. Two groups whose means are .2 apart are brought to .05:
the upper group goes down, the lower one up, each as little as possible.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import fairopt as fo

draw = np.random.default_rng(0)
group = draw.choice(["a", "b"], 200, p=[0.3, 0.7])
scores = torch.tensor(np.clip(draw.normal(np.where(group == "a", 0.35, 0.6), 0.25), 0, 1))
notion = fo.DemographicParity("group", tolerance=0.05)
solution = fo.project(scores, notion, sensitive_features={"group": group}, bounds=(0, 1), return_solution=True)
print(solution.status.name, "moved on average by", round(float((solution.scores - scores).abs().mean()), 4))

for name in "ab":
    mine = group == name
    plt.scatter(scores[mine], solution.scores[mine], s=12, label=f"group {name}")
plt.plot([0, 1], [0, 1], "k--", linewidth=0.8, label="unchanged")
plt.xlabel("score before")
plt.ylabel("score after")
plt.legend()
plt.show()
