"""Which files an input is, and where the output of each is written."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from fairopt.basics.errors import InputError
from fairopt.basics.files.opened import PARQUET

SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".gz", ".parquet", ".pq")
_PARQUET = (".parquet", ".pq")
_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Shard:
    """One file of the input. name: its path inside the input, with '/'; parquet: whether it is one, else it is a table of text;
    path_columns: names and values of its folders, where these are called NAME=VALUE."""

    path: Path
    name: str
    parquet: bool
    path_columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Places:
    """shards in the order of their names; outputs (as many); root: what is written beside them; single: input and output are one file.

    work: the hidden folder of a run that is under way; certificate: where that is written.
    """

    shards: tuple[Shard, ...]
    outputs: tuple[Path, ...]
    output: Path
    single: bool
    work: Path
    certificate: Path


def find(given: str, output: str | Path, certificate: str | Path | None = None) -> Places:
    """The files of ``given``, a file, a folder or a pattern, and their outputs. InputError where there is none, or one cannot be told."""
    shards, single = shards_of(given)
    out = Path(output)
    if str(output) in ("", "-"):
        raise InputError("output: got '-', expected a file or a folder: the data are read more than once and written shard by shard")
    single = single and not out.is_dir()
    if single:
        shards = (shards[0],)
        if not out.parent.is_dir():
            raise InputError(f"output: {out} cannot be written: its folder is not there")
        if (out.suffix.lower() in _PARQUET) is not shards[0].parquet and out.suffix.lower() in SUFFIXES:
            kind = "Parquet" if shards[0].parquet else "a table of text"
            raise InputError(f"output: {out} ends in {out.suffix}, but the input is {kind}, and the output is written as the input is")
        outputs: tuple[Path, ...] = (out,)
        work = out.with_name(f".{out.name}.fairopt")
        default = out.with_name(f"{out.name}.certificate.json")
    else:
        if out.exists() and not out.is_dir():
            raise InputError(f"output: {out} is a file, expected a folder: the input has {len(shards)} file{'s'[: len(shards) != 1]}")
        outputs, work = tuple(out / shard.name for shard in shards), out / ".fairopt"
        default = out / "_certificate.json"
    places = Places(shards, outputs, out, single, work, default if certificate is None else Path(certificate))
    _apart(places)
    return places


def _apart(places: Places) -> None:
    """Nothing that is read is written: by whatever names or links."""
    read = {os.path.realpath(shard.path): shard for shard in places.shards}
    for path in (*places.outputs, places.certificate):
        shard = read.get(os.path.realpath(path))
        if shard is not None or any(path.exists() and os.path.samefile(path, s.path) for s in places.shards if path.exists()):
            raise InputError(f"output: {path} is a file of the input; give the output a place of its own")
    roots = {os.path.realpath(shard.path.parent) for shard in places.shards}
    out = os.path.realpath(places.output)
    if not places.single and any(out == root or out.startswith(root + os.sep) for root in roots):
        raise InputError(f"output: {places.output} lies in a folder of the input; the next run would read it; give a folder beside it")
    if os.path.realpath(places.certificate) in {os.path.realpath(path) for path in places.outputs}:
        raise InputError(f"certificate: {places.certificate} is an output as well; give each a file of its own")


def shards_of(given: str) -> tuple[tuple[Shard, ...], bool]:
    """The files of ``given`` in the order of their names, and whether it is one file by its name. InputError where there is none."""
    if given == "-":
        raise InputError("input: got '-' (standard input), expected a path: the data are read more than once")
    path = Path(given)
    if path.is_dir():
        return _of_folder(path), False
    if path.exists():
        return (Shard(path, path.name, _is_parquet(path)),), True
    if not glob.has_magic(given):
        raise InputError(f"{given}: there is no such file or folder")
    found = sorted(Path(p) for p in glob.glob(given, recursive=True) if Path(p).is_file())
    if not found:
        raise InputError(f"{given}: no file fits this pattern")
    root = Path(os.path.commonpath([p.parent for p in found]))
    return _checked(given, found, root), False


def _of_folder(root: Path) -> tuple[Shard, ...]:
    found: list[Path] = []
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "_")))
        found += [Path(folder) / f for f in files if not f.startswith((".", "_"))]
    other = sorted(str(p.relative_to(root)) for p in found if p.suffix.lower() not in SUFFIXES)
    if other:
        raise InputError(f"{root}: holds {other[0]}, which is no table by its name ({', '.join(SUFFIXES)}); give a pattern of those meant")
    if not found:
        raise InputError(f"{root}: no table in this folder")
    return _checked(str(root), found, root)


def _checked(given: str, found: list[Path], root: Path) -> tuple[Shard, ...]:
    names = [p.relative_to(root).as_posix() for p in found]
    shards = [Shard(p, name, _is_parquet(p), _path_columns(name)) for p, name in zip(found, names, strict=True)]
    kinds = {shard.parquet: shard.name for shard in shards}
    if len(kinds) > 1:
        raise InputError(f"{given}: {kinds[True]} is Parquet and {kinds[False]} is not; a data set has one kind of file")
    return tuple(sorted(shards, key=lambda shard: shard.name))


def _path_columns(name: str) -> tuple[tuple[str, str], ...]:
    """('race', 'a') of race=a/part-0.parquet, as Hive and Spark write it. InputError for a name that stands twice."""
    pairs = [part.split("=", 1) for part in name.split("/")[:-1] if "=" in part.strip("=")]
    read = tuple((unquote(key), "" if value == _NULL else unquote(value)) for key, value in pairs)
    if len({key for key, _ in read}) < len(read):
        raise InputError(f"{name}: the names of its folders name a column twice")
    return read


def _is_parquet(path: Path) -> bool:
    if path.suffix.lower() in _PARQUET:
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(PARQUET)) == PARQUET
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
