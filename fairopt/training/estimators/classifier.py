"""``FairClassifier``: a classifier for scikit-learn whose probabilities meet a parity notion."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.basics.table import Table
from fairopt.layer.decisions import decide
from fairopt.layer.one_shot import compile
from fairopt.layer.settings import Space
from fairopt.notions.groups import Missing
from fairopt.training.decisions.fit import Calibrated, fitted
from fairopt.training.decisions.rule import Rule, coins, probabilities
from fairopt.training.estimators.base import FairEstimator, Floats
from fairopt.training.inputs.classes import codes_of, some_classes
from fairopt.training.inputs.columns import Cuts, Groups, Read
from fairopt.training.inputs.notion import NotionLike, own_advice, tell_apart

# after `estimators`, which says what to install where scikit-learn is absent
from sklearn.base import ClassifierMixin  # isort: skip
from sklearn.metrics import accuracy_score  # isort: skip
from sklearn.utils import check_random_state  # isort: skip

Thresholds = Literal["half", "groups"]
REMEDY = "; so does thresholds='groups', on these rows"
BOUNDS = (1e-4, 1 - 1e-4)  # of probabilities; the log loss stays finite (DESIGN 7)


class FairClassifier(ClassifierMixin, FairEstimator):  # type: ignore[misc]
    """Of two classes the probability of the second one, ``classes_[1]``, meets ``notion``; of more the probability of each class does.

    Several classes: a network with an output a class, the nearest probabilities in the Kullback-Leibler divergence, for notions without
    labels. ``space``, ``bounds``, ``thresholds``, ``decide`` and the population's ``guarantees_`` are for two.

    The groups come out of X (``sensitive_columns``) or beside it (``sensitive_features`` in ``fit`` and in every method that scores);
    one of the two, never neither. ``predict_proba`` and ``predict`` score each row by itself through the frozen layer; ``transduce``
    projects a whole batch. What each promises: ``fairopt.training.estimators.base``, ``docs/estimators.md``. The notion is about
    probabilities (or logits): the threshold of ``predict`` may open a gap of decisions that the probabilities do not have;
    ``thresholds="groups"`` and ``decide`` are two ways to keep it shut.

    notion                 a notion, e.g. DemographicParity("sex", tolerance=0.05); or a kind of notion, e.g. DemographicParity itself,
                           made with ``tolerance`` for every sensitive attribute
    intersect              make it once, for the intersection of the attributes
    sensitive_columns      names or positions of columns of X, or a mapping from attributes to them; the attribute of a position k is "xk"
    keep_sensitive         whether the network sees the groups, as 0/1 columns
    cuts                   attribute -> thresholds that make groups of a number: {"age": [40, 65]}
    missing_group          "error": a row whose group is missing is one; "own": those rows are a group of their own
    space                  "probability": means of probabilities; "logit": means of logits
    bounds                 of the scores; None: (1e-4, 1 - 1e-4) for probabilities, open for logits
    thresholds             of ``predict``: "half", a probability of 1/2 for all; "groups", those of each group with which the decisions on
                           the calibration rows meet the notion at the fewest errors, where one cannot do drawn between two or three: the
                           rules of ``FairDecisions``
    backend                as in FairnessLayer
    hidden, dropout        the perceptron, beside a linear path; features are standardised inside. (): the linear model alone
    members                networks whose mean scores a row; each keeps other rows apart to say when it stops. "auto": 5 under 2,000
                           training rows, where a tenth of them would say little, else 1. So few rows also begin at the linear model
    epochs, batch_size, learning_rate, weight_decay    AdamW on batches with the groups' shares of the whole; batch_size None: all rows,
                           "auto": an eighth of them, from 64 to 1,024
    distance               mu of the term mu * mean (fair - raw)^2, whose gradient reaches scores that the layer clamps
    early_stopping, patience, validation_fraction      the state with the least validation loss is kept
    calibration_fraction   rows that only calibrate the frozen layer;  confidence  of ``guarantees_``
    device, random_state, verbose    where to train; an int gives the same model again; a progress bar (needs rich)

    After ``fit`` also ``classes_`` and, of two, ``rules_`` (for each of ``frozen_.keys`` thresholds and their weights). Warns
    (``FairoptWarning``) where 1/2 opens a gap of decisions that is far above that of the probabilities. Errors: InputError (a ValueError)
    for bad arguments, missing or unknown groups, a single class; UnsupportedError for notions that cannot be served.

    Examples:
        >>> from fairopt.training import FairClassifier
        >>> generator = np.random.default_rng(0)
        >>> X, sex = generator.normal(size=(300, 3)), generator.choice(["f", "m"], 300)
        >>> y = X[:, 0] + (sex == "m") + generator.normal(size=300) > 0
        >>> model = FairClassifier(fo.DemographicParity("sex", tolerance=0.05), hidden=(), members=1, epochs=5, random_state=0)
        >>> model = model.fit(X, y, sensitive_features={"sex": sex})
        >>> model.predict_proba(X[:2], sensitive_features={"sex": sex[:2]}).shape
        (2, 2)
    """

    def __init__(
        self,
        notion: NotionLike | None = None,
        *,
        tolerance: float | None = None,
        intersect: bool = False,
        sensitive_columns: Any = None,
        keep_sensitive: bool = False,
        cuts: Cuts | None = None,
        missing_group: Missing = "error",
        space: Space = "probability",
        bounds: tuple[float | None, float | None] | None = None,
        thresholds: Thresholds = "half",
        backend: Any = "auto",
        hidden: tuple[int, ...] = (64,),
        dropout: float = 0.0,
        epochs: int = 200,
        members: int | Literal["auto"] = "auto",
        batch_size: int | Literal["auto"] | None = "auto",
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-3,
        distance: float = 0.0,
        early_stopping: bool = True,
        patience: int = 20,
        validation_fraction: float = 0.1,
        calibration_fraction: float = 0.2,
        confidence: float = 0.95,
        device: str = "cpu",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.notion = notion
        self.tolerance = tolerance
        self.intersect = intersect
        self.sensitive_columns = sensitive_columns
        self.keep_sensitive = keep_sensitive
        self.cuts = cuts
        self.missing_group = missing_group
        self.space = space
        self.bounds = bounds
        self.thresholds = thresholds
        self.backend = backend
        self.hidden = hidden
        self.dropout = dropout
        self.epochs = epochs
        self.members = members
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.distance = distance
        self.early_stopping = early_stopping
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.calibration_fraction = calibration_fraction
        self.confidence = confidence
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sensitive_features: Any = None, sample_weight: Any = None) -> FairClassifier:
        """Fit on X (n, d) and labels y (n,) of two classes or more. sample_weight (n,) >= 0 weighs the loss; group means stay unweighted.

        InputError for a single class and arguments that are none.
        """
        if self.space not in ("probability", "logit"):
            raise InputError(f"space: got {self.space!r}, expected 'probability' or 'logit'")
        if self.thresholds not in ("half", "groups"):
            raise InputError(f"thresholds: got {self.thresholds!r}, expected 'half' or 'groups'")
        read = self._read(X, y, sensitive_features)
        self.classes_, codes = some_classes(y)
        if len(self.classes_) > 2:
            return self._fit_several(read, codes, sample_weight)
        probability = self.space == "probability"
        scores, groups = self._fit(
            read,
            codes.astype(np.float64),
            sample_weight,
            space=self.space,
            bounds=BOUNDS if self.bounds is None and probability else self.bounds,
            loss=_of_probabilities if probability else _of_logits,
            classes=True,
            units=(0.0, 1.0),
        )
        self._learn_rules(self._probabilities(scores), groups, codes[self.shares_.calibration].astype(np.float64))
        return self

    def _fit_several(self, read: Read, codes: npt.NDArray[np.int64], weights: Any) -> FairClassifier:
        count = len(self.classes_)
        for name, given, expected in (
            ("space", self.space, "probability"), ("bounds", self.bounds, None), ("thresholds", self.thresholds, "half")
        ):  # fmt: skip
            if given != expected:
                raise UnsupportedError(f"{name}: got {given!r}, expected {expected!r} for {count} classes; {name} is for two")
        if self.notion_.needs_targets:
            raise UnsupportedError(
                f"{self.notion_!r} is about labels, which are not known when a row is served: expected a notion without labels for {count} "
                "classes, or one estimator a class"
            )
        self._fit(
            read, codes.astype(np.float64), weights, space="probability", bounds=None, loss=_of_classes, classes=True, units=(0.0, 1.0),
            outputs=count,
        )  # fmt: skip
        return self

    @property
    def _several(self) -> bool:
        return len(self.classes_) > 2

    def predict_proba(self, X: Any, sensitive_features: Any = None) -> Floats:
        """(n, C) probabilities of the C ``classes_``, each row by itself through the frozen layer."""
        return self._pair(self._frozen_scores(X, sensitive_features, "predict_proba")[0])

    def predict(self, X: Any, sensitive_features: Any = None) -> npt.NDArray[Any]:
        """(n,) ``classes_[1]`` where the probability reaches the threshold of the row's group; of several classes the most probable.

        Where a threshold is drawn, each row has its own coin, made of ``random_state``, its features and its group: the same alone as in a
        batch, and whenever it is asked.
        """
        scores, read, index = self._frozen_scores(X, sensitive_features, "predict")
        if self._several:
            return np.asarray(self.classes_[scores.argmax(1)])
        key = index.numpy()
        yes = probabilities(self.rules_, key, self._probabilities(scores))
        return np.asarray(self.classes_[(coins(read.features, key, self.seed_) < yes).astype(np.int64)])

    def decide(self, X: Any, sensitive_features: Any = None, *, random_state: Any = None) -> npt.NDArray[Any]:
        """(n,) classes drawn so that each row has its own fair probability and each group's rate is within 1 row of its mean probability.

        One or two attributes. Source: claim Q2.
        """
        scores, read, _ = self._frozen_scores(X, sensitive_features, "decide")
        if self._several:
            raise UnsupportedError(f"decide: for two classes, fit saw {len(self.classes_)}")
        generator = np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))
        p = self._probabilities(scores)
        chosen = decide(p, sensitive_features=read.groups, generator=generator, missing_group=self.missing_group)
        return np.asarray(self.classes_[chosen])

    def transduce(self, X: Any, sensitive_features: Any = None, *, return_solution: bool = False) -> Any:
        """(n, C) probabilities of the batch X as a whole: the notion holds on it exactly. With ``return_solution`` the Solution instead.

        Raises UnsupportedError for notions that need labels.
        """
        solution = self._transduced(X, sensitive_features)
        return solution if return_solution else self._pair(solution.scores.numpy())

    def score(self, X: Any, y: Any, sample_weight: Any = None, sensitive_features: Any = None) -> float:
        """Accuracy of ``predict``."""
        return float(accuracy_score(y, self.predict(X, sensitive_features), sample_weight=sample_weight))

    def gaps(self, X: Any, y: Any = None, sensitive_features: Any = None) -> Table:
        """What ``notion_`` says of the frozen scores of X, pair by pair (``fairopt.gaps``). y where the notion needs labels; InputError
        for a label that ``fit`` did not see.
        """
        if self._several:
            raise UnsupportedError(
                f"gaps: for two classes, fit saw {len(self.classes_)}; fairopt.gaps takes one class's column of predict_proba"
            )
        targets = None
        if y is not None:
            targets = torch.from_numpy(codes_of(y, self.classes_).astype(np.float64))
        at_half = self.thresholds == "half" and self.space == "probability"
        return self._gaps(X, targets, sensitive_features, threshold=0.5 if at_half else None)

    def _learn_rules(self, p: Floats, groups: Groups, positive: Floats) -> None:
        """Sets rules_ and seed_ from the calibration rows' probabilities (c,) and labels (c,); says where 1/2 opens a gap of decisions."""
        labels = positive if self.notion_.needs_targets else None
        usual: dict[str, Any] = {"missing_group": self.missing_group, "groups": self._vocabularies()}
        self.rules_ = [Rule(np.array([0.5]), np.ones(1))] * len(self.frozen_.keys)
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        if self.thresholds == "half":
            yes = (p >= 0.5).astype(np.float64)
            batch = {"sensitive_features": groups, "targets": labels}
            tell_apart(self.notion_, p, yes, batch, remedy=REMEDY, **usual)
            return
        with own_advice():
            problem = compile(self.notion_, sensitive_features=groups, targets=labels, bounds=(0, 1), **usual).problem
        words = tuple(str(key) for key in self.frozen_.keys)
        self.rules_ = fitted(Calibrated(p, positive, self.frozen_.index(groups).numpy(), words, problem, (1.0, 1.0)))

    def _probabilities(self, scores: Floats) -> Floats:
        """(n,) of ``classes_[1]``."""
        return scores if self.space == "probability" or self._several else torch.sigmoid(torch.from_numpy(scores)).numpy()

    def _pair(self, scores: Floats) -> Floats:
        p = self._probabilities(scores)
        return p if self._several else np.stack([1.0 - p, p], axis=1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = True
        return tags


def _of_probabilities(p: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy(p, y, reduction="none")


def _of_classes(p: Tensor, y: Tensor) -> Tensor:
    return F.nll_loss(p.clamp(min=1e-30).log(), y.long(), reduction="none")


def _of_logits(z: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(z, y, reduction="none")
