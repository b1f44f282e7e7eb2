"""``FairPostprocessor``: a shift a group behind any classifier or regressor of scikit-learn's kind."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from fairopt.auditing.gap_table import gaps
from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing
from fairopt.basics.table import Table
from fairopt.layer.fairness_layer import FairnessLayer
from fairopt.layer.frozen import FrozenLayer
from fairopt.layer.guaranteed_shifts import OnFew
from fairopt.notions import Notion
from fairopt.notions.groups import Missing
from fairopt.training.estimators.maps import moves_by_label
from fairopt.training.inputs.classes import codes_of, two_classes
from fairopt.training.inputs.columns import Cuts, Groups, Reader, as_columns, as_table, resolve
from fairopt.training.inputs.notion import NotionLike, made_notion, own_advice, tell_apart, tell_silent
from fairopt.training.inputs.parameters import check_bounds, check_missing_group, check_share
from fairopt.training.inputs.split import combinations
from fairopt.training.postprocessing.responses import Kind, kind_of, probability, scores_of
from fairopt.training.postprocessing.rows import Calibration, Rows, check_fitted, cross_fitted, own_split

try:
    from sklearn.base import BaseEstimator, MetaEstimatorMixin, is_classifier
    from sklearn.frozen import FrozenEstimator
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.utils import Bunch, check_random_state, column_or_1d, get_tags, indexable
    from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, validate_data
except ImportError as error:
    raise missing("the estimators need scikit-learn", "sklearn") from error

Floats = npt.NDArray[np.float64]


def _gives_probabilities(model: FairPostprocessor) -> bool:
    behind = getattr(model, "estimator_", model.estimator)
    return bool(is_classifier(behind) and hasattr(behind, "predict_proba"))


def _gives_decision_values(model: FairPostprocessor) -> bool:
    behind = getattr(model, "estimator_", model.estimator)
    if not is_classifier(behind):
        return False
    return hasattr(behind, "decision_function") if not hasattr(behind, "predict_proba") else model.space == "logit"


class FairPostprocessor(MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """Scores of ``estimator``, shifted by one number a group so that they meet ``notion``.

    The shifts are fitted on calibration rows that the estimator has not seen. On these the notion holds; each later row is served by
    itself, from its own score and group: ``clip(score - shift of its group)``.

    estimator           a classifier of two classes or a regressor, a pipeline too. A classifier's scores are the probabilities of
                        ``predict_proba``, or the values of ``decision_function`` where it has no other
    notion              a notion, e.g. DemographicParity("sex", tolerance=0.05), or a kind of notion made with ``tolerance`` for every
                        sensitive attribute (``intersect``: for their intersection). Its shift must depend on the groups alone:
                        demographic parity, ratios, bounds of means, mean residuals. Equal opportunity and equalized odds are refused
    prefit              the estimator is fitted and stays as it is; all rows of ``fit`` calibrate. (``FrozenEstimator`` is meant so too.)
    cv                  cross-fitting: a number of folds, a splitter or an iterable of splits. Every row is scored by a clone that has not
                        seen it, then one clone is fitted on all rows. None: the split below
    calibration_fraction  share of the rows of each group that calibrate and do not fit the estimator
    sensitive_columns   names or positions of columns of X that are the groups, or a mapping from attributes to them; else the groups are
                        ``sensitive_features`` of ``fit`` and of every method that scores, never neither
    keep_sensitive      whether the estimator gets these columns too
    cuts, missing_group as in ``FairClassifier``
    space               of a classifier's scores: "probability": means of probabilities; "logit": of log-odds, p in [1e-6, 1 - 1e-6]
    bounds              of the scores; None: (0, 1) for probabilities, open for all others
    pos_label           the class whose scores the notion is about; None: ``classes_[1]``
    backend, confidence as in ``FairnessLayer`` and ``layer.freeze``
    guarantee           a probability such as 0.95: the shifts meet the notion in the population that the calibration rows are i.i.d. draws
                        of, with that probability (``docs/guarantee.md``, claim Q3); not with ``cv``
    on_few              where the rows are too few for that: "error", or "tighten as far as possible", as in ``layer.freeze``
    random_state        of the split and of the folds, not of the estimator

    After ``fit``: estimator_, notion_, layer_, frozen_ (the shifts: ``frozen_.table()``), certificate_ (of the calibration rows),
    calibration_ (their positions), guarantees_ (a PopulationBound a constraint; empty with ``cv``, where the scores that calibrate are not
    those of ``estimator_``), n_features_in_, feature_names_in_ where X has names, and ``classes_`` of a classifier.

    Errors: InputError (a ValueError) for bad arguments, missing or unknown groups, other than two classes, notions about labels;
    UnsupportedError for notions that no shift serves (ScoreCovariance). Source: claims L8 and Q1.

    Examples:
        >>> from sklearn.linear_model import LogisticRegression
        >>> from fairopt.training import FairPostprocessor
        >>> generator = np.random.default_rng(0)
        >>> X, sex = generator.normal(size=(400, 2)), generator.choice(["f", "m"], 400)
        >>> y = X[:, 0] + (sex == "m") > 0.5
        >>> X = np.c_[X, sex == "m"]
        >>> fair = FairPostprocessor(LogisticRegression(), fo.DemographicParity("sex", tolerance=0.02), random_state=0)
        >>> fair = fair.fit(X, y, sensitive_features={"sex": sex})
        >>> [(row["sex"], round(row["shift"], 2)) for row in fair.frozen_.table()]
        [('f', -0.18), ('m', 0.16)]
    """

    def __init__(
        self,
        estimator: Any,
        notion: NotionLike,
        *,
        tolerance: float | None = None,
        intersect: bool = False,
        prefit: bool = False,
        cv: Any = None,
        calibration_fraction: float = 0.2,
        sensitive_columns: Any = None,
        keep_sensitive: bool = False,
        cuts: Cuts | None = None,
        missing_group: Missing = "error",
        space: Literal["probability", "logit"] = "probability",
        bounds: tuple[float | None, float | None] | None = None,
        pos_label: Any = None,
        backend: Any = "auto",
        confidence: float = 0.95,
        guarantee: float | None = None,
        on_few: OnFew = "error",
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.notion = notion
        self.tolerance = tolerance
        self.intersect = intersect
        self.prefit = prefit
        self.cv = cv
        self.calibration_fraction = calibration_fraction
        self.sensitive_columns = sensitive_columns
        self.keep_sensitive = keep_sensitive
        self.cuts = cuts
        self.missing_group = missing_group
        self.space = space
        self.bounds = bounds
        self.pos_label = pos_label
        self.backend = backend
        self.confidence = confidence
        self.guarantee = guarantee
        self.on_few = on_few
        self.random_state = random_state

    # fit ----------------------------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, sensitive_features: Any = None, **params: Any) -> FairPostprocessor:
        """Fit the estimator and the shifts on X (n rows) and y (n,). ``params`` go to the estimator's ``fit`` (by metadata routing where
        it is enabled). y may be left out with ``prefit`` where the notion needs none.

        InputError for parameters or data that cannot be used.
        """
        self._check_parameters()
        (X,) = indexable(X)
        groups = self._read_groups(X, sensitive_features)
        self._check_estimator()
        labels, targets = self._read_targets(y, len(next(iter(groups.values()))))
        layer = self._layer()
        codes = combinations(groups)
        with own_advice():
            problem = layer.prepare(len(codes), groups, targets).problem
        if moves_by_label(problem, codes):
            raise InputError(
                f"notion: {self.notion_!r} moves the rows of one group by their label, which is not known when a row is scored, so that no "
                "shift a group can serve it; fairopt.FairDecisions makes decisions that meet it, row by row and without labels"
            )
        self.layer_ = layer.hush() if problem.vacuous else layer
        data = Rows(self.reader_.without_groups(X), labels, self._beside(sensitive_features, params), codes)
        found = self._calibration(data)
        self.estimator_, self.calibration_ = found.estimator, found.rows
        self._freeze(found, groups, targets)
        return self

    def _read_groups(self, X: Any, sensitive_features: Any) -> Groups:
        """The groups of the rows. Sets n_features_in_, feature_names_in_, notion_, reader_."""
        validate_data(self, X, skip_check_array=True)
        known = self.notion.attributes if isinstance(self.notion, Notion) else None
        if self.sensitive_columns is not None:
            given = resolve(self.sensitive_columns, as_table(X))
        else:
            given = {} if sensitive_features is None else as_columns(sensitive_features, known)
        self.reader_, groups = Reader.learn_groups(
            X, self.sensitive_columns, sensitive_features, attributes=known or tuple(given) or None, cuts=self.cuts,
            keep=self.keep_sensitive, missing=self.missing_group,
        )  # fmt: skip
        self.notion_ = made_notion(self.notion, self.tolerance, self.intersect, tuple(given))
        return groups

    def _read_targets(self, y: Any, n: int) -> tuple[npt.NDArray[Any], torch.Tensor | None]:
        """y (n,) as the estimator gets it, and as the notion does (None where it needs none). Sets ``classes_``."""
        classifier = self.kind_ != "value"
        frozen = self._is_fitted()
        if frozen and classifier:
            self.classes_ = np.asarray(getattr(self.estimator, "classes_", None))
            if self.classes_.shape != (2,):
                raise InputError(f"estimator: it was fitted with the classes {self.classes_.tolist()}, expected two of one target")
        if y is None:
            if not frozen or self.notion_.needs_targets:
                raise InputError("fit: FairPostprocessor requires y to be passed, but the target y is None")
            return np.zeros(n), None
        check_consistent_length(y, np.zeros(n))
        if not classifier:
            labels = column_or_1d(check_array(y, ensure_2d=False, dtype=np.float64, input_name="y"), warn=True)
            return labels, torch.from_numpy(np.array(labels)) if self.notion_.needs_targets else None
        if not frozen:
            self.classes_, codes = two_classes(y)
        else:
            codes = codes_of(y, self.classes_)
        if not self.notion_.needs_targets:
            return column_or_1d(y), None
        if self.kind_ != "probability":
            raise InputError(f"notion: {self.notion_!r} compares scores with labels, expected space='probability' and a predict_proba")
        return column_or_1d(y), torch.from_numpy((codes == self._positive()).astype(np.float64))

    def _layer(self) -> FairnessLayer:
        bounds = (0.0, 1.0) if self.bounds is None and self.kind_ == "probability" else self.bounds
        return FairnessLayer(
            self.notion_, bounds=bounds, groups=self._vocabularies(), backend=self.backend, missing_group=self.missing_group
        ).eval()

    def _vocabularies(self) -> dict[str, Any]:
        return {name: vocabulary.values for name, vocabulary in self.reader_.vocabularies.items()}

    def _beside(self, sensitive_features: Any, params: dict[str, Any]) -> dict[str, Any]:
        """What goes to the estimator's ``fit`` beside X and y."""
        if not _routing_enabled():
            return params
        given = params if sensitive_features is None else {**params, "sensitive_features": sensitive_features}
        routed: Bunch = process_routing(self, "fit", **given)
        return dict(routed.estimator.fit)

    def _calibration(self, data: Rows) -> Calibration:
        generator = np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))
        if self._is_fitted():
            return Calibration(self.estimator, np.arange(len(data.groups)), self._scores(self.estimator, data.X))
        if self.cv is None:
            return own_split(self.estimator, data, self._scores, self.calibration_fraction, generator)
        return cross_fitted(self.estimator, data, self._scores, self.cv, generator, classes=self.kind_ != "value")

    def _freeze(self, found: Calibration, groups: Groups, targets: torch.Tensor | None) -> None:
        """Sets frozen_, guarantees_ and certificate_."""
        crossed = self.cv is not None and not self._is_fitted()
        if crossed and self.guarantee is not None:
            raise InputError(
                "guarantee: it is about one model and rows that this has not seen, and cv= scores rows by others; leave cv out"
            )
        inside = {name: column[found.rows] for name, column in groups.items()}
        labels = None if targets is None else targets[torch.from_numpy(found.rows)]
        with own_advice():
            solution = self.layer_.solution(torch.from_numpy(found.scores), sensitive_features=inside, targets=labels)
            self.certificate_ = solution.certificate
            self.frozen_: FrozenLayer = self.layer_.freeze(
                found.scores, sensitive_features=inside, targets=labels, confidence=self.confidence, guarantee=self.guarantee,
                on_few=self.on_few, seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
            )  # fmt: skip
        tell_silent(self.notion_, self.certificate_, self.frozen_.guarantees)
        if crossed:
            self.frozen_.guarantees = ()  # claim Q1 is about one model and rows that it has not seen
        self.guarantees_ = self.frozen_.guarantees
        if self.kind_ in ("probability", "logit"):
            with torch.no_grad():
                fair = self.frozen_(torch.from_numpy(found.scores), self.frozen_.index(inside)).numpy()
            p = probability(fair, self.kind_)
            batch = {"sensitive_features": inside, "targets": None if labels is None else labels.numpy()}
            yes = (p > 0.5).astype(np.float64)
            tell_apart(self.notion_, p, yes, batch, missing_group=self.missing_group, groups=self._vocabularies())

    # serving ------------------------------------------------------------------------------------------------------------------

    @available_if(_gives_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any, sensitive_features: Any = None) -> Floats:
        """(n, 2) probabilities of ``classes_``, each row by itself."""
        p = probability(self._served(X, sensitive_features, "predict_proba")[0], self.kind_)
        pair = (1.0 - p, p) if self._positive() else (p, 1.0 - p)
        return np.stack(pair, axis=1)

    @available_if(_gives_decision_values)  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any, sensitive_features: Any = None) -> Floats:
        """(n,) shifted decision values, or log-odds with ``space="logit"``; ``predict`` says ``classes_[1]`` where they are above 0."""
        return self._served(X, sensitive_features, "decision_function")[0] * (1.0 if self._positive() else -1.0)

    def predict(self, X: Any, sensitive_features: Any = None) -> npt.NDArray[Any]:
        """(n,) the likelier class (at a tie ``classes_[0]``, as in scikit-learn), or the shifted predictions of a regressor."""
        scores, _ = self._served(X, sensitive_features, "predict")
        if self.kind_ == "value":
            return scores
        cut = 0.5 if self.kind_ == "probability" else 0.0
        second = scores > cut if self._positive() else scores < cut
        return np.asarray(self.classes_[second.astype(np.int64)])

    def score(self, X: Any, y: Any, sample_weight: Any = None, sensitive_features: Any = None) -> float:
        """Accuracy of ``predict``; R squared of a regressor."""
        measure = r2_score if self.kind_ == "value" else accuracy_score
        return float(measure(y, self.predict(X, sensitive_features), sample_weight=sample_weight))

    def gaps(self, X: Any, y: Any = None, sensitive_features: Any = None) -> Table:
        """What ``notion_`` says of the shifted scores of X, pair by pair (``fairopt.gaps``). y where the notion needs
        labels, else InputError."""
        if y is None and self.notion_.needs_targets:
            raise InputError(f"gaps: got no y, and {self.notion_!r} is about labels; expected y= (n,) beside X")
        scores, groups = self._served(X, sensitive_features, "gaps")
        targets = None
        if self.notion_.needs_targets:
            targets = column_or_1d(y) if self.kind_ == "value" else (codes_of(y, self.classes_) == self._positive()).astype(np.float64)
        return gaps(
            scores, self.notion_, sensitive_features=groups, targets=targets, groups=self._vocabularies(),
            missing_group=self.missing_group, threshold=0.5 if self.kind_ == "probability" else None,
        )  # fmt: skip

    def _served(self, X: Any, sensitive_features: Any, method: str) -> tuple[Floats, Groups]:
        """Fair scores (n,), each row by itself, and the groups. InputError where a combination of groups was not calibrated."""
        check_is_fitted(self)
        (X,) = indexable(X)
        if isinstance(X, np.ndarray) and X.ndim != 2 and hasattr(self, "n_features_in_"):
            as_table(X)  # says what shape is expected
        validate_data(self, X, reset=False, skip_check_array=True)
        groups = self.reader_.read_groups(X, sensitive_features, method=method)
        index = self.frozen_.codes(groups)
        unknown = torch.nonzero(index == self.frozen_.unknown).reshape(-1).tolist()
        if unknown:
            row = {name: column[[unknown[0]]].tolist()[0] for name, column in groups.items()}
            raise InputError(f"{method}: row {unknown[0]} has the groups {row}, which no row of fit had together; they have no fair score")
        scores = self._scores(self.estimator_, self.reader_.without_groups(X))
        with torch.no_grad():
            self.frozen_.look(torch.from_numpy(scores))
            return self.frozen_(torch.from_numpy(scores), index).numpy(), groups

    def _scores(self, estimator: Any, X: Any) -> Floats:
        """(n,) scores of the estimator, before the shift."""
        return scores_of(estimator, X, self.kind_, None if self.kind_ == "value" else self.classes_, self._positive())

    # parameters -----------------------------------------------------------------------------------------------------------------

    def _positive(self) -> int:
        """The place in ``classes_`` of the class that the notion is about."""
        if self.kind_ == "value" or self.pos_label is None:
            return 1
        if self.pos_label not in self.classes_.tolist():
            raise InputError(f"pos_label: got {self.pos_label!r}, expected one of the classes {self.classes_.tolist()}")
        return int(self.classes_.tolist().index(self.pos_label))

    def _is_fitted(self) -> bool:
        return bool(self.prefit) or isinstance(self.estimator, FrozenEstimator)

    def _check_estimator(self) -> None:
        """Sets ``kind_``. InputError for an estimator that does not go with the parameters, or that is not fitted where it should be."""
        if self._is_fitted():
            check_fitted(self.estimator)
            hides = self.reader_.positions and not self.keep_sensitive
            if hides and getattr(self.estimator, "n_features_in_", None) == self.n_features_in_:
                raise InputError(
                    f"keep_sensitive: got False, but the estimator was fitted with all {self.n_features_in_} columns, the groups' too; "
                    "expected keep_sensitive=True, or an estimator that was fitted without them"
                )
        self.kind_: Kind = kind_of(self.estimator, self.space)
        if self.space == "logit" and self.kind_ != "logit":
            raise InputError(f"space: got 'logit', expected a classifier with predict_proba, not {type(self.estimator).__name__}")
        if self.pos_label is not None and self.kind_ == "value":
            raise InputError(f"pos_label: got {self.pos_label!r}, expected None, for a regressor has no classes")

    def _check_parameters(self) -> None:
        if not (hasattr(self.estimator, "fit") and hasattr(self.estimator, "predict")):
            raise InputError(f"estimator: got {self.estimator!r}, expected an estimator with fit and predict")
        if self.space not in ("probability", "logit"):
            raise InputError(f"space: got {self.space!r}, expected 'probability' or 'logit'")
        if self.prefit and self.cv is not None:
            raise InputError(f"prefit, cv: got prefit=True and cv={self.cv!r}, expected one of them: a fitted estimator is fitted no more")
        check_bounds(self.bounds)
        check_missing_group(self.missing_group)
        check_share("calibration_fraction", self.calibration_fraction)
        check_share("confidence", self.confidence)

    def get_metadata_routing(self) -> Any:
        """``sensitive_features`` is this estimator's own; what else ``fit`` gets goes to the estimator behind."""
        mapping = MethodMapping().add(caller="fit", callee="fit")
        return MetadataRouter(owner=self).add_self_request(self).add(estimator=self.estimator, method_mapping=mapping)

    def __sklearn_tags__(self) -> Any:
        tags, behind = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.estimator_type = behind.estimator_type
        tags.classifier_tags, tags.regressor_tags = behind.classifier_tags, behind.regressor_tags
        if tags.classifier_tags is not None:
            tags.classifier_tags.multi_class = tags.classifier_tags.multi_label = False
        tags.target_tags.required = True
        tags.input_tags = behind.input_tags
        beside = self.sensitive_columns is None  # group columns of X are looked at, and none of them may miss
        tags.input_tags.sparse = behind.input_tags.sparse and beside
        tags.input_tags.allow_nan = behind.input_tags.allow_nan and beside
        return tags


def _routing_enabled() -> bool:
    import sklearn

    return bool(sklearn.get_config()["enable_metadata_routing"])
