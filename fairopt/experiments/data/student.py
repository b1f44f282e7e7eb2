"""395 pupils of two Portuguese schools: the final grade in mathematics, 0 to 20 (regression).

Source: P. Cortez (2008), Student Performance, UCI Machine Learning Repository, doi 10.24432/C5TG7T (CC BY 4.0).

Attributes: sex, address (urban, rural), school. Left out of the features: the year's earlier grades G1 and G2, which nearly are the target.
"""

from __future__ import annotations

import io
from pathlib import Path

from fairopt.experiments.data.files import Source, pandas, read
from fairopt.experiments.data.frames import dataset, words
from fairopt.experiments.data.tabular import Dataset

SOURCE = Source(
    "student_performance",
    "student-mat.csv",
    ("e47f9ee225e1ee6e69b7564e6dac7123e80b8486677fe111f351964cef5dec80",),
    "curl -L -o both.zip https://archive.ics.uci.edu/static/public/320/student+performance.zip "
    "&& unzip both.zip student.zip && unzip student.zip student-mat.csv",
)


def load(path: Path | None = None, *, with_sensitive: bool = False) -> Dataset:
    """All rows in file order."""
    table = pandas().read_csv(io.BytesIO(read(SOURCE, path)), sep=";")
    sensitive = {
        "sex": words(table["sex"], {"F": "female", "M": "male"}),
        "address": words(table["address"], {"U": "urban", "R": "rural"}),
        "school": table["school"].to_numpy().astype(str),
    }
    features = table.drop(columns=["sex", "address", "school", "G1", "G2", "G3"])
    return dataset("student", features, table["G3"].to_numpy(), sensitive, task="regression", with_sensitive=with_sensitive)
