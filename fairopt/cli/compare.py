"""``fairopt compare``: race the backends, with a progress bar, a table, pictures and a report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fairopt.basics.errors import InputError
from fairopt.basics.table import Table
from fairopt.basics.words import notion_word
from fairopt.cli.options import folder, need, positive
from fairopt.cli.show import console, progress, rich_table, say
from fairopt.contract import Backend
from fairopt.contract.registry import backend_named
from fairopt.race import PRESETS, Race
from fairopt.race import Progress as Now
from fairopt.race import compare as race_of
from fairopt.race.cells import PACE, Grid
from fairopt.race.contest import named
from fairopt.race.rows import PROBLEM, problem_words
from fairopt.race.settings import Settings

# More cells than this are left to the files: the terminal gets the failures alone.
TABLE = 120


def compare(
    preset: Annotated[
        str | None, typer.Option(help=f"{' or '.join(PRESETS)}, in place of the grid below; quick if no grid is given.")
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="A backend's name, or module:Class, your own; repeat for several. All that are installed by default."),
    ] = None,
    notion: Annotated[list[str] | None, typer.Option(help="demographic_parity, equalized_odds, ...; repeat for several.")] = None,
    n: Annotated[list[int] | None, typer.Option("--n", help="Samples; repeat for several.")] = None,
    groups: Annotated[list[int] | None, typer.Option(help="Groups; repeat for several.")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="float64 or float32; repeat for both.")] = None,
    box: Annotated[list[str] | None, typer.Option(help="none, inactive or active; repeat for several.")] = None,
    gradient: Annotated[list[str] | None, typer.Option(help="implicit or native; repeat for both.")] = None,
    distance: Annotated[list[str] | None, typer.Option(help="squared or kl; repeat for both.")] = None,
    classes: Annotated[list[int] | None, typer.Option(help="1: one score a sample; more: class probabilities; repeat for several.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the table, the pictures, the report and the finished cells.")] = Path(
        "fairopt-race"
    ),
    form: Annotated[str, typer.Option(help="parquet or csv.")] = "parquet",
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds after which a cell is given up; 20 for quick and kinds, else 60.")
    ] = None,
    memory_limit: Annotated[float, typer.Option(help="GB beyond the state after import.")] = 4.0,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls a cell, at most.")] = 25,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the drawn problems.")] = 0,
) -> None:
    """Race solver backends: time, memory, exact violation, distance to the optimum, gradient error. Ctrl-C loses no finished cell."""
    start = time.perf_counter()
    words = None if notion is None else [notion_word(name) for name in notion]
    lists = {"notions": words, "n": n, "groups": groups, "dtypes": dtype, "boxes": box, "gradients": gradient}
    lists |= {"distances": distance, "classes": classes}
    grid = {name: values for name, values in lists.items() if values}
    if form not in ("parquet", "csv"):
        raise InputError(f"--form: got {form!r}, expected parquet or csv")
    if preset is not None and grid:
        raise InputError(f"--preset: expected no {', '.join(grid)} beside it")
    if preset is None and not grid:
        preset = "quick"
    if preset not in PACE:
        raise InputError(f"--preset: got {preset!r}, expected {' or '.join(PRESETS)}")
    backends = None if backend is None else [backend_named(words) for words in backend]
    named(backends)
    Grid(**{name: tuple(values) for name, values in grid.items()})  # type: ignore[arg-type]
    needed = {"pandas": "pandas", "matplotlib": "matplotlib", "jinja2": "Jinja2"}
    need(needed | ({"pyarrow": "pyarrow"} if form == "parquet" else {}), "a race", "race")
    seconds, limit = PACE[preset]
    limit = limit if time_limit is None else time_limit
    settings = Settings(
        repeats=repeats, seconds=seconds, time_limit=limit, memory_limit=int(positive(memory_limit, "memory-limit") * 1e9), seed=seed
    )
    finished = folder(output, "output") / "finished.jsonl"
    screen = console()
    try:
        race = _watch(screen, preset, backends, grid, finished, settings)
    except KeyboardInterrupt:
        say(screen, f"stopped; every finished cell is in {finished}: the same command goes on from there")
        raise typer.Exit(130) from None
    written = race.save(output, form=form)  # before anything that the terminal could refuse
    _show(screen, race)
    for path in written:
        say(screen, str(path))
    say(screen, f"{time.perf_counter() - start:.1f} s")


def _watch(
    screen: Console,
    preset: str | None,
    backends: list[str | type[Backend]] | None,
    grid: dict[str, list[str] | list[int]],
    finished: Path,
    settings: Settings,
) -> Race:
    with progress(console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting", total=None)

        def show(now: Now) -> None:
            bars.update(task, description=now.backend, completed=now.done, total=now.total)

        return race_of(backends, preset=preset, finished=finished, settings=settings, on_progress=show, **grid)  # type: ignore[arg-type]


def by_problem(shown: Table) -> list[Table]:
    """One table a problem, with the problem in its title: the columns that are left fit a terminal."""
    columns = tuple(c for c in shown.columns if c not in PROBLEM)
    found: dict[str, list[dict[str, object]]] = {}
    for row in shown:
        found.setdefault(problem_words(row, n=True), []).append(row)
    return [
        Table.from_records([c.replace("_", "\n") for c in columns], [{c.replace("_", "\n"): r[c] for c in columns} for r in rows], title)
        for title, rows in found.items()
    ]


def _show(screen: Console, race: Race) -> None:
    shown = race.shown()
    if len(shown) <= TABLE:
        for table in by_problem(shown):
            screen.print(rich_table(table))
    else:
        say(screen, f"{len(shown)} cells: the table is in the report")
    for row in race.failures():
        say(screen, f"{row['backend']}: {row['what']} ({row['cells']} cells): {row['message']}")
