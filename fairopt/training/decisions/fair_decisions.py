"""``FairDecisions``: yes or no from calibrated scores, with the least expected cost among the rules that meet a parity notion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fairopt.auditing import Audit, audit
from fairopt.auditing.gap_table import gaps
from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.columns import real_vector
from fairopt.basics.containers import is_frame, is_tensor
from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing
from fairopt.basics.table import Table
from fairopt.layer.decisions import decide
from fairopt.layer.freezing import group_keys
from fairopt.layer.one_shot import compile
from fairopt.layer.population_bound import PopulationBound
from fairopt.notions import Notion
from fairopt.notions.groups import Missing
from fairopt.training.decisions.calibration import Calibration
from fairopt.training.decisions.curves import curve
from fairopt.training.decisions.fit import Calibrated, OnFew, fitted, guaranteed
from fairopt.training.decisions.program import asked_of_rates, best_weights
from fairopt.training.decisions.rule import Rule, coins, probabilities
from fairopt.training.inputs.classes import codes_of, two_classes
from fairopt.training.inputs.columns import GIVE, Cuts, Groups, Reader, as_columns, as_table, resolve
from fairopt.training.inputs.notion import NotionLike, made_notion, own_advice

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.metrics import accuracy_score
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data
except ImportError as error:
    raise missing("FairDecisions needs scikit-learn", "sklearn") from error


class FairDecisions(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Decisions between two classes, made of scores that somebody else's model gave; "yes" is ``classes_[1]``.

    For every group a threshold on the score, or a draw between two where one cannot meet the notion; the exact solution of a small linear
    program over the corners of the groups' ROC curves. Any notion about rates: DemographicParity, EqualOpportunity, PredictiveEquality,
    EqualizedOdds, their joins, strata, references, ratios and intersections, at tolerance 0 or more.
    Each row is decided by itself, from its score and group. ``docs/decisions.md`` shows it at work.

    notion             a notion, e.g. EqualizedOdds("sex", tolerance=0.05); or a kind of notion, made with ``tolerance`` for every sensitive
                       attribute
    intersect          make it once, for the intersection of the attributes
    sensitive_columns  names or positions of columns of X that hold the groups; None: they come as ``sensitive_features``
    score_column       the name or position of the scores in an X of several columns; None: the one column that holds no group
    cuts, missing_group    as in ``FairClassifier``
    cost               of a false positive and of a false negative, >= 0; (1, 1) is the error rate
    guarantee          None: the notion holds on the calibration rows, exactly in expectation over the draw. A probability such as 0.95:
                       it holds in the population that these are i.i.d. draws of, with that probability over them, for all constraints at
                       once (``docs/guarantee.md``, claim Q3). For groups that do not overlap, compared in pairs or with a reference
    on_few             where the calibration rows are too few for that: "error", an InputError that names the group and how many it would
                       take; "tighten as far as possible": the strictest rule, and ``guarantees_`` says what is left
    random_state       of the coins, and of which rows choose targets under a guarantee. An int gives the same rules and decisions again

    After ``fit``: classes_, notion_, rules_ (one ``Rule`` a group: thresholds and weights), keys_ (the groups' values), guarantees_ (a
    PopulationBound for each constraint; empty without ``guarantee``), n_features_in_.

    Errors: InputError (a ValueError) for bad arguments, missing or unknown groups, other than two classes, too few rows;
    UnsupportedError for notions that are not about rates; InfeasibleError where no thresholds meet the notion.
    Source: Hardt, Price, Srebro 2016; with a tolerance: Cruz, Hardt 2024. The guarantee is fairopt's own (``fairopt.layer.levels``).

    Examples:
        >>> from fairopt.training import FairDecisions
        >>> generator = np.random.default_rng(0)
        >>> sex, scores = generator.choice(["f", "m"], 500), generator.random((500, 1))
        >>> y = generator.random(500) < scores[:, 0]
        >>> rule = FairDecisions(fo.EqualizedOdds("sex", tolerance=0.02), random_state=0).fit(scores, y, sensitive_features={"sex": sex})
        >>> rule.table().columns, rule.predict(scores[:3], sensitive_features={"sex": sex[:3]})
        (('sex', 'threshold', 'weight'), array([ True, False,  True]))
    """

    def __init__(
        self,
        notion: NotionLike | None = None,
        *,
        tolerance: float | None = None,
        intersect: bool = False,
        sensitive_columns: Any = None,
        score_column: str | int | None = None,
        cuts: Cuts | None = None,
        missing_group: Missing = "error",
        cost: tuple[float, float] = (1.0, 1.0),
        guarantee: float | None = None,
        on_few: OnFew = "error",
        random_state: Any = None,
    ) -> None:
        self.notion = notion
        self.tolerance = tolerance
        self.intersect = intersect
        self.sensitive_columns = sensitive_columns
        self.score_column = score_column
        self.cuts = cuts
        self.missing_group = missing_group
        self.cost = cost
        self.guarantee = guarantee
        self.on_few = on_few
        self.random_state = random_state

    # fit --------------------------------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sensitive_features: Any = None) -> FairDecisions:
        """Fit on calibration rows that did not train the model of the scores: X (n,), (n, 1) or a table with a column of scores; y (n,).

        InputError for parameters, scores or labels that cannot be used, and for groups with too few rows for a guarantee.
        """
        self._check_parameters()
        table = _as_scores(X, alone=self.sensitive_columns is None and self.score_column is None)
        validate_data(self, table, y, skip_check_array=True)
        known = self.notion.attributes if isinstance(self.notion, Notion) else None
        columns = self.sensitive_columns
        if columns is None and sensitive_features is None:
            raise InputError(f"fit: got no groups; {GIVE.format(method='fit')}")
        names = tuple(as_columns(sensitive_features, known) if columns is None else resolve(columns, as_table(table)))
        self.notion_ = made_notion(self.notion, self.tolerance, self.intersect, names)
        self.reader_, read = Reader.learn(
            table, columns, sensitive_features, attributes=self.notion_.attributes, cuts=self.cuts, keep=False, missing=self.missing_group
        )
        check_consistent_length(read.features, y)
        self.classes_, codes = two_classes(y)
        scores, positive = self._scores(table, read.features, fit=True), codes.astype(np.float64)
        random = check_random_state(self.random_state)
        self.seed_ = int(random.randint(2**31 - 1))
        with own_advice():
            prepared = compile(
                self.notion_, sensitive_features=read.groups, targets=positive if self.notion_.needs_targets else None, bounds=(0, 1),
                groups=self._vocabularies(), missing_group=self.missing_group,
            )  # fmt: skip
        self.keys_, key = group_keys(self.notion_.attributes, read.groups, len(scores))
        words = tuple(self._words(k) for k in range(len(self.keys_)))
        cost = (float(self.cost[0]), float(self.cost[1]))
        data = Calibrated(scores, positive, key, words, prepared.problem, cost)
        self.guarantees_: tuple[PopulationBound, ...] = ()
        if self.guarantee is None:
            self.rules_: list[Rule] = fitted(data)
        else:
            generator = np.random.default_rng(self.seed_)
            self.rules_, self.guarantees_ = guaranteed(data, float(self.guarantee), self.on_few, generator)
        unit = bool(len(scores)) and float(scores.min()) >= 0.0 and float(scores.max()) <= 1.0
        self.calibration_ = Calibration.fit(scores, positive, key) if unit else None
        return self

    def _scores(self, table: Any, features: Array, *, fit: bool) -> Array:
        """(n,) the scores among the columns (n, d) that hold no group."""
        sensitive = set(self.reader_.positions.values())
        rest = [k for k in range(table.shape[1]) if k not in sensitive]
        if fit:
            self.column_ = self._column(table, rest)
        return np.ascontiguousarray(features[:, rest.index(self.column_)])

    def _column(self, table: Any, rest: Sequence[int]) -> int:
        if self.score_column is None:
            if len(rest) != 1:
                raise InputError(
                    f"X: got {len(rest)} columns that hold no group ({table.shape[1]} feature(s)), expected one, the scores; name it with "
                    "score_column="
                )
            return rest[0]
        (position,) = resolve({"score": self.score_column}, as_table(table)).values()
        if position not in rest:
            raise InputError(f"score_column: got {self.score_column!r}, which is a sensitive column")
        return position

    # serving ----------------------------------------------------------------------------------------------------------------------

    def predict_proba(self, X: Any, sensitive_features: Any = None) -> Array:
        """(n, 2): the probability of each class in the draw that decides a row; 0 and 1 without a draw. Not that of the label."""
        yes = self._yes(*self._received(X, sensitive_features, "predict_proba")[:2])
        return np.stack([1.0 - yes, yes], axis=1)

    def predict(self, X: Any, sensitive_features: Any = None, *, ids: Any = None) -> npt.NDArray[Any]:
        """(n,) a class a row, by the row's own coin: the same alone as in a batch, and the same whenever it is asked.

        The coin is made of ``random_state``, the group and the score, so that rows with one score fall on one side; with ``ids`` (n,), the
        name of each row's person, of these instead. ``decide`` spreads the yes of a batch evenly over tied rows.
        """
        scores, key, _ = self._received(X, sensitive_features, "predict")
        yes = self._yes(scores, key)
        return np.asarray(self.classes_[(coins(scores, key, self.seed_, ids) < yes).astype(np.int64)])

    def decide(self, X: Any, sensitive_features: Any = None, *, random_state: Any = None) -> npt.NDArray[Any]:
        """(n,) classes drawn for the batch: each row has its own probability, each group's number of yes is within 1 of its expectation.

        Systematic rounding within groups (claim Q2). random_state: None: that of the estimator.
        """
        scores, key, _ = self._received(X, sensitive_features, "decide")
        seed = self.seed_ if random_state is None else int(check_random_state(random_state).randint(2**31 - 1))
        chosen = decide(self._yes(scores, key), sensitive_features={"group": key}, generator=np.random.default_rng(seed))
        return np.asarray(self.classes_[np.asarray(chosen)])

    def transduce(self, X: Any, sensitive_features: Any = None) -> Array:
        """(n, 2) probabilities of decisions for the batch X as a whole: on it the notion holds in expectation, labels unknown.

        The linear program on the batch, with each row's probability of being positive in the place of its label: the score, calibrated on
        the rows of fit in each group (``calibration.py``). Demographic parity holds on the batch exactly. For scores in
        [0, 1]; InputError for others.
        """
        scores, key, groups = self._received(X, sensitive_features, "transduce")
        if self.calibration_ is None or not len(scores) or scores.min() < 0.0 or scores.max() > 1.0:
            raise InputError("transduce: expected scores that are probabilities, in [0, 1], here and in fit")
        likely = self.calibration_(scores, key)  # (n,)
        yes = np.zeros(len(scores))
        present, own = np.unique(key, return_inverse=True)
        curves = [curve(likely[key == k], likely[key == k]) for k in present.tolist()]
        asked = self._asked_of_batch(likely, own, groups)
        for k, c, w in zip(range(len(present)), curves, best_weights(curves, asked, self.cost), strict=True):
            yes[own == k] = Rule.of(c.thresholds, w)(likely[own == k])
        return np.stack([1.0 - yes, yes], axis=1)

    def _asked_of_batch(self, likely: Array, own: IntArray, groups: Groups) -> Any:
        """What the notion asks of rates in a batch whose rows are positive with probability ``likely`` (n,)."""
        double = {name: np.concatenate([column, column]) for name, column in groups.items()}
        ones = np.repeat([0.0, 1.0], len(likely))
        problem = compile(
            self.notion_, sensitive_features=double, targets=ones if self.notion_.needs_targets else None, bounds=(0, 1),
            groups=self._vocabularies(), missing_group=self.missing_group,
        ).problem  # fmt: skip
        shares = np.concatenate([1.0 - likely, likely])
        return asked_of_rates(problem, np.concatenate([own, own]), ones, int(own.max()) + 1, shares=shares)

    # looking ----------------------------------------------------------------------------------------------------------------------

    def score(self, X: Any, y: Any, sample_weight: Any = None, sensitive_features: Any = None) -> float:
        """Accuracy of ``predict``."""
        return float(accuracy_score(y, self.predict(X, sensitive_features), sample_weight=sample_weight))

    def gaps(self, X: Any, y: Any = None, sensitive_features: Any = None) -> Table:
        """What ``notion_`` says of the expected decisions of X, pair by pair (``fairopt.gaps``). y (n,) where the notion needs
        labels, else InputError."""
        scores, key, groups = self._received(X, sensitive_features, "gaps")
        if y is None and self.notion_.needs_targets:
            raise InputError(f"gaps: got no y, and {self.notion_!r} is about labels; expected y= (n,) beside X")
        return gaps(
            self._yes(scores, key), self.notion_, sensitive_features=groups, targets=self._targets(y), groups=self._vocabularies(),
            missing_group=self.missing_group, threshold=None,
        )  # fmt: skip

    def audit(self, X: Any, y: Any = None, sensitive_features: Any = None, **options: Any) -> Audit:
        """``fairopt.audit`` of the scores of X with the decisions of ``decide``. options: of ``fairopt.audit``."""
        scores, key, groups = self._received(X, sensitive_features, "audit")
        generator = np.random.default_rng(self.seed_)
        chosen = decide(self._yes(scores, key), sensitive_features={"group": key}, generator=generator)
        usual: dict[str, Any] = {"groups": self._vocabularies(), "missing_group": self.missing_group, "decisions": chosen}
        return audit(scores, self.notion_, sensitive_features=groups, targets=self._targets(y), **{**usual, **options})

    def table(self) -> Table:
        """A row a group and threshold: the group's values, the threshold (yes from it on) and the weight with which it is drawn."""
        rows = [
            (*key, float(t), float(w))
            for key, rule in zip(self.keys_, self.rules_, strict=True)
            for t, w in zip(rule.thresholds, rule.weights, strict=True)
        ]
        return Table((*self.notion_.attributes, "threshold", "weight"), tuple(rows))

    # parts ------------------------------------------------------------------------------------------------------------------------

    def _received(self, X: Any, sensitive_features: Any, method: str) -> tuple[Array, IntArray, Groups]:
        """Scores (n,), positions (n,) in ``keys_``, and the groups of rows that are not those of fit."""
        check_is_fitted(self)
        table = _as_scores(X, alone=self.n_features_in_ == 1)
        validate_data(self, table, reset=False, skip_check_array=True)
        read = self.reader_.read(table, sensitive_features, method=method)
        scores = self._scores(table, read.features, fit=False)
        keys, code = group_keys(self.notion_.attributes, read.groups, len(scores))
        known = {key: k for k, key in enumerate(self.keys_)}
        at = np.array([known.get(key, -1) for key in keys], dtype=np.int64)
        if (at < 0).any():
            row = int(np.flatnonzero(at[code] < 0)[0])
            combination = {name: column[[row]].tolist()[0] for name, column in read.groups.items()}
            raise InputError(f"{method}: row {row} has the groups {combination}, which no row of fit had together; they have no threshold")
        return scores, at[code].reshape(len(scores)), read.groups

    def _yes(self, scores: Array, key: IntArray) -> Array:
        return probabilities(self.rules_, key, scores)

    def _targets(self, y: Any) -> Array | None:
        if y is None:
            return None
        return codes_of(y, self.classes_).astype(np.float64)

    def _vocabularies(self) -> dict[str, Any]:
        return {name: vocabulary.values for name, vocabulary in self.reader_.vocabularies.items()}

    def _words(self, k: int) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in zip(self.notion_.attributes, self.keys_[k], strict=True))

    def _check_parameters(self) -> None:
        cost = self.cost
        if not (isinstance(cost, (tuple, list)) and len(cost) == 2 and all(_number(c) and 0 <= c < np.inf for c in cost)):
            raise InputError(f"cost: got {cost!r}, expected two numbers >= 0, of a false positive and of a false negative")
        if self.guarantee is not None and not (_number(self.guarantee) and 0 < self.guarantee < 1):
            raise InputError(f"guarantee: got {self.guarantee!r}, expected None or a probability between 0 and 1, such as 0.95")
        if self.on_few not in ("error", "tighten as far as possible"):
            raise InputError(f"on_few: got {self.on_few!r}, expected 'error' or 'tighten as far as possible'")
        if self.missing_group not in ("error", "own"):
            raise InputError(f"missing_group: got {self.missing_group!r}, expected 'error' or 'own'")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


def _number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _as_scores(X: Any, *, alone: bool) -> Any:
    """X as a table (n, d). alone: a column of scores by itself is one, (n, 1); else scikit-learn's own error for it."""
    if is_tensor(X):
        X = X.detach().cpu().numpy()
    one = getattr(X, "ndim", 0) == 1 or (isinstance(X, (list, tuple)) and bool(len(X)) and np.ndim(X[0]) == 0)
    if alone and not is_frame(X) and (one or (hasattr(X, "to_list") and not hasattr(X, "columns"))):
        return real_vector(X, None, "X")[:, None]
    return X if getattr(X, "ndim", 1) == 2 and hasattr(X, "shape") else as_table(X)
