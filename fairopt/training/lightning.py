"""``ParityCallback``: what the layer's certificates say, in a Lightning run's logs, and an error where parity does not hold.

A callback of the package ``lightning``. An example of a module, its data and a run is in ``docs/training.md``; the tests run it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fairopt.basics.columns import listed, read_features
from fairopt.basics.errors import FairoptError, FairoptWarning, InputError
from fairopt.basics.extras import missing
from fairopt.basics.ranks import WORLD, Ranks
from fairopt.layer.fairness_layer import FairnessLayer
from fairopt.solve import Certificate
from fairopt.solve.told import callers_level
from fairopt.training.gaps_by_notion import GapRecorder, pooled, threshold_of
from fairopt.training.history import EpochDone, History

try:
    from lightning.pytorch import Callback
except ImportError as error:
    raise missing("fairopt.training.lightning needs Lightning", "lightning") from error


class ParityError(FairoptError, AssertionError):
    """Validation scores broke parity by more than the slack.

    Examples:
        >>> from fairopt.training import ParityError
        >>> issubclass(ParityError, AssertionError)
        True
    """


class ParityCallback(Callback):  # type: ignore[misc]  # the package's types are not read
    """Logs parity after each training and validation batch, and raises ParityError where validation breaks it.

    layer   the layer to look at; None: the only FairnessLayer inside the LightningModule
    slack   how far a validation batch may be outside a limit, in units of the scores; math.inf only logs
    prefix  of the logged names
    monitor a logged metric, lower is better, that is the validation figure of ``history``: "val_loss"

    InputError for another layer or slack, and where a step calls no fairness layer.

    Logged from the certificate of each batch: ``parity/train_violation`` and ``parity/val_violation`` (worst row; at most 0 where every
    row holds), ``parity/train_distance`` and ``parity/val_distance`` (root of the summed squared moves), ``parity/val_used_targets`` (1
    where labels decided the scores: then it is no held-out figure), ``parity/val_vacuous`` (1 where the batch lacked the groups, so that
    nothing was asked and the violation of 0 says nothing; over an epoch the share of such batches).

    Under several devices (``strategy="ddp"``) all of these are of all ranks: the worst, the mean, the gap of the scores of all together. A
    batch's rows hold on the union of the ranks' shares where the layer has ``process_group="world"``, else on each rank apart.

    A certificate is about one batch. Where ``validation_step`` returns a mapping with "scores", "sensitive_features" and, for notions about
    labels, "targets", the gap of all validation scores together is logged as ``parity/val_gap``, and by how much it is beyond its limit as
    ``parity/val_excess``: they may be above the tolerance though every batch is inside, and that is no error. Where the scores are
    probabilities, ``parity/val_decision_gap`` is the gap of decisions at 1/2. A step that returns something else leaves these out, and
    a FairoptWarning says so once. Several loaders are
    pooled apart, under ``.../dataloader_idx_0`` and so on. ``trainer.test`` logs the same under ``parity/test_...``. A training step that
    returns None is passed over.

    ``history`` is the ``History`` of the run that ``fairopt.training.fit`` would have returned: each epoch's mean loss, and the gaps of all
    scores that the fairness layers gave in training and in validation (in this process, where there are several).

    Lightning's sanity check validates before any training: declare the layer's ``groups``, or pass ``num_sanity_val_steps=0``.

    Examples:
        >>> from fairopt.training import ParityCallback
        >>> callback = ParityCallback(slack=0.01, monitor="val_loss")
        >>> callback.history
        History(epochs=(), stopped=False)
    """

    def __init__(
        self, layer: FairnessLayer | None = None, *, slack: float = 0.0, prefix: str = "parity", monitor: str | None = None
    ) -> None:
        if layer is not None and not isinstance(layer, FairnessLayer):
            raise InputError(f"layer: got {type(layer).__name__}, expected a FairnessLayer")
        if not slack >= 0:
            raise InputError(f"slack: got {slack!r}, expected a number >= 0")
        self.slack, self.prefix, self.monitor = slack, prefix, monitor
        self.history = History()
        self._running: _Running | None = None
        self._layer = layer
        self._last: Certificate | None = None
        self._told: set[str] = set()  # the steps whose missing scores were spoken of
        self._pooled: dict[int, list[Mapping[str, Any]]] = {}  # by loader

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.history, self._running = History(), _Running(pl_module)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self._stop_hearing()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._stop_hearing()

    def _stop_hearing(self) -> None:
        if self._running is not None:
            self._running.recorder.__exit__()
            self._running = None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if self._running is not None:
            self._running.begin()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """One more epoch in ``history``. InputError where ``monitor`` was not logged."""
        if self._running is None:
            return
        figure = None if self.monitor is None else trainer.callback_metrics.get(self.monitor)
        if self.monitor is not None and figure is None:
            raise InputError(f"monitor: got {self.monitor!r}, expected one of the logged metrics {sorted(trainer.callback_metrics)}")
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        done = self._running.done(trainer.current_epoch + 1, None if figure is None else float(figure), rate, self.history.best)
        self.history = replace(self.history, epochs=(*self.history.epochs, done))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs  # nothing where the step returned None
        if self._running is not None and isinstance(loss, Tensor):
            self._running.losses.append(loss.detach().reshape(()).double())
        if not outputs:  # the step returned None: Lightning passes the batch over, and so does the callback
            self._last = self._found(pl_module).certificate
            return
        self._log(pl_module, self._fresh(pl_module, "training_step"), "train")

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if self._running is not None:
            self._running.validates()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if self._running is not None:
            self._running.trains()

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._pooled = {}

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._judged(pl_module, outputs, batch_idx, dataloader_idx, "validation", "val")

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._log_pooled(pl_module, "val")

    def on_test_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._pooled = {}

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._judged(pl_module, outputs, batch_idx, dataloader_idx, "test", "test")

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._log_pooled(pl_module, "test")

    def _judged(self, pl_module: Any, outputs: Any, batch_idx: int, loader: int, word: str, stage: str) -> None:
        """Log the certificate of a held-out batch, keep its scores for the pooled gap, and raise where parity is broken."""
        certificate = self._fresh(pl_module, f"{word}_step")
        self._log(pl_module, certificate, stage)
        shared = _ranks_of(pl_module) is not None
        used = float(certificate.used_targets)
        pl_module.log(f"{self.prefix}/{stage}_used_targets", used, batch_size=_samples(certificate), sync_dist=shared)
        if not certificate.max_violation <= self.slack:
            raise ParityError(
                f"{word} batch {batch_idx}: a row is {certificate.max_violation:.3g} outside its limit, more than the slack "
                f"{self.slack:.3g} (status {certificate.status.name}: {certificate.status.advice})"
            )
        if isinstance(outputs, Mapping) and "scores" in outputs and "sensitive_features" in outputs:
            self._pooled.setdefault(loader, []).append(outputs)
        elif stage not in self._told:
            self._told.add(stage)
            got = sorted(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
            warnings.warn(
                f"{word}_step: returned {got}, so {self.prefix}/{stage}_gap is not logged; expected a mapping with 'scores' and "
                "'sensitive_features' (and 'targets' for notions about labels)",
                FairoptWarning,
                stacklevel=callers_level(),
            )

    def _log_pooled(self, pl_module: Any, stage: str) -> None:
        """The gap of all scores of each loader; two loaders are two data sets."""
        pooled, self._pooled = self._pooled, {}
        ranks = _ranks_of(pl_module)
        if ranks is not None:
            pooled = _of_all_ranks(ranks, self._found(pl_module), pooled)
        for loader, outputs in pooled.items():
            layer = self._found(pl_module)
            gap, excess = pooled_gap(layer, outputs)
            decided = {} if threshold_of(layer) != 0.5 else {"decision_gap": pooled_gap(layer, [_decided(one) for one in outputs])[0]}
            suffix = f"/dataloader_idx_{loader}" if len(pooled) > 1 else ""
            for name, value in {"gap": gap, "excess": excess, **decided}.items():
                pl_module.log(f"{self.prefix}/{stage}_{name}{suffix}", value, add_dataloader_idx=False, sync_dist=ranks is not None)

    def _log(self, pl_module: Any, certificate: Certificate, stage: str) -> None:
        how = {"batch_size": _samples(certificate), "on_step": False, "on_epoch": True, "sync_dist": _ranks_of(pl_module) is not None}
        pl_module.log(f"{self.prefix}/{stage}_violation", certificate.max_violation + 0.0, reduce_fx="max", **how)  # no -0.0
        pl_module.log(f"{self.prefix}/{stage}_distance", certificate.distance, **how)
        pl_module.log(f"{self.prefix}/{stage}_vacuous", float(certificate.vacuous), **how)

    def _fresh(self, pl_module: nn.Module, step: str) -> Certificate:
        """The certificate of this batch. InputError where the step did not call the layer."""
        certificate = self._found(pl_module).certificate
        if certificate is None or certificate is self._last:
            raise InputError(f"{step}: got no new certificate, expected the step to call the fairness layer in this thread")
        self._last = certificate
        return certificate

    def _found(self, pl_module: nn.Module) -> FairnessLayer:
        if self._layer is None:
            layers = [module for module in pl_module.modules() if isinstance(module, FairnessLayer)]
            if len(layers) != 1:
                raise InputError(
                    f"layer: got None and {len(layers)} fairness layers in the module, expected one; name it: ParityCallback(layer)"
                )
            self._layer = layers[0]
        return self._layer


def _samples(certificate: Certificate) -> int:
    """Samples of the batch, on all ranks that share it."""
    return int(certificate.problem.rows.counts.sum())


def _ranks_of(pl_module: Any) -> Ranks | None:
    """The ranks that a run has; None where it is one process."""
    return Ranks(WORLD) if pl_module.trainer.world_size > 1 else None


def _of_all_ranks(ranks: Ranks, layer: FairnessLayer, pooled: dict[int, list[Mapping[str, Any]]]) -> dict[int, list[Mapping[str, Any]]]:
    """The outputs of all ranks, as plain columns, by loader."""
    plain = {
        loader: [
            {
                "scores": out["scores"].detach().reshape(-1).cpu(),
                "sensitive_features": {
                    name: listed(column, name) for name, column in read_features(out["sensitive_features"], layer.notion.attributes).items()
                },
                **({"targets": listed(out["targets"], "targets")} if "targets" in out else {}),
            }
            for out in outputs
        ]
        for loader, outputs in pooled.items()
    }
    joined: dict[int, list[Mapping[str, Any]]] = {}
    for theirs in ranks.objects(plain):
        for loader, outputs in sorted(theirs.items()):
            joined.setdefault(loader, []).extend(outputs)
    return dict(sorted(joined.items()))


class _Running:
    """One epoch under way: its losses, its clock without validation, and what the layers give."""

    def __init__(self, pl_module: nn.Module) -> None:
        self.recorder = GapRecorder(pl_module).__enter__()
        self.losses: list[Tensor] = []
        self.seconds, self._since = 0.0, time.perf_counter()

    def begin(self) -> None:
        self.losses, self.seconds, self._since = [], 0.0, time.perf_counter()
        self.recorder.said()  # of the sanity check
        self.recorder.begin("training")

    def validates(self) -> None:
        self.seconds += time.perf_counter() - self._since
        self.recorder.begin("validation")

    def trains(self) -> None:
        self._since = time.perf_counter()
        self.recorder.go_on("training")

    def done(self, epoch: int, figure: float | None, rate: float, best: EpochDone | None) -> EpochDone:
        self.seconds += time.perf_counter() - self._since
        loss = float(torch.stack(self.losses).mean()) if self.losses else float("nan")
        improved = figure is not None and (best is None or best.validation is None or figure < best.validation)
        return EpochDone(epoch, loss, figure, improved, rate, self.seconds, self.recorder.said())


def _decided(outputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Yes from 1/2 on."""
    return {**outputs, "scores": (outputs["scores"].detach() >= 0.5).double()}


def pooled_gap(layer: FairnessLayer, outputs: list[Mapping[str, Any]]) -> tuple[float, float]:
    """(largest gap, largest gap minus limit) of the scores of all ``outputs`` together; constraints about absent groups left out."""
    judged = pooled(outputs, layer.notion, layer.missing_group, layer.pos_label)
    table = judged.table(judged.scores, layer.notion)
    present = [(row["gap"], row["gap"] - row["limit"]) for row in table if row["status"] != "absent"]
    if not present:
        return float("nan"), float("nan")
    return max(gap for gap, _ in present), max(excess for _, excess in present)
