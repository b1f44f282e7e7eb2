"""What a layer's state carries: tensors alone, and enough to refuse another layer's."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import fairopt as fo

PARITY = fo.DemographicParity("g", tolerance=0.05)
Z = torch.tensor([0.1, 0.9, 0.4, 0.6], dtype=torch.float64)
GROUPS = {"g": ["a", "b", "a", "b"]}


def trained(notion: fo.Notion = PARITY, **options: Any) -> fo.FairnessLayer:
    layer = fo.FairnessLayer(notion, **options)
    layer(Z, sensitive_features=GROUPS, targets=[0, 1, 1, 0])
    return layer


OTHERS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "tolerance": (fo.DemographicParity("g", tolerance=0.2), {}, "tolerance=0.05.*tolerance=0.2"),
    "notion": (fo.EqualOpportunity("g", tolerance=0.05), {}, "DemographicParity.*EqualOpportunity"),
    "softness": (PARITY.priced(3.0), {}, "priced"),
    "attribute": (fo.DemographicParity("h", tolerance=0.05), {}, "'h'"),
    "bounds": (PARITY, {"bounds": (0, 1)}, "bounds: saved with None"),
    "bounds per sample": (PARITY, {"bounds": (torch.zeros(4), torch.ones(4))}, "sha256"),
    "space": (PARITY, {"space": "logit"}, "space: saved with 'value', this layer has 'logit'"),
    "pos_label": (PARITY, {"pos_label": 1}, "pos_label"),
}


@pytest.mark.parametrize(("notion", "options", "words"), OTHERS.values(), ids=OTHERS)
def test_a_state_of_another_layer_is_refused_and_changes_nothing(notion: Any, options: dict[str, Any], words: str) -> None:
    other = fo.FairnessLayer(notion, **options)
    with pytest.raises(fo.InputError, match=words):
        other.load_state_dict(trained().state_dict())
    assert other.groups == {}
    keys = other.load_state_dict(trained().state_dict(), strict=False)
    assert len(keys.unexpected_keys) == 1
    assert other.groups == {"g": ["a", "b"]}


def test_a_state_of_another_layer_is_refused_inside_any_module() -> None:
    first, second = (nn.ModuleDict({"head": trained(fo.DemographicParity("g", tolerance=t))}) for t in (0.05, 0.2))
    with pytest.raises(RuntimeError, match=r"head\.facts of another layer .*tolerance=0.05.*tolerance=0.2"):
        second.load_state_dict(first.state_dict())
    second.load_state_dict(first.state_dict(), strict=False)
    pair = [fo.FairModel(nn.Linear(1, 1), trained(fo.DemographicParity("g", tolerance=t))) for t in (0.05, 0.2)]
    before = [parameter.clone() for parameter in pair[1].parameters()]
    with pytest.raises(fo.InputError, match=r"tolerance=0.05.*tolerance=0.2"):
        pair[1].load_state_dict(pair[0].state_dict())
    assert all(torch.equal(a, b) for a, b in zip(pair[1].parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("saved", "mine"),
    [
        (0.05, np.float64(0.05)),
        (np.float64(0.05), 0.05),
        (0.5, np.float32(0.5)),
        (0, 0.0),
        (1.0, 1),
        (np.int64(1), 1.0),
    ],
)
def test_the_same_number_written_otherwise_is_no_mismatch(saved: Any, mine: Any) -> None:
    first, second = (trained(fo.DemographicParity("g", tolerance=t).penalised(max(t, 1))) for t in (saved, mine))
    assert not any(second.load_state_dict(first.state_dict()))
    assert not any(
        trained(PARITY, pos_label=None).load_state_dict(trained(fo.DemographicParity(np.str_("g"), tolerance=0.05)).state_dict())
    )


def test_a_learned_tolerance_is_no_mismatch() -> None:
    first, second = (trained(fo.DemographicParity("g", tolerance=nn.Parameter(torch.tensor(t)))) for t in (0.05, 0.3))
    second.load_state_dict(first.state_dict())
    assert [float(p) for p in second.parameters()] == pytest.approx([0.05])


def test_the_same_layer_loads_its_state_from_every_kind_of_file(tmp_path: Path) -> None:
    model = fo.FairModel(nn.Linear(1, 1), trained(bounds=(0, 1)))
    state = model.state_dict()
    save_file(state, str(tmp_path / "model.safetensors"))
    torch.save(state, tmp_path / "model.pt")
    for loaded in (
        load_file(str(tmp_path / "model.safetensors")),
        torch.load(tmp_path / "model.pt", weights_only=True),
        copy.deepcopy(state),
    ):
        fresh = fo.FairModel(nn.Linear(1, 1), fo.FairnessLayer(PARITY, bounds=(0, 1)))
        assert not any(fresh.load_state_dict(loaded))
        assert fresh.layer.groups == {"g": ["a", "b"]}


def test_a_state_written_before_it_was_tensors_still_loads() -> None:
    old = {"_extra_state": {"format": 1, "groups": {"g": ["a", "b"]}, "declared": {"g": False}}}
    fresh = fo.FairnessLayer(PARITY)
    assert not any(fresh.load_state_dict(old))
    assert fresh.groups == {"g": ["a", "b"]}


def test_a_state_without_facts_is_a_missing_key() -> None:
    model = fo.FairModel(nn.Linear(1, 1), fo.FairnessLayer(PARITY))
    bare = {name: tensor for name, tensor in model.state_dict().items() if "facts" not in name}
    with pytest.raises(RuntimeError, match=r"layer\.facts"):
        model.load_state_dict(bare)
    assert model.load_state_dict(bare, strict=False).missing_keys == ["layer.facts"]


@pytest.mark.parametrize("over", ["floats alone", "all"])
def test_an_averaging_loop_over_the_state_goes_through(over: str) -> None:
    """The average of the weights is loaded, and the facts stay what they are, also where a loop averages them as numbers."""
    network, loaded = nn.Linear(1, 1), nn.Linear(1, 1)
    model = fo.FairModel(network, trained())
    averaged = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = averaged["network.weight"].clone()
    with torch.no_grad():
        network.weight.add_(1.0)
    for name, tensor in model.state_dict().items():
        if over == "all" or averaged[name].is_floating_point():
            averaged[name] = 0.9 * averaged[name] + 0.1 * tensor
        else:
            averaged[name].copy_(tensor)
    fresh = fo.FairModel(loaded, fo.FairnessLayer(PARITY))
    assert not any(fresh.load_state_dict(averaged))
    assert torch.allclose(loaded.weight, first + 0.1)
    assert fresh.layer.groups == {"g": ["a", "b"]}
    assert torch.equal(fresh.state_dict()["layer.facts"], model.state_dict()["layer.facts"])
    other = fo.FairModel(nn.Linear(1, 1), fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.2)))
    with pytest.raises(fo.InputError, match=r"tolerance=0.05.*tolerance=0.2"):
        other.load_state_dict(averaged)


def test_facts_that_are_damaged_are_refused() -> None:
    layer = trained()
    text = layer.state_dict()["facts"]
    for bad in (text.float() * 0.5, text.float() - 300.0, text.float() * float("nan"), text[:-1], text.long(), text[None]):
        with pytest.raises(fo.InputError, match="facts"):
            fo.FairnessLayer(PARITY).load_state_dict({"facts": bad})


def test_copies_made_before_groups_are_learned_say_what_to_do() -> None:
    layer = fo.FairnessLayer(PARITY)
    model = fo.FairModel(nn.Identity(), layer)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    model(Z, sensitive_features=GROUPS)
    average.update_parameters(model)
    average.eval()
    with pytest.raises(fo.InputError, match=r"no group is known yet: declare them with groups=.*from data"):
        average(Z, sensitive_features=GROUPS)
    told = fo.FairnessLayer(PARITY, groups="from data").eval()
    told(Z, sensitive_features=GROUPS)
    assert told.groups == {"g": ["a", "b"]}
    with pytest.raises(fo.InputError, match="unknown value 'c'"):
        told(Z, sensitive_features={"g": ["a", "b", "c", "a"]})


def test_copies_and_pickles_carry_what_is_known_and_share_nothing() -> None:
    layer = trained()
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        twin.eval()(Z, sensitive_features=GROUPS)
        twin.train()(Z, sensitive_features={"g": ["a", "b", "c", "a"]})
        assert layer.groups == {"g": ["a", "b"]}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_every_tensor_follows_its_input_whatever_the_default_dtype(dtype: torch.dtype) -> None:
    expected = trained()(Z.float(), sensitive_features=GROUPS)
    torch.set_default_dtype(dtype)
    try:
        got = trained()(Z.float(), sensitive_features=GROUPS)
        assert got.dtype == torch.float32
        assert torch.equal(got, expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_state_is_saved_and_loaded_under_another_default_device() -> None:
    with torch.device("meta"):
        layer = trained(bounds=(0, 1))
        twin = fo.FairnessLayer(PARITY, bounds=(0, 1))
        twin.load_state_dict(layer.state_dict())
        frozen = layer.freeze(Z, sensitive_features=GROUPS)
    assert twin.groups == {"g": ["a", "b"]}
    assert frozen.state_dict()["shifts"].device.type == "cpu"


def test_state_dict_bytes_are_the_same_for_the_same_facts() -> None:
    first, second = io.BytesIO(), io.BytesIO()
    torch.save(trained().state_dict(), first)
    torch.save(trained().state_dict(), second)
    assert first.getvalue() == second.getvalue()
