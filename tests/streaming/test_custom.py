"""Notions of one's own stream like the shipped ones where they are about group means; where not, the reason is said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import fairopt as fo
from fairopt.notions.functional import Constraint
from fairopt.streaming import Family, PooledParity, anchored, parity


@fo.notion
def by_range(batch: Any, attribute: Any, tolerance: Any, target: Any = None, given: Any = None) -> Iterator[Constraint]:
    event = batch.everyone if target is None else batch.targets == target
    for stratum, _ in batch.strata(given):
        yield batch.range([g & stratum & event for g in batch.groups(attribute)]) <= tolerance


@fo.notion
def by_pairs(batch: Any, attribute: Any, tolerance: Any) -> Iterator[Constraint]:
    for a, b in batch.pairs(attribute):
        yield abs(2 * batch.mean(a) - 2 * batch.mean(b)) <= 2 * tolerance


@fo.notion
def by_sides(batch: Any, attribute: Any, tolerance: Any) -> Iterator[Constraint]:
    for a, b in batch.pairs(attribute):
        yield batch.mean(a) - batch.mean(b) <= tolerance
        yield batch.mean(b) - tolerance <= batch.mean(a)


@fo.notion
def limits(batch: Any, attribute: Any) -> Iterator[Constraint]:
    for g in batch.groups(attribute):
        yield batch.mean(g) >= 0.25
        yield -batch.mean(g) >= -0.75


@fo.notion
def residuals(batch: Any, attribute: Any, tolerance: Any, each: bool = False) -> Iterator[Constraint]:
    means = [batch.mean(g) - batch.mean(g, of=batch.targets) for g in batch.groups(attribute)]
    if each:
        yield from (abs(m) <= tolerance for m in means)
    else:
        yield batch.range(means) <= tolerance


@fo.notion
def some_pairs(batch: Any, attribute: Any, tolerance: Any) -> Iterator[Constraint]:
    first, *others = batch.groups(attribute)
    for g in others:
        yield abs(batch.mean(first) - batch.mean(g)) <= tolerance


@fo.notion
def to_overall(batch: Any, attribute: Any, tolerance: Any) -> Iterator[Constraint]:
    for g in batch.groups(attribute):
        yield abs(batch.mean(g) - batch.mean()) <= tolerance


@fo.notion
def first_only(batch: Any, attribute: Any) -> Iterator[Constraint]:
    yield batch.mean(batch.groups(attribute)[0]) <= 0.5


@fo.notion
def weighed(batch: Any, attribute: Any) -> Iterator[Constraint]:
    yield batch.weighted(torch.arange(batch.n).double()) <= len(attribute)


@fo.notion
def shares(batch: Any, attribute: Any) -> Iterator[Constraint]:
    yield batch.range(batch.groups(attribute)) <= 1.0 / batch.n


@fo.notion
def named_group(batch: Any, attribute: Any) -> Iterator[Constraint]:
    yield batch.mean(batch.group(attribute, "female").named("f")) <= 0.5


def renamed(family: Family, name: str) -> Family:
    return Family(**{**vars(family), "name": name})


STREAMED: list[tuple[Any, Family]] = [
    (by_range("g", 0.1), parity("g", tolerance=0.1)),
    (by_range(("g", "h"), 0.1), parity(("g", "h"), tolerance=0.1)),
    (by_range("g", 0.1, target=0), parity("g", tolerance=0.1, condition=0)),
    (by_range("g", torch.tensor(0.125)), parity("g", tolerance=0.125)),
    (by_pairs("g", 0.125), parity("g", tolerance=0.125)),
    (by_sides("g", 0.125), parity("g", tolerance=0.125)),
    (limits("g"), anchored("g", lower=0.25, upper=0.75)),
    (residuals("g", 0.1), parity("g", tolerance=0.1, residual=True)),
    (residuals("g", 0.1, each=True), anchored("g", lower=-0.1, upper=0.1, residual=True)),
]


@pytest.mark.parametrize(("notion", "family"), STREAMED, ids=lambda v: getattr(v, "label", ""))
def test_custom_notions_on_group_means_are_families(notion: Any, family: Family) -> None:
    assert PooledParity(notion, bounds=(0, 1)).plan.families == (renamed(family, notion.name),)


def test_a_custom_notion_streams_the_same_numbers_as_the_shipped_one() -> None:
    scores, groups, targets = [0.1, 0.9, 0.3, 0.6, 0.8], list("abacb"), [0, 1, 1, 1, 0]
    for custom, shipped in ((by_range("g", 0.05, target=1), fo.EqualOpportunity("g", tolerance=0.05)),
                            (by_pairs("g", 0.0625), fo.DemographicParity("g", tolerance=0.0625))):  # fmt: skip
        one, other = (PooledParity(n, bounds=(0, 1)).step(scores, sensitive_features=groups, targets=targets) for n in (custom, shipped))
        assert one.scores == other.scores
        assert list(one.pooled_gaps.values()) == list(other.pooled_gaps.values())


@pytest.mark.parametrize(
    ("notion", "why"),
    [
        (some_pairs("g", 0.1), "all pairs of groups"),
        (to_overall("g", 0.1), "'overall' is no group"),
        (first_only("g"), "1 of 3 groups"),
        (weighed("g"), "weighs each sample"),
        (fo.ImpactRatio("g"), "ratio of means"),
        (fo.ScoreCovariance("g", tolerance=0.1), "cannot be streamed"),
        (shares("g"), "changes with the batch"),
        (named_group("g"), "fails on a batch with the made-up groups"),
    ],
    ids=str,
)
def test_what_cannot_be_streamed_is_told_by_its_constraint(notion: Any, why: str) -> None:
    with pytest.raises(fo.UnsupportedError, match=why):
        PooledParity(notion, bounds=(0, 1))


def test_strata_that_a_custom_notion_names_are_kept() -> None:
    @fo.notion
    def in_strata(batch: Any, attribute: Any, attribute_given: Any) -> Iterator[Constraint]:
        for stratum, _ in batch.strata(attribute_given):
            yield batch.range([g & stratum for g in batch.groups(attribute)]) <= 0.1

    assert PooledParity(in_strata("g", "h"), bounds=(0, 1)).plan.families == (parity("g", tolerance=0.1, given="h", name="in_strata"),)


def test_a_layer_gives_its_controller() -> None:
    notion = fo.EqualOpportunity("g", tolerance=0.05)
    layer = fo.FairnessLayer(notion, bounds=(0, 2), groups={"g": ["a", "b"]}, pos_label="yes", missing_group="own")
    controller = layer.controller(kappa=0.5)
    by_hand = PooledParity(notion, bounds=(0, 2), groups=["a", "b"], pos_label="yes", missing_group="own", kappa=0.5)
    assert controller.state_dict() == by_hand.state_dict()
    features = ["a", "b", None]
    step = controller.step([0.5, 1.5, 1.0], sensitive_features=features, targets=["yes", "yes", "no"])
    assert step == by_hand.step([0.5, 1.5, 1.0], sensitive_features=features, targets=["yes", "yes", "no"])
    with pytest.raises(fo.InputError, match=r"bounds: the layer has none.*controller\(bounds="):
        fo.FairnessLayer(notion).controller()
    with pytest.raises(fo.UnsupportedError, match="ratio of means"):
        fo.FairnessLayer(fo.ImpactRatio("g"), bounds=(0, 1)).controller()
    assert fo.FairnessLayer(notion, space="probability").controller().ub == 1.0
    learned = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.05), bounds=(0, 1))
    learned(torch.rand(2), sensitive_features=["a", "b"])
    with pytest.raises(fo.InputError, match="unknown value 'c'"):
        learned.controller().step(0.5, sensitive_features="c")
    assert learned.controller(groups=None).step(0.5, sensitive_features="c").scores == 0.5
    assert layer.controller(bounds=(0, 1)).ub == 1.0
