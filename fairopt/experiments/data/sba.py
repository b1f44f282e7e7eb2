"""2,102 loans to small firms in Californian real estate, guaranteed by the U.S. Small Business Administration: was the loan paid back?

Source: M. Li, A. Mickel and S. Taylor (2018), "Should This Loan be Approved or Denied?", Journal of Statistics Education 26, 55-66, doi
10.1080/10691898.2018.1434342 (supplementary material, CC BY 4.0). The target is a charge-off (MIS_Status), 33 %.

Attributes, as in the paper (Troxell, Roemer, Montufar 2026): ``business``, new (NewExist = 2) or existing; ``place``, urban (UrbanRural
= 1) or other. They are properties of firms, not of people, and, as in the paper, they are features too. Names and cities of borrowers are
dropped on loading.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np

from fairopt.basics.errors import InputError
from fairopt.experiments.data.files import Source, pandas, read
from fairopt.experiments.data.frames import dataset
from fairopt.experiments.data.tabular import Dataset

FETCH = (
    "curl -L -o SBAcase.11.13.17.csv https://raw.githubusercontent.com/italocosilva/sba-probability-of-default/"
    "c1951a15a85495643457041af6742917da727758/data/SBAcase.11.13.17.csv"
)
FILE = Source("sba_case", "SBAcase.11.13.17.csv", ("9c6ba3e04189457d084f168a78b47eb8ed20d3fcb24ec540e3ec54ced79ce89f",), FETCH)
# "paper": what the paper's networks see. Its loader keeps xx too, and its training script drops it.
# "dates": those and xx. "application": without the columns that are known only once a loan has run: a loan that failed was cut short.
Columns = Literal["paper", "dates", "application"]
COLUMNS: tuple[Columns, ...] = ("paper", "dates", "application")
NUMBERS = ("NoEmp", "CreateJob", "RetainedJob", "GrAppv", "SBA_Appv", "Portion", "DisbursementGross")
CATEGORIES = (
    "ApprovalFY", "NewExist", "FranchiseCode", "RevLineCr", "LowDoc", "New", "RealEstate", "Recession", "BankState", "Bank", "NAICS",
)  # fmt: skip
OUTCOME = {"paper": ("Term", "daysterm"), "dates": ("Term", "daysterm", "xx"), "application": ()}
COMMON = 2  # levels of BankState and RevLineCr that keep a name; the others are one


def load(path: Path | None = None, *, columns: Columns = "paper") -> Dataset:
    """All rows in file order, with the chosen columns and the two attributes as features."""
    if columns not in OUTCOME:
        raise InputError(f"columns: got {columns!r}, expected one of {', '.join(COLUMNS)}")
    pd = pandas()
    table = pd.read_csv(io.BytesIO(read(FILE, path)), encoding="utf-8-sig")
    failed = table["MIS_Status"].str.replace(" ", "") == "CHGOFF"
    business = np.where(table["NewExist"] == 2, "new", "existing")
    place = np.where(table["UrbanRural"] == 1, "urban", "other")
    bank = table["Bank"].fillna("").str.upper()
    table["Bank"] = np.select(
        [bank.str.contains("WELLS") & bank.str.contains("FARGO"), bank.str.contains("BANK") & bank.str.contains("AMERICA")],
        ["Wells Fargo", "Bank of America"],
        "another",
    )
    for name in ("BankState", "RevLineCr"):
        common = table[name].value_counts().index[:COMMON]
        table[name] = table[name].where(table[name].isin(common), "another")
    table["log DisbursementGross"] = np.log1p(table["DisbursementGross"])
    kept = [*NUMBERS, "log DisbursementGross", *OUTCOME[columns], *CATEGORIES]
    return dataset(
        "sba",
        table[kept],
        failed.to_numpy(),
        {"business": business, "place": place},
        categories=CATEGORIES,
        with_sensitive=True,
    )
