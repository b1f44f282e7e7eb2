"""``fairopt verify``: the claims that apply to a backend or a notion, measured on it."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer

from fairopt.basics.files import check_places
from fairopt.basics.table import Table
from fairopt.cli.show import STDOUT, console, progress, rich_table, say, write_json
from fairopt.contract.registry import backend_named, resolve
from fairopt.notions.named import notion_named
from fairopt.testing.claims import CHECKS, Outcome, applying, verify_apart

USUAL: dict[str, Any] = {"tolerance": 0.05, "ratio": 0.8, "lower": 0.3, "upper": 0.6}  # the numbers of a notion that is given by its name


def verify(
    backend: Annotated[
        str,
        typer.Option(help="A name that `fairopt backends` lists, qpsolvers:clarabel for one of its solvers, or module:Class, your own."),
    ] = "auto",
    notion: Annotated[
        str, typer.Option(help="A notion's name with usual arguments, or module:object, a notion of your own. Default: drawn problems.")
    ] = "",
    claims: Annotated[str, typer.Option(help=f"Some of {', '.join(CHECKS)}, separated by commas. Default: all that apply.")] = "",
    instances: Annotated[int, typer.Option(min=1, help="Random and adversarial instances a claim.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="An instance is rebuilt from claim, seed and number.")] = 0,
    json: Annotated[Path | None, typer.Option(help="The table, on standard output, or to a file with its name behind.")] = None,
) -> None:
    """Measure the claims on a backend or a notion; exit code 1 if one does not hold."""
    check_places({}, {"json": json})
    screen = console(stderr=json == STDOUT)
    made = notion_named(notion, "a", **USUAL) if notion else None
    chosen = backend_named(backend)
    if chosen != "auto":
        resolve(chosen)  # an unknown name, or an absent extra, is an error before anything runs
    wanted = [c.strip().upper() for c in claims.split(",") if c.strip()]
    total = len(applying(wanted, made is not None))
    outcomes: list[Outcome] = []
    with progress(screen, transient=True) as bars:
        task = bars.add_task("claims", total=total)
        for outcome in verify_apart(chosen, made, claims=wanted, instances=instances, seed=seed):
            outcomes.append(outcome)
            bars.update(task, description=f"{outcome.claim}: {outcome.says}", advance=1)
    if json is not None:
        write_json(_records(outcomes, seed), json)
    screen.print(rich_table(_table(outcomes, backend, notion, seed)))
    for o in outcomes:
        if not o.holds and o.worst is not None:
            say(screen, f"{o.claim}: instance {o.number}, seed {seed}: {o.worst.note}")
    if not all(o.holds for o in outcomes):
        raise typer.Exit(1)


def _table(outcomes: list[Outcome], backend: str, notion: str, seed: int) -> Table:
    rows = [(o.claim, o.says, o.instances, None if o.worst is None else o.worst.ratio, _verdict(o)) for o in outcomes]
    title = f"backend {backend}, {notion or 'drawn problems'}, seed {seed}"
    return Table(("claim", "says", "instances", "worst measured / bound", "verdict"), tuple(rows), title)


def _verdict(o: Outcome) -> str:
    return "fails" if not o.holds else o.skipped or "holds"


def _records(outcomes: list[Outcome], seed: int) -> list[dict[str, Any]]:
    """The table as plain values; the worst ratio is None where nothing was measured or it is no number."""
    return [
        {
            "claim": o.claim, "says": o.says, "instances": o.instances, "seed": seed, "number": o.number, "verdict": _verdict(o),
            "worst": None if o.worst is None or not isfinite(o.worst.ratio) else o.worst.ratio,
        }
        for o in outcomes
    ]  # fmt: skip
