"""First-year grades of law students, predicted from two numbers, with eight groups of race and sex.

Two questions: equal mean predictions of all eight groups; and a mean error near 0 in each of them, which asks for targets and is
answered with shifts fitted on the validation part.
"""

from __future__ import annotations

import fairopt as fo
from fairopt.experiments.data import law as data
from fairopt.experiments.methods.base import Recipe
from fairopt.experiments.reproduce import OnProgress, Result, Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies.regression import Question, Study, study

# The smallest of the eight groups is 2 % of the rows: some 40 in a batch of 2,048.
RECIPE = Recipe(hidden=(32,), dropout=0.0, epochs=40, batch_size=2048, learning_rate=1e-2, weight_decay=1e-3, patience=10)
GROUPS = ("race4", "sex")
STUDY = Study(
    title="Law school: first-year grades, race and sex",
    text="21,791 students (Wightman 1998), features LSAT and UGPA, target the standardised first-year average (mean 0.10, standard "
    "deviation 0.93); groups are race (White, Black, Asian, other) by sex.",
    load=data.load,
    stratify=GROUPS,
    questions=(
        Question(
            "Equal mean predictions",
            lambda t: fo.DemographicParity(GROUPS, tolerance=t),
            0.05,
            (0.0, 0.05, 0.1, 0.2, 0.4),
            "largest gap of mean predictions, held out",
        ),
        Question(
            "Mean error near 0 in each group",
            lambda t: fo.MeanResidual(GROUPS, tolerance=t),
            0.02,
            (0.0, 0.02, 0.05, 0.1, 0.2),
            "largest mean error of a group, held out",
        ),
    ),
    recipe=RECIPE,
    bounds=None,
    sha256=data.SOURCE.sha256[0],
)


def run(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    return study(STUDY, settings, store, on_progress)
