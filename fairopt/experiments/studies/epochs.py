"""Epochs with the layer and without, in turn on the same batches, so that a slow moment of the machine meets both."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import fairopt as fo
from fairopt.training import StratifiedBatches

BOUNDS = (1e-4, 1 - 1e-4)
Kind = Literal["stratified", "loader", "shuffled"]
KINDS: tuple[Kind, ...] = ("stratified", "loader", "shuffled")
Batch = tuple[Tensor, Tensor, Mapping[str, Tensor]]  # x, y, groups
Batches = Iterable[Batch]


@dataclass(frozen=True, eq=False)
class Data:
    """x (n, d) float32, y (n,) float32 of 0 and 1, sensitive: attribute -> (n,) int64."""

    name: str
    x: Tensor
    y: Tensor
    sensitive: Mapping[str, Tensor]


class Contestant:
    """A network with its optimizer, and perhaps a layer."""

    def __init__(self, data: Data, widths: tuple[int, ...], notion: fo.Notion | None, seed: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sizes = (data.x.shape[1], *widths)
            layers: list[nn.Module] = []
            for before, after in zip(sizes, widths, strict=False):
                layers += [nn.Linear(before, after), nn.ReLU()]
            self.network = nn.Sequential(*layers, nn.Linear(widths[-1], 1), nn.Flatten(0))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        self.layer = None if notion is None else fo.FairnessLayer(notion, bounds=BOUNDS, space="probability")

    def loss(self, x: Tensor, y: Tensor, sensitive: Mapping[str, Tensor]) -> Tensor:
        logits = self.network(x)
        if self.layer is None:
            return F.binary_cross_entropy_with_logits(logits, y)
        return F.binary_cross_entropy(self.layer(logits, sensitive_features=sensitive, targets=y), y)

    def epoch(self, batches: Batches) -> tuple[float, float]:
        """(seconds by the clock, seconds of the processor)."""
        clock, processor = time.perf_counter(), time.process_time()
        for x, y, sensitive in batches:
            self.optimizer.zero_grad()
            self.loss(x, y, sensitive).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        return time.perf_counter() - clock, time.process_time() - processor


class Indexed:
    """Batches of tensors, each taken by one indexing when its turn comes."""

    def __init__(self, data: Data, rows: list[list[int]]) -> None:
        self.data, self.rows = data, rows

    def __iter__(self) -> Iterator[Batch]:
        data = self.data
        for rows in self.rows:
            yield data.x[rows], data.y[rows], {name: values[rows] for name, values in data.sensitive.items()}


class Rows(Dataset[Batch]):
    """Single rows, for a DataLoader."""

    def __init__(self, data: Data) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data.y)

    def __getitem__(self, row: int) -> Batch:
        return self.data.x[row], self.data.y[row], {name: values[row] for name, values in self.data.sensitive.items()}


def drawing(data: Data, kind: Kind, notion: fo.Notion, size: int, seed: int = 0) -> Callable[[], Batches]:
    """A function that draws the batches of one more epoch. A notion about labels has the label among the strata."""
    if kind == "shuffled":
        draw = torch.Generator().manual_seed(seed)
        return lambda: Indexed(
            data, [rows.tolist() for rows in torch.split(torch.randperm(len(data.y), generator=draw, device="cpu"), size)]
        )
    strata: dict[str, Any] = {name: data.sensitive[name] for name in notion.attributes}
    sampler = StratifiedBatches({**strata, "target": data.y} if notion.needs_targets else strata, size, seed=seed)
    if kind == "stratified":
        return lambda: Indexed(data, list(sampler))
    return lambda: DataLoader(Rows(data), batch_sampler=list(sampler))


@dataclass(frozen=True)
class Compared:
    """Median seconds of a plain epoch and of one with the layer by the clock; the two medians of ratios."""

    plain: float
    fair: float
    clock: float
    processor: float


def compare(data: Data, widths: tuple[int, ...], notion: fo.Notion, kind: Kind, size: int, epochs: int, seed: int = 0) -> Compared:
    """``epochs`` pairs, after one that warms up."""
    plain, fair = Contestant(data, widths, None, seed), Contestant(data, widths, notion, seed)
    draw = drawing(data, kind, notion, size, seed)
    pairs: list[Sequence[float]] = []
    for k in range(epochs + 1):
        gc.collect()
        gc.freeze()  # or a full collection of everything imported, 0.2 s, falls to one of the two
        batches = draw()  # the same for both, and not timed
        first, second = (plain, fair) if k % 2 else (fair, plain)
        timed = {first: first.epoch(batches), second: second.epoch(batches)}
        pairs.append((*timed[plain], *timed[fair]))
    gc.unfreeze()
    timed_pairs = pairs[1:]
    return Compared(
        statistics.median(p[0] for p in timed_pairs),
        statistics.median(p[2] for p in timed_pairs),
        statistics.median(p[2] / p[0] for p in timed_pairs),
        statistics.median(p[3] / p[1] for p in timed_pairs),
    )
