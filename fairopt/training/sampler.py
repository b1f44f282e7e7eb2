"""``StratifiedBatches``: every batch has the groups' shares of the whole.

The rows are laid in a line, cell by cell (a cell is a combination of the attributes' values), in random order within each cell, and
dealt out like cards: row j of the line goes to batch j mod m. A run of n_c neighbours gives each of m batches floor(n_c / m) or
ceil(n_c / m) of them, so every cell's count in every batch is its share rounded down or up, the batch sizes differ by at most 1, and
each row is dealt once. Cells with the same value of the first attribute are neighbours too, so the same holds of the first attribute's
groups; a group of a later attribute is the sum of its cells, each within 1 of its share.

Inside a batch the cells stand in a fixed pattern, each evenly spread, and c cells make at most c + 1 different patterns: a fairness
layer compiles each of them once, and knows them again in all later epochs. The order of the rows in a batch matters to no loss that is a
mean.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from fairopt.basics.errors import FairoptWarning, InputError
from fairopt.notions.groups import Missing, Vocabulary, encode
from fairopt.training.state import FORMAT, check_format

Remainder = Literal["keep", "last", "oversample", "discard"]
NAMED = 5


class StratifiedBatches(Sampler[list[int]]):
    """Batches of row numbers with constant group shares: for ``DataLoader(data, batch_sampler=...)``, or to be iterated as it is.

    sensitive_features  attribute name -> n values; their combinations are the cells that are kept in proportion. A label is one more column
    batch_size          the most rows of a batch
    remainder           "keep": each row once an epoch, each cell's count in a batch is its share rounded down or up; sizes differ by 1
                        "last": each row once; every batch has exactly ``batch_size`` rows but the last of an epoch, which has what is left
                        (none is left where ``batch_size`` divides n) in the groups' shares too, other rows each epoch
                        "oversample": some rows twice an epoch, never twice in a batch; every batch has the same counts
                        "discard": of each cell fewer rows than there are batches are left out, others each epoch; every batch
                        has the same counts
    seed                the order is a function of seed and epoch alone; the global random state is neither read nor moved
    missing_group       "error", or "own": rows whose group is missing are a group of their own
    shuffle             False: the same batches each epoch, with the rows in their order

    A cell with fewer rows than there are batches is absent from some batches under "keep", and what is asked about it is vacuous there: a
    FairoptWarning names such cells. Under "oversample" its rows recur in every batch; under "discard" it would vanish: an InputError.
    ``epoch`` goes on by one after each full pass, or is set by ``set_epoch``. ``state_dict`` also holds the place inside a running epoch
    (with DataLoader workers, which fetch ahead, save between epochs). With ``batch_size=None`` and this as ``sampler``, a DataLoader
    over tensors takes a whole batch in one indexing, which is much faster than row by row.

    Examples:
        >>> from fairopt.training import StratifiedBatches
        >>> batches = StratifiedBatches({"sex": ["f", "m", "m"] * 4}, batch_size=6, seed=0)
        >>> [len(rows) for rows in batches], batches.counts
        ([6, 6], (4, 8))
    """

    def __init__(
        self,
        sensitive_features: Mapping[str, Any],
        batch_size: int,
        *,
        remainder: Remainder = "keep",
        seed: int = 0,
        shuffle: bool = True,
        missing_group: Missing = "error",
    ) -> None:
        _check(batch_size, remainder, seed)
        cells, names = read_cells(sensitive_features, missing_group)
        order = torch.argsort(cells, stable=True)
        self._runs: tuple[Tensor, ...] = torch.split(order, torch.bincount(cells).tolist())  # rows of each cell
        self.cells = tuple(names)
        self.counts = tuple(len(run) for run in self._runs)
        self.remainder, self.seed, self.shuffle, self.batch_size = remainder, seed, shuffle, batch_size
        self._batches = _number_of_batches(self.counts, batch_size, remainder)
        self._treat_thin()
        self.epoch, self._done, self._resume_at = 0, 0, 0

    def _treat_thin(self) -> None:
        """Say what becomes of cells with fewer rows than there are batches."""
        thin = {name: n for name, n in zip(self.cells, self.counts, strict=True) if n < self._batches}
        if not thin or self.remainder == "oversample":
            return
        shown = ", ".join(f"{name} ({n})" for name, n in list(thin.items())[:NAMED]) + (", ..." if len(thin) > NAMED else "")
        if self.remainder == "discard":
            raise InputError(
                f"remainder: 'discard' would leave out all rows of {shown}, which has fewer than the {self._batches} batches; "
                "take larger batches, or 'keep' or 'oversample'"
            )
        warnings.warn(
            f"{len(thin)} of {len(self.cells)} cells have fewer rows than the {self._batches} batches, so that some have none: {shown}; "
            "larger batches or remainder='oversample' would put them in all",
            FairoptWarning,
            stacklevel=3,
        )

    def __len__(self) -> int:
        return self._batches

    @property
    def left_out(self) -> int:
        """Rows that an epoch leaves out: 0 but for "discard"."""
        return sum(n % self._batches for n in self.counts) if self.remainder == "discard" else 0

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of this epoch; after ``load_state_dict`` the ones that were still to come."""
        start, self._resume_at = self._resume_at, 0
        batches = self._deal()
        for k in range(start, len(batches)):
            self._done = k + 1
            yield batches[k]
        self.epoch, self._done = self.epoch + 1, 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch comes, from 0. Saying the present one again keeps the place that ``load_state_dict`` has set.

        InputError for what is no whole number >= 0.
        """
        if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
            raise InputError(f"epoch: got {epoch!r}, expected a whole number >= 0")
        if epoch != self.epoch:
            self.epoch, self._done, self._resume_at = epoch, 0, 0

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches were given out."""
        return {"format": FORMAT, "seed": self.seed, "epoch": self.epoch, "done": self._done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken. InputError where the seed is another."""
        check_format(state, "StratifiedBatches")
        if state["seed"] != self.seed:
            raise InputError(f"seed: got {self.seed}, expected {state['seed']}, with which the state was made")
        self.epoch, self._done, self._resume_at = int(state["epoch"]), int(state["done"]), int(state["done"])

    def _deal(self) -> list[list[int]]:
        m = self._batches
        draw = torch.Generator().manual_seed(_mixed(self.seed, self.epoch))
        line: list[Tensor] = []
        for run in self._runs:
            rows = run[torch.randperm(len(run), generator=draw, device="cpu")] if self.shuffle else run
            line.append(_level(rows, m, self.remainder))
        dealt = torch.cat(line)  # (rows of the epoch,)
        cells = torch.repeat_interleave(torch.tensor([len(rows) for rows in line], device="cpu"))  # (rows of the epoch,)
        if self.remainder == "last":
            return self._of_one_size(dealt, cells, draw)
        # shuffled: else the larger batches would always come first
        turn = torch.randperm(m, generator=draw, device="cpu").tolist() if self.shuffle else range(m)
        return [dealt[k::m][_spread(cells[k::m])].tolist() for k in turn]

    def _of_one_size(self, dealt: Tensor, cells: Tensor, draw: torch.Generator) -> list[list[int]]:
        """Every ``n / rest``-th row of the line makes the last batch, so that each cell gives its share of it; the others are dealt out."""
        n, size = len(dealt), self.batch_size
        full, rest = divmod(n, size)
        last = torch.zeros(n, dtype=torch.bool, device="cpu")
        if rest:
            start = float(torch.rand((), generator=draw, dtype=torch.float64, device="cpu")) if self.shuffle else 0.5
            last[((torch.arange(rest, dtype=torch.float64, device="cpu") + start) * (n / rest)).long().clamp_(max=n - 1)] = True
        others = torch.nonzero(~last).reshape(-1)
        turn = torch.randperm(full, generator=draw, device="cpu").tolist() if self.shuffle else range(full)
        places = [others[k::full] for k in turn] + ([torch.nonzero(last).reshape(-1)] if rest else [])
        return [dealt[at][_spread(cells[at])].tolist() for at in places]


def _spread(cells: Tensor) -> Tensor:
    """An order of a batch in which each cell is spread evenly, the same for all batches with the same counts. ``cells`` (rows,) ascend."""
    counts = torch.bincount(cells)
    rank = torch.arange(len(cells), device="cpu") - (torch.cumsum(counts, 0) - counts)[cells]  # of each row in its cell
    return torch.argsort((rank + 0.5) / counts[cells], stable=True)


def _level(rows: Tensor, m: int, remainder: Remainder) -> Tensor:
    """``rows`` of one cell, made a multiple of ``m`` long unless the remainder is kept."""
    n = len(rows)
    rest = n % m
    if remainder in ("keep", "last") or rest == 0:
        return rows
    if remainder == "discard":
        return rows[: n - rest]
    if n < m:
        return rows.repeat(-(-m // n))[:m]
    # Batch k gets a second time the row that batch k + 1 got first: never a row that it already has.
    return torch.cat([rows, rows[(torch.arange(rest, m, device="cpu") + 1) % m]])


def _number_of_batches(counts: tuple[int, ...], batch_size: int, remainder: Remainder) -> int:
    """The least number of batches that keeps each within ``batch_size``."""
    least = -(-sum(counts) // batch_size)
    if remainder != "oversample":
        return least
    if len(counts) > batch_size:
        raise InputError(f"batch_size: got {batch_size}, expected at least {len(counts)}: 'oversample' puts every cell in every batch")
    most = max(counts)  # then each cell has one row in a batch
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if sum(-(-n // middle) for n in counts) <= batch_size else (middle + 1, most)
    return least


def read_cells(sensitive_features: Mapping[str, Any], missing_group: Missing = "error") -> tuple[Tensor, list[str]]:
    """Cell numbers (n,) int64, 0, 1, ... without a gap and in the order of the attributes' values, and the cells' names."""
    if not isinstance(sensitive_features, Mapping) or not sensitive_features:
        raise InputError("sensitive_features: expected a mapping from attribute names to n values, with at least one")
    encoded: dict[str, tuple[Any, Vocabulary]] = {
        name: encode(column, name=name, missing=missing_group) for name, column in sensitive_features.items()
    }
    lengths = {name: len(codes) for name, (codes, _) in encoded.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise InputError(f"sensitive_features: got lengths {lengths}, expected one and the same, at least 1")
    codes = np.stack([column for column, _ in encoded.values()], axis=1)  # (n, attributes)
    present, cells = np.unique(codes, axis=0, return_inverse=True)
    words = [(name, vocabulary.names) for name, (_, vocabulary) in encoded.items()]
    names = [", ".join(f"{name}={values[k]}" for (name, values), k in zip(words, row, strict=True)) for row in present]
    return torch.from_numpy(cells.reshape(-1).astype(np.int64)), names


def _mixed(seed: int, epoch: int) -> int:
    """One seed of two numbers, such that (0, 1) and (1, 0) differ."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0]) & (2**63 - 1)


def _check(batch_size: object, remainder: object, seed: object) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size: got {batch_size!r}, expected a whole number >= 1")
    if remainder not in ("keep", "last", "oversample", "discard"):
        raise InputError(f"remainder: got {remainder!r}, expected 'keep', 'last', 'oversample' or 'discard'")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed: got {seed!r}, expected a whole number >= 0")
