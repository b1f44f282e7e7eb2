"""Time per epoch of a 3-layer MLP on adult, batches of 1,024, one thread, with the layer and without: ``python tests/bench/epoch_time.py``.

Epochs of the two are run in turn on the same batches, so that a slow moment of the machine meets both; the ratio is the median over the
pairs, by the clock and by processor time (what other processes take is not in the latter). Without the data in ``FAIROPT_DATA`` a table of
random numbers of the same shape stands in. The bar of issue 6 is 1.3.

"stratified": ``StratifiedBatches``, whose few compositions are compiled once. "shuffled": a random permutation, each batch compiled anew.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fairopt as fo
from fairopt.errors import InputError
from fairopt.training import StratifiedBatches

BAR = 1.3
BATCH = 1_024
BOUNDS = (1e-4, 1 - 1e-4)
WIDTHS = ((64, 32), (128, 64), (256, 128))
Rows = Iterable[list[int]]


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
    """A network with its optimizer; ``loss`` of a batch's rows."""

    def __init__(self, data: Data, widths: tuple[int, ...], notion: fo.Notion | None) -> None:
        torch.manual_seed(0)
        sizes = (data.x.shape[1], *widths)
        layers: list[nn.Module] = []
        for before, after in zip(sizes, widths, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.Linear(widths[-1], 1), nn.Flatten(0))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        self.layer = None if notion is None else fo.FairnessLayer(notion, bounds=BOUNDS, space="probability")
        self.data = data

    def loss(self, rows: list[int]) -> Tensor:
        logits, y = self.network(self.data.x[rows]), self.data.y[rows]
        if self.layer is None:
            return F.binary_cross_entropy_with_logits(logits, y)
        fair = self.layer(logits, sensitive_features={"sex": self.data.sex[rows]}, targets=y)
        return F.binary_cross_entropy(fair, y)

    def epoch(self, batches: Rows) -> tuple[float, float]:
        """(seconds by the clock, seconds of the processor)."""
        clock, processor = time.perf_counter(), time.process_time()
        for rows in batches:
            self.optimizer.zero_grad()
            self.loss(rows).backward()
            self.optimizer.step()
        return time.perf_counter() - clock, time.process_time() - processor


def _batches(data: Data, kind: str, notion: fo.Notion) -> Callable[[], list[list[int]]]:
    """A function that draws the batches of one more epoch. A notion about labels has the label among the strata."""
    if kind == "stratified":
        strata = {"sex": data.sex, **({"income": data.y} if notion.needs_targets else {})}
        sampler = StratifiedBatches(strata, BATCH, seed=0)
        return lambda: list(sampler)
    return lambda: [rows.tolist() for rows in torch.randperm(len(data.y)).split(BATCH)]


def compare(data: Data, widths: tuple[int, ...], notion: fo.Notion, kind: str, epochs: int) -> tuple[float, float, float, float]:
    """Medians: seconds of a plain epoch, of one with the layer, their ratio by the clock, and by the processor."""
    plain, fair = Contestant(data, widths, None), Contestant(data, widths, notion)
    draw = _batches(data, kind, notion)
    pairs = []
    for k in range(epochs + 1):
        batches = draw()  # the same for both, and not timed
        first, second = (plain, fair) if k % 2 else (fair, plain)
        timed = {first: first.epoch(batches), second: second.epoch(batches)}
        pairs.append((*timed[plain], *timed[fair]))
    clock, processor, clock_fair, processor_fair = (np.array(column) for column in zip(*pairs[1:], strict=True))  # the first one warms up
    return (
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
    print(f"{'hidden':>10}  {'notion':<16} {'batches':<11} {'plain ms':>9} {'layer ms':>9} {'clock':>7} {'processor':>10}")
    notions: tuple[fo.Notion, ...] = (fo.DemographicParity("sex", tolerance=0.02), fo.EqualizedOdds("sex", tolerance=0.02))
    for widths in WIDTHS:
        for notion in notions:
            for kind in ("stratified", "shuffled"):
                plain, fair, clock, processor = compare(data, widths, notion, kind, epochs)
                words = "-".join(map(str, widths))
                verdict = "within" if processor <= BAR else "above"
                print(f"{words:>10}  {notion.name:<16.16} {kind:<11} {1e3 * plain:9.1f} {1e3 * fair:9.1f} {clock:6.2f}x", end=" ")
                print(f"{processor:9.2f}x  {verdict} {BAR}x")


if __name__ == "__main__":
    main()
