"""The worlds of the study ``inside``: the centre, from which one thing is changed at a time, and credit in parts without a common row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from fairopt.experiments.data.tabular import Encoder, Part, Parts

Loss = Literal["squared error", "log loss", "1 - AUC"]
LOSSES: tuple[Loss, ...] = ("squared error", "log loss", "1 - AUC")
GROUP = "group"
SHARE, SHARE_AFTER_DRIFT, DRIFT = 0.4, 0.7, 0.5
CALIBRATION, TEST = 500, 4_000
SEEDS, SEEDS_OF_CREDIT = 10, 8
ROWS_OF_CREDIT = (2_000, 500, 1_250)
CENTRE = "centre"


@dataclass(frozen=True)
class World:
    """what: the change from the centre, in words; known: the group is a feature of the network; d: how far the groups are apart."""

    loss: Loss
    what: str = CENTRE
    known: bool = False
    hidden: tuple[int, ...] = (32,)
    d: float = 1.0
    train: int = 1_000
    batch: int = 128
    distance: Literal["squared", "kl"] = "squared"
    drift: bool = False
    data: Literal["made", "credit"] = "made"

    @property
    def name(self) -> str:
        return f"{self.loss}, {self.what}" if self.data == "made" else f"{self.loss}, credit, {self.what}"

    @property
    def tolerance(self) -> float:
        return 0.05 if self.loss == "squared error" else 0.02

    @property
    def seeds(self) -> int:
        return SEEDS if self.data == "made" else SEEDS_OF_CREDIT

    @property
    def expected(self) -> str:
        """What the protocol's theory says of the loss: "wins", "no difference", or "no win"."""
        if self.batch == 16:
            return "no win"
        if self.loss == "squared error" and (self.known or self.d == 0):
            return "no difference"
        if self.loss == "log loss" and self.known and self.distance == "kl":
            return "no difference"
        return "wins"


def worlds() -> tuple[World, ...]:
    """All of them, in the order of the page."""
    return tuple(world for loss in LOSSES for world in (*_made(loss), *_credit(loss)))


def _made(loss: Loss) -> Iterator[World]:
    centre = World(loss)
    yield centre
    yield replace(centre, what="the group a feature", known=True)
    yield replace(centre, what="no hidden layer", hidden=())
    yield replace(centre, what="hidden layers 64-64", hidden=(64, 64))
    yield replace(centre, what="groups alike, d = 0", d=0.0)
    yield replace(centre, what="groups far apart, d = 2", d=2.0)
    yield replace(centre, what="200 training rows", train=200)
    yield replace(centre, what="5,000 training rows", train=5_000)
    yield replace(centre, what="batches of 16", batch=16)
    yield replace(centre, what="batches of 512", batch=512)
    if loss != "squared error":
        yield replace(centre, what="KL distance", distance="kl")
        yield replace(centre, what="KL distance, the group a feature", distance="kl", known=True)
    yield replace(centre, what="drift of the test rows", drift=True)


def _credit(loss: Loss) -> Iterator[World]:
    if loss == "squared error":
        return
    centre = World(loss, "the group no feature", data="credit", train=ROWS_OF_CREDIT[0])
    for one in (centre, replace(centre, what="the group a feature", known=True)):
        yield one
        if loss == "log loss":
            yield replace(one, what=f"{one.what}, KL distance", distance="kl")


def parts_of(world: World, seed: int, path: Path | None = None) -> Parts:
    """Training, calibration and test rows of one seed; no two seeds have a row in common."""
    return _drawn(world, seed) if world.data == "made" else _chunk(world, seed, path)


def _drawn(world: World, seed: int) -> Parts:
    rng = np.random.default_rng([seed, 17])
    found = []
    for rows, drift in ((world.train, False), (CALIBRATION, False), (TEST, world.drift)):
        a = (rng.random(rows) < (SHARE_AFTER_DRIFT if drift else SHARE)).astype(np.float64)
        x = rng.normal(size=(rows, 6))
        x[:, 0] += a * (world.d + (DRIFT if drift else 0.0))
        eta = 0.5 * x[:, 0] + 0.8 * x[:, 1] - 0.6 * x[:, 2] + 0.5 * x[:, 1] * x[:, 2] + 0.75 * world.d * a
        if world.loss == "squared error":
            y = eta + rng.normal(size=rows)
        else:
            y = (rng.random(rows) < 1 / (1 + np.exp(0.5 * world.d - eta))).astype(np.float64)
        found.append((x, y, np.where(a == 1, "one", "zero")))
    return _encoded(world, found, tuple(f"x{k}" for k in range(1, 7)), {})


def _chunk(world: World, seed: int, path: Path | None) -> Parts:
    """The rows of credit in one random order, cut into pieces."""
    from fairopt.experiments.evidence.parts import dataset, groups_of

    data = dataset("credit", path)
    order = np.random.default_rng(17).permutation(len(data))
    start = seed * sum(ROWS_OF_CREDIT)
    groups = groups_of(data, ("sex", "marriage"))
    found = []
    for rows in ROWS_OF_CREDIT:
        own = np.sort(order[start : start + rows])
        found.append((data.features[own], data.target[own], groups[own]))
        start += rows
    return _encoded(world, found, data.names, {k: tuple(v) for k, v in data.categories.items()})


Rows = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.str_]]


def _encoded(world: World, found: list[Rows], names: tuple[str, ...], categories: dict[str, tuple[str, ...]]) -> Parts:
    encoder = Encoder.fit(found[0][0], names, categories=categories)
    kinds = np.unique(found[0][2])[1:]

    def part(features: npt.NDArray[np.float64], y: npt.NDArray[np.float64], groups: npt.NDArray[np.str_]) -> Part:
        x = encoder.encode(features)
        if world.known:
            x = torch.cat([x, torch.from_numpy((groups[:, None] == kinds).astype(np.float32))], dim=1)
        return Part(x, torch.from_numpy(y).to(torch.float32), {GROUP: groups})

    train, calibration, test = (part(*rows) for rows in found)
    return Parts(train, calibration, test, encoder, world.data, "regression" if world.loss == "squared error" else "binary")
