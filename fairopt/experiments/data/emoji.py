"""850 small drawings of people with gender and skin tone: an openly licensed stand-in for face images. No real persons.

Source: Twemoji graphics (Copyright Twitter, Inc and other contributors, CC BY 4.0) from the npm package emoji-datasource-twitter 16.0.0,
category "People & Body", entries that exist for a gender and in five skin tones; resized to 32 x 32 RGB on white.

Each drawing is there in all five tones, so the set is balanced and every gap of base rates is 0. ``induced`` leaves rows out until the
groups have the rates that are asked for. The tones of a drawing are near copies, and so are a woman and a man who do the same, and a mirror
image: a split goes by ``drawing``, which all of these share.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fairopt.basics.errors import InputError
from fairopt.experiments.data.files import Source, read
from fairopt.experiments.data.identity import identity
from fairopt.experiments.data.tabular import Dataset, Indices, Part, Parts

FETCH = (
    "npm pack emoji-datasource-twitter@16.0.0   # then emoji.json and img/twitter/64 of it, resized to 32 x 32 on white and packed as npz: "
    "images, gender, skin_tone, subcategory, short_name"
)
SOURCE = Source("emoji_people32", "emoji_people32.npz", ("ef71092ed2d61600fc5b875d1c63a26ee8b0de7fe0c4bdc7521e5d8561c9c317",), FETCH)
SIDE = 32
PIXELS = 3 * SIDE * SIDE
GENDERS = ("man", "woman")
TONES = ("tone 1", "tone 2", "tone 3", "tone 4", "tone 5")  # from the lightest to the darkest
TARGETS = ("woman", "role")
ROLE = "person-role"
_SEX = re.compile(r"(?:^|[-_ ])(?:wo)?man(?=$|[-_ ])|(?:^|[-_ ])(?:fe)?male(?=$|[-_ ])")


def load(path: Path | None = None, *, target: str = "woman") -> Dataset:
    """features (850, 3072) in [0, 1]: channel, row, column of the pixel; target "woman" or "role" (a profession), 0 or 1.

    sensitive: "tone" (5), "gender" (2), "gender and tone" (10), "drawing" (what a split goes by).
    """
    if target not in TARGETS:
        raise InputError(f"target: got {target!r}, expected one of {', '.join(TARGETS)}")
    with np.load(io.BytesIO(read(SOURCE, path)), allow_pickle=False) as packed:
        images, gender, tone = packed["images"], packed["gender"], packed["skin_tone"]
        roles, names = packed["subcategory"] == ROLE, packed["short_name"]
    genders, tones = np.array(GENDERS)[gender], np.array(TONES)[tone]
    return Dataset(
        name=f"emoji, {target}",
        features=images.transpose(0, 3, 1, 2).reshape(len(images), PIXELS) / 255.0,
        names=tuple(f"{channel}{k}" for channel in "rgb" for k in range(SIDE * SIDE)),
        target=(gender == 1 if target == "woman" else roles).astype(np.float64),
        sensitive={
            "tone": tones,
            "gender": genders,
            "gender and tone": np.char.add(np.char.add(genders, ", "), tones),
            "drawing": np.array([drawing(name) for name in names]),
        },
    )


def drawing(short_name: str) -> str:
    """What a man, a woman and a mirror image of the same have in common: "woman_walking_facing_right" -> "walking"."""
    left = _SEX.sub("", short_name.removesuffix("_facing_right")).strip("-_ ")
    return left or "person"


def induced(data: Dataset, attribute: str, rates: Mapping[str, float], seed: int) -> Dataset:
    """As many rows as possible such that a share ``rates[g]`` of each group g has target 1; which ones go is drawn from ``seed``."""
    group = data.sensitive[attribute]
    if set(np.unique(group)) != rates.keys() or not all(0 < rate < 1 for rate in rates.values()):
        raise InputError(f"rates: got {dict(rates)}, expected a number between 0 and 1 for each of {np.unique(group).tolist()}")
    draw = np.random.default_rng(seed)
    kept: list[Indices] = []
    for name, rate in rates.items():
        ones, zeros = (np.flatnonzero((group == name) & (data.target == value)) for value in (1, 0))
        size = min(len(ones) / rate, len(zeros) / (1 - rate))
        kept += [draw.permutation(ones)[: round(size * rate)], draw.permutation(zeros)[: round(size * (1 - rate))]]
    return replace(data.take(np.sort(np.concatenate(kept))), name=f"{data.name}, induced rates")


def split(data: Dataset, seed: int, shares: tuple[float, float, float] = (0.5, 0.2, 0.3)) -> Parts:
    """Training, validation and held-out part: a drawing lies in one of them with all that is kept of it. x (n, 3072) from -0.5 to 0.5."""
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise InputError(f"shares: got {shares}, expected three positive numbers that sum to 1")
    names = np.random.default_rng(seed).permutation(np.unique(data.sensitive["drawing"]))
    cuts = np.round(np.cumsum(shares)[:2] * len(names)).astype(int)
    encoder = identity(data.names, mean=0.5)

    def part(chosen: npt.NDArray[np.str_]) -> Part:
        rows = np.flatnonzero(np.isin(data.sensitive["drawing"], chosen))
        sensitive = {name: values[rows] for name, values in data.sensitive.items()}
        return Part(encoder.encode(data.features[rows]), torch.from_numpy(data.target[rows]).float(), sensitive)

    train, validation, held_out = (part(chosen) for chosen in np.split(names, cuts))
    return Parts(train, validation, held_out, encoder, data.name, data.task)
