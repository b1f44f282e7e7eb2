"""What was audited and with what: a hash of the data, and versions. No path, no host, no user."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from fairopt.auditing.sample import Sample, is_continuous
from fairopt.basics.arrays import Array
from fairopt.notions.groups import encode

PACKAGES = ("fairopt", "torch", "numpy", "scipy")


def data_hash(sample: Sample) -> str:
    """sha256 of scores, decisions, targets and sensitive features in a canonical form, the same for any container they came in.

    Numbers are little-endian float64 in the order of the samples, -0 as 0; an attribute is the JSON list of its sorted values and the
    int64 codes of the samples (a continuous one its numbers); every part is preceded by its name and length.
    """
    digest = hashlib.sha256()

    def add(name: str, data: bytes) -> None:
        digest.update(f"{name} {len(data)}\n".encode() + data)

    add("scores", _bytes(sample.scores))
    add("decisions", _bytes(sample.decisions))
    add("targets", b"" if sample.targets is None else _bytes(sample.targets))
    for name in sorted(sample.features, key=str):
        column = sample.features[name]
        add("attribute", str(name).encode())
        if is_continuous(column):
            add("numbers", _bytes(sample.batch.numbers(name).numpy()))
            continue
        codes, vocabulary = encode(column, name=name, missing=sample.missing)  # the values that occur, declared or not
        add("values", json.dumps(vocabulary.to_list()).encode())
        add("codes", np.ascontiguousarray(codes, dtype="<i8").tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Package -> version of those that take part in an audit."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _bytes(values: Array) -> bytes:
    return np.ascontiguousarray(values + 0.0, dtype="<f8").tobytes()  # -0.0 + 0.0 is 0.0
