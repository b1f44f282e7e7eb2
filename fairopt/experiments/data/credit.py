"""30,000 credit cards in Taiwan, 2005: did the client default in the next month?

Source: I-C. Yeh (2009), Default of Credit Card Clients, UCI Machine Learning Repository, doi 10.24432/C55S3H (CC BY 4.0), as a CSV file.

Attributes: sex (2), education (4: the undocumented codes count as others), marriage (3). ``AGE`` stays a feature.
"""

from __future__ import annotations

import io
from pathlib import Path

from fairopt.experiments.data.files import Source, pandas, read
from fairopt.experiments.data.frames import dataset, words
from fairopt.experiments.data.tabular import Dataset

COMMIT = "b557bf2e4a9807587eba970c18e74c96d389ac84"
SOURCE = Source(
    "default_credit_card",
    "default_of_credit_card_clients.csv",
    ("116c62783a92c39d827f663d93fe5a64ad62bd1967df3b7884412518a2365c03",),
    "curl -L -o default_of_credit_card_clients.csv "
    f"https://raw.githubusercontent.com/emanuelrck/Unfair_datasets/{COMMIT}/default%20of%20credit%20card%20clients.csv",
)
TARGET = "default payment next month"
SEXES = {1: "male", 2: "female"}
EDUCATIONS = {1: "graduate school", 2: "university", 3: "high school", 4: "others", 0: "others", 5: "others", 6: "others"}
MARRIAGES = {1: "married", 2: "single", 3: "others", 0: "others"}


def load(path: Path | None = None, *, with_sensitive: bool = False) -> Dataset:
    """All rows in file order; the target is 1 for a default."""
    table = pandas().read_csv(io.BytesIO(read(SOURCE, path)), sep=";")
    sensitive = {
        "sex": words(table["SEX"], SEXES),
        "education": words(table["EDUCATION"], EDUCATIONS),
        "marriage": words(table["MARRIAGE"], MARRIAGES),
    }
    features = table.drop(columns=["ID", "SEX", "EDUCATION", "MARRIAGE", TARGET])
    return dataset("credit", features, table[TARGET].to_numpy(), sensitive, with_sensitive=with_sensitive)
