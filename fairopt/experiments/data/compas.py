"""Defendants of Broward County, 2013 and 2014: were they charged again within two years?

Source: J. Larson, S. Mattu, L. Kirchner and J. Angwin (2016), "How We Analyzed the COMPAS Recidivism Algorithm", ProPublica. The original
file names real people and states no licence: it is read, never passed on. A copy without names, birth dates, case numbers and calendar
dates is read as well.

Kept are the rows that ProPublica kept (6,172). Attributes: race, sex, age_cat. Left out of the features: COMPAS's own scores, and
``is_recid`` and ``is_violent_recid``, which hold the answer. ``age`` stays a feature.

Race has six values; ``load`` joins those of fewer than 500 people (Other, Asian, Native American) to "Other", and ``two_races`` keeps the
African-American and Caucasian rows alone (5,278), as most of the literature does.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fairopt.experiments.data.files import Source, pandas, read
from fairopt.experiments.data.frames import dataset
from fairopt.experiments.data.tabular import Dataset

if TYPE_CHECKING:
    import pandas as pd

COMMIT = "bafff5da3f2e45eca6c2d5055faad269defd135a"
DEIDENTIFIED = "d0e874382553e335e3ea30eb19198a1fcc757abeaf103b5b890c9f830984bcdc"
ORIGINAL = "c451db85908b2f7fef1d83203bedf6b71ecda0d5af468d82ae62178f91d0cc7d"
SOURCE = Source(
    "compas",
    "compas_two_years_deidentified.csv",
    (DEIDENTIFIED, ORIGINAL),
    "curl -L -o compas_two_years_deidentified.csv "
    f"https://raw.githubusercontent.com/propublica/compas-analysis/{COMMIT}/compas-scores-two-years.csv",
)
FEATURES = (
    "age", "juv_fel_count", "juv_misd_count", "juv_other_count", "priors_count", "days_b_screening_arrest", "c_charge_degree",
    "c_charge_desc", "length_of_stay_days",
)  # fmt: skip
JOINED = ("Other", "Asian", "Native American")
TWO = ("African-American", "Caucasian")
LEVELS = {"Low": 0.0, "Medium": 1.0, "High": 2.0}


def load(path: Path | None = None, *, two_races: bool = False, levels: bool = False, with_sensitive: bool = False) -> Dataset:
    """The 6,172 rows of ProPublica's analysis, in file order. levels: the target is COMPAS's level of risk, 0 (low), 1, or 2 (high)."""
    table = pandas().read_csv(io.BytesIO(read(SOURCE, path)))
    table = _with_stay(table)
    table = table[_kept(table)].reset_index(drop=True)
    if two_races:
        table = table[table["race"].isin(TWO)].reset_index(drop=True)
    race = table["race"].to_numpy().astype(str)
    sensitive = {
        "race": np.where(np.isin(race, JOINED), "Other", race),
        "sex": table["sex"].to_numpy().astype(str),
        "age_cat": table["age_cat"].to_numpy().astype(str),
    }
    return dataset(
        "compas two races" if two_races else "compas",
        table[list(FEATURES)],
        table["score_text"].map(LEVELS).to_numpy() if levels else table["two_year_recid"].to_numpy(),
        sensitive,
        task="regression" if levels else "binary",
        with_sensitive=with_sensitive,
    )


def _with_stay(table: pd.DataFrame) -> pd.DataFrame:
    """The original has the two dates of the stay in jail, the edited copy their distance in days."""
    if "length_of_stay_days" in table.columns:
        return table
    pd = pandas()
    stay = (pd.to_datetime(table["c_jail_out"]) - pd.to_datetime(table["c_jail_in"])).dt.total_seconds() / 86400
    return table.assign(length_of_stay_days=stay.round(2))


def _kept(table: pd.DataFrame) -> pd.Series[bool]:
    """ProPublica's filter: the charge belongs to the arrest, the case is known, it is no traffic offence, and COMPAS scored it."""
    near = table["days_b_screening_arrest"].between(-30, 30)
    scored = table["score_text"].notna() & (table["score_text"] != "N/A")
    return near & (table["is_recid"] != -1) & (table["c_charge_degree"] != "O") & scored
