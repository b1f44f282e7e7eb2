"""1,200 employees of a made-up company: what is their hourly rate?

Source: "INX Future Inc. Employee Performance", the training data set of the IABAC Certified Data Scientist project. No licence is
stated, so nobody but you can fetch it. Read is the sheet of Employee_Performance.xls as comma-separated values, as pandas writes it.

The 63 columns are those of the paper (Troxell, Roemer, Montufar 2026): all but the number of the employee, an indicator a level of
each category with no level dropped, and two that are made: Age_50plus and IsManager. The target is EmpHourlyRate, 30 to 100, as a number in
[0, 1]. Five binary columns are sensitive and, as in the paper, features too: ``ATTRIBUTES``.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from fairopt.basics.errors import InputError
from fairopt.experiments.data.files import Source, pandas, read
from fairopt.experiments.data.tabular import Dataset

FETCH = (
    'curl -L -o employee.xls "http://data.iabac.org/exam/p2/data/INX_Future_Inc_Employee_Performance_CDS_Project2_Data_V1.8.xls" && '
    "python -c \"import pandas; pandas.read_excel('employee.xls').to_csv('employee_performance.csv', index=False)\""
)
FILE = Source(
    "employee_performance", "employee_performance.csv", ("81e254dc21bcd91659d51db8ac0a39c5c0ca5bc259bb0c66ad241125294e4433",), FETCH
)
CATEGORIES = (
    "Gender", "EducationBackground", "MaritalStatus", "EmpDepartment", "EmpJobRole", "BusinessTravelFrequency", "OverTime", "Attrition",
)  # fmt: skip
# Attribute -> its column of the 63.
ATTRIBUTES = {
    "age": "Age_50plus",
    "manager": "IsManager",
    "sex": "Gender_Male",
    "degree": "EducationBackground_Technical Degree",
    "married": "MaritalStatus_Married",
}
OLD = 50


def load(path: Path | None = None) -> Dataset:
    """All rows in file order; features (1200, 63), target in [0, 1], five attributes with the groups "no" and "yes"."""
    pd = pandas()
    table = pd.read_csv(io.BytesIO(read(FILE, path)))
    table["Age_50plus"] = (table["Age"] >= OLD).astype(float)
    table["IsManager"] = table["EmpJobRole"].str.contains("Manager", case=False).astype(float)
    rate = table["EmpHourlyRate"].to_numpy(dtype=np.float64)
    features = pd.get_dummies(table.drop(columns=["EmpNumber", "EmpHourlyRate"]), columns=list(CATEGORIES), dtype=float)
    if features.shape != (1200, 63):
        raise InputError(f"employee_performance: got a table of shape {features.shape}, expected (1200, 63)")
    return Dataset(
        name="employee",
        features=features.to_numpy(dtype=np.float64),
        names=tuple(str(c) for c in features.columns),
        target=(rate - rate.min()) / (rate.max() - rate.min()),
        sensitive={name: np.where(features[column].to_numpy() == 1, "yes", "no") for name, column in ATTRIBUTES.items()},
        task="regression",
    )
