"""Groups that are known in probability alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo

NAMES = ["a", "b", "c", "d", "e"]


def drawn(n: int, groups: int, seed: int, sharp: float = 0.5) -> tuple[Any, Any, Any]:
    """Scores (n,), probabilities (n, groups), labels (n,)."""
    draw = np.random.default_rng(seed)
    P = draw.dirichlet([sharp] * groups, n)
    return draw.random(n) * 0.6 + 0.4 * P[:, 0], P, draw.integers(0, 2, n)


def means(P: Any, y: Any, inside: Any = None) -> Any:
    """The definition."""
    P = P if inside is None else P * inside[:, None]
    return P.T @ np.asarray(y) / P.sum(0)


NOTIONS: dict[str, Any] = {
    "parity": lambda t: fo.DemographicParity("r", tolerance=t),
    "odds": lambda t: fo.EqualizedOdds("r", tolerance=t),
    "overall": lambda t: fo.DemographicParity("r", tolerance=t, to="overall"),
    "reference": lambda t: fo.DemographicParity("r", tolerance=t, to=fo.Reference("a")),
    "stratified": lambda t: fo.DemographicParity("r", tolerance=t, given="s"),
    "in strata of soft groups": lambda t: fo.DemographicParity("s", tolerance=t, given="r"),
    "intersection": lambda t: fo.DemographicParity(("r", "s"), tolerance=t),
    "residual": lambda t: fo.MeanResidual("r", tolerance=0.05 + t),
    "ratio": lambda t: fo.ImpactRatio("r", ratio=1.0 - 2 * t),
    "bound": lambda t: fo.GroupMeanBound("r", lower=0.2 - t, upper=0.5),
    "priced": lambda t: fo.DemographicParity("r", tolerance=t).priced(2.0),
}


@pytest.mark.parametrize(("name", "distance"), [(name, d) for name in NOTIONS for d in ("squared", "kl") if (name, d) != ("ratio", "kl")])
def test_probabilities_of_0_and_1_are_the_values_themselves(name: str, distance: str) -> None:
    draw = np.random.default_rng(1)
    z, _, label = drawn(60, 3, 0)
    r, s = draw.choice(NAMES[:3], 60), draw.integers(0, 2, 60)
    P = (r[:, None] == np.array(["c", "a", "b"])).astype(float)
    how: dict[str, Any] = {"targets": label, "bounds": (0, 1), "distance": distance, "return_solution": True}
    hard = fo.project(torch.tensor(z), NOTIONS[name](0.02), sensitive_features={"r": r, "s": s}, **how)
    soft = fo.project(torch.tensor(z), NOTIONS[name](0.02), sensitive_features={"r": fo.Soft(P, ["c", "a", "b"]), "s": s}, **how)
    assert torch.equal(hard.scores, soft.scores)
    assert hard.certificate.to_dict() == soft.certificate.to_dict()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(NOTIONS)), st.integers(2, 80), st.integers(2, 5), st.integers(0, 10**6), st.sampled_from([0.0, 0.01, 0.1]))
def test_every_notion_holds_by_the_definition(name: str, n: int, groups: int, seed: int, tolerance: float) -> None:
    z, P, label = drawn(n, groups, seed)
    s = np.arange(n) % 2
    features = {"r": fo.Soft(P, NAMES[:groups]), "s": s}
    notion = NOTIONS[name](tolerance)
    solution, wrong = None, False
    try:
        solution = fo.project(torch.tensor(z), notion, sensitive_features=features, targets=label, bounds=(0, 1), return_solution=True)
    except fo.InfeasibleError as error:  # proved in fractions, and not where equal scores are an answer
        wrong = error.proof is None or name in ("parity", "overall", "reference", "stratified", "priced", "ratio", "intersection", "odds")
    assert not wrong
    if solution is None:
        return
    assert solution.status.name in ("CERTIFIED", "WITHIN_ROUNDING")
    y = solution.scores.numpy()
    m = means(P, y)
    slack = 1e-9
    if name in ("parity", "reference"):
        assert np.ptp(m) <= (1 if name == "parity" else 2) * tolerance + slack
    elif name == "odds":
        assert all(np.ptp(means(P, y, label == t)) <= tolerance + slack for t in (0, 1) if (label == t).any())
    elif name == "overall":
        assert np.abs(m - y.mean()).max() <= tolerance + slack
    elif name == "residual":
        assert np.abs(means(P, y - label)).max() <= 0.05 + tolerance + slack
    elif name == "ratio":
        assert m.min() >= (1.0 - 2 * tolerance) * m.max() - slack
    elif name == "bound":
        assert m.min() >= 0.2 - tolerance - slack
        assert m.max() <= 0.5 + slack
    elif name == "stratified":
        assert all(np.ptp(means(P, y, s == k)) <= tolerance + slack for k in (0, 1))
    elif name == "intersection":
        assert np.ptp([v for k in (0, 1) for v in means(P, y, s == k)]) <= tolerance + slack
    elif name == "in strata of soft groups":
        assert np.abs(means(P, y, s == 0) - means(P, y, s == 1)).max() <= tolerance + slack


@pytest.mark.parametrize("seed", range(12))
def test_the_answer_is_that_of_another_solver(seed: int) -> None:
    """Clarabel on the definition written out."""
    clarabel = pytest.importorskip("clarabel")
    from scipy import sparse

    groups, n, tolerance = 2 + seed % 4, 40, [0.0, 0.02][seed % 2]
    z, P, _ = drawn(n, groups, seed)
    A = P.T / P.sum(0)[:, None]
    rows = [A[g] - A[h] for g in range(groups) for h in range(groups) if g != h]
    G = sparse.csc_matrix(np.vstack([*rows, np.eye(n), -np.eye(n)]))
    limits = np.concatenate([np.full(len(rows), tolerance), np.ones(n), np.zeros(n)])
    exact = clarabel.DefaultSettings()
    exact.verbose, exact.tol_gap_abs, exact.tol_gap_rel, exact.tol_feas = False, 1e-12, 1e-12, 1e-12
    solved = clarabel.DefaultSolver(
        sparse.identity(n, format="csc"), -z, G, limits, [clarabel.NonnegativeConeT(len(limits))], exact
    ).solve()
    fair = fo.project(
        torch.tensor(z), fo.DemographicParity("r", tolerance=tolerance), sensitive_features={"r": fo.Soft(P, NAMES[:groups])}, bounds=(0, 1)
    )
    np.testing.assert_allclose(fair.numpy(), solved.x, atol=1e-6)
    assert 0.5 * ((fair.numpy() - z) ** 2).sum() <= 0.5 * ((np.array(solved.x) - z) ** 2).sum() + 1e-8


@pytest.mark.parametrize("distance", ["squared", "kl"])
def test_gradients_are_those_of_differences(distance: str) -> None:
    z, P, _ = drawn(12, 3, 3)
    scores = torch.tensor(np.clip(z, 0.05, 0.95), requires_grad=True)
    prepared = fo.compile(
        fo.DemographicParity("r", tolerance=0.01), sensitive_features={"r": fo.Soft(P, NAMES[:3])}, bounds=(0, 1), distance=distance
    )
    assert torch.autograd.gradcheck(prepared.project, (scores,), atol=1e-6)
    assert torch.autograd.gradgradcheck(prepared.project, (scores,), eps=1e-5, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("distance", ["squared", "kl"])
def test_scores_of_0_and_1_and_nearly_0_are_no_trouble(distance: str) -> None:
    for seed, groups in ((0, 2), (1, 6), (2, 12)):
        z, P, _ = drawn(80, groups, seed)
        z = np.clip(z, 0.0, 1.0)
        z[:9] = [0.0, 1.0, 1e-300, 0.0, 1.0, 1.0 - 2.0**-53, 0.0, 1e-300, 1.0]
        scores = torch.tensor(z, requires_grad=True)
        soft = {"r": fo.Soft(P, list(range(groups)))}
        fair = fo.project(scores, fo.DemographicParity("r", tolerance=0.05), sensitive_features=soft, bounds=(0, 1), distance=distance)
        (gradient,) = torch.autograd.grad(fair.square().sum(), scores)
        assert torch.isfinite(fair).all()
        assert torch.isfinite(gradient).all()


def test_equal_scores_have_equal_means_exactly() -> None:
    _, P, _ = drawn(97, 5, 4)
    notion = fo.DemographicParity("r", tolerance=0.0)
    same = torch.full((97,), 0.3, dtype=torch.float64)
    solution = fo.project(same, notion, sensitive_features={"r": fo.Soft(P, NAMES)}, return_solution=True)
    assert solution.status.name == "CERTIFIED"
    assert torch.equal(solution.scores, same)


@pytest.mark.parametrize("distance", ["squared", "kl"])
def test_a_frozen_layer_serves_without_the_attribute(distance: Any) -> None:
    z, P, _ = drawn(300, 3, 5)
    soft = fo.Soft(P, NAMES[:3])
    layer = fo.FairnessLayer(fo.DemographicParity("r", tolerance=0.02), bounds=(0, 1), distance=distance)
    frozen = layer.freeze(z, sensitive_features={"r": soft})
    fair = fo.project(z, layer.notion, sensitive_features={"r": soft}, bounds=(0, 1), distance=distance)
    np.testing.assert_allclose(frozen.predict(z, sensitive_features={"r": soft}), fair, atol=1e-8)
    rows = [7, 3, 3]
    np.testing.assert_allclose(frozen.predict(z[rows], sensitive_features=soft[rows]), fair[rows], atol=1e-8)
    # a group that is known for certain is a probability of 1
    certain = fo.Soft(np.eye(3), NAMES[:3])
    np.testing.assert_array_equal(frozen.predict(z[:3], sensitive_features=certain), frozen.predict(z[:3], sensitive_features=NAMES[:3]))
    again = fo.FrozenLayer(
        frozen.attributes, frozen.keys, [0.0] * 3, lb=0, ub=1, space="value", guarantees=(), notion=frozen.notion, distance=distance
    )
    again.load_state_dict(frozen.state_dict())
    np.testing.assert_array_equal(again.predict(z, sensitive_features={"r": soft}), frozen.predict(z, sensitive_features={"r": soft}))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["squared", "kl"]), st.sampled_from([None, 0.9]))
def test_certain_probabilities_are_frozen_as_values(seed: int, distance: Any, guarantee: float | None) -> None:
    draw = np.random.default_rng(seed)
    z, _, _ = drawn(400, 3, seed)
    r, s = draw.choice(NAMES[:3], 400), draw.integers(0, 2, 400)
    certain = fo.Soft((r[:, None] == np.array(["c", "a", "b"])).astype(float), ["c", "a", "b"])
    guarantee = guarantee if distance == "squared" else None
    layer = fo.FairnessLayer(
        fo.DemographicParity("r", tolerance=0.1) & fo.DemographicParity("s", tolerance=0.1), bounds=(0, 1), distance=distance
    )
    how: dict[str, Any] = {"guarantee": guarantee, "on_few": "tighten as far as possible"}
    values, soft = ({"r": given, "s": s} for given in (r, certain))  # beside another attribute, which probabilities may not be
    if guarantee is not None:  # for groups that do not overlap
        layer, values, soft = fo.FairnessLayer(fo.DemographicParity("r", tolerance=0.1), bounds=(0, 1)), {"r": r}, {"r": certain}
    hard, frozen = (layer.freeze(z, sensitive_features=given, **how) for given in (values, soft))
    assert frozen.table() == hard.table()
    assert frozen.guarantees == hard.guarantees
    np.testing.assert_array_equal(frozen.predict(z, sensitive_features=soft), hard.predict(z, sensitive_features=values))
    z3 = torch.tensor(draw.dirichlet([1.0] * 3, 400))
    of_classes = fo.FairnessLayer(fo.DemographicParity("r", tolerance=0.05), outputs="simplex", distance=distance)
    tables = [of_classes.freeze_classes(z3, sensitive_features={"r": given}).table() for given in (r, certain)]
    assert tables[0] == tables[1]


def test_what_cannot_be_frozen_says_why() -> None:
    z, P, label = drawn(100, 2, 6)
    soft = {"r": fo.Soft(P, NAMES[:2])}
    odds = fo.FairnessLayer(fo.EqualOpportunity("r", tolerance=0.0), bounds=(0, 1))
    with pytest.raises(fo.UnsupportedError, match="a label"):
        odds.freeze(z, sensitive_features=soft, targets=label)
    parity = fo.FairnessLayer(fo.DemographicParity("r", tolerance=0.0), bounds=(0, 1))
    with pytest.raises(fo.UnsupportedError, match="guarantee"):
        parity.freeze(z, sensitive_features=soft, guarantee=0.9)
    frozen = parity.freeze(z, sensitive_features=soft)
    with pytest.raises(fo.InputError, match="calibration had"):
        frozen.predict(z, sensitive_features={"r": fo.Soft(P, ["a", "z"])})
    with pytest.raises(fo.InputError, match="expected 100"):
        frozen.predict(z, sensitive_features={"r": soft["r"][:50]})


@pytest.mark.parametrize("name", [k for k in NOTIONS if k != "priced"])
def test_probabilities_nearly_0_and_1_give_what_the_values_give(name: str) -> None:
    """By another road: each sample has a weight of its own."""
    draw = np.random.default_rng(11)
    z, _, label = drawn(60, 3, 0)
    r, s = draw.choice(NAMES[:3], 60), draw.integers(0, 2, 60)
    P = (r[:, None] == np.array(NAMES[:3])).astype(float)
    P[0] = np.where(P[0] == 1, 1 - 2.0**-50, 2.0**-51)
    features = {"s": s}
    how: dict[str, Any] = {"targets": label, "bounds": (0, 1), "return_solution": True}
    hard = fo.project(torch.tensor(z), NOTIONS[name](0.02), sensitive_features={"r": r, **features}, **how)
    soft = fo.project(torch.tensor(z), NOTIONS[name](0.02), sensitive_features={"r": fo.Soft(P, NAMES[:3]), **features}, **how)
    np.testing.assert_allclose(soft.scores, hard.scores, atol=1e-11)


def test_shifts_that_the_rows_do_not_tell_apart_are_not_served() -> None:
    draw = np.random.default_rng(12)
    a = draw.random(100)
    P = np.column_stack([a, 0.4 * (1 - a), 0.6 * (1 - a)])  # of rank 2
    layer = fo.FairnessLayer(fo.DemographicParity("r", tolerance=0.0), bounds=(0, 1))
    with pytest.raises(fo.InputError, match="linearly"):
        layer.freeze(0.5 * a, sensitive_features={"r": fo.Soft(P, NAMES[:3])})


def test_a_group_that_calibration_had_not_is_refused_when_served() -> None:
    z, P, _ = drawn(100, 2, 13)
    wide = fo.Soft(np.column_stack([P, np.zeros(100)]), NAMES[:3])
    frozen = fo.FairnessLayer(fo.DemographicParity("r", tolerance=0.0), bounds=(0, 1)).freeze(z, sensitive_features={"r": wide})
    assert [row["r"] for row in frozen.table()] == ["a", "b"]
    np.testing.assert_array_equal(
        frozen.predict(z, sensitive_features={"r": wide}), frozen.predict(z, sensitive_features={"r": fo.Soft(P, NAMES[:2])})
    )
    with pytest.raises(fo.InputError, match="calibration had"):
        frozen.predict([0.5], sensitive_features={"r": fo.Soft([[0.5, 0.4, 0.1]], NAMES[:3])})


@pytest.mark.parametrize("backend", ["proxqp", "cvxpylayers", "diffcp"])
def test_other_solvers_take_them_too(backend: str) -> None:
    if not any(row["name"] == backend and row["available"] for row in fo.backends()):
        pytest.skip(f"{backend} is not here")
    z, P, _ = drawn(40, 3, 14)
    how: dict[str, Any] = {"sensitive_features": {"r": fo.Soft(P, NAMES[:3])}, "bounds": (0, 1)}
    notion = fo.DemographicParity("r", tolerance=0.02)
    np.testing.assert_allclose(
        fo.project(torch.tensor(z), notion, backend=backend, **how), fo.project(torch.tensor(z), notion, **how), atol=1e-6
    )


def test_a_group_without_any_probability_is_an_absent_one() -> None:
    z, P, _ = drawn(50, 2, 7)
    wide = fo.Soft(np.column_stack([P, np.zeros(50)]), NAMES[:3])
    notion = fo.DemographicParity("r", tolerance=0.01)
    solution = fo.project(torch.tensor(z), notion, sensitive_features={"r": wide}, bounds=(0, 1), return_solution=True)
    narrow = fo.project(torch.tensor(z), notion, sensitive_features={"r": fo.Soft(P, NAMES[:2])}, bounds=(0, 1))
    assert torch.equal(solution.scores, narrow)
    assert "c" in str(solution.certificate.to_dict()["dropped"])


def test_layers_learn_and_check_the_groups_of_probabilities() -> None:
    z, P, _ = drawn(50, 2, 8)
    layer = fo.FairnessLayer(fo.DemographicParity("r", tolerance=0.01), bounds=(0, 1), groups={"r": ["b", "a"]})
    layer(torch.tensor(z), sensitive_features={"r": fo.Soft(P, ["a", "b"])})
    with pytest.raises(fo.InputError, match="'z'"):
        layer(torch.tensor(z), sensitive_features={"r": fo.Soft(P, ["a", "z"])})
    # a batch whose groups are known for certain in between
    layer(torch.tensor(z), sensitive_features={"r": ["a", "b"] * 25})
    layer(torch.tensor(z), sensitive_features={"r": fo.Soft(P, ["a", "b"])})
    assert layer.certificate is not None
    assert layer.certificate.max_violation <= 0.0


@pytest.mark.parametrize(
    ("P", "values", "said"),
    [
        ([[0.5, 0.6]], ["a", "b"], "sum to 1.1"),
        ([[0.5, float("nan")]], ["a", "b"], r"position \(0, 1\)"),
        ([[1.5, -0.5]], ["a", "b"], r"1.5 at position \(0, 0\)"),
        ([0.5, 0.5], ["a", "b"], "shape"),
        ([["x", "y"]], ["a", "b"], "numbers"),
        ([[0.5, 0.5]], ["a"], "1 groups"),
        ([[0.5, 0.5]], ["a", "a"], "different"),
        ([[0.5, 0.5]], None, "values"),
        ([[0.5, 0.5]], "ab", "values"),
        (np.zeros((3, 0)), [], "shape"),
    ],
)
def test_what_is_no_probability_of_groups_is_refused(P: Any, values: Any, said: str) -> None:
    with pytest.raises(fo.InputError, match=said):
        fo.Soft(P, values)


def test_doors_that_take_no_probabilities_say_so() -> None:
    z, P, _ = drawn(30, 2, 9)
    soft = {"r": fo.Soft(P, ["a", "b"])}
    with pytest.raises(fo.InputError, match="Soft"):
        fo.streaming.PooledParity(fo.DemographicParity("r", tolerance=0.1), bounds=(0, 1)).step(z, sensitive_features=soft)
    with pytest.raises(fo.InputError, match="Soft"):
        fo.project(z, fo.ScoreCovariance("r", tolerance=0.1), sensitive_features=soft)
    with pytest.raises(fo.UnsupportedError, match="combinations"):
        fo.project(z, fo.DemographicParity(("r", "q"), tolerance=0.1), sensitive_features={**soft, "q": soft["r"]})
    with pytest.raises(fo.InputError, match="probabilities of 30 samples"):
        fo.project(z[:20], fo.DemographicParity(("s", "r"), tolerance=0.1), sensitive_features={"s": [0] * 20, **soft})


@pytest.mark.parametrize("kind", ["torch", "float32", "frame", "list"])
def test_probabilities_come_in_any_container(kind: str) -> None:
    pandas = pytest.importorskip("pandas")
    z, P, _ = drawn(40, 2, 10)
    made = {
        "torch": lambda: fo.Soft(torch.tensor(P, requires_grad=True), ["a", "b"]),
        "float32": lambda: fo.Soft(torch.tensor(P).float(), ["a", "b"]),
        "frame": lambda: fo.Soft(pandas.DataFrame(P, columns=["a", "b"])),
        "list": lambda: fo.Soft(P.tolist(), np.array(["a", "b"])),
    }[kind]()
    assert made.values == ("a", "b")
    notion = fo.DemographicParity("r", tolerance=0.01)
    fair = fo.project(z, notion, sensitive_features={"r": made}, bounds=(0, 1))
    np.testing.assert_allclose(fair, fo.project(z, notion, sensitive_features={"r": fo.Soft(P, ["a", "b"])}, bounds=(0, 1)), atol=1e-6)
    P[:] = 0.5  # what came is copied
    np.testing.assert_allclose(made.probabilities.sum(1), 1.0, atol=1e-6)
    assert not np.array_equal(made.probabilities, P)
