"""The loop: what it keeps, when it stops, and that a run in two processes ends with the bits of one."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset

import fairopt as fo
from fairopt.basics.errors import InputError, MissingExtraError
from fairopt.basics.files.writing import part_of
from fairopt.training import EarlyStopping, EpochDone, History, fit, load_checkpoint, save_checkpoint

X = torch.linspace(-1, 1, 20)[:, None]
Y = 3 * X


class _Toy:
    """A linear model, and validation figures that are given."""

    def __init__(self, figures: list[float] | None = None, rate: float = 0.1) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(1, 1)
        self.optimizer = SGD(self.model.parameters(), rate)
        self.figures = iter(figures or [])
        self.weights: list[Tensor] = []

    def step(self, rows: list[int]) -> Tensor:
        assert self.model.training
        return ((self.model(X[rows]) - Y[rows]) ** 2).mean()

    def validate(self) -> float:
        assert not self.model.training
        assert not torch.is_grad_enabled()
        self.weights.append(self.model.weight.detach().clone())
        return next(self.figures)

    def fit(self, epochs: int, **options: Any) -> History:
        return fit(self.model, self.step, [list(range(10)), list(range(10, 20))], optimizer=self.optimizer, epochs=epochs, **options)


def test_the_loop_is_the_loop_that_one_would_write() -> None:
    toy, by_hand = _Toy(), _Toy()
    losses = []
    for _ in range(3):
        for rows in (X[:10], X[10:]):
            by_hand.optimizer.zero_grad()
            loss = ((by_hand.model(rows) - 3 * rows) ** 2).mean()
            loss.backward()
            by_hand.optimizer.step()
            losses.append(loss.item())
    history = toy.fit(3)
    assert torch.equal(toy.model.weight, by_hand.model.weight)
    assert [done.loss for done in history.epochs] == pytest.approx([sum(losses[k : k + 2]) / 2 for k in (0, 2, 4)], rel=1e-7)
    assert not toy.model.training
    assert history.best is None


def test_the_best_state_is_loaded_at_the_end() -> None:
    toy = _Toy([3.0, 1.0, 2.0, 1.0, 5.0])
    history = toy.fit(5, validate=toy.validate)
    assert history.best is not None
    assert history.best.epoch == 2  # the first of two equals
    assert torch.equal(toy.model.weight, toy.weights[1])
    assert [done.improved for done in history.epochs] == [True, True, False, False, False]
    last = _Toy([3.0, 1.0, 2.0])
    last.fit(3, validate=last.validate, keep="last")
    assert torch.equal(last.model.weight, last.weights[2])


def test_early_stopping_waits_and_counts_improvement_by_its_delta() -> None:
    toy = _Toy([5.0, 4.0, 3.95, 3.9, 3.89, 1.0])
    history = toy.fit(6, validate=toy.validate, stopping=EarlyStopping(patience=2, min_delta=0.2))
    assert history.stopped
    assert len(history) == 5  # 4.0, then three epochs less than 0.2 below it
    assert torch.equal(toy.model.weight, toy.weights[4])  # the least figure, though below min_delta
    stopping = EarlyStopping(patience=0)
    assert [stopping.update(figure) for figure in (2.0, 1.0, 1.0)] == [False, False, True]
    with pytest.raises(InputError, match="nan"):
        stopping.update(float("nan"))


def _first_rows(toy: _Toy, _: Any) -> Tensor:
    return toy.step(list(range(10)))


def test_the_sampler_is_told_the_epoch() -> None:
    class Told(list[list[int]]):
        def set_epoch(self, epoch: int) -> None:
            heard.append(epoch)

    rows = [list(range(10)), list(range(10, 20))]
    for batches in (
        Told(rows),
        DataLoader(TensorDataset(X), batch_sampler=Told(rows)),
        DataLoader(TensorDataset(X), 4, sampler=Told([[0], [1]])),
    ):
        heard: list[int] = []
        toy = _Toy()
        fit(toy.model, partial(_first_rows, toy), batches, optimizer=toy.optimizer, epochs=3)
        assert heard == [0, 1, 2]


def test_schedules_move_the_learning_rate() -> None:
    toy = _Toy()
    history = toy.fit(4, scheduler=StepLR(toy.optimizer, 2, 0.5))
    assert [done.learning_rate for done in history.epochs] == [0.1, 0.1, 0.05, 0.05]
    toy = _Toy([1.0, 1.0, 1.0, 1.0])
    history = toy.fit(4, scheduler=ReduceLROnPlateau(toy.optimizer, factor=0.1, patience=1), validate=toy.validate)
    assert [done.learning_rate for done in history.epochs] == pytest.approx([0.1, 0.1, 0.1, 0.01])


def test_a_seed_decides_and_leaves_the_callers_random_state() -> None:
    def noisy(seed: int | None) -> Tensor:
        toy = _Toy()
        fit(toy.model, lambda x: ((toy.model(x + torch.randn(x.shape))) ** 2).mean(), [X], optimizer=toy.optimizer, epochs=2, seed=seed)
        return toy.model.weight.detach()

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = noisy(7)
    torch.manual_seed(2)
    assert torch.equal(noisy(7), first)
    assert not torch.equal(noisy(8), first)
    torch.manual_seed(1)
    noisy(7)
    assert not torch.equal(before, torch.get_rng_state())  # the toy seeds its weights
    state = torch.get_rng_state()
    toy = _Toy()
    state = torch.get_rng_state()
    toy.fit(1, seed=3)
    assert torch.equal(state, torch.get_rng_state())


RUN = """
import json, random, sys
import numpy as np, torch
import fairopt as fo
from torch.utils.data import DataLoader, TensorDataset
from fairopt.training import EarlyStopping, StratifiedBatches, fit
torch.set_num_threads(1)

def run(path, epochs, way):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(120, 4, generator=draw)
    sex = torch.arange(120) % 3 // 2
    y = (x[:, 0] + sex > 0.3).float()
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
    notion = fo.DemographicParity("sex", tolerance=0.02)
    layer = fo.FairnessLayer(notion, bounds=(1e-3, 1 - 1e-3), space="probability")
    model = fo.FairModel(network, layer)
    stream = fo.streaming.PooledParity(notion, bounds=(0, 1), groups={"sex": [0, 1]})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    if way == "stratified":
        batches = StratifiedBatches({"sex": sex}, 40, seed=4)
    else:
        data = TensorDataset(torch.arange(120))
        generator = torch.Generator().manual_seed(5) if way == "generator" else None
        batches = DataLoader(data, batch_size=40, shuffle=True, generator=generator)

    def step(rows):
        rows = torch.tensor(rows) if way == "stratified" else rows[0]
        noise = float(np.random.rand()) + random.random()      # all three random states are used
        p = model(x[rows], sensitive_features={"sex": sex[rows]})[:, 0]
        stream.step(p.detach()[:4], sensitive_features={"sex": sex[rows][:4]})
        return torch.nn.functional.binary_cross_entropy(p, y[rows]) * (1 + 0.1 * noise)

    def validate():
        p = model(x, sensitive_features={"sex": sex})[:, 0]
        return torch.nn.functional.binary_cross_entropy(p, y).item()

    random.seed(2)
    np.random.seed(3)
    torch.manual_seed(6)
    history = fit(model, step, batches, optimizer=optimizer, epochs=epochs, validate=validate, scheduler=schedule,
                  stopping=EarlyStopping(20), checkpoint=path, state={"stream": stream}, seed=9 if way == "stratified" else None)
    def plain(state):
        return {k: v.numpy().tobytes().hex() if isinstance(v, torch.Tensor) else repr(v) for k, v in state.items()}
    told = [[d.epoch, d.loss, d.validation, d.improved, d.learning_rate] for d in history.epochs]
    return {"weights": plain(model.state_dict()), "history": told, "stream": repr(stream.state_dict()),
            "next": [float(torch.rand(1)), float(np.random.rand()), random.random()]}

folder = sys.argv[1]
ways = ("stratified", "generator", "global")
runs = [(name, int(epochs), way) for name, epochs in (pair.split(":") for pair in sys.argv[2:]) for way in ways]
print(json.dumps({f"{name} {way} {epochs}": run(f"{folder}/{name} {way}.pt", epochs, way) for name, epochs, way in runs}))
"""


def _process(folder: Path, *runs: str) -> Any:
    """What runs "name:epochs" ended with, one after the other in one fresh process, each in three ways of drawing the batches."""
    done = subprocess.run([sys.executable, "-c", RUN, str(folder), *runs], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_three_epochs_and_three_more_in_another_process_are_six(tmp_path: Path) -> None:
    first = _process(tmp_path, "whole:6", "halves:3")
    second = _process(tmp_path, "halves:6")
    for way in ("stratified", "generator", "global"):
        whole, half, rest = first[f"whole {way} 6"], first[f"halves {way} 3"], second[f"halves {way} 6"]
        assert len(half["history"]) == 3
        assert half["weights"] != whole["weights"]
        assert rest["history"] == whole["history"]
        assert rest["weights"] == whole["weights"]
        assert rest["stream"] == whole["stream"]
        assert rest["next"][1:] == whole["next"][1:]
        if way != "stratified":  # with a seed, fit gives the caller's torch state back
            assert rest["next"] == whole["next"]
        assert bytes.fromhex(whole["weights"]["layer.facts"]).decode().count('"sex": [0, 1]') == 1


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    toy = _Toy([3.0, 1.0, 2.0, 2.0])
    first = toy.fit(4, validate=toy.validate, stopping=EarlyStopping(1), checkpoint=path)
    assert first.stopped
    assert len(first) == 4
    weight = toy.model.weight.detach().clone()
    again = _Toy([])
    history = again.fit(9, validate=again.validate, stopping=EarlyStopping(1), checkpoint=path)
    assert history == first
    assert torch.equal(again.model.weight, weight)


def test_a_kill_between_epochs_costs_no_finished_epoch(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    whole = _Toy()
    expected = whole.fit(4)

    def kill(done: EpochDone) -> None:
        if done.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _Toy().fit(4, checkpoint=path, on_epoch=kill)
    toy = _Toy()
    heard: list[int] = []
    history = toy.fit(4, checkpoint=path, on_epoch=lambda done: heard.append(done.epoch))
    assert heard == [3, 4]
    assert history == expected
    assert torch.equal(toy.model.weight, whole.model.weight)
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    _Toy().fit(1, checkpoint=path, seed=1)
    with pytest.raises(InputError, match="seed: got 2, expected 1"):
        _Toy().fit(2, checkpoint=path, seed=2)
    toy = _Toy([1.0, 1.0])
    with pytest.raises(InputError, match=r"lacks \['stopping'\]"):
        toy.fit(2, checkpoint=path, seed=1, validate=toy.validate, stopping=EarlyStopping(1))
    payload = torch.load(path, weights_only=True)
    torch.save({**payload, "format": 2}, path)
    with pytest.raises(InputError, match="format 2 is newer"):
        _Toy().fit(2, checkpoint=path, seed=1)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="is no checkpoint"):
        _Toy().fit(2, checkpoint=path, seed=1)
    torch.save([1], path)
    with pytest.raises(InputError, match="got another file"):
        _Toy().fit(2, checkpoint=path, seed=1)


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    class Odd:
        def state_dict(self) -> dict[str, Any]:
            return {"object": fo.DemographicParity("sex", tolerance=0.1)}

        def load_state_dict(self, state: Any) -> None: ...

    path = tmp_path / "run.pt"
    save_checkpoint(path, {"model": nn.Linear(1, 1)})
    before = path.read_bytes()
    with pytest.raises(InputError, match="without running code"):
        save_checkpoint(path, {"odd": Odd()})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


def test_what_a_killed_process_began_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    left = part_of(path)
    left.with_name(left.name.replace(str(os.getpid()), ended.stdout.strip())).write_bytes(b"half")
    save_checkpoint(path, {"model": nn.Linear(1, 1)})
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


def test_save_and_load_without_the_loop(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    model = nn.Linear(2, 1)
    torch.manual_seed(5)
    save_checkpoint(path, {"model": model})
    drawn = torch.rand(3)
    other = nn.Linear(2, 1)
    load_checkpoint(path, {"model": other})
    assert torch.equal(other.weight, model.weight)
    assert torch.equal(torch.rand(3), drawn)
    with pytest.raises(InputError, match=r"lacks \['optimizer'\] and has \['model'\]"):
        load_checkpoint(path, {"optimizer": SGD(model.parameters(), 0.1)})
    with pytest.raises(InputError, match="model: got int"):
        save_checkpoint(path, {"model": 3})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="random states"):
        save_checkpoint(path, {"random states": model})


def test_history_is_a_value() -> None:
    history = _Toy().fit(2)
    assert History.from_dict(json.loads(json.dumps(history.to_dict()))) == history
    slower = copy.deepcopy(history.to_dict())
    slower["epochs"][0]["seconds"] = 99.0
    assert History.from_dict(slower) == history
    assert history.table()["epoch"] == (1, 2)
    assert history.seconds > 0
    with pytest.raises(InputError, match="newer"):
        History.from_dict({**history.to_dict(), "format": 2})


def test_progress_is_shown_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    toy = _Toy([2.0, 1.0])
    toy.fit(2, validate=toy.validate, progress=True)
    shown = capsys.readouterr()
    assert "epoch 2/2" in shown.err
    assert "best 1 in epoch 2" in shown.err
    assert shown.out == ""


def test_progress_without_rich_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rich"):
        _Toy().fit(1, progress=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": 3}, "model: got int"),
        ({"optimizer": 3}, "optimizer: got int"),
        ({"optimizer": torch.optim.LBFGS(nn.Linear(1, 1).parameters())}, "optimizer: got LBFGS"),
        ({"batches": iter([[0]])}, "iterated anew"),
        ({"batches": []}, "batches: got none in epoch 1"),
        ({"epochs": -1}, "epochs: got -1"),
        ({"epochs": True}, "epochs: got True"),
        ({"scheduler": 3}, "scheduler: got int"),
        ({"stopping": 3}, "stopping: got int"),
        ({"stopping": EarlyStopping(1)}, "validate: got None"),
        ({"validate": lambda: float("nan")}, "validate: got nan after epoch 1"),
        ({"keep": "first"}, "keep: got 'first'"),
        ({"seed": 1.5}, "seed: got 1.5"),
        ({"step": lambda rows: 3.0}, "step: got float"),
        ({"step": lambda rows: torch.zeros(2, requires_grad=True)}, r"step: got shape \(2,\)"),
        ({"step": lambda rows: torch.tensor(float("inf"), requires_grad=True) * 1}, "the mean loss of epoch 1 is inf"),
        ({"state": {"model": nn.Linear(1, 1)}}, r"state: got the name\(s\) \['model'\]"),
    ],
)
def test_bad_arguments(options: dict[str, Any], said: str) -> None:
    toy = _Toy()
    given: dict[str, Any] = {"model": toy.model, "step": toy.step, "batches": [[0, 1]], "optimizer": toy.optimizer, "epochs": 1, **options}
    model, step, batches = given.pop("model"), given.pop("step"), given.pop("batches")
    with pytest.raises(InputError, match=said):
        fit(model, step, batches, **given)


def test_plateau_needs_a_figure_and_stopping_needs_sense() -> None:
    toy = _Toy()
    with pytest.raises(InputError, match="ReduceLROnPlateau needs one"):
        toy.fit(1, scheduler=ReduceLROnPlateau(toy.optimizer))
    with pytest.raises(InputError, match="patience: got -1"):
        EarlyStopping(-1)
    with pytest.raises(InputError, match="min_delta: got nan"):
        EarlyStopping(1, float("nan"))


def test_a_schedule_by_batches_goes_into_the_state(tmp_path: Path) -> None:
    def run(epochs: int, path: Path) -> _Toy:
        toy = _Toy()
        schedule = LambdaLR(toy.optimizer, lambda k: 0.9**k)
        toy.optimizer.register_step_post_hook(lambda *_: schedule.step())
        toy.fit(epochs, state={"schedule": schedule}, checkpoint=path)
        return toy

    whole = run(4, tmp_path / "whole.pt")
    run(2, tmp_path / "halves.pt")
    rest = run(4, tmp_path / "halves.pt")
    assert torch.equal(rest.model.weight, whole.model.weight)
    assert rest.optimizer.param_groups[0]["lr"] == whole.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.9**8)
