"""The paper's 32 synthetic regressions, drawn again from their recipe: 40,000 rows, a protected bit and 150 features each.

Source: Troxell, Roemer, Montufar 2026, synthetic experiment; their pickled tables are not to be had, so the numbers are drawn anew from the
seeds of their generator (numpy's legacy stream). Least squares on (1, A, x, A x) then has a mean test error of 0.0124 over the 32 sets.

What the recipe does, and what it does not: the group shifts the target by -b or +b, a large part of its variance. The noise that is meant
to tie 25 features to the group has mean 0 and is symmetric, so no feature is correlated with the group: there is no proxy, only A itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from numpy.random import RandomState

from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing
from fairopt.experiments.data.identity import identity
from fairopt.experiments.data.tabular import Dataset, Floats, Indices, Part, Parts

ROWS = 40_000
FEATURES = 150
BLOCK = 21  # features of one block; the last three stand alone
BLOCKS = FEATURES // BLOCK
TIED = 25  # features that get the group's (symmetric) noise
SETS = 32
ATTRIBUTE = "a"
TEST_SHARE, VALIDATION_ROWS, SPLIT_SEED = 0.4, 10_000, 1


@dataclass(frozen=True)
class Design:
    """What makes one of the 32 sets.

    share    probability of group 1;  shift: of the target, minus it in group 0 and plus it in group 1
    tie      size of the noise that the recipe ties to the group;  noise: its standard deviation in the target, before scaling
    bounds   the box of the predictions;  linear: whether the score is, else 0.3 of it are squares and products
    """

    number: int
    share: float
    shift: float
    tie: float
    noise: float
    bounds: tuple[float, float]
    linear: bool

    @property
    def words(self) -> str:
        balance = "balanced" if self.share == 0.5 else "low share"
        power = "high bias" if self.shift == 6 else "lower bias"
        noise = "high noise" if self.noise == 0.6 else "medium noise"
        box = "tight box" if self.bounds[0] == 0 else "loose box"
        return f"{balance}, {power}, {noise}, {box}, {'linear' if self.linear else 'nonlinear'}"


def design(number: int) -> Design:
    """Set ``number``, 0 .. 31, in the paper's order: the last choice changes fastest."""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < SETS:
        raise InputError(f"number: got {number!r}, expected a whole number from 0 to {SETS - 1}")
    choices = list(product((0.2, 0.5), ((3.0, 0.3), (6.0, 0.7)), (0.125, 0.6), ((-3.5, 3.5), (0.0, 3.5)), (True, False)))
    share, (shift, tie), noise, bounds, linear = choices[number]
    return Design(number, share, shift, tie, noise, bounds, linear)


def load(path: Path | None = None, *, number: int = 0, rows: int = ROWS) -> Dataset:
    """Set ``number``: features (rows, 151), of which the first is the group A; target (rows,); sensitive "a" is "0" or "1".

    Nothing is read, so there is no ``path``. Fewer ``rows`` are for tests: they are other numbers than the first of 40,000.
    """
    if path is not None:
        raise InputError(f"path: got {path}, expected None: the synthetic sets are drawn, not read")
    chosen = design(number)
    stream = RandomState()
    seed = 2 * number
    stream.seed(seed)
    group = stream.binomial(1, chosen.share, rows)  # (rows,)
    stream.seed(seed)
    x = _features(stream, group, chosen)
    score = _linear(stream, x, seed + 1) if chosen.linear else _nonlinear(stream, x, seed)
    target = score + np.where(group == 1, chosen.shift, -chosen.shift) + stream.normal(0, chosen.noise, rows)
    target = (target - target.mean()) / target.std()
    target = np.where(group == 0, 0.85 * target, target)
    return Dataset(
        name=f"synthetic {number}",
        features=np.column_stack([group, x]),
        names=("A", *(f"x{k}" for k in range(FEATURES))),
        target=target,
        sensitive={ATTRIBUTE: group.astype(np.str_)},
        task="regression",
    )


def parts(number: int, *, rows: int = ROWS) -> Parts:
    """The paper's split: 60 % training; of the rest the first 10,000 rows (in its drawn order) validation, the others held out.

    The features are standardised by the recipe already: the encoder changes nothing.
    """
    try:
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise missing("splitting a data set needs scikit-learn", "experiments") from error
    data = load(number=number, rows=rows)
    train, rest = train_test_split(np.arange(rows), test_size=TEST_SHARE, random_state=SPLIT_SEED)
    cut = VALIDATION_ROWS * rows // ROWS
    encoder = identity(data.names)

    def part(chosen: Indices) -> Part:
        x = encoder.encode(data.features[chosen])
        return Part(x, torch.from_numpy(data.target[chosen]).float(), {ATTRIBUTE: data.sensitive[ATTRIBUTE][chosen]})

    return Parts(part(train), part(rest[:cut]), part(rest[cut:]), encoder, data.name, data.task)


def _features(stream: RandomState, group: npt.NDArray[np.int64], chosen: Design) -> Floats:
    """(rows, 150) standardised: seven blocks of correlation 0.3, three columns of their own, 25 columns with the group's noise."""
    rows = len(group)
    root = np.linalg.cholesky(0.7 * np.eye(BLOCK) + 0.3)
    x = np.zeros((rows, FEATURES))
    for block in range(BLOCKS):
        x[:, block * BLOCK : (block + 1) * BLOCK] = stream.normal(0, 1, (rows, BLOCK)) @ root.T
        x[:, BLOCKS * BLOCK :] = stream.normal(0, 1, (rows, FEATURES - BLOCKS * BLOCK))  # drawn again for each block
    for column in stream.choice(FEATURES, TIED, replace=False):
        x[:, column] += chosen.tie * (2 * group - 1) * stream.normal(0, 0.5, rows)
    standard: Floats = (x - x.mean(0)) / x.std(0)
    return standard


def _linear(stream: RandomState, x: Floats, seed: int) -> Floats:
    """(rows,) ten features with normal weights."""
    stream.seed(seed)
    columns = stream.choice(FEATURES, 10, replace=False)
    score: Floats = x[:, columns] @ stream.normal(0, 1, 10)
    return score


def _nonlinear(stream: RandomState, x: Floats, seed: int) -> Floats:
    """(rows,) 0.7 linear + 0.2 squares + 0.1 products. The linear score sets the seed anew, and the others go on from its stream."""
    linear = _linear(stream, x, seed + 1)
    columns = stream.choice(FEATURES, 15, replace=False)
    squares = (x[:, columns] ** 2) @ stream.normal(0, 0.4, 15)
    products = np.zeros(len(x))
    for _ in range(7):
        first, second = stream.choice(FEATURES, 2, replace=False)
        products += stream.normal(0, 0.4) * x[:, first] * x[:, second]
    score: Floats = 0.7 * linear + 0.2 * squares + 0.1 * products
    return score
