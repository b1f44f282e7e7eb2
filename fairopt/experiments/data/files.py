"""Files of data sets: found by an argument or by ``FAIROPT_DATA``, held to a checksum, and named with the call that fetches the original.

No data file is part of the project. A file may lie as it is or packed with gzip; the checksum is that of the unpacked bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing

VARIABLE = "FAIROPT_DATA"
PACKED = ".gz"
GZIP = b"\x1f\x8b"  # the first two bytes of a packed file


@dataclass(frozen=True)
class Source:
    """One file of a data set.

    folder, file  where it lies below ``FAIROPT_DATA``; ``file`` without ".gz"
    sha256        of the unpacked bytes; several where a publisher's file and an edited one are both known
    fetch         the command that fetches the public original
    """

    folder: str
    file: str
    sha256: tuple[str, ...]
    fetch: str


def read(source: Source, path: Path | None = None) -> bytes:
    """The unpacked bytes of ``source``, held to its checksum.

    path  the file itself, the folder it lies in, or a folder laid out as ``FAIROPT_DATA``; None: ``FAIROPT_DATA`` itself

    InputError where there is no such file or where it is another one than the known one.
    """
    content = unchecked(source, path)
    check(source, hashlib.sha256(content).hexdigest(), path)
    return content


def unchecked(source: Source, path: Path | None = None) -> bytes:
    """As ``read``, for a file whose bytes may differ where its rows are the same; the caller holds the rows to a checksum."""
    place = find(source, path)
    content = place.read_bytes()
    if content[:2] != GZIP:
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{source.folder}: {place} is a damaged gzip file") from error


def check(source: Source, found: str, path: Path | None = None) -> None:
    """InputError where ``found`` is none of the checksums."""
    if found not in source.sha256:
        place = find(source, path)
        raise InputError(f"{source.folder}: {place} has sha256 {found}, expected {' or '.join(source.sha256)}; {how_to_fetch(source)}")


def find(source: Source, path: Path | None = None) -> Path:
    """Where the file lies; see ``read``."""
    root = os.environ.get(VARIABLE) if path is None else path
    if not root:
        raise InputError(f"{source.folder}: expected the path of {source.file} or {VARIABLE}=FOLDER; {how_to_fetch(source)}")
    root = Path(root)
    if root.is_file():
        return root
    names = (source.file, source.file + PACKED)
    places = [folder / name for folder in (root / source.folder, root) for name in names]
    for place in places:
        if place.is_file():
            return place
    given = f"{VARIABLE}={root}" if path is None else str(root)
    raise InputError(f"{source.folder}: no {source.file} (or .gz) in {given} or its folder {source.folder}; {how_to_fetch(source)}")


def present(source: Source, path: Path | None = None) -> bool:
    """Whether the file lies where ``read`` would look for it."""
    try:
        find(source, path)
    except InputError:
        return False
    return True


def how_to_fetch(source: Source) -> str:
    return f"fetch it with:\n  {source.fetch}\nand put it into FOLDER/{source.folder}, where {VARIABLE}=FOLDER"


def pandas() -> Any:
    """The package, or a MissingExtraError that says what installs it."""
    try:
        import pandas as pd
    except ImportError as error:
        raise missing("the data sets need pandas", "experiments") from error
    return pd
