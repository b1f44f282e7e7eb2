"""What a tolerance does

From left to right the tolerance shrinks: the group means come together along straight lines, until they are equal at 0. The lines bend
where scores meet the bounds.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import fairopt as fo

draw = np.random.default_rng(1)
group = np.repeat(["a", "b", "c"], [200, 300, 100])
centre = np.repeat([0.3, 0.55, 0.8], [200, 300, 100])
scores = torch.tensor(np.clip(draw.normal(centre, 0.2), 0, 1))
tolerances = np.linspace(0.6, 0.0, 31)
means = []
for tolerance in tolerances:
    fair = fo.project(scores, fo.DemographicParity("g", tolerance=tolerance), sensitive_features={"g": group}, bounds=(0, 1))
    means.append([float(fair[group == name].mean()) for name in "abc"])
print("at tolerance 0 the means are", [round(m, 6) for m in means[-1]])

plt.plot(tolerances, means, label=["group a", "group b", "group c"])
plt.gca().invert_xaxis()
plt.xlabel("tolerance")
plt.ylabel("mean score")
plt.legend()
plt.show()
