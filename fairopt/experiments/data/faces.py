"""Face images in the publishers' own layouts: CelebA and FairFace. Images are read when they are taken, so that any number fits.

CelebA: Z. Liu, P. Luo, X. Wang, X. Tang, "Deep Learning Face Attributes in the Wild", ICCV 2015; 202,599 images, non-commercial research
only. FairFace: K. Karkkainen, J. Joo, "FairFace", WACV 2021; 97,698 labelled images, CC BY 4.0.
Neither is part of this project, and no checksum is taken of so many files; what is missing or of another layout is an InputError.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fairopt.basics.errors import InputError, MissingExtraError
from fairopt.experiments.data.files import VARIABLE
from fairopt.experiments.data.tabular import Part, Sensitive

READERS = 8  # threads that decode images
CELEBA_FETCH = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html: img_align_celeba, list_attr_celeba, list_eval_partition (.txt or .csv)"
FAIRFACE_FETCH = "https://github.com/joojs/fairface: train, val, fairface_label_train.csv, fairface_label_val.csv"
YOUNG = ("0-2", "3-9", "10-19", "20-29")
AGES = (*YOUNG, "30-39", "40-49", "50-59", "60-69", "more than 70")
Table = list[dict[str, str]]


@dataclass(frozen=True, eq=False)
class FileImages:
    """Images on disk with their labels. paths n; y (n,) float32; sensitive attribute -> (n,); side: of the square that they are made."""

    paths: tuple[Path, ...]
    y: Tensor
    sensitive: Sensitive
    side: int

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Tensor) -> Part:
        """The images of ``rows`` (k,): x (k, 3, side, side) from -1 to 1."""
        chosen = rows.tolist()
        with ThreadPoolExecutor(READERS) as readers:
            images = list(readers.map(lambda k: _read(self.paths[k], self.side), chosen))
        return Part(torch.stack(images), self.y[rows], {name: values[rows.numpy()] for name, values in self.sensitive.items()})

    def chosen(self, rows: npt.NDArray[np.int64]) -> FileImages:
        """The same with these rows alone, nothing read."""
        sensitive = {name: values[rows] for name, values in self.sensitive.items()}
        return FileImages(tuple(self.paths[k] for k in rows), self.y[torch.from_numpy(rows)], sensitive, self.side)


@dataclass(frozen=True, eq=False)
class Faces:
    """Training, validation and held-out images; ``group`` is the attribute that parity is asked between."""

    name: str
    train: FileImages
    validation: FileImages
    held_out: FileImages
    group: str


def celeba(path: Path | None = None, *, target: str = "Smiling", attributes: Sequence[str] = ("Male", "Young"), side: int = 64) -> Faces:
    """CelebA with the publisher's partition. path: the folder with img_align_celeba; None: FAIROPT_DATA/celeba.

    target, attributes: names of columns; a group is a combination of the attributes, so two of them make 4 groups and 6 pairs.
    """
    root = _root("celeba", path, CELEBA_FETCH)
    labels = _celeba_table(root, "list_attr_celeba")
    partition = _celeba_table(root, "list_eval_partition")
    unknown = [name for name in (target, *attributes) if name not in labels[0]]
    if unknown:
        raise InputError(f"celeba: no column {', '.join(unknown)}; there are {', '.join(list(labels[0])[1:])}")
    part_of = {row["image_id"]: row["partition"] for row in partition}
    lost = [row["image_id"] for row in labels if part_of.get(row["image_id"]) not in ("0", "1", "2")]
    if lost:
        raise InputError(f"celeba: list_eval_partition has no 0, 1 or 2 for {len(lost)} images, the first {lost[0]}")
    group = " and ".join(attributes)

    def part(number: str) -> FileImages:
        rows = [row for row in labels if part_of[row["image_id"]] == number]
        groups = [", ".join(name if row[name] == "1" else f"not {name}" for name in attributes) for row in rows]
        paths = [root / "img_align_celeba" / row["image_id"] for row in rows]
        return _images("celeba", paths, [row[target] == "1" for row in rows], {group: groups}, side)

    return Faces("CelebA", part("0"), part("1"), part("2"), group)


def fairface(path: Path | None = None, *, side: int = 64, validation_share: float = 0.1, seed: int = 0) -> Faces:
    """FairFace: is the person 30 or older? Groups: race and gender (7 x 2 in the original, 91 pairs).

    path: the folder with train and val; None: FAIROPT_DATA/fairface. The publisher's val is held out, the validation part drawn from train.
    """
    root = _root("fairface", path, FAIRFACE_FETCH)
    whole = {part: _fairface_part(root, part, side) for part in ("train", "val")}
    if not 0 < validation_share < 1:
        raise InputError(f"validation_share: got {validation_share}, expected a number between 0 and 1")
    order = np.random.default_rng(seed).permutation(len(whole["train"]))
    cut = max(1, round(validation_share * len(order)))
    validation, train = (whole["train"].chosen(np.sort(rows)) for rows in (order[:cut], order[cut:]))
    return Faces("FairFace", train, validation, whole["val"], "race and gender")


def _fairface_part(root: Path, part: str, side: int) -> FileImages:
    file = root / f"fairface_label_{part}.csv"
    rows = _csv("fairface", file, FAIRFACE_FETCH)
    missing = [name for name in ("file", "age", "gender", "race") if name not in rows[0]]
    if missing:
        raise InputError(f"fairface: {file} has no column {', '.join(missing)}; it has {', '.join(rows[0])}")
    strange = sorted({row["age"] for row in rows} - set(AGES))
    if strange:
        raise InputError(f"fairface: {file} has the ages {', '.join(strange)}, expected {', '.join(AGES)}")
    groups = [f"{row['race']}, {row['gender']}" for row in rows]
    paths = [root / row["file"] for row in rows]
    return _images("fairface", paths, [row["age"] not in YOUNG for row in rows], {"race and gender": groups}, side)


def _images(name: str, paths: Sequence[Path], target: Sequence[bool], groups: Mapping[str, Sequence[str]], side: int) -> FileImages:
    if not paths:
        raise InputError(f"{name}: a part has no image")
    lost = [path for path in paths if not path.is_file()]
    if lost:
        raise InputError(f"{name}: {len(lost)} of {len(paths)} images are not there, the first {lost[0]}")
    sensitive: Sensitive = {attribute: np.array(values) for attribute, values in groups.items()}
    return FileImages(tuple(paths), torch.tensor(target, dtype=torch.float32, device="cpu"), sensitive, side)


def _root(name: str, path: Path | None, fetch: str) -> Path:
    given = os.environ.get(VARIABLE)
    root = path or (Path(given) / name if given else None)
    if root is None or not root.is_dir():
        found = "nothing" if root is None else f"{root}, which is no folder"
        raise InputError(f"{name}: got {found}, expected its folder or {VARIABLE}=FOLDER with {name} in it; from {fetch}")
    return root


def _celeba_table(root: Path, stem: str) -> Table:
    """The publisher's .txt (a count and a line of names first, for the attributes; neither for the partition) or the .csv edition."""
    file = root / f"{stem}.txt"
    if not file.is_file():
        return _csv("celeba", root / f"{stem}.csv", CELEBA_FETCH)
    lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    names = ["image_id", "partition"]
    if stem == "list_attr_celeba":
        names, lines = ["image_id", *(lines[1] if len(lines) > 1 else [])], lines[2:]
    if not lines or any(len(line) != len(names) for line in lines):
        raise InputError(f"celeba: {file} is not in the publisher's layout: lines of {len(names)} words after the names")
    return [dict(zip(names, line, strict=True)) for line in lines]


def _csv(name: str, file: Path, fetch: str) -> Table:
    if not file.is_file():
        raise InputError(f"{name}: no {file}; from {fetch}")
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    if not rows:
        raise InputError(f"{name}: {file} has no rows")
    return rows


def _read(path: Path, side: int) -> Tensor:
    """(3, side, side): the middle square of the image, resized, from -1 to 1."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise MissingExtraError("images need Pillow: pip install pillow") from error
    with Image.open(path) as opened:
        square = ImageOps.fit(opened.convert("RGB"), (side, side))
    values = torch.from_numpy(np.asarray(square, dtype=np.float32) / 127.5 - 1)  # (side, side, 3)
    return values.permute(2, 0, 1).contiguous()
