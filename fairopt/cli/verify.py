"""``fairopt verify``: the claims that apply to a backend or a notion, measured on it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fairopt.cli.show import console
from fairopt.contract.registry import resolve
from fairopt.notions.named import notion_named
from fairopt.testing.claims import CHECKS, Outcome, applying, verify_apart

USUAL: dict[str, Any] = {"tolerance": 0.05, "ratio": 0.8, "lower": 0.3, "upper": 0.6}  # the numbers of a notion that is given by its name


def verify(
    backend: Annotated[
        str, typer.Option(help="A backend that `fairopt backends` lists; qpsolvers:clarabel for one of its solvers.")
    ] = "auto",
    notion: Annotated[
        str, typer.Option(help="A notion's name with usual arguments, or module:object, a notion of your own. Default: drawn problems.")
    ] = "",
    claims: Annotated[str, typer.Option(help=f"Some of {', '.join(CHECKS)}, separated by commas. Default: all that apply.")] = "",
    instances: Annotated[int, typer.Option(min=1, help="Random and adversarial instances a claim.")] = 100,
    seed: Annotated[int, typer.Option(help="An instance is rebuilt from claim, seed and number.")] = 0,
) -> None:
    """Measure the claims on a backend or a notion; exit code 1 if one does not hold."""
    screen = console()
    made = notion_named(notion, "a", **USUAL) if notion else None
    if backend != "auto":
        resolve(backend)  # an unknown name, or an absent extra, is an error before anything runs
    wanted = [c.strip().upper() for c in claims.split(",") if c.strip()]
    outcomes: list[Outcome] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as bars:
        task = bars.add_task("claims", total=len(applying(wanted, made is not None)))
        for outcome in verify_apart(backend, made, claims=wanted, instances=instances, seed=seed):
            outcomes.append(outcome)
            bars.update(task, description=f"{outcome.claim}: {outcome.says}", advance=1)
    screen.print(_table(outcomes, backend, notion, seed))
    for o in outcomes:
        if not o.holds and o.worst is not None:
            screen.print(f"{o.claim}: instance {o.number}, seed {seed}: {o.worst.note}", markup=False, highlight=False, soft_wrap=True)
    if not all(o.holds for o in outcomes):
        raise typer.Exit(1)


def _table(outcomes: list[Outcome], backend: str, notion: str, seed: int) -> Table:
    title = f"backend {backend}, {notion or 'drawn problems'}, seed {seed}"
    shown = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("claim", "says", "instances", "worst measured / bound", "verdict"):
        shown.add_column(name, justify="right" if name in ("instances", "worst measured / bound") else "left")
    for o in outcomes:
        ratio = "-" if o.worst is None else f"{o.worst.ratio:.3g}"
        shown.add_row(o.claim, o.says, str(o.instances), ratio, "fails" if not o.holds else o.skipped or "holds")
    return shown
