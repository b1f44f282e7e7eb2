"""The Lightning callback: what it logs is what the certificates and the gap table say, and it raises where parity is broken."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import fairopt as fo
from fairopt.basics.errors import InputError

lightning = pytest.importorskip("lightning", reason="needs Lightning")

from fairopt.training import ParityCallback, ParityError  # noqa: E402 - it imports Lightning

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:lightning", "ignore::DeprecationWarning:lightning")
NOTION = fo.DemographicParity("sex", tolerance=0.02)
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


class _Module(lightning.LightningModule):  # type: ignore[misc,name-defined]
    def __init__(self, layer: fo.FairnessLayer, *, skips: bool = False, with_targets: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        linear = torch.nn.Linear(3, 1)
        linear.weight.data[0, 0] = 3.0  # the groups' means are far apart
        self.model = fo.FairModel(linear, layer)
        self.skips, self.with_targets = skips, with_targets
        self.scores: list[Tensor] = []

    def _scores(self, batch: Any) -> Tensor:
        x, sex, y = batch
        return self.model(x, sensitive_features={"sex": sex}, targets=y if self.with_targets else None)[:, 0]

    def training_step(self, batch: Any, _: int) -> Tensor:
        return ((self._scores(batch) - batch[2]) ** 2).mean()

    def validation_step(self, batch: Any, _: int) -> Any:
        scores = self.model.network(batch[0])[:, 0] if self.skips else self._scores(batch)
        self.scores.append(scores)
        return {"scores": scores, "sensitive_features": {"sex": batch[1]}, "targets": batch[2]}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _data() -> TensorDataset:
    draw = torch.Generator().manual_seed(0)
    x, sex = torch.randn(60, 3, generator=draw), torch.arange(60) % 7 // 4
    x[:, 0] += sex
    return TensorDataset(x, sex, (x[:, 0] > 0.3).float())


def _run(module: _Module, callback: ParityCallback, epochs: int = 1) -> Any:
    trainer = lightning.Trainer(max_epochs=epochs, callbacks=[callback], num_sanity_val_steps=0, **QUIET)
    trainer.fit(module, DataLoader(_data(), batch_size=30), DataLoader(_data(), batch_size=20))
    return trainer.callback_metrics


def test_the_logs_are_the_certificates_and_the_pooled_gap() -> None:
    layer = fo.FairnessLayer(NOTION, space="probability")
    module = _Module(layer)
    logged = {name: float(value) for name, value in _run(module, ParityCallback()).items()}
    pooled = torch.cat(module.scores)
    (gap,) = fo.gaps(pooled, NOTION, sensitive_features={"sex": _data().tensors[1]})["gap"]
    assert logged["parity/val_gap"] == pytest.approx(gap, rel=1e-6)
    assert logged["parity/val_excess"] == pytest.approx(gap - 0.02, rel=1e-5, abs=1e-8)
    assert -1e-6 < logged["parity/val_violation"] <= 0
    assert logged["parity/train_violation"] <= 0
    assert logged["parity/val_distance"] > 0
    assert logged["parity/train_distance"] > 0
    assert logged["parity/val_used_targets"] == 0


def test_decisions_are_logged_beside_scores_that_are_probabilities() -> None:
    module = _Module(fo.FairnessLayer(NOTION, space="probability"))
    logged = _run(module, ParityCallback())
    decisions = (torch.cat(module.scores) >= 0.5).double()
    (gap,) = fo.gaps(decisions, NOTION, sensitive_features={"sex": _data().tensors[1]})["gap"]
    assert gap > 0.02
    assert float(logged["parity/val_decision_gap"]) == pytest.approx(gap, rel=1e-6)
    assert "parity/val_decision_gap" not in _run(_Module(fo.FairnessLayer(NOTION)), ParityCallback())  # no probabilities


def test_a_step_that_returns_nothing_is_spoken_of_once() -> None:
    class Silent(_Module):
        def validation_step(self, batch: Any, _: int) -> None:
            self._scores(batch)

    with pytest.warns(fo.FairoptWarning, match="validation_step: returned NoneType, so parity/val_gap is not logged") as told:
        logged = _run(Silent(fo.FairnessLayer(NOTION, space="probability")), ParityCallback(), epochs=2)
    assert sum("val_gap is not logged" in str(one.message) for one in told) == 1
    assert "parity/val_gap" not in logged


def test_a_violation_of_nothing_is_no_negative_nought() -> None:
    logged: dict[str, float] = {}
    module: Any = SimpleNamespace(trainer=SimpleNamespace(world_size=1), log=lambda name, value, **_: logged.update({name: value}))
    problem = SimpleNamespace(rows=SimpleNamespace(counts=torch.ones(2)))
    certificate: Any = SimpleNamespace(max_violation=-0.0, distance=0.0, vacuous=False, problem=problem)
    ParityCallback()._log(module, certificate, "val")
    assert math.copysign(1.0, logged["parity/val_violation"]) == 1.0


def test_the_worst_batch_is_logged() -> None:
    """Of violations -0.3, -0.1, -0.2 the log keeps the largest."""
    layer = fo.FairnessLayer(fo.DemographicParity("sex", tolerance=0.9), space="probability")
    module, callback, seen = _Module(layer), ParityCallback(), []
    heard = callback.on_validation_batch_end

    def listen(trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        heard(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        certificate = layer.certificate
        assert certificate is not None
        seen.append(certificate.max_violation)

    callback.on_validation_batch_end = listen  # type: ignore[method-assign]
    logged = _run(module, callback)
    assert len(set(seen)) == 3
    assert float(logged["parity/val_violation"]) == pytest.approx(max(seen), rel=1e-6)


def test_broken_parity_is_an_error_beyond_the_slack() -> None:
    """Scores of at most 0.5 with a mean of 0.9 are asked for, and passed through as they are."""
    notion = fo.GroupMeanBound("sex", lower=0.9)
    layer = fo.FairnessLayer(notion, bounds=(0, 0.5), space="probability", on_infeasible="passthrough")
    with pytest.raises(ParityError, match="validation batch 0: a row is .* outside its limit, more than the slack 0"):
        _run(_Module(layer), ParityCallback())
    logged = _run(_Module(layer), ParityCallback(slack=math.inf))
    assert float(logged["parity/val_violation"]) > 0.2


def test_targets_in_validation_are_told() -> None:
    layer = fo.FairnessLayer(fo.MeanResidual("sex", tolerance=0.01))
    logged = _run(_Module(layer, with_targets=True), ParityCallback(prefix="fair"))
    assert float(logged["fair/val_used_targets"]) == 1
    assert float(logged["fair/val_gap"]) <= 0.01


def test_a_step_that_skips_the_layer_is_an_error() -> None:
    with pytest.raises(InputError, match="validation_step: got no new certificate"):
        _run(_Module(fo.FairnessLayer(NOTION, space="probability"), skips=True), ParityCallback())


class _Skipping(_Module):
    """Every second training step returns None: Lightning then passes the batch over."""

    def training_step(self, batch: Any, number: int) -> Any:
        return super().training_step(batch, number) if number % 2 else None


def test_a_training_step_that_returns_none_is_passed_over() -> None:
    logged = _run(_Skipping(fo.FairnessLayer(NOTION, space="probability")), ParityCallback())
    assert float(logged["parity/train_violation"]) <= 0


class _Loaders(_Module):
    def validation_step(self, batch: Any, number: int, dataloader_idx: int = 0) -> Any:
        return super().validation_step(batch, number)

    test_step = validation_step


def test_several_loaders_are_pooled_apart_and_tests_are_logged() -> None:
    """The second loader has the first one's scores shifted within a group: another gap."""
    module, callback = _Loaders(fo.FairnessLayer(NOTION, space="probability")), ParityCallback()
    trainer = lightning.Trainer(max_epochs=1, callbacks=[callback], num_sanity_val_steps=0, **QUIET)
    x, sex, y = _data().tensors
    loaders = [DataLoader(_data(), batch_size=20), DataLoader(TensorDataset(x[:40] * 2, sex[:40], y[:40]), batch_size=20)]
    trainer.fit(module, DataLoader(_data(), batch_size=30), loaders)
    for run, stage in ((None, "val"), (trainer.test, "test")):
        if run is not None:
            module.scores.clear()
            run(module, loaders, verbose=False)
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        for number, (rows, of) in enumerate(((slice(0, 60), slice(0, 3)), (slice(0, 40), slice(3, 5)))):
            (gap,) = fo.gaps(torch.cat(module.scores[of]), NOTION, sensitive_features={"sex": sex[rows]})["gap"]
            assert logged[f"parity/{stage}_gap/dataloader_idx_{number}"] == pytest.approx(gap, rel=1e-6)
            assert logged[f"parity/{stage}_violation/dataloader_idx_{number}"] <= 0


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match="layer: got Linear"):
        ParityCallback(torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="slack: got nan"):
        ParityCallback(slack=math.nan)
    module = _Module(fo.FairnessLayer(NOTION))
    module.second = fo.FairnessLayer(NOTION)
    with pytest.raises(InputError, match="2 fairness layers in the module"):
        _run(module, ParityCallback())


def test_the_history_is_that_of_a_plain_loop() -> None:
    from fairopt.training import fit

    callback = ParityCallback()
    layer = fo.FairnessLayer(NOTION, space="probability", groups={"sex": [0, 1]})
    module = _Module(layer)
    _run(module, callback, epochs=3)
    other = _Module(fo.FairnessLayer(NOTION, space="probability", groups={"sex": [0, 1]}))
    held = DataLoader(_data(), batch_size=20)
    history = fit(
        other,
        lambda batch: other.training_step(batch, 0),
        DataLoader(_data(), batch_size=30),
        optimizer=torch.optim.SGD(other.parameters(), 0.1),
        epochs=3,
        validate=lambda: float(len([other.validation_step(batch, 0) for batch in held])),
    )
    assert len(callback.history) == 3
    for mine, theirs in zip(callback.history.epochs, history.epochs, strict=True):
        assert mine.epoch == theirs.epoch
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-6)
        assert mine.gaps == theirs.gaps
        assert {(one.part, one.quantity) for one in mine.gaps} == {
            (part, quantity) for part in ("training", "validation") for quantity in ("score", "decision")
        }
    assert not layer._forward_hooks


def test_the_monitored_metric_is_the_validation_figure() -> None:
    callback = ParityCallback(monitor="parity/val_gap")
    metrics = _run(_Module(fo.FairnessLayer(NOTION, space="probability")), callback, epochs=2)
    last = callback.history.epochs[-1]
    assert last.validation == pytest.approx(float(metrics["parity/val_gap"]))
    assert callback.history.epochs[0].improved
    with pytest.raises(InputError, match="monitor"):
        _run(_Module(fo.FairnessLayer(NOTION, space="probability")), ParityCallback(monitor="nothing"))
