"""Request keys: what names a step, so that a retry of it is known and counts nothing.

A key is a string or a whole number. A step has one key for the whole of it, or one a sample. Each key is remembered with a digest of the
request: another request under a known key is an error, and so is a step of which some keys are known and others are not.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

from fairopt.basics.columns import is_one
from fairopt.basics.errors import InputError
from fairopt.streaming.reading import features_of, read_keys, read_scores, read_targets

_ONE = struct.Struct("=d")


class Request(NamedTuple):
    """keys: as given; names: as JSON, in which 1 and "1" differ; each: whether there is one key a sample (else one for the step)."""

    keys: list[str | int]
    names: list[str]
    each: bool


def read_request(key: Any, samples: Callable[[], int]) -> Request:
    """The keys of a step of ``samples()`` scores. A list, a tuple or an array has one key a sample. Raises InputError."""
    if type(key) is str:
        return Request([key], [encode_basestring_ascii(key)], False)
    each = not is_one(key)
    keys = read_keys(key, samples() if each else 1)
    try:
        return Request(keys, [json.dumps(k) for k in keys], each)
    except ValueError as error:  # Python writes no number of more than 4,300 digits
        raise InputError(f"key: expected strings or whole numbers of a usual size ({error})") from error


def digest_of(scores: Any, features: Any, targets: Any, columns: Sequence[str], request: Request, pos_label: Any = None) -> bytes:
    """16 bytes that tell two requests apart: the numbers, the groups of the columns that count, the targets, the keys and their order."""
    if type(scores) is float and targets is None and len(columns) == 1 and type(features) in (str, int):  # what comes most, and as below
        return hashlib.blake2b(
            _ONE.pack(scores) + f"(1, [[{features!r}]], 0, ())".encode("utf-8", "surrogatepass"), digest_size=16
        ).digest()
    if type(scores) is float:
        numbers, n = _ONE.pack(scores), 1
    else:
        z = read_scores(scores).z
        numbers, n = z.tobytes(), len(z)
    found = features_of(features, columns, n)
    groups = [found[name] for name in columns]
    late = b"" if targets is None else read_targets(targets, n, pos_label).tobytes()
    names = request.names if request.each and n > 1 else ()
    rest = repr((n, groups, len(late), names)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(b"".join((numbers, late, rest)), digest_size=16).digest()
