"""What was audited and with what: a hash of the data, and versions. No path, no host, no user."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from itertools import chain

import numpy as np

from fairopt.auditing.sample import Sample, is_continuous
from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.columns import Value
from fairopt.notions.groups import encode

PACKAGES = ("fairopt", "torch", "numpy", "scipy")


def data_hash(sample: Sample) -> str:
    """sha256 of scores, decisions, targets and sensitive features in a canonical form, the same for any container they came in.

    Numbers are little-endian float64 in the order of the samples, -0 as 0; an attribute is the JSON list of its sorted values and the
    int64 codes of the samples (a continuous one its numbers); every part is preceded by its name and length.
    """
    parts: list[Part] = [("scores", [sample.scores]), ("decisions", [sample.decisions])]
    parts.append(("targets", [] if sample.targets is None else [sample.targets]))
    for name in sorted(sample.features, key=str):
        column = sample.features[name]
        if is_continuous(column):
            parts += [("attribute", str(name).encode()), ("numbers", [sample.batch.numbers(name).numpy()])]
            continue
        codes, vocabulary = encode(column, name=name, missing=sample.missing)  # the values that occur, declared or not
        parts += groups_of(str(name), vocabulary.to_list(), [codes])
    return hash_of(sample.n, parts)


Part = tuple[str, bytes | Iterable[Array | IntArray]]  # of a hash: its name, and its bytes or the numbers of all samples, in pieces


def groups_of(name: str, values: list[Value], codes: Iterable[IntArray]) -> list[Part]:
    """The parts of an attribute: its values, sorted, and the samples' places among them."""
    return [("attribute", name.encode()), ("values", json.dumps(values).encode()), ("codes", codes)]


def hash_of(n: int, parts: Iterable[Part]) -> str:
    """sha256 of the parts of n samples, in the form that ``data_hash`` describes."""
    digest = hashlib.sha256()
    for name, data in parts:
        if isinstance(data, bytes):
            digest.update(f"{name} {len(data)}\n".encode() + data)
            continue
        pieces = iter(data)
        first = next(pieces, None)
        digest.update(f"{name} {0 if first is None else 8 * n}\n".encode())
        for piece in [] if first is None else chain([first], pieces):
            digest.update(_bytes(piece))
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


def _bytes(values: Array | IntArray) -> bytes:
    if values.dtype.kind == "i":
        return np.ascontiguousarray(values, dtype="<i8").tobytes()
    return np.ascontiguousarray(values + 0.0, dtype="<f8").tobytes()  # -0.0 + 0.0 is 0.0
