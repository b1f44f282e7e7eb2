"""Crime rates of US communities, predicted so that they do not follow the share of Black residents.

Three questions: the covariance with the share itself (a continuous attribute); equal means where the share is above and below 0.06; and
equal mean errors there, which asks for targets and is answered with shifts fitted on the validation part.
"""

from __future__ import annotations

import fairopt as fo
from fairopt.experiments.data import communities as data
from fairopt.experiments.methods.base import Recipe
from fairopt.experiments.reproduce import OnProgress, Result, Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies.regression import Question, Study, study

# All rows in one batch, because a notion is asked of each batch.
# The best of eight recipes by validation error, the plain network's and the layer's: weight decay and dropout matter, 1,196 rows are few.
RECIPE = Recipe(hidden=(64,), dropout=0.5, epochs=300, batch_size=None, learning_rate=3e-3, weight_decay=1.0, patience=40)
STUDY = Study(
    title="Communities: crime rates that do not follow the share of Black residents",
    text="1,994 US communities (Redmond 2009), 96 features, the shares of races left out; the target is in [0, 1], and so are the "
    "predictions.",
    load=data.load,
    stratify=("black",),
    questions=(
        Question(
            "Covariance with the share of Black residents",
            lambda t: fo.ScoreCovariance("black_share", tolerance=t),
            0.005,
            (0.0, 0.0025, 0.005, 0.01, 0.02),
            "covariance of prediction and share, held out",
        ),
        Question(
            "Equal means where that share is above and below 0.06",
            lambda t: fo.DemographicParity("black", tolerance=t),
            0.02,
            (0.0, 0.02, 0.05, 0.1, 0.15),
            "gap of mean predictions, held out",
        ),
        Question(
            "Equal mean errors where that share is above and below 0.06",
            lambda t: fo.ResidualParity("black", tolerance=t),
            0.01,
            (0.0, 0.01, 0.02),
            "gap of mean errors, held out",
        ),
    ),
    recipe=RECIPE,
    bounds=(0.0, 1.0),
    sha256=data.SOURCE.sha256[0],
)


def run(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    return study(STUDY, settings, store, on_progress)
