"""48,842 people of the 1994 US census: is their income above 50,000 dollars?

Source: B. Becker and R. Kohavi (1996), Adult, UCI Machine Learning Repository, doi 10.24432/C5XW20 (CC BY 4.0). The publisher's own
split is kept: ``adult.test`` holds the 16,281 official test rows.

Attributes: sex (2), race (5). Left out of the features: ``fnlwgt``, a weight of the survey; ``education``, which ``education-num`` repeats.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from fairopt.basics.errors import InputError
from fairopt.experiments.data.files import Source, pandas, read
from fairopt.experiments.data.frames import dataset
from fairopt.experiments.data.tabular import Dataset

FETCH = "curl -L -o adult.zip https://archive.ics.uci.edu/static/public/2/adult.zip && unzip adult.zip adult.data adult.test"
TRAIN = Source("adult", "adult.data", ("5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",), FETCH)
TEST = Source("adult", "adult.test", ("a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",), FETCH)
COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship", "race", "sex",
    "capital-gain", "capital-loss", "hours-per-week", "native-country", "income",
)  # fmt: skip
DROPPED = ("fnlwgt", "education", "race", "sex", "income")


def load(path: Path | None = None, *, with_sensitive: bool = False) -> Dataset:
    """All rows, the official test rows last. ``path``: the folder that holds adult.data and adult.test; None: FAIROPT_DATA."""
    if path is not None and path.is_file():
        raise InputError(f"adult: got the file {path}, expected the folder that holds adult.data and adult.test")
    pd = pandas()
    parts = [
        pd.read_csv(io.BytesIO(read(source, path)), header=None, names=list(COLUMNS), skipinitialspace=True, na_values="?", skiprows=skip)
        for source, skip in ((TRAIN, 0), (TEST, 1))  # the test file begins with a comment
    ]
    table = pd.concat(parts, ignore_index=True)
    return dataset(
        "adult",
        table.drop(columns=list(DROPPED)),
        (table["income"].str.strip(".") == ">50K").to_numpy(),
        {"sex": table["sex"].to_numpy().astype(str), "race": table["race"].to_numpy().astype(str)},
        official=np.repeat([False, True], [len(part) for part in parts]),
        with_sensitive=with_sensitive,
    )
