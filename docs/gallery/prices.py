"""What parity costs, and its price

The dual price of a row says how fast the squared distance to the scores grows as the tolerance shrinks. The slope of the curve, taken by
differences, and the price that comes with the solution are the same number.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import fairopt as fo

draw = np.random.default_rng(2)
group = draw.choice(["a", "b"], 300)
scores = torch.tensor(np.clip(draw.normal(np.where(group == "a", 0.3, 0.7), 0.2), 0, 1))
tolerances = np.linspace(0.0, 0.4, 41)
distance, price = [], []
for tolerance in tolerances:
    notion = fo.DemographicParity("g", tolerance=tolerance)
    solution = fo.project(scores, notion, sensitive_features={"g": group}, bounds=(0, 1), return_solution=True)
    distance.append(0.5 * float((solution.scores - scores).square().sum()))
    price.append(float(solution.prices.abs().sum()))
slope = -np.gradient(distance, tolerances)
print("largest difference of slope and price, as a share:", f"{np.abs(slope - price)[1:-1].max() / max(price):.3f}")

plt.plot(tolerances, slope, label="slope of the distance, by differences")
plt.plot(tolerances, price, "--", label="dual price of the solution")
plt.xlabel("tolerance")
plt.ylabel("squared distance for one unit of tolerance")
plt.legend()
plt.show()
