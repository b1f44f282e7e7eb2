"""Where a command reads and writes: no file twice, by whatever names or links."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from fairopt.basics.errors import InputError


def check_places(
    reads: Mapping[str, str | Path | None], writes: Mapping[str, str | Path | None], own: Mapping[str, str | Path] | None = None
) -> None:
    """No file is read and written, and none written twice. Called before anything is opened for writing.

    reads, writes: option -> path; None and '-' stand for no file. own: paths that are taken without being written as a whole. InputError
    names both options, or a folder that is not there.
    """
    every = {**reads, **(own or {}), **writes}
    listed = [(option, Path(path)) for option, path in every.items() if path is not None and str(path) != "-"]
    for k, (option, path) in enumerate(listed):
        for other, before in listed[:k]:
            if _same(path, before):
                raise InputError(f"{option}: {path} is the same file as {other} ({before}); give each a file of its own")
        if option in writes and not path.parent.is_dir():
            raise InputError(f"{option}: {path} cannot be written: its folder is not there")
        if option in writes and path.is_dir():
            raise InputError(f"{option}: {path} is a folder, expected the name of a file")
        if option in writes and not os.access(path if path.exists() else path.parent, os.W_OK):
            raise InputError(f"{option}: {path} cannot be written: {'the file' if path.exists() else 'its folder'} is read-only")


def _same(a: Path, b: Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:
        return os.path.realpath(a) == os.path.realpath(b)
