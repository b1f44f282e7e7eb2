"""A notion of your own

"No group's false-positive rate may pass .2", for scores that are probabilities of saying yes: one line a group. Groups that are under
the limit already are left alone.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import fairopt as fo


@fo.notion
def false_positives_at_most(batch, attribute, *, limit):
    for group in batch.groups(attribute):
        yield batch.mean(group & (batch.targets == 0)) <= limit


draw = np.random.default_rng(4)
group, label = draw.choice(["a", "b", "c"], 500), draw.integers(0, 2, 500)
chance = {"a": 0.12, "b": 0.25, "c": 0.4}
scores = torch.tensor(np.clip(draw.normal(np.vectorize(chance.get)(group) + 0.3 * label, 0.1), 0, 1))
notion = false_positives_at_most("group", limit=0.2)
fair = fo.project(scores, notion, sensitive_features={"group": group}, targets=label, bounds=(0, 1))
rates = {name: [float(y[(group == name) & (label == 0)].mean()) for y in (scores, fair)] for name in "abc"}
print({name: [round(r, 4) for r in both] for name, both in rates.items()})

for k, words in enumerate(("before", "after")):
    plt.bar(np.arange(3) + 0.4 * k, [rates[name][k] for name in "abc"], width=0.38, label=words)
plt.axhline(0.2, color="k", linestyle="--", linewidth=0.8, label="limit")
plt.xticks(np.arange(3) + 0.2, [f"group {name}" for name in "abc"])
plt.ylabel("false-positive rate")
plt.legend()
plt.show()
