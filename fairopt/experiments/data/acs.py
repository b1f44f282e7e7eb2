"""People of the American Community Survey 2018: is their income above 50,000 dollars?

Source: F. Ding, M. Hardt, J. Miller and L. Schmidt (2021), "Retiring Adult: New Datasets for Fair Machine Learning"; US Census Bureau,
public use microdata. ``load`` reads Colorado (31,306 people, the survey's own nine codes of race); ``load_states`` 35 states (898,610
people, race in five groups, with the state as an attribute).

Attributes: sex (2), race (9, or 5). Occupations are pooled by their first two digits: there are more than 500 codes.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from fairopt.basics.errors import InputError
from fairopt.experiments.data.files import Source, check, how_to_fetch, pandas, read, unchecked
from fairopt.experiments.data.frames import dataset, words
from fairopt.experiments.data.tabular import Dataset

if TYPE_CHECKING:
    import pandas as pd

FETCH = """pip install folktables && python -c "
import folktables as f; d = f.ACSDataSource(survey_year='2018', horizon='1-Year', survey='person').get_data(states=['CO'], download=True)
x, y, _ = f.ACSIncome.df_to_pandas(d); x['PINCP_gt50k'] = y; x.astype(int).to_csv('acs_income_2018_CO_rac9_mar5.csv', index=False)\""""
# The checksum is of the sorted rows: the call above writes the rows in another order than the file that the figures were made of.
COLORADO = Source(
    "acs_income_2018", "acs_income_2018_CO_rac9_mar5.csv", ("fd46e1d344711d9ac65418f94ffea202a1c97b489f6f27048a9d65a7a6cf0048",), FETCH
)
STATES = Source(
    "acs_income_2018",
    "acs_income_2018_35states_rac5_mar2.csv",
    ("d58a2c144693c44eafccdb18f88b4c5a9daac74c6a4b6efb49caef4bc5955c09",),
    "curl of the CSV files of 35 states at github.com/xheilmann/FeDa4Fair, commit 4fb955679ed0949fcf5001106340e29441638886",
)
COLUMNS = ("AGEP", "COW", "SCHL", "MAR", "OCCP", "POBP", "RELP", "WKHP", "SEX", "RAC1P", "PINCP_gt50k")
CATEGORIES = ("COW", "MAR", "OCCP", "POBP", "RELP")
SEXES = {1: "male", 2: "female"}
RACES = {
    1: "White", 2: "Black", 3: "American Indian", 4: "Alaska Native", 5: "American Indian or Alaska Native, tribe not given",
    6: "Asian", 7: "Pacific Islander", 8: "Other", 9: "Two or more",
}  # fmt: skip
POOLED_RACES = {1: "White", 2: "Black", 3: "Asian", 4: "American Indian or Alaska Native", 5: "Other or two and more"}


def load(path: Path | None = None, *, with_sensitive: bool = False) -> Dataset:
    """Colorado, the rows sorted by all columns."""
    pd = pandas()
    table = pd.read_csv(io.BytesIO(unchecked(COLORADO, path)))
    if tuple(table.columns) != COLUMNS:
        raise InputError(f"acs: got the columns {', '.join(table.columns)}; expected {', '.join(COLUMNS)}; {how_to_fetch(COLORADO)}")
    rows = table.sort_values(list(COLUMNS)).to_numpy(dtype="<i8")
    check(COLORADO, hashlib.sha256(rows.tobytes()).hexdigest(), path)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return _dataset("acs", table, {"sex": words(table["SEX"], SEXES), "race": words(table["RAC1P"], RACES)}, with_sensitive)


def load_states(path: Path | None = None, *, with_sensitive: bool = False) -> Dataset:
    """35 states, in file order, with the attribute "state" beside sex and race."""
    table = pandas().read_csv(io.BytesIO(read(STATES, path)))
    sensitive = {
        "sex": words(table["SEX"], SEXES),
        "race": words(table["RAC1P"], POOLED_RACES),
        "state": table["ST"].to_numpy().astype(str),
    }
    return _dataset("acs states", table.drop(columns="ST"), sensitive, with_sensitive)


def _dataset(name: str, table: pd.DataFrame, sensitive: dict[str, npt.NDArray[Any]], with_sensitive: bool) -> Dataset:
    features = table.drop(columns=["SEX", "RAC1P", "PINCP_gt50k"])
    features["OCCP"] = features["OCCP"] // 100
    target = table["PINCP_gt50k"].to_numpy()
    return dataset(name, features, target, sensitive, categories=CATEGORIES, with_sensitive=with_sensitive)
