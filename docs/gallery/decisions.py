"""Decisions, not scores

Fair scores do not make fair decisions at one half. ``FairDecisions`` chooses a threshold for each group, with a coin between two where it
must: the curve shows how many decisions are right at each tolerance on the rate of saying yes.
"""

import matplotlib.pyplot as plt
import numpy as np

import fairopt as fo

draw = np.random.default_rng(9)
group = draw.choice(["a", "b"], 4000, p=[0.4, 0.6])
scores = np.clip(draw.normal(np.where(group == "a", 0.4, 0.6), 0.2), 0, 1)
label = (draw.random(4000) < scores).astype(int)
tolerances = [0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4]
right, gap = [], []
for tolerance in tolerances:
    rule = fo.FairDecisions(fo.DemographicParity("group", tolerance=tolerance), random_state=0)
    rule.fit(scores, label, sensitive_features={"group": group})
    yes = rule.predict_proba(scores, sensitive_features={"group": group})[:, 1]  # 0 or 1, or between where a coin decides
    right.append(float(np.where(label == 1, yes, 1 - yes).mean()))
    gap.append(float(abs(yes[group == "a"].mean() - yes[group == "b"].mean())))
    print(f"tolerance {tolerance:4}  right {right[-1]:.4f}  gap {gap[-1]:.4f}")

plt.plot(gap, right, "o-")
plt.xlabel("gap of the rates of saying yes")
plt.ylabel("share of right decisions")
plt.show()
