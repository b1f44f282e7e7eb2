"""Images: the drawn people, CelebA and FairFace in their publishers' layouts, and the experiments on a few small files of our own."""

from __future__ import annotations

import csv
import hashlib
import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairopt.basics.errors import InputError, MissingExtraError
from fairopt.experiments.data import emoji as drawn
from fairopt.experiments.data import faces as files
from fairopt.experiments.data.tabular import Dataset
from fairopt.experiments.methods.base import Recipe
from fairopt.experiments.methods.convolutional import ResNet18, SmallCNN
from fairopt.experiments.reproduce import Progress, Settings, experiment
from fairopt.experiments.store import Store
from fairopt.experiments.studies import emoji, faces
from fairopt.experiments.studies.image_figures import figures, measured
from fairopt.experiments.studies.image_tables import CONSTANT, LAYER, METHODS, PENALTY, PLAIN, PROJECTED, section

DEEDS = ("running", "golfing", "cook", "judge", "teacher", "walking", "vampire", "pilot", "singer", "farmer", "bowing", "artist")
ROLES = ("cook", "judge", "teacher", "pilot", "singer", "farmer", "artist")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file in the layout of the drawings: noise, darker with each tone, women with a bright corner. The loader knows its checksum."""
    draw = np.random.default_rng(0)
    images, gender, tone, subcategory, names = [], [], [], [], []
    for deed in DEEDS:
        for g, word in enumerate(("man", "woman")):
            for t in range(5):
                image = draw.integers(0, 120, (32, 32, 3)) + 20 * (5 - t)
                image[:8, :8] += 60 * g
                image[-8:, -8:] += 60 * (deed in ROLES)
                images.append(image)
                gender.append(g)
                tone.append(t)
                subcategory.append("person-role" if deed in ROLES else "person-activity")
                names.append(f"{word}-{deed}" if t < 4 else f"{word}_{deed}_facing_right")
    content = io.BytesIO()
    np.savez(
        content,
        images=np.array(images).clip(0, 255).astype(np.uint8),
        gender=np.array(gender, dtype=np.int8),
        skin_tone=np.array(tone, dtype=np.int8),
        subcategory=np.array(subcategory),
        short_name=np.array(names),
    )
    folder = tmp_path_factory.mktemp("data") / "emoji_people32"
    folder.mkdir()
    (folder / "emoji_people32.npz").write_bytes(content.getvalue())
    known = drawn.SOURCE
    drawn.SOURCE = replace(known, sha256=(hashlib.sha256(content.getvalue()).hexdigest(),))
    yield folder.parent
    drawn.SOURCE = known


# -- the drawings -----------------------------------------------------------------------------------------------------------------------


def test_the_drawings_are_read_as_they_are(packed: Path) -> None:
    data = drawn.load(packed)
    assert data.features.shape == (120, 3072)
    assert (data.features.min() >= 0, data.features.max() <= 1) == (True, True)
    with np.load(packed / "emoji_people32" / "emoji_people32.npz") as raw:
        image = raw["images"][7]
    np.testing.assert_allclose(data.features[7].reshape(3, 32, 32)[1], image[:, :, 1] / 255)
    assert data.target.tolist() == [float(g == "woman") for g in data.sensitive["gender"]]
    assert drawn.load(packed, target="role").target.mean() == len(ROLES) / len(DEEDS)
    assert len(np.unique(data.sensitive["gender and tone"])) == 10
    assert sorted(set(data.sensitive["drawing"])) == sorted(DEEDS)


def test_other_bytes_another_target_and_no_file_are_refused(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="target: got 'age'"):
        drawn.load(packed, target="age")
    (tmp_path / "emoji_people32.npz").write_bytes(b"other")
    with pytest.raises(InputError, match="sha256"):
        drawn.load(tmp_path)
    with pytest.raises(InputError, match="npm pack emoji-datasource-twitter"):
        drawn.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "names, expected",
    [
        (("woman-running", "man-running", "man_running_facing_right"), "running"),
        (("female-cook", "male-cook"), "cook"),
        (("bald_man", "bald_woman"), "bald"),
        (("older_woman",), "older"),
        (("woman", "man"), "person"),
        (("dancer",), "dancer"),
        (("mermaid",), "mermaid"),
        (("merman",), "merman"),
    ],
)
def test_a_drawing_is_what_a_man_a_woman_and_a_mirror_image_share(names: tuple[str, ...], expected: str) -> None:
    assert {drawn.drawing(name) for name in names} == {expected}


@given(rates=st.lists(st.floats(0.1, 0.9), min_size=2, max_size=4), seed=st.integers(0, 1000))
def test_induced_rates_are_the_ones_that_were_asked_for(rates: list[float], seed: int) -> None:
    groups = [f"g{k}" for k in range(len(rates))]
    group, target = np.repeat(groups, 100), np.tile([0.0, 1.0], 50 * len(rates))
    whole = Dataset("made", np.arange(float(len(group)))[:, None], ("row",), target, {"a": group})
    kept = drawn.induced(whole, "a", dict(zip(groups, rates, strict=True)), seed)
    assert len(set(kept.features[:, 0])) == len(kept)
    for name, rate in zip(groups, rates, strict=True):
        mine = kept.sensitive["a"] == name
        assert kept.target[mine].mean() == pytest.approx(rate, abs=0.01)
        assert mine.sum() >= 50  # one of the two classes is kept whole
    with pytest.raises(InputError, match="rates: got"):
        drawn.induced(whole, "a", {"g0": 0.5}, seed)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_drawing_is_in_two_parts(packed: Path, seed: int) -> None:
    parts = drawn.split(drawn.load(packed), seed)
    sides = [set(part.sensitive["drawing"]) for part in (parts.train, parts.validation, parts.held_out)]
    assert sum(map(len, sides)) == len(set().union(*sides)) == len(DEEDS)
    assert [len(part) for part in (parts.train, parts.validation, parts.held_out)] == [60, 20, 40]
    assert float(parts.train.x.abs().max()) <= 0.5
    with pytest.raises(InputError, match="shares: got"):
        drawn.split(drawn.load(packed), seed, (0.5, 0.5, 0.5))


# -- networks and figures -----------------------------------------------------------------------------------------------------------------


def test_the_network_takes_flat_and_square_images_and_mirrors_in_training_alone() -> None:
    network = SmallCNN(16, (4, 8), 0.0, seed=0)
    x = torch.randn(6, 3, 16, 16)
    network.eval()
    assert torch.equal(network(x), network(x.reshape(6, -1)))
    assert network(x).shape == (6,)
    assert not torch.allclose(network(x), network(x.flip(3)))
    network.train()
    torch.manual_seed(0)
    mirrored = network.layers[0](x)
    kept = [torch.equal(a, b) for a, b in zip(mirrored, x, strict=True)]
    assert 0 < sum(kept) < 6
    assert all(k or torch.equal(a, b.flip(2)) for k, a, b in zip(kept, mirrored, x, strict=True))
    with pytest.raises(InputError, match="side: got 20"):
        SmallCNN(20, (4, 8, 8), 0.0, seed=0)


def test_resnet_without_torchvision_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(MissingExtraError, match="pip install torchvision"):
        ResNet18(0)


def test_figures_are_of_the_space_that_parity_is_asked_in(packed: Path) -> None:
    part = drawn.load(packed)
    rows = drawn.split(part, 0).held_out
    goals = emoji.goals_of("tone")
    logits = torch.linspace(-2, 2, len(rows), dtype=torch.float64)
    plain = figures(logits, rows, goals["logits"])
    means = [float(logits[torch.from_numpy(rows.sensitive["tone"] == tone)].mean()) for tone in drawn.TONES]
    assert plain["logit_gap"] == pytest.approx(max(means) - min(means))
    assert plain["pairs"] == 10
    assert plain["pairs_met"] < 10
    assert not plain["met"]
    same = figures(torch.sigmoid(logits), rows, goals["probabilities"])
    for name in ("accuracy", "auc", "log_loss", "score_gap", "decision_gap", "logit_gap"):
        assert same[name] == pytest.approx(plain[name])
    fair = measured(logits, rows, goals["logits"], project=True)
    assert (fair["certified"], fair["met"], fair["pairs_met"]) == (True, True, 10)
    assert fair["logit_gap"] <= 1e-3
    swept = measured(torch.sigmoid(logits), rows, goals["probabilities"], project=True, sweep=(0.01, 0.9))["sweep"]
    assert [point["tolerance"] for point in swept] == [0.01, 0.9]
    assert swept[0]["score_gap"] <= 0.01 + 1e-12 < swept[1]["score_gap"]


def _figures(accuracy: float, met: int) -> dict[str, Any]:
    names = ("auc", "log_loss", "logit_gap", "score_gap", "decision_gap")
    return {"accuracy": accuracy, **dict.fromkeys(names, 0.5), "pairs": 10, "pairs_met": met, "met": met == 10, "certified": met == 10}


def test_the_verdicts_follow_the_figures() -> None:
    runs = [{LAYER: _figures(0.9 + k / 100, 10), PROJECTED: _figures(0.8, 10), CONSTANT: _figures(0.95 + k / 100, 10)} for k in (0, 1)]
    said = "\n".join(section("made up", runs).verdicts)
    assert "20 of 20 pairs within the tolerance; certified for 2 of 2 seeds" in said
    assert f"{LAYER} minus {PROJECTED}: accuracy +0.1050 ± 0.0050, " in said
    assert f"{LAYER} minus {CONSTANT}: accuracy -0.0500" in said
    assert "decision gap +0.0000 ± 0.0000" in said
    assert f"{LAYER}: no better than {CONSTANT} in accuracy or AUC or log loss" in said


# -- the experiments ----------------------------------------------------------------------------------------------------------------------


def test_the_drawings_run_resume_and_keep_every_pair(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emoji, "RECIPE", Recipe((4, 4), 0.0, 2, 32, 3e-3, 0.0))
    monkeypatch.setattr(emoji, "QUICK_EPOCHS", 2)
    monkeypatch.setattr(emoji, "SWEEP", (0.02, 0.3))
    heard: list[Progress] = []
    chosen = Settings("emoji", data=packed, quick=True, seeds=(4,))
    path = tmp_path / "emoji.jsonl"
    with Store(path, "emoji") as store:
        result = experiment("emoji")(chosen, store, heard.append)
    assert [(p.done, p.total) for p in heard] == [(1, 2), (2, 2)]
    for place in (0, 1, 3, 4):
        rows = {row["method"].removesuffix(" (reference)"): row for row in result.sections[place].rows}
        assert tuple(rows) == METHODS
        pairs = "10 of 10" if place < 2 else "45 of 45"
        for method in (LAYER, PROJECTED):
            assert (rows[method]["pairs met"], rows[method]["certified"]) == (pairs, "1 of 1")
        assert rows[PLAIN]["certified"] is None
    for place in (2, 5):
        made = result.sections[place].picture
        assert made is not None
        made(tmp_path / f"{place}.png")
        assert (tmp_path / f"{place}.png").stat().st_size > 10_000
    monkeypatch.setattr(emoji, "_one", lambda *_: pytest.fail("a finished cell was computed again"))
    with Store(path, "emoji") as store:
        again = experiment("emoji")(chosen, store, heard.append)
    assert [s.rows for s in again.sections] == [s.rows for s in result.sections]


def _save(path: Path, value: int) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value).integers(0, 60, (22, 18, 3)) + value % 2 * 120
    Image.fromarray(noise.astype(np.uint8)).save(path)


def _celeba(root: Path, edition: str) -> Path:
    """60 images in the layout of CelebA; a bright one smiles."""
    names = ["Male", "Smiling", "Young"]
    rows = [(f"{k + 1:06d}.jpg", ["1" if k // 2 % 2 else "-1", "1" if k % 2 else "-1", "1" if k // 4 % 2 else "-1"]) for k in range(60)]
    parts = [(image, "0" if k < 32 else "1" if k < 44 else "2") for k, (image, _) in enumerate(rows)]
    for k, (image, _) in enumerate(rows):
        _save(root / "img_align_celeba" / image, k)
    if edition == "txt":
        lines = [str(len(rows)), " ".join(names), *(f"{image}  {' '.join(values)}" for image, values in rows)]
        (root / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
        (root / "list_eval_partition.txt").write_text("".join(f"{image} {part}\n" for image, part in parts))
    else:
        _write(root / "list_attr_celeba.csv", ["image_id", *names], [[image, *values] for image, values in rows])
        _write(root / "list_eval_partition.csv", ["image_id", "partition"], [list(row) for row in parts])
    return root


def _write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="") as opened:
        csv.writer(opened).writerows([header, *rows])


def _fairface(root: Path) -> Path:
    """48 training and 24 held-out images in the layout of FairFace: three races, two genders."""
    for part, count in (("train", 48), ("val", 24)):
        rows = []
        for k in range(count):
            _save(root / part / f"{k + 1}.jpg", k)
            age = "30-39" if k % 2 else "20-29"
            rows.append([f"{part}/{k + 1}.jpg", age, "Female" if k // 2 % 2 else "Male", ("Black", "Indian", "White")[k // 4 % 3], "True"])
        _write(root / f"fairface_label_{part}.csv", ["file", "age", "gender", "race", "service_test"], rows)
    return root


@pytest.mark.parametrize("edition", ["txt", "csv"])
def test_celeba_is_read_in_both_editions(tmp_path: Path, edition: str) -> None:
    found = files.celeba(_celeba(tmp_path, edition), side=16)
    assert [len(p) for p in (found.train, found.validation, found.held_out)] == [32, 12, 16]
    assert found.group == "Male and Young"
    assert sorted(set(found.train.sensitive[found.group])) == ["Male, Young", "Male, not Young", "not Male, Young", "not Male, not Young"]
    part = found.train.take(torch.tensor([3, 0]))
    assert part.x.shape == (2, 3, 16, 16)
    assert float(part.x[0].mean()) > 0 > float(part.x[1].mean())  # the bright one was asked for first
    assert part.y.tolist() == [1.0, 0.0]
    assert part.sensitive[found.group].tolist() == ["Male, not Young", "not Male, not Young"]


def test_fairface_is_read_with_the_publishers_val_held_out(tmp_path: Path) -> None:
    found = files.fairface(_fairface(tmp_path), side=16, validation_share=0.25)
    assert [len(p) for p in (found.train, found.validation, found.held_out)] == [36, 12, 24]
    assert not set(found.train.paths) & set(found.validation.paths)
    assert len(set(found.train.sensitive[found.group])) == 6
    assert found.held_out.y[:4].tolist() == [0.0, 1.0, 0.0, 1.0]  # 30 or older
    with pytest.raises(InputError, match="validation_share: got 1.5"):
        files.fairface(tmp_path, validation_share=1.5)


def test_what_is_missing_or_of_another_layout_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAIROPT_DATA", raising=False)
    with pytest.raises(InputError, match="celeba: got nothing, expected its folder or FAIROPT_DATA"):
        files.celeba()
    with pytest.raises(InputError, match="fairface: no .*fairface_label_train.csv; from https://github.com/joojs"):
        files.fairface(tmp_path)
    root = _celeba(tmp_path / "celeba", "txt")
    with pytest.raises(InputError, match="celeba: no column Happy; there are Male, Smiling, Young"):
        files.celeba(root, target="Happy")
    (root / "img_align_celeba" / "000001.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of 32 images are not there, the first .*000001\.jpg"):
        files.celeba(root)
    (root / "list_eval_partition.txt").write_text("000001.jpg 0\n")
    with pytest.raises(InputError, match="no 0, 1 or 2 for 59 images"):
        files.celeba(root)
    (root / "list_attr_celeba.txt").write_text("1\nMale Smiling Young\n000001.jpg 1\n")
    with pytest.raises(InputError, match="not in the publisher's layout"):
        files.celeba(root)
    other = _fairface(tmp_path / "fairface")
    text = (other / "fairface_label_val.csv").read_text()
    (other / "fairface_label_val.csv").write_text(text.replace("20-29", "twenties"))
    with pytest.raises(InputError, match="has the ages twenties, expected 0-2"):
        files.fairface(other)
    (other / "fairface_label_val.csv").write_text("file,age,gender\nval/1.jpg,0-2,Male\n")
    with pytest.raises(InputError, match="no column race"):
        files.fairface(other)


@pytest.mark.parametrize("name, pairs", [("celeba", "6 of 6"), ("fairface", "15 of 15")])
def test_faces_run_where_the_images_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, pairs: str) -> None:
    root = _celeba(tmp_path, "csv") if name == "celeba" else _fairface(tmp_path)
    monkeypatch.setitem(faces.PLANS, name, replace(faces.PLANS[name], sides={"SimpleCNN": 16}))
    monkeypatch.setattr(faces, "RECIPE", Recipe((4,), 0.0, 1, 24, 3e-3, 0.0))
    heard: list[Progress] = []
    result = experiment(name)(Settings(name, data=root, quick=True), Store(None, name), heard.append)
    assert [(p.done, p.total) for p in heard] == [(1, 1)]
    rows = {row["method"].removesuffix(" (reference)"): row for row in result.sections[0].rows}
    assert tuple(rows) == (CONSTANT, PLAIN, PROJECTED, PENALTY, LAYER)
    for method in (PROJECTED, LAYER):
        assert (rows[method]["pairs met"], rows[method]["certified"]) == (pairs, "1 of 1")
        assert rows[method]["logit gap"] <= faces.PLANS[name].tolerance
    assert result.sections[0].paper is not None
    with pytest.raises(InputError, match="experiment: got 'lfw'"):
        faces.run(Settings("lfw"), Store(None, "lfw"), heard.append)
