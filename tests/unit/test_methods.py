"""The methods of the experiments: what each promises, and that none sees a held-out row when it is fitted."""

import dataclasses
import sys

import numpy as np
import pytest
import torch

import fairopt as fo
from fairopt.basics.errors import InputError, MissingExtraError, UnsupportedError
from fairopt.experiments.data.tabular import Dataset, Part, split
from fairopt.experiments.methods.base import Goal, Recipe
from fairopt.experiments.methods.decisions import FairDecisions
from fairopt.experiments.methods.error_parity import expected
from fairopt.experiments.methods.expected import compiled
from fairopt.experiments.methods.layer import Layer
from fairopt.experiments.methods.network import Shuffled, network
from fairopt.experiments.methods.penalty import Penalty
from fairopt.experiments.methods.postprocessing import pooled
from fairopt.experiments.methods.projection import Projection
from fairopt.experiments.methods.references import Constant, Linear
from fairopt.experiments.methods.table import METHODS, method
from fairopt.experiments.methods.threshold import ThresholdOptimizer
from fairopt.experiments.methods.violation import excess_of
from fairopt.training.decisions.calibration import Calibration, Line, line, sigmoid

pytest.importorskip("sklearn", reason="the methods' references and splits need scikit-learn")

RECIPE = Recipe(hidden=(8,), dropout=0.1, epochs=3, batch_size=64, learning_rate=1e-2)
BOX = (1e-4, 1 - 1e-4)
NOTIONS = {"parity": fo.DemographicParity, "odds": fo.EqualizedOdds}
PACKAGES = {
    "lagrangian": "cooper",
    "exponentiated_gradient": "fairlearn",
    "threshold_optimizer": "fairlearn",
    "fairret": "fairret",
    "error_parity": "ecos",
}


def table(n=420, groups=("a", "b"), task="binary", seed=0):
    """A made table whose groups have different base rates and one feature that says which group it is."""
    rng = np.random.default_rng(seed)
    group = rng.choice(groups, n)
    shift = np.searchsorted(np.sort(groups), group)
    x = rng.normal(size=(n, 3)) + shift[:, None] * np.array([1.0, 0.0, 0.3])
    score = x @ np.array([1.0, -0.8, 0.5]) - 0.4
    y = (rng.random(n) < sigmoid(1.5 * score)).astype(float) if task == "binary" else score + shift + 0.3 * rng.normal(size=n)
    return Dataset("made", x, ("u", "v", "w"), y, {"g": group}, task=task)


@pytest.fixture(scope="module")
def parts():
    return split(table(), 0)


def goal(kind="parity", tolerance=0.03):
    return Goal(lambda t: NOTIONS[kind]("g", tolerance=t), tolerance, BOX, "probability")


def gap(y, groups, event=None):
    event = np.ones(len(groups), dtype=bool) if event is None else event
    means = [np.asarray(y)[event & (groups == g)].mean() for g in np.unique(groups)]
    return max(means) - min(means)


REFUSED = {("postprocessor", "odds")}  # no shift a group serves it


def fitted(word, parts, kind):
    try:
        return method(word).fit(parts, goal(kind), RECIPE, 3)
    except MissingExtraError as absent:
        pytest.skip(str(absent))


@pytest.mark.parametrize("kind", NOTIONS)
@pytest.mark.parametrize("word", METHODS)
def test_nothing_held_out_is_seen_in_fitting(word, kind, parts):
    """Other held-out targets, and other held-out rows altogether, leave every prediction as it was; so does another fit."""
    part = parts.held_out
    if (word, kind) in REFUSED:
        with pytest.raises(UnsupportedError, match="expected a notion"):
            fitted(word, parts, kind)
        return
    flipped = dataclasses.replace(part, y=1 - part.y)
    other = Part(torch.randn_like(part.x), torch.zeros_like(part.y), {"g": part.sensitive["g"][::-1].copy()})
    first = fitted(word, parts, kind)(part.x, part.sensitive)
    assert first.shape == part.y.shape
    assert ((first >= 0) & (first <= 1)).all()
    for changed in (flipped, other):
        again = fitted(word, dataclasses.replace(parts, held_out=changed), kind)
        assert torch.equal(again(part.x, part.sensitive), first)


@pytest.mark.parametrize("word", METHODS)
def test_only_batchwise_methods_look_at_the_other_rows(word, parts):
    part = parts.held_out
    few = part.take(torch.arange(0, len(part), 3))
    predict = fitted(word, parts, "parity")
    same = torch.allclose(predict(part.x, part.sensitive)[::3], predict(few.x, few.sensitive), atol=1e-6)
    assert same is not method(word).batchwise


@pytest.mark.parametrize("tolerance", [0.0, 0.04])
@pytest.mark.parametrize("groups", [("a", "b"), ("a", "b", "c")])
def test_projection_and_layer_keep_their_tolerance_on_every_batch(tolerance, groups):
    parts = split(table(n=600, groups=groups), 1)
    for made in (Projection(), Layer(), method("linear_projected")):
        predict = made.fit(parts, goal(tolerance=tolerance), RECIPE, 0)
        for part in (parts.held_out, parts.validation.take(torch.arange(50))):
            assert gap(predict(part.x, part.sensitive).double().numpy(), part.sensitive["g"]) <= tolerance + 1e-6


@pytest.mark.parametrize("tolerance", [0.0, 0.05])
def test_fair_decisions_have_the_gap_asked_for_and_the_best_expected_accuracy(tolerance, parts):
    """Against a linear program over all randomised decisions on the calibrated probabilities."""
    linprog = pytest.importorskip("scipy.optimize").linprog
    part, base = parts.held_out, Linear().fit(parts, goal(), RECIPE, 0)
    made = FairDecisions()
    y = made.adjust(base, parts, goal(tolerance=tolerance), 0)(part.x, part.sensitive).numpy()
    groups = part.sensitive["g"]
    assert gap(y, groups) == pytest.approx(tolerance, abs=1e-9)
    rows = pooled(parts, "all")
    calibration = Calibration.fit(base(rows.x, rows.sensitive).double().numpy(), rows.y.double().numpy(), rows.sensitive["g"])
    p = calibration(base(part.x, part.sensitive).double().numpy(), groups)
    row = (groups == "a") / (groups == "a").sum() - (groups == "b") / (groups == "b").sum()
    best = linprog(-(2 * p - 1), A_ub=np.stack([row, -row]), b_ub=[tolerance] * 2, bounds=(0, 1))
    assert (2 * p - 1) @ y == pytest.approx(-best.fun, abs=0.02)
    unconstrained = np.maximum(2 * p - 1, 0).sum()
    assert unconstrained - (-best.fun) > 0.1  # otherwise the constraint is idle and nothing is tested


@pytest.mark.parametrize("tolerance", [0.0, 0.05])
def test_expected_odds_hold_with_labels_that_follow_the_probabilities(tolerance):
    """The rows say what the mean over drawn labels says, on average."""
    rng = np.random.default_rng(5)
    n = 3000
    groups = rng.choice(["a", "b"], n)
    p = np.clip(rng.beta(2, 2, n) + 0.2 * (groups == "b") - 0.1, 0.01, 0.99)
    sharp = torch.from_numpy(0.5 + (p - 0.5) / 1e-3)
    y = compiled(tolerance, (1, 0), p, groups, (0.0, 1.0)).project(sharp).numpy()
    drawn = rng.random((400, n)) < p
    widest = 0.0
    for weight, events in ((p, drawn), (1 - p, ~drawn)):
        means = [(weight * y)[groups == g].sum() / weight[groups == g].sum() for g in ("a", "b")]
        assert abs(means[0] - means[1]) <= tolerance + 1e-8
        signed = [y[t & (groups == "a")].mean() - y[t & (groups == "b")].mean() for t in events]
        assert np.mean(signed) == pytest.approx(means[0] - means[1], abs=0.004)
        widest = max(widest, abs(means[0] - means[1]))
    assert widest == pytest.approx(tolerance, abs=1e-8)
    raw = (p >= 0.5).astype(float)
    assert gap(raw, groups, drawn[0]) > tolerance + 0.05


@pytest.mark.parametrize("kind", NOTIONS)
def test_frozen_decisions_hold_where_they_were_fitted(kind, parts):
    rows = pooled(parts, "all")
    base = Linear().fit(parts, goal(), RECIPE, 0)
    yes = FairDecisions(inductive=True).adjust(base, parts, goal(kind, 0.02), 0)(rows.x, rows.sensitive).numpy()
    events = [None] if kind == "parity" else [rows.y.numpy() == 1, rows.y.numpy() == 0]
    assert max(gap(yes, rows.sensitive["g"], event) for event in events) == pytest.approx(0.02, abs=1e-9)


def test_threshold_optimizer_gives_the_probabilities_of_fairlearn_s_draws(parts):
    postprocessing = pytest.importorskip("fairlearn.postprocessing")
    from sklearn.linear_model import LogisticRegression

    part, rows = parts.held_out, parts.validation
    base = Linear().fit(parts, goal(), RECIPE, 0)
    ours = ThresholdOptimizer().adjust(base, parts, goal(tolerance=0.02), 0)(part.x, part.sensitive).numpy()
    own = LogisticRegression(max_iter=1000).fit(parts.train.x.double().numpy(), parts.train.y.numpy())
    theirs = postprocessing.ThresholdOptimizer(estimator=own, prefit=True, predict_method="predict_proba", tol=0.02)
    theirs.fit(rows.x.double().numpy(), rows.y.long().numpy(), sensitive_features=rows.sensitive["g"])
    x = part.x.double().numpy()
    draws = np.mean([theirs.predict(x, sensitive_features=part.sensitive["g"], random_state=k) for k in range(300)], axis=0)
    assert np.abs(ours - draws).max() < 0.12
    assert ours == pytest.approx(np.round(draws), abs=0.5)


def test_error_parity_draws_are_replaced_by_their_probabilities():
    """The package's kinds of classifiers, nested: a threshold, a coin, a coin as a closure, a mixture."""

    class Threshold:
        threshold = 0.4

        def __call__(self, scores):
            return (scores >= self.threshold).astype(int)

    class Coin:
        target_fpr = 0.25

    def closure(fpr_rand):
        return lambda scores: np.random.default_rng(0).random(len(scores)) >= 1 - fpr_rand

    class Mixture:
        classifiers = (Threshold(), Coin(), closure(0.75))
        probabilities = (0.5, 0.4, 0.1)

    assert expected(Mixture(), np.array([0.3, 0.4])) == pytest.approx([0.175, 0.675])


@pytest.mark.parametrize("word", PACKAGES)
def test_an_absent_package_is_named(word, parts, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[word], None)
    for name in [m for m in sys.modules if m.startswith(f"{PACKAGES[word]}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match="pip install"):
        method(word).fit(parts, goal(), RECIPE, 0)


@pytest.mark.parametrize("word", ["penalty", "lagrangian", "fairret", "exponentiated_gradient"])
def test_rivals_in_training_lower_the_gap_of_the_plain_network(word):
    parts = split(table(n=1500), 2)
    part, recipe = parts.validation, dataclasses.replace(RECIPE, epochs=12)
    options = {"lagrangian": {"rate": 0.5}}.get(word, {})
    try:
        made = method(word, **options)
        fair = made.fit(parts, goal(tolerance=0.0), recipe, 0)(part.x, part.sensitive).double().numpy()
    except MissingExtraError as absent:
        pytest.skip(str(absent))
    plain = method("plain").fit(parts, goal(), recipe, 0)(part.x, part.sensitive).double().numpy()
    raw = (plain >= 0.5).astype(float) if made.output == "decision" else plain
    assert gap(fair, part.sensitive["g"]) < 0.6 * gap(raw, part.sensitive["g"])


def test_lagrangian_keeps_a_state_that_calibration_rows_like_not_the_last():
    pytest.importorskip("cooper")
    parts = split(table(n=240), 3)
    part, long = parts.validation, dataclasses.replace(RECIPE, epochs=150, patience=None, learning_rate=0.03, dropout=0.0, weight_decay=0.0)

    def log_loss(fitted):
        said = fitted.fit(parts, goal(tolerance=0.2), long, 0)(part.x, part.sensitive).double().clamp(1e-4, 1 - 1e-4)
        return torch.nn.functional.binary_cross_entropy(said, part.y.double()).item()

    plain, fair = log_loss(method("plain")), log_loss(method("lagrangian"))
    assert fair < plain + 0.1  # the last state, 100 epochs after the best, is near 1.5


def test_constant_is_the_base_rate_and_linear_is_scikit_learn_s(parts):
    from sklearn.linear_model import LogisticRegression

    part = parts.held_out
    said = Constant().fit(parts, goal(), RECIPE, 0)(part.x, part.sensitive)
    assert said.unique().tolist() == [pytest.approx(float(parts.train.y.mean()))]
    decided = (said >= 0.5).double().numpy()
    majority = float(parts.train.y.mean() >= 0.5)
    assert (decided == part.y.numpy()).mean() == pytest.approx((part.y.numpy() == majority).mean())
    own = LogisticRegression(max_iter=1000).fit(parts.train.x.double().numpy(), parts.train.y.numpy())
    assert Linear().fit(parts, goal(), RECIPE, 0)(part.x, part.sensitive).numpy() == pytest.approx(
        own.predict_proba(part.x.double().numpy())[:, 1], abs=1e-6
    )


@pytest.mark.parametrize("kind", NOTIONS)
def test_excess_is_the_gap_minus_the_tolerance_and_differentiable(kind):
    parts = split(table(n=600, groups=("a", "b", "c")), 0)
    part = parts.validation
    scores = torch.rand(len(part), dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found = excess_of(scores, part, goal(kind, 0.1))
    y, t = scores.detach().numpy(), part.y.numpy()
    events = [None] if kind == "parity" else [t == 1, t == 0]
    assert found.tolist() == pytest.approx([gap(y, part.sensitive["g"], e) - 0.1 for e in events])
    found.sum().backward()
    assert scores.grad is not None
    assert scores.grad.abs().sum() > 0


def test_residual_notions_of_values_are_served_by_all_four_of_the_paper():
    """Regression with a notion that needs targets: shifts from the validation part, and no label at prediction."""
    parts = split(table(task="regression"), 0)
    asked = Goal(lambda t: fo.MeanResidual("g", tolerance=t), 0.01, None, "value")
    part = parts.validation
    for made in (Projection(), Layer(), Penalty(1.0), method("strict_penalty"), method("linear_projected")):
        said = made.fit(parts, asked, RECIPE, 0)(part.x, part.sensitive).double().numpy()
        if made.batchwise or made.name == "linear + projection":
            residual = [(said - part.y.double().numpy())[part.sensitive["g"] == g].mean() for g in ("a", "b")]
            assert np.abs(residual).max() <= 0.01 + 1e-6
    boxed = dataclasses.replace(asked, bounds=(-0.5, 0.5))
    inside = Penalty(1.0).fit(parts, boxed, RECIPE, 0)(part.x, part.sensitive)
    assert inside.abs().max() <= 0.5


def test_logits_are_projected_as_logits(parts):
    part = parts.held_out
    asked = Goal(lambda t: fo.DemographicParity("g", tolerance=t), 0.01, None, "logit")
    said = Projection().fit(parts, asked, RECIPE, 0)(part.x, part.sensitive)
    assert gap(said.double().numpy(), part.sensitive["g"]) <= 0.01 + 1e-6
    assert said.min() < 0


@pytest.mark.parametrize("inductive", [False, True])
@pytest.mark.parametrize("nearest", ["squared", "kl"])
def test_a_layer_is_served_with_the_distance_that_it_was_trained_with(nearest, inductive, parts):
    """Under the divergence single rows move by a shift of the logit, under squares by one of the score."""
    scores = torch.sigmoid(2 * parts.validation.x[:, 0])
    scores[:2] = torch.tensor([0.0, 1.0])  # as float32 sigmoids give them
    fair = Layer(inductive=inductive, nearest=nearest).adjust(lambda x, sensitive: scores, parts, goal(), 0)(
        parts.validation.x, parts.validation.sensitive
    )
    group = parts.validation.sensitive["g"]
    assert abs(float(fair[group == "a"].mean() - fair[group == "b"].mean())) <= 0.03 + 1e-5
    moved = (torch.logit(fair) - torch.logit(scores))[2:] if nearest == "kl" else (fair - scores)[2:]
    inside = ((fair > 1.1e-4) & (fair < 1 - 1.1e-4))[2:].numpy()
    for g in "ab":
        assert float(moved[inside & (group[2:] == g)].std()) < 1e-4
    with pytest.raises(UnsupportedError, match="nearest='kl'"):
        Layer(nearest="kl").adjust(lambda x, sensitive: scores, parts, goal("odds"), 0)


def test_packages_for_classifiers_refuse_other_goals(parts):
    asked = Goal(lambda t: fo.MeanResidual("g", tolerance=t), 0.01, None, "value")
    for word in PACKAGES.keys() - {"lagrangian"}:
        with pytest.raises((UnsupportedError, MissingExtraError)):
            method(word).fit(parts, asked, RECIPE, 0)
    with pytest.raises(UnsupportedError, match="between all pairs"):
        FairDecisions().fit(parts, asked, RECIPE, 0)


def test_calibration_finds_the_line_of_each_group_and_keeps_small_groups():
    rng = np.random.default_rng(0)
    z = rng.normal(size=40_000)
    groups = np.where(np.arange(len(z)) < 20_000, "a", "b")
    truth = sigmoid(np.where(groups == "a", 0.5 * z + 1.0, 2.0 * z))
    targets = (rng.random(len(z)) < truth).astype(float)
    found = line(sigmoid(z[:20_000]), targets[:20_000])
    assert [found.slope, found.intercept] == pytest.approx([0.5, 1.0], abs=0.06)
    both = Calibration.fit(sigmoid(z), targets, groups)
    assert np.abs(both(sigmoid(z), groups) - truth).mean() < 0.02
    assert abs(line(sigmoid(z[:4]), targets[:4]).slope - 1) < 0.3
    assert both(np.array([0.2, 0.5, 0.9]), np.full(3, "c")) == pytest.approx([0.2, 0.5, 0.9])


def test_calibration_takes_steps_where_there_are_many_rows():
    rng = np.random.default_rng(2)
    p = rng.random(6000)
    bent = np.where(p < 0.5, 0.45, 0.8)  # no line in the logit
    targets = (rng.random(6000) < bent).astype(float)
    groups = np.where(np.arange(6000) < 5500, "many", "few")
    chosen = Calibration.fit(p, targets, groups)
    assert isinstance(chosen.curves["few"], Line)
    assert not isinstance(chosen.curves["many"], Line)
    assert np.abs(chosen(p, groups) - bent)[:5500].mean() < 0.03


def test_calibration_is_the_minimum_of_cross_entropy_and_prior():
    """Every small step away from the line found costs, in a group small enough for the prior to matter."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=60)
    targets = (rng.random(60) < sigmoid(2 * z + 1)).astype(float)
    found = line(sigmoid(z), targets)
    best = np.array([found.slope, found.intercept])

    def cost(at):
        p = sigmoid(at[0] * z + at[1])
        return -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum() + 10 / 2 * ((at[0] - 1) ** 2 + at[1] ** 2)

    for step in ([1e-3, 0], [-1e-3, 0], [0, 1e-3], [0, -1e-3]):
        assert cost(best + step) > cost(best)


def test_projection_for_odds_weighs_scores_by_calibrated_probabilities(parts):
    """Label-free rows at prediction: their means, written out, are within the tolerance."""
    part, rows, tolerance = parts.held_out, parts.validation, 0.02
    base = Linear().fit(parts, goal(), RECIPE, 0)
    y = Projection().adjust(base, parts, goal("odds", tolerance), 0)(part.x, part.sensitive).double().numpy()
    calibration = Calibration.fit(base(rows.x, rows.sensitive).double().numpy(), rows.y.double().numpy(), rows.sensitive["g"])
    p = calibration(base(part.x, part.sensitive).double().numpy(), part.sensitive["g"])
    widths = []
    for weight in (p, 1 - p):
        means = [np.average(y[part.sensitive["g"] == g], weights=weight[part.sensitive["g"] == g]) for g in ("a", "b")]
        widths.append(abs(means[0] - means[1]))
    assert max(widths) == pytest.approx(tolerance, abs=1e-6)


def test_batches_hold_every_row_once_and_change_with_the_epoch(parts):
    batches = Shuffled(parts.train, 50, seed=1)
    first = torch.cat([b.x for b in batches])
    batches.set_epoch(1)
    second = torch.cat([b.x for b in batches])
    assert not torch.equal(first, second)
    rows = [sorted(map(tuple, x.tolist())) for x in (first, second, parts.train.x)]
    assert rows[0] == rows[1] == rows[2]


def test_networks_start_from_their_seed_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second, other = network(3, RECIPE, 5), network(3, RECIPE, 5), network(3, RECIPE, 6)
    assert torch.equal(torch.get_rng_state(), before)
    weights = [model.state_dict()["0.weight"] for model in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_unknown_methods_and_options_are_named():
    with pytest.raises(InputError, match="plian"):
        method("plian")
    with pytest.raises(InputError, match="strenght"):
        method("penalty", strenght=1)
