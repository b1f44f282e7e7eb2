"""A task's rows of one seed: four parts, encoded, with the rows' places in the data set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing
from fairopt.experiments.data.tabular import Dataset, Encoder, Part, Parts
from fairopt.experiments.evidence.protocol import LEAST_ROWS, LEAST_SHARE, MOST_ROWS, SHARES, Task

Names = npt.NDArray[np.str_]
Indices = npt.NDArray[np.int64]
GROUP = "group"
OTHER = "other"
SMALL = 8  # strata with fewer rows are cut together
# Features that say the group in so many words, left out where it is unknown.
REVEALING = {"sba": ("sensitive business", "NewExist", "New")}


@dataclass(frozen=True, eq=False)
class Cut:
    """The four parts of a task and seed.

    fit         training and calibration rows, the latter where ``Parts`` has its validation part; its held-out part is the test part
    validation  rows that choose
    rows        part -> (n,) places in the data set of the validation and test rows
    scale       standard deviation of the training targets: values are divided by it, after their mean was taken off; 1 for decisions
    """

    fit: Parts
    validation: Part
    rows: dict[str, Indices]
    scale: float

    @property
    def test(self) -> Part:
        return self.fit.held_out


@lru_cache(maxsize=2)
def dataset(name: str, path: Path | None = None) -> Dataset:
    """The whole data set, as the protocol reads it."""
    from importlib import import_module

    module = import_module(f"fairopt.experiments.data.{name}")
    if name == "loanapp":
        return module.load()  # type: ignore[no-any-return]
    special: dict[str, dict[str, Any]] = {"compas": {"two_races": True}, "sba": {"columns": "application"}}
    options = special.get(name, {})
    return module.load(path, **options)  # type: ignore[no-any-return]


def groups_of(data: Dataset, attributes: tuple[str, ...]) -> Names:
    """(n,) the group of each row, small ones joined; no target is looked at."""
    absent = [a for a in attributes if a not in data.sensitive]
    if absent:
        raise InputError(f"attributes: {data.name} has no {', '.join(absent)}; expected some of {', '.join(data.sensitive)}")
    names = data.sensitive[attributes[0]].astype(str)
    for attribute in attributes[1:]:
        names = np.char.add(np.char.add(names, ", "), data.sensitive[attribute].astype(str))
    least = max(LEAST_SHARE * len(names), LEAST_ROWS)
    kinds, counts = np.unique(names, return_counts=True)
    small = set(kinds[counts < least].tolist())
    if not small:
        return np.asarray(names)
    joined = int(counts[counts < least].sum())
    other = OTHER if joined >= least else str(kinds[counts.argmax()])
    return np.array([other if n in small else n for n in names.tolist()])


def cut(task: Task, seed: int, path: Path | None = None) -> Cut:
    """The parts of ``task`` for ``seed``. The cut of rows depends on data set and attributes; the features on what is known."""
    data = dataset(task.data, path)
    groups = groups_of(data, task.attributes)
    data = replace(data, sensitive={GROUP: groups})
    places = places_of(data, groups, seed, task.values)
    hidden = () if task.known else REVEALING.get(task.data, ())
    columns = [k for k, name in enumerate(data.names) if name not in hidden]
    names = tuple(data.names[k] for k in columns)
    features = data.features[:, columns]
    train = places["train"]
    encoder = Encoder.fit(features[train], names, categories={k: v for k, v in data.categories.items() if k in names})
    target, scale = data.target.copy(), 1.0
    if task.values:
        scale = float(target[train].std())
        target = (target - target[train].mean()) / scale
    kinds = np.unique(groups[train])[1:]

    def part(rows: Indices) -> Part:
        x = encoder.encode(features[rows])
        if task.known:
            x = torch.cat([x, torch.from_numpy((groups[rows][:, None] == kinds).astype(np.float32))], dim=1)
        return Part(x, torch.from_numpy(target[rows]).to(torch.float32), {GROUP: groups[rows]})

    made = {name: part(rows) for name, rows in places.items()}
    fit = Parts(made["train"], made["calibration"], made["test"], encoder, task.data, "regression" if task.values else "binary")
    return Cut(fit, made["validation"], {name: places[name] for name in ("validation", "test")}, scale)


def places_of(data: Dataset, groups: Names, seed: int, values: bool) -> dict[str, Indices]:
    """part -> places of its rows: at random in strata of group and target (for values: above or below the median)."""
    try:
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise missing("splitting a data set needs scikit-learn", "experiments") from error
    target = data.target > np.median(data.target) if values else data.target > 0.5
    strata = np.char.add(np.char.add(groups, "|"), target.astype(str))
    rng = np.random.default_rng(seed)
    rest = np.sort(rng.permutation(len(groups))[:MOST_ROWS])
    found = {}
    left = 1.0
    for name, share in list(SHARES.items())[:-1]:
        _, inverse, counts = np.unique(strata[rest], return_inverse=True, return_counts=True)
        labels = np.where((counts < SMALL)[inverse], "small", strata[rest])
        _, how_many = np.unique(labels, return_counts=True)
        taken, rest = train_test_split(
            rest, train_size=share / left, random_state=seed, stratify=labels if how_many.min() >= SMALL else None
        )
        found[name] = np.sort(taken)
        left -= share
    return {**found, "test": np.sort(rest)}
