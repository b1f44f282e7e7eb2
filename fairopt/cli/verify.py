"""``fairopt verify``: the claims that apply to a backend or a notion, measured on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import fairopt as fo
from fairopt.cli.imported import imported_notion
from fairopt.cli.show import console
from fairopt.errors import InputError
from fairopt.testing.claims import CHECKS, Layer, Outcome, check_claim

NOTIONS: dict[str, Callable[[], fo.Notion]] = {
    "DemographicParity": lambda: fo.DemographicParity("a", tolerance=0.05),
    "EqualOpportunity": lambda: fo.EqualOpportunity("a", tolerance=0.05),
    "PredictiveEquality": lambda: fo.PredictiveEquality("a", tolerance=0.05),
    "EqualizedOdds": lambda: fo.EqualizedOdds("a", tolerance=0.05),
    "MeanResidual": lambda: fo.MeanResidual("a", tolerance=0.05),
    "ResidualParity": lambda: fo.ResidualParity("a", tolerance=0.05),
    "ImpactRatio": lambda: fo.ImpactRatio("a", ratio=0.8),
    "GroupMeanBound": lambda: fo.GroupMeanBound("a", lower=0.3, upper=0.6),
    "ScoreCovariance": lambda: fo.ScoreCovariance("a", tolerance=0.05),
}


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
    layer = Layer(backend, notion_named(notion) if notion else None)
    chosen = _chosen(claims, layer)
    outcomes: list[Outcome] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as bars:
        task = bars.add_task("claims", total=len(chosen))
        for name in chosen:
            bars.update(task, description=f"{name}: {CHECKS[name][0]}")
            outcomes.append(check_claim(name, layer, instances=instances, seed=seed))
            bars.advance(task)
    screen.print(_table(outcomes, backend, notion, seed))
    for o in outcomes:
        if not o.holds and o.worst is not None:
            screen.print(f"{o.claim}: instance {o.number}, seed {seed}: {o.worst.note}", markup=False, highlight=False, soft_wrap=True)
    if not all(o.holds for o in outcomes):
        raise typer.Exit(1)


def notion_named(text: str) -> fo.Notion:
    """A shipped notion on one attribute, or ``module:object``. Raises InputError."""
    if ":" in text:
        return imported_notion(text)
    if text not in NOTIONS:
        raise InputError(f"--notion: got {text!r}, expected one of {', '.join(NOTIONS)}, or module:object")
    return NOTIONS[text]()


def _chosen(claims: str, layer: Layer) -> list[str]:
    wanted = [c.strip().upper() for c in claims.split(",") if c.strip()]
    unknown = [c for c in wanted if c not in CHECKS]
    if unknown:
        raise InputError(f"--claims: got {', '.join(unknown)}, expected some of {', '.join(CHECKS)}")
    return [name for name, (_, _, own) in CHECKS.items() if (not wanted or name in wanted) and not (own and layer.notion is not None)]


def _table(outcomes: list[Outcome], backend: str, notion: str, seed: int) -> Table:
    title = f"backend {backend}, {notion or 'drawn problems'}, seed {seed}"
    shown = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("claim", "says", "instances", "worst measured / bound", "verdict"):
        shown.add_column(name, justify="right" if name in ("instances", "worst measured / bound") else "left")
    for o in outcomes:
        ratio = "-" if o.worst is None else f"{o.worst.ratio:.3g}"
        shown.add_row(o.claim, o.says, str(o.instances), ratio, "fails" if not o.holds else o.skipped or "holds")
    return shown
