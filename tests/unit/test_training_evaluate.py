"""``evaluate``, and the gaps in every epoch of a history: against ``fairopt.gaps`` of the same scores."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, roc_auc_score
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import fairopt as fo
from fairopt.auditing import Metric
from fairopt.training import EpochDone, GapDone, History, evaluate, fit
from fairopt.training.gaps_by_notion import GapRecorder

PARITY = fo.DemographicParity("sex", tolerance=0.02)
ODDS = fo.EqualizedOdds("sex", tolerance=0.05)


def drawn(seed: int = 0, n: int = 90) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x, sex = torch.randn(n, 3, generator=draw), torch.randint(0, 2, (n,), generator=draw)
    sex[:4] = torch.tensor([0, 0, 1, 1])
    x[:, 0] += sex
    y = (x[:, 0] + torch.randn(n, generator=draw) > 0.5).float()
    y[:4] = torch.tensor([0.0, 1.0, 0.0, 1.0])
    return x, sex, y


def model(notion: fo.Notion = PARITY, space: Any = "probability") -> fo.FairModel:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    return fo.FairModel(network, fo.FairnessLayer(notion, space=space, groups={"sex": [0, 1]}))


def widest(values: torch.Tensor, notion: fo.Notion, sex: torch.Tensor, y: torch.Tensor) -> float:
    return float(max(row["gap"] for row in fo.gaps(values.double(), notion, sensitive_features={"sex": sex}, targets=y)))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["probability", "logit"]), st.sampled_from([PARITY, ODDS]))
def test_all_batches_together(seed: int, space: Any, notion: fo.Notion) -> None:
    x, sex, y = drawn(seed)
    fair = model(notion, space).train()
    loss = F.binary_cross_entropy if space == "probability" else F.binary_cross_entropy_with_logits
    loader = DataLoader(TensorDataset(x, sex, y), batch_size=40)
    found = evaluate(fair, loader, loss=loss, metrics={"hits": accuracy_score, "auc": Metric(roc_auc_score, of="score")})
    assert fair.training
    assert fair.layer.training
    fair.eval()
    with torch.no_grad():
        parts = [
            fair(a, sensitive_features={"sex": s}, targets=t if notion.needs_targets else None)
            for a, s, t in ((x[k : k + 40], sex[k : k + 40], y[k : k + 40]) for k in (0, 40, 80))
        ]
    scores, cut = torch.cat(parts), 0.5 if space == "probability" else 0.0
    assert found.n == 90
    assert found.loss == pytest.approx(float(loss(scores, y)), rel=1e-5)
    assert found.metrics["hits"] == pytest.approx(float(((scores >= cut) == (y == 1)).float().mean()))
    assert found.metrics["auc"] == pytest.approx(roc_auc_score(y, scores))
    expected: list[Any] = [
        ("score", pytest.approx(widest(scores, notion, sex, y)), 0.02 if notion is PARITY else 0.05),
        ("decision", pytest.approx(widest(scores >= cut, notion, sex, y)), 0.02 if notion is PARITY else 0.05),
    ]  # fmt: skip
    assert [(one.quantity, one.gap, one.limit) for one in found.gaps] == expected
    assert "hits" in str(found)
    if notion is PARITY:
        report = found.audit(draws=100)
        assert [row["gap"] for row in report.gaps] == [pytest.approx(one.gap) for one in found.gaps]


def test_steps_plain_networks_and_several_notions() -> None:
    x, sex, y = drawn()
    words = np.where(y.numpy() == 1, "yes", "no").tolist()
    network = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0), nn.Sigmoid())

    def step(rows: torch.Tensor) -> dict[str, Any]:
        return {"scores": network(x[rows]), "sensitive_features": {"sex": sex[rows]}, "targets": [words[k] for k in rows.tolist()]}

    batches = list(torch.arange(90).split(40))
    found = evaluate(network, batches, [PARITY, ODDS], step=step, threshold=0.5, pos_label="yes", loss=F.binary_cross_entropy)
    with torch.no_grad():
        p = network(x)
    assert found.loss == pytest.approx(float(F.binary_cross_entropy(p, y)), rel=1e-5)
    assert {(one.quantity, one.notion): one.gap for one in found.gaps} == {
        (quantity, f"{notion.name}(sex)"): pytest.approx(widest(values, notion, sex, y))
        for quantity, values in (("score", p), ("decision", p >= 0.5))
        for notion in (PARITY, ODDS)
    }
    without = evaluate(network, batches, PARITY, step=step)
    assert {one.quantity for one in without.gaps} == {"score"}


BAD: list[tuple[str, dict[str, Any]]] = [
    ("0 fairness layers", {"model": nn.Linear(3, 1)}),
    ("torch.nn.Module", {"model": 3}),
    ("got none", {"loader": []}),
    ("for others give step=", {"loader": [3]}),
    ("without 'scores'", {"step": lambda batch: {"sensitive_features": batch[1]}}),
    ("NaN", {"step": lambda batch: {"scores": batch[0][:, 0] * float("nan"), "sensitive_features": batch[1]}}),
    ("expected a finite tensor", {"loss": lambda s, t: float("nan")}),
    ("no targets", {"loader": [drawn()[:2]], "loss": F.binary_cross_entropy}),
    ("of decisions, and there are none", {"model": model(space="value"), "metrics": {"hits": accuracy_score}}),
]


@pytest.mark.parametrize(("words", "options"), BAD, ids=[words for words, _ in BAD])
def test_what_is_refused(words: str, options: dict[str, Any]) -> None:
    with pytest.raises(fo.InputError, match=words):
        evaluate(**{"model": model(), "loader": [drawn()], **options})


# each epoch's gaps ---------------------------------------------------------------------------------------------------------------


def trained(notion: fo.Notion, epochs: int = 3, **options: Any) -> tuple[History, list[tuple[str, torch.Tensor]]]:
    """A run of ``fit``, and every vector of scores that the layer gave."""
    x, sex, y = drawn()
    fair = model(notion)
    given: list[tuple[str, torch.Tensor]] = []

    def scores(rows: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = fair(x[rows], sensitive_features={"sex": sex[rows]}, targets=y[rows] if notion.needs_targets else None)
        given.append(("training" if fair.training else "validation", found.detach()))
        return found

    def loss(rows: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy(scores(rows), y[rows])

    batches = [torch.arange(30), torch.arange(30, 60)]
    optimizer = torch.optim.SGD(fair.parameters(), 0.5)
    validate = lambda: float(loss(torch.arange(60, 90)))  # noqa: E731
    return fit(fair, loss, batches, optimizer=optimizer, epochs=epochs, validate=validate, **options), given


@pytest.mark.parametrize("notion", [PARITY, ODDS], ids=["parity", "odds"])
def test_the_gaps_of_each_epoch_are_those_of_what_the_layer_gave(notion: fo.Notion) -> None:
    history, given = trained(notion)
    _, sex, y = drawn()
    for k, done in enumerate(history.epochs):
        first, second, last = given[3 * k : 3 * k + 3]
        assert [part for part, _ in (first, second, last)] == ["training", "training", "validation"]
        both = torch.cat([first[1], second[1]])
        expected = {
            ("training", "score"): widest(both, notion, sex[:60], y[:60]),
            ("training", "decision"): widest(both >= 0.5, notion, sex[:60], y[:60]),
            ("validation", "score"): widest(last[1], notion, sex[60:], y[60:]),
            ("validation", "decision"): widest(last[1] >= 0.5, notion, sex[60:], y[60:]),
        }
        assert {(one.part, one.quantity): one.gap for one in done.gaps} == {key: pytest.approx(v) for key, v in expected.items()}
        assert done.gap("training") == pytest.approx(expected["training", "score"])
    shown = history.table()
    assert shown["training_gap"] == tuple(done.gap("training") for done in history.epochs)
    assert len(history.gap_table()) == 12
    assert History.from_dict(history.to_dict()) == history


def test_a_run_that_goes_on_has_the_gaps_of_one_without_a_break(tmp_path: Any) -> None:
    whole, _ = trained(PARITY, 4, seed=1)
    trained(PARITY, 2, seed=1, checkpoint=tmp_path / "run.pt")
    resumed, _ = trained(PARITY, 4, seed=1, checkpoint=tmp_path / "run.pt")
    assert resumed == whole
    assert all(done.gaps for done in resumed.epochs)


def test_without_gaps_and_without_layers() -> None:
    history, _ = trained(PARITY, 1, gaps=False)
    assert history.epochs[0].gaps == ()
    assert history.table()["validation_gap"] == (None,)
    plain = nn.Linear(3, 1)
    x, _, y = drawn()
    optimizer = torch.optim.SGD(plain.parameters(), 0.1)
    other = fit(plain, lambda _: ((plain(x)[:, 0] - y) ** 2).mean(), [0], optimizer=optimizer, epochs=1)
    assert other.epochs[0].gaps == ()


def test_nothing_is_left_behind() -> None:
    x, sex, _ = drawn()
    fair = model()
    with GapRecorder(fair) as recorder:
        twin, stored = copy.deepcopy(fair), pickle.dumps(fair)
        fair(x, sensitive_features={"sex": sex})
        (one, decisions) = recorder.said()
        assert recorder.said() == ()
    assert (one.part, one.quantity, decisions.quantity) == ("training", "score", "decision")
    for other in (fair, twin, pickle.loads(stored)):
        assert other(x, sensitive_features={"sex": sex}).shape == (90,)
        hooks: list[Any] = list(other.layer._forward_hooks.values())
        assert not any(hook.__self__._heard for hook in hooks)  # a copy gathers nothing
    assert recorder.said() == ()
    assert not fair.layer._forward_hooks
    features = {"sex": sex.tolist()}
    scores = torch.func.grad(lambda z: fair.layer(z, sensitive_features=features).square().sum())(x[:, 0])
    with GapRecorder(fair) as recorder:
        under = torch.func.grad(lambda z: fair.layer(z, sensitive_features=features).square().sum())(x[:, 0])
        assert recorder.said() == ()  # scores under a transform have no values
    assert torch.equal(scores, under)


def test_a_part_begins_anew_or_goes_on() -> None:
    """Validation in the midst of an epoch: the last one counts, and training is one."""
    x, sex, y = drawn()
    fair = model()

    def given(rows: slice) -> torch.Tensor:
        found: torch.Tensor = fair(x[rows], sensitive_features={"sex": sex[rows]}).detach()
        return found

    with GapRecorder(fair) as recorder:
        recorder.begin("training")
        first = given(slice(0, 30))
        recorder.begin("validation")
        given(slice(60, 90))
        recorder.go_on("training")
        second = given(slice(30, 60))
        recorder.begin("validation")
        last = given(slice(50, 80))
        said = {(one.part, one.quantity): one.gap for one in recorder.said()}
    assert said["training", "score"] == pytest.approx(widest(torch.cat([first, second]), PARITY, sex[:60], y[:60]))
    assert said["validation", "score"] == pytest.approx(widest(last, PARITY, sex[50:80], y[50:80]))


def test_the_worst_is_the_furthest_beyond_its_limit() -> None:
    wide, tight = GapDone("training", "score", "a", 0.3, 0.5), GapDone("training", "score", "b", 0.1, 0.05)
    done = EpochDone(1, 0.1, None, False, 0.1, 0.0, (wide, tight))
    assert done.gap("training") == 0.1
    assert done.gap("validation") is None
    assert tight.excess == pytest.approx(0.05)
