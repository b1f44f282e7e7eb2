"""What ``FairClassifier`` and ``FairRegressor`` share: a scikit-learn estimator around a network with a fairness layer.

``fit`` splits the rows (``estimators_split``), trains the network with the layer behind it (``fairopt.training.fit`` on stratified
batches), and freezes the layer on the calibration rows. From then on there are two ways to a score, with two guarantees:

- frozen (``predict`` and its kin): each row by itself, from its features and group alone. On the calibration rows the notion holds; on
  the population its gaps are at most ``guarantees_[k].bound``, all at once with probability ``confidence`` over the draw of the
  calibration rows (claim Q1; ``estimators_maps`` for notions about labels).
- ``transduce``: a batch as a whole, projected. The notion holds on that batch exactly, with a certificate; the score of a row depends on
  the others. For notions that need no labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fairopt.auditing.gap_table import gaps
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.basics.extras import missing
from fairopt.basics.table import Table
from fairopt.layer.fairness_layer import FairnessLayer
from fairopt.layer.freezing import freeze
from fairopt.layer.frozen import FrozenLayer
from fairopt.layer.frozen_classes import FrozenClasses
from fairopt.layer.settings import Space
from fairopt.notions import Notion
from fairopt.notions.groups import Missing
from fairopt.solve import Solution
from fairopt.training.estimators.maps import FrozenMaps, freeze_maps, moves_by_label
from fairopt.training.estimators.network import Members, Network, in_blocks
from fairopt.training.estimators.recipe import Data, Loss, Recipe, train_members
from fairopt.training.inputs.columns import GIVE, Cuts, Groups, Read, Reader, as_columns, as_table, resolve
from fairopt.training.inputs.notion import NotionLike, made_notion, own_advice, tell_silent
from fairopt.training.inputs.parameters import (
    check_amount,
    check_bounds,
    check_counts,
    check_hidden,
    check_missing_group,
    check_share,
)
from fairopt.training.inputs.split import Shares, combinations, shares

try:
    from sklearn.base import BaseEstimator
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import _check_sample_weight, check_consistent_length, check_is_fitted, validate_data
except ImportError as error:
    raise missing("the estimators need scikit-learn", "sklearn") from error

Floats = npt.NDArray[np.float64]


class FairEstimator(BaseEstimator):  # type: ignore[misc]
    """The parameters are documented in ``FairClassifier`` and ``FairRegressor``.

    After ``fit``: network_ (a torch module; of several members their mean), layer_ (the FairnessLayer), frozen_ (what serves), notion_,
    guarantees_ (a PopulationBound for each constraint), certificate_ (of the calibration rows' projection), histories_ (of each member's
    training; with gaps for the first, which is history_), epochs_ (how many were kept; 0: the linear start), shares_ (which rows did
    what; with several members each row of training stops one of them), n_features_in_, feature_names_in_.
    """

    notion: NotionLike | None
    tolerance: float | None
    intersect: bool
    sensitive_columns: Any
    keep_sensitive: bool
    cuts: Cuts | None
    missing_group: Missing
    bounds: tuple[float | None, float | None] | None
    backend: Any
    hidden: Sequence[int]
    dropout: float
    epochs: int
    members: int | Literal["auto"]
    batch_size: int | Literal["auto"] | None
    learning_rate: float
    weight_decay: float
    distance: float
    early_stopping: bool
    patience: int
    validation_fraction: float
    calibration_fraction: float
    confidence: float
    device: str
    random_state: Any
    verbose: bool
    frozen_: FrozenLayer | FrozenMaps | FrozenClasses
    network_: Network | Members

    # fit ----------------------------------------------------------------------------------------------------------------------

    def _read(self, X: Any, y: Any, sensitive_features: Any) -> Read:
        """X with its groups, for fit. Sets n_features_in_, feature_names_in_, notion_, reader_."""
        self._check_parameters()
        table = as_table(X)
        validate_data(self, X, y, skip_check_array=True)
        if self.sensitive_columns is None and sensitive_features is None:
            raise InputError(f"fit: got no groups; {GIVE.format(method='fit')}")
        known = self.notion.attributes if isinstance(self.notion, Notion) else None
        given = as_columns(sensitive_features, known) if self.sensitive_columns is None else resolve(self.sensitive_columns, table)
        self.notion_ = made_notion(self.notion, self.tolerance, self.intersect, tuple(given))
        attributes = self.notion_.attributes
        self.reader_, read = Reader.learn(
            table, self.sensitive_columns, sensitive_features, attributes=attributes, cuts=self.cuts, keep=self.keep_sensitive,
            missing=self.missing_group,
        )  # fmt: skip
        check_consistent_length(read.features, y)
        return read

    def _fit(
        self,
        read: Read,
        targets: Floats,
        weights: Any,
        *,
        space: Space,
        bounds: Any,
        loss: Loss,
        classes: bool,
        units: tuple[float, float],
        outputs: int = 1,
    ) -> tuple[Floats, Groups]:
        """Split, train, freeze. targets (n,): 0 / 1 or values; units: location and scale of the scores.

        Returns the calibration rows' fair scores (c,) and groups.
        """
        generator = np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))
        features, y = torch.tensor(read.features, device="cpu"), torch.tensor(targets, device="cpu")  # (n, d), (n,)
        weight = (
            None
            if weights is None
            else torch.from_numpy(_check_sample_weight(weights, read.features, dtype=np.float64, ensure_non_negative=True))
        )
        groups = combinations(read.groups)
        labels = targets.astype(np.int64) if classes else np.zeros(len(targets), dtype=np.int64)
        validation = self.validation_fraction if self.early_stopping else 0.0
        # a batch in which a join of notions has no solution takes the nearest scores; what is promised, calibration must meet
        usual: dict[str, Any] = {
            "bounds": bounds, "groups": self._vocabularies(), "backend": self.backend, "space": space, "missing_group": self.missing_group
        }  # fmt: skip
        if outputs == 1:
            layer = FairnessLayer(self.notion_, **usual, on_infeasible="closest")
            with own_advice():
                problem = layer.prepare(len(y), read.groups, y if self.notion_.needs_targets else None).problem
            vacuous = problem.vacuous
            by_label = moves_by_label(problem, groups)
        else:
            usual.update(outputs="simplex", distance="kl", bounds=None)
            layer = FairnessLayer(self.notion_, **usual)
            vacuous = by_label = False
        if vacuous:
            layer.hush()
        strata = groups * max(2, outputs) + labels
        parts = shares(groups, strata, self.calibration_fraction, validation, generator, by_label=by_label)
        data = Data(features, y, weight, read.groups, self.notion_.needs_targets, torch.device(self.device))
        trained = train_members(data, layer, parts, strata, self._recipe(loss, units, outputs, classes=classes), generator)
        self.network_, self.shares_ = trained.network, trained.shares
        self.histories_, self.history_, self.epochs_ = trained.histories, trained.histories[0], trained.epochs
        self.layer_ = FairnessLayer(self.notion_, **usual).eval()
        if vacuous:
            self.layer_.hush()
        return self._freeze(data, self.shares_, by_label=by_label)

    def _recipe(self, loss: Loss, units: tuple[float, float], outputs: int, *, classes: bool) -> Recipe:
        return Recipe(
            loss, units, classes, self.members, self.hidden, self.dropout, self.epochs, self.batch_size, self.learning_rate,
            self.weight_decay, self.distance, self.early_stopping, self.patience, self.missing_group, bool(self.verbose), outputs,
        )  # fmt: skip

    def _freeze(self, data: Data, parts: Shares, *, by_label: bool) -> tuple[Floats, Groups]:
        """Sets frozen_, guarantees_ and certificate_ from the calibration rows. by_label: a shift a group cannot serve the notion."""
        x, _, _, groups, targets = data.take(parts.calibration)
        scores = self._raw(x).cpu()
        labels = None if targets is None else targets.cpu()
        if scores.dim() == 2:
            return self._freeze_classes(scores, groups)
        fix = freeze_maps if by_label else freeze
        with own_advice():
            self.layer_(scores, sensitive_features=groups, targets=labels)
            self.certificate_ = self.layer_.certificate
            self.frozen_ = fix(self.layer_, scores, sensitive_features=groups, targets=labels, confidence=self.confidence)
        self.guarantees_ = self.frozen_.bounds
        tell_silent(self.notion_, self.certificate_, self.guarantees_)
        with torch.no_grad():
            return self.frozen_(scores, self.frozen_.index(groups)).numpy(), groups

    def _freeze_classes(self, scores: Tensor, groups: Groups) -> tuple[Floats, Groups]:
        """``_freeze`` of several classes, from the calibration rows' scores (c, C)."""
        with own_advice():
            self.layer_(scores, sensitive_features=groups)
            self.certificate_ = self.layer_.certificate
            self.frozen_ = self.layer_.freeze_classes(scores, sensitive_features=groups)
        self.guarantees_ = self.frozen_.bounds
        with torch.no_grad():
            return self.frozen_(scores, self.frozen_.index(groups)).numpy(), groups

    # serving ------------------------------------------------------------------------------------------------------------------

    def _raw(self, features: Tensor) -> Tensor:
        """The network's scores (n,), before the layer: of each row the same bits, alone or among others."""
        self.network_.eval()
        with torch.no_grad():
            return in_blocks(self.network_, features.to(self.device))

    def _received(self, X: Any, sensitive_features: Any, method: str) -> Read:
        """Features and groups of rows that are not those of fit."""
        check_is_fitted(self)
        table = as_table(X)
        validate_data(self, X, reset=False, skip_check_array=True)
        return self.reader_.read(table, sensitive_features, method=method)

    def _frozen_scores(self, X: Any, sensitive_features: Any, method: str) -> tuple[Floats, Read, Tensor]:
        """Fair scores (n,), each row by itself, the rows as read, and ``frozen_``'s index of their groups.

        InputError where a row's combination of groups was not calibrated.
        """
        read = self._received(X, sensitive_features, method)
        groups = read.groups
        index = self.frozen_.codes(groups)
        unknown = torch.nonzero(index == self.frozen_.unknown).reshape(-1)
        if len(unknown):
            row = int(unknown[0])
            combination = {name: column[[row]].tolist()[0] for name, column in groups.items()}
            raise InputError(f"{method}: row {row} has the groups {combination}, which no row of fit had together; they have no fair score")
        self.network_.eval()
        with torch.no_grad():
            return in_blocks(self._served, torch.from_numpy(read.features), index).numpy(), read, index

    def _served(self, features: Tensor, index: Tensor) -> Tensor:
        """Fair scores (n,)."""
        fair: Tensor = self.frozen_(self.network_(features.to(self.device)).cpu(), index)
        return fair

    def _transduced(self, X: Any, sensitive_features: Any) -> Solution:
        read = self._received(X, sensitive_features, "transduce")
        if self.notion_.needs_targets:
            raise UnsupportedError(f"transduce: {self.notion_!r} is about labels, which are not known here; predict serves it without them")
        with torch.no_grad(), own_advice():
            return self.layer_.solution(self._raw(torch.from_numpy(read.features)).cpu(), sensitive_features=read.groups)

    def _gaps(self, X: Any, targets: Any, sensitive_features: Any, threshold: float | None = None) -> Table:
        if targets is None and self.notion_.needs_targets:
            raise InputError(f"gaps: got no y, and {self.notion_!r} is about labels; expected y= (n,) beside X")
        scores, read, _ = self._frozen_scores(X, sensitive_features, "gaps")
        return gaps(
            torch.from_numpy(scores), self.notion_, sensitive_features=read.groups, targets=targets, groups=self._vocabularies(),
            missing_group=self.missing_group, threshold=threshold,
        )  # fmt: skip

    def _vocabularies(self) -> dict[str, Any]:
        return {name: vocabulary.values for name, vocabulary in self.reader_.vocabularies.items()}

    # parameters -----------------------------------------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        """InputError for what the parts below do not check themselves."""
        check_hidden(self.hidden)
        check_bounds(self.bounds)
        check_missing_group(self.missing_group)
        check_counts(epochs=(self.epochs, 1), patience=(self.patience, 0))
        if self.batch_size is not None and self.batch_size != "auto":
            check_counts(batch_size=(self.batch_size, 1))
        if self.members != "auto":
            check_counts(members=(self.members, 1))
        for name in ("learning_rate", "weight_decay", "distance"):
            check_amount(name, getattr(self, name))
        check_amount("dropout", self.dropout, below=1.0)
        for name in ("calibration_fraction", "validation_fraction", "confidence"):
            check_share(name, getattr(self, name))
