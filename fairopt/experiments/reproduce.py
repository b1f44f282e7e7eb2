"""The frame of ``fairopt reproduce NAME``: which experiments there are, what each is given, and what it gives back.

The contract. ``REGISTRY`` names a function of a module that is imported when its experiment is asked for:

    def run(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
        seeds = settings.seeds_or(range(5))
        store.hold({"recipe": asdict(RECIPE), "tolerances": TOLERANCES})          # what all cells have in common
        for done, seed in enumerate(seeds):
            record = store.cell({"seed": seed}, lambda: work(seed))               # finished cells cost nothing
            on_progress(Progress("plain network", done + 1, len(seeds)))
        return Result(settings.name, "Title", "What was run, in a sentence or two.", (Section("...", table, verdicts=(...)),))

Verdicts are sentences computed from the figures; a method that is ahead of a trivial reference in nothing says so. The paper's figures
stand beside ours in ``Section.paper``. A picture is a function that writes a PNG.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from fairopt.basics.errors import InputError
from fairopt.basics.table import Table
from fairopt.experiments.store import Store

# name -> module:function
REGISTRY = {
    "employee": "fairopt.experiments.studies.employee:run",
    "sba": "fairopt.experiments.studies.sba:run",
    "synthetic": "fairopt.experiments.studies.synthetic:run",
    "loanapp": "fairopt.experiments.studies.loanapp:run",
    "communities": "fairopt.experiments.studies.communities:run",
    "law": "fairopt.experiments.studies.law:run",
    "emoji": "fairopt.experiments.studies.emoji:run",
    "celeba": "fairopt.experiments.studies.faces:run",  # these two where their images are given
    "fairface": "fairopt.experiments.studies.faces:run",
    "dev": "fairopt.experiments.evidence.study:run",  # the protocol: sets to develop on, sets that are looked at once
    "final": "fairopt.experiments.evidence.study:run",
    "inside": "fairopt.experiments.studies.inside:run",  # the four studies of the protocol
    "streams": "fairopt.experiments.studies.controllers:run",
    "streams-final": "fairopt.experiments.studies.controllers:run",
    "cost": "fairopt.experiments.studies.cost:run",
    "cost-final": "fairopt.experiments.studies.cost:run",
    "classes": "fairopt.experiments.studies.class_study:run",
    "classes-final": "fairopt.experiments.studies.class_study:run",
}


# The columns of finished cells beside a page, each a line of JSON.
FINISHED = ("cell", "record")
# What is run under docs/experiments/PROTOCOL.md. The pages of the others say that they are not.
UNDER_PROTOCOL = ("dev", "final", "inside", "streams", "streams-final", "cost", "cost-final", "classes", "classes-final")
OLDER = (
    "**Made under the older protocol** (before [PROTOCOL](PROTOCOL.md)): ± is the standard error over seeds or folds, which share rows, "
    "and no comparison is corrected for their number. Read no win off this page."
)


@dataclass(frozen=True)
class Settings:
    """What the command line says.

    name   the experiment's name in ``REGISTRY``
    data   a file or a folder of data; None: FAIROPT_DATA (see ``fairopt.experiments.data.files``)
    seeds  None: the experiment's own
    quick  a few cells, to see that everything runs
    jobs   processes, for the experiments that are cut into jobs
    """

    name: str
    data: Path | None = None
    seeds: tuple[int, ...] | None = None
    quick: bool = False
    jobs: int = 2

    def seeds_or(self, own: Iterable[int]) -> tuple[int, ...]:
        """The seeds that were asked for, else ``own``, of which quick takes the first."""
        if self.seeds is not None:
            return self.seeds
        found = tuple(own)
        return found[:1] if self.quick else found


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` pieces of work under ``label``; each label has a bar of its own."""

    label: str
    done: int
    total: int


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Section:
    """One table of an experiment.

    rows      one row a method and setting; every column a plain value. A column "x ±" right after a column "x" is its standard error
    paper     the paper's figures for the same; None where it has none
    verdicts  what the figures say, in words, computed from them; outside the protocol no win
    picture   writes a PNG to a path; None: no picture
    """

    title: str
    rows: Table
    paper: Table | None = None
    verdicts: tuple[str, ...] = ()
    picture: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Result:
    """What an experiment gives back.

    text   what was run (data, split, notion, seeds), in a few sentences
    cells  one line a cell, stored beside the page so that single cells can be made again; None: the finished cells as they are
    """

    name: str
    title: str
    text: str
    sections: tuple[Section, ...]
    cells: Table | None = None


Run = Callable[[Settings, Store, OnProgress], Result]


def experiment(name: str) -> Run:
    """The function that runs ``name``."""
    return cast(Run, getattr(module_of(name), REGISTRY[name].split(":")[1]))


def module_of(name: str) -> Any:
    """The module that runs ``name``. Where its cells are its own table, ``remade(line, data)`` makes the figures of one line again."""
    if name not in REGISTRY:
        raise InputError(f"experiment: got {name!r}, expected one of {', '.join(REGISTRY)}")
    return import_module(REGISTRY[name].split(":")[0])


def stem_of(settings: Settings) -> str:
    """The name of tables and pictures: a quick run, or one of other seeds, never has that of the full one."""
    seeds = "" if settings.seeds is None else f"-{len(settings.seeds)}-seeds"
    return f"{settings.name}{'-quick' if settings.quick else ''}{seeds}"


def cells_of(settings: Settings, folder: Path) -> Path:
    """The file of finished cells: quick runs have their own; runs that differ in their seeds share one."""
    return folder / f"{settings.name}{'-quick' if settings.quick else ''}.jsonl"


def reproduce(settings: Settings, cells: Path | None = None, *, fresh: bool = False, on_progress: OnProgress = lambda _: None) -> Result:
    """Run an experiment from Python. ``cells``: the file of finished cells; None: nothing is kept."""
    run = experiment(settings.name)
    with Store(cells, settings.name, fresh=fresh) as store:
        result = run(settings, store, on_progress)
        if result.cells is None:
            result = replace(result, cells=Table(FINISHED, tuple(store.asked())))
        if settings.name not in UNDER_PROTOCOL:
            result = replace(result, text=f"{OLDER}\n\n{result.text}")
        if not store.stale:
            return result
        return replace(
            result, text=f"{result.text}\n\n{store.stale} of the cells were made by other code than this (stale; --fresh makes them anew)."
        )
