"""Time per epoch of a 3-layer MLP on adult, batches of 1,024, one thread, with the layer and without: ``python tests/bench/epoch_time.py``.

Epochs of the two are run in turn on the same batches, so that a slow moment of the machine meets both. Two ratios, medians over the pairs:
by the clock, and by processor time, which leaves out the turns of other processes but not the caches that they emptied: on a busy machine
both are too high. The verdict is about the clock. Without the data in ``FAIROPT_DATA`` a table of random numbers of the same shape
stands in. The bar is 1.3.

"stratified": ``StratifiedBatches``, whose few compositions are compiled once, rows taken by one indexing. "loader": the same, row by row
by ``DataLoader(data, batch_sampler=...)``. "shuffled": a random permutation, one indexing, each batch compiled anew.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import fairopt as fo
from fairopt.basics.errors import InputError
from fairopt.training import StratifiedBatches

BAR = 1.3
BATCH = 1_024
BOUNDS = (1e-4, 1 - 1e-4)
WIDTHS = ((64, 32), (128, 64), (256, 128))
KINDS = ("stratified", "loader", "shuffled")
Batches = Iterable[Sequence[Tensor]]  # x, y, sex


@dataclass(frozen=True)
class Data:
    """x (n, d) float32, y (n,) float32 of 0 and 1, sex (n,) int64."""

    name: str
    x: Tensor
    y: Tensor
    sex: Tensor


def load() -> Data:
    """The training part of adult: 60 % of all rows."""
    from fairopt.experiments.data import adult
    from fairopt.experiments.data.tabular import split

    try:
        part = split(adult.load(), 0, official=False).train
    except InputError:
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(29_305, 90, generator=draw)
        sex = (torch.rand(29_305, generator=draw) < 0.33).long()
        return Data("synthetic", x, (x[:, :5].sum(1) + sex > 2).float(), sex)
    _, codes = np.unique(part.sensitive["sex"], return_inverse=True)
    return Data("adult", part.x, part.y, torch.from_numpy(codes))


class Contestant:
    """A network with its optimizer, and perhaps a layer."""

    def __init__(self, data: Data, widths: tuple[int, ...], notion: fo.Notion | None) -> None:
        torch.manual_seed(0)
        sizes = (data.x.shape[1], *widths)
        layers: list[nn.Module] = []
        for before, after in zip(sizes, widths, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.Linear(widths[-1], 1), nn.Flatten(0))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        self.layer = None if notion is None else fo.FairnessLayer(notion, bounds=BOUNDS, space="probability")

    def loss(self, x: Tensor, y: Tensor, sex: Tensor) -> Tensor:
        logits = self.network(x)
        if self.layer is None:
            return F.binary_cross_entropy_with_logits(logits, y)
        return F.binary_cross_entropy(self.layer(logits, sensitive_features={"sex": sex}, targets=y), y)

    def epoch(self, batches: Batches) -> tuple[float, float]:
        """(seconds by the clock, seconds of the processor)."""
        clock, processor = time.perf_counter(), time.process_time()
        for x, y, sex in batches:
            self.optimizer.zero_grad()
            self.loss(x, y, sex).backward()
            self.optimizer.step()
        return time.perf_counter() - clock, time.process_time() - processor


class Indexed:
    """Batches of tensors, each taken by one indexing when its turn comes."""

    def __init__(self, data: Data, rows: list[list[int]]) -> None:
        self.data, self.rows = data, rows

    def __iter__(self) -> Iterator[Sequence[Tensor]]:
        return ((self.data.x[rows], self.data.y[rows], self.data.sex[rows]) for rows in self.rows)


def _epochs(data: Data, kind: str, notion: fo.Notion) -> Callable[[], Batches]:
    """A function that draws the batches of one more epoch. A notion about labels has the label among the strata."""
    if kind == "shuffled":
        return lambda: Indexed(data, [rows.tolist() for rows in torch.randperm(len(data.y)).split(BATCH)])
    sampler = StratifiedBatches({"sex": data.sex, **({"income": data.y} if notion.needs_targets else {})}, BATCH, seed=0)
    if kind == "stratified":
        return lambda: Indexed(data, list(sampler))
    table = TensorDataset(data.x, data.y, data.sex)
    return lambda: DataLoader(table, batch_sampler=list(sampler))


@dataclass(frozen=True)
class Compared:
    """Median seconds of a plain epoch and of one with the layer; the two ratios."""

    plain: float
    fair: float
    clock: float
    processor: float


def compare(data: Data, widths: tuple[int, ...], notion: fo.Notion, kind: str, epochs: int) -> Compared:
    plain, fair = Contestant(data, widths, None), Contestant(data, widths, notion)
    draw = _epochs(data, kind, notion)
    pairs = []
    for k in range(epochs + 1):
        gc.collect()
        gc.freeze()  # or a full collection of everything imported, 0.2 s, falls to one of the two
        batches = draw()  # the same for both, and not timed
        first, second = (plain, fair) if k % 2 else (fair, plain)
        timed = {first: first.epoch(batches), second: second.epoch(batches)}
        pairs.append((*timed[plain], *timed[fair]))
    clock, processor, clock_fair, processor_fair = (np.array(column) for column in zip(*pairs[1:], strict=True))  # the first one warms up
    return Compared(
        statistics.median(clock),
        statistics.median(clock_fair),
        statistics.median(clock_fair / clock),
        statistics.median(processor_fair / processor),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=15, help="pairs of epochs for each line")
    epochs = parser.parse_args().epochs
    torch.set_num_threads(1)
    data = load()
    print(f"{data.name}: {len(data.y)} rows, {data.x.shape[1]} columns, batches of {BATCH}, median of {epochs} pairs of epochs")
    print(f"{'hidden':>10}  {'notion':<18} {'batches':<11} {'plain ms':>9} {'layer ms':>9} {'clock':>7} {'processor':>10}")
    notions: tuple[fo.Notion, ...] = (fo.DemographicParity("sex", tolerance=0.02), fo.EqualizedOdds("sex", tolerance=0.02))
    for widths in WIDTHS:
        for notion in notions:
            for kind in KINDS:
                found = compare(data, widths, notion, kind, epochs)
                words = "-".join(map(str, widths))
                print(f"{words:>10}  {notion.name:<18} {kind:<11} {1e3 * found.plain:9.1f} {1e3 * found.fair:9.1f}", end=" ")
                ratios = f"{found.clock:6.2f}x {found.processor:9.2f}x"
                print(ratios, f" {'within' if found.clock <= BAR else 'above'} {BAR}x", flush=True)


if __name__ == "__main__":
    main()
