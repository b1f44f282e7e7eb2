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

import numpy as np
import torch

import fairopt as fo
from fairopt.basics.errors import InputError
from fairopt.experiments.studies.epochs import KINDS, Data, compare

BAR = 1.3
BATCH = 1_024
WIDTHS = ((64, 32), (128, 64), (256, 128))


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
        return Data("synthetic", x, (x[:, :5].sum(1) + sex > 2).float(), {"sex": sex})
    _, codes = np.unique(part.sensitive["sex"], return_inverse=True)
    return Data("adult", part.x, part.y, {"sex": torch.from_numpy(codes)})


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
                found = compare(data, widths, notion, kind, BATCH, epochs)
                words = "-".join(map(str, widths))
                print(f"{words:>10}  {notion.name:<18} {kind:<11} {1e3 * found.plain:9.1f} {1e3 * found.fair:9.1f}", end=" ")
                ratios = f"{found.clock:6.2f}x {found.processor:9.2f}x"
                print(ratios, f" {'within' if found.clock <= BAR else 'above'} {BAR}x", flush=True)


if __name__ == "__main__":
    main()
