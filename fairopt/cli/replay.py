"""``fairopt replay``: every streaming controller on the same real stream, as a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fairopt.cli.show import console, rich_table
from fairopt.errors import InputError
from fairopt.experiments.data.scored import DATA, ORDERS, scored
from fairopt.experiments.replay import replay as run
from fairopt.streaming.picture import stream_picture

SHOWN = ("PooledParity", "Cumulative", "PrimalDual (paper)", "PrimalDual (paper), batch 64")


def replay(
    data: Annotated[str, typer.Option(help=f"One of {', '.join(DATA)}.")] = "loanapp",
    path: Annotated[Path | None, typer.Option(help="The file of adult (adult.data) or acs (CSV); .gz too.")] = None,
    order: Annotated[str, typer.Option(help=f"One of {', '.join(ORDERS)}.")] = "file",
    tolerance: Annotated[float, typer.Option(help="Largest pooled gap of the mean probability.")] = 0.05,
    picture: Annotated[Path, typer.Option(help="PNG of pooled gaps and bounds over time.")] = Path("fairopt-replay.png"),
) -> None:
    """Send out-of-fold probabilities of a real data set through all controllers, one decision after the other."""
    if picture.suffix.lower() != ".png" or not picture.parent.is_dir():
        raise InputError(f"--picture {picture}: expected a path that ends in .png, in a folder that exists")
    screen = console()
    with screen.status("scoring") as status:
        stream = scored(data, path).ordered(order)
        title = f"{stream.name}: {len(stream.scores):,} scores by {stream.attribute}, tolerance {tolerance:g}"
        done = run(stream.scores, stream.groups, tolerance, title=title, on_entrant=status.update)
    screen.print(rich_table(done.table))
    stream_picture({name: done.reports[name] for name in SHOWN}, picture, title=title)
    screen.print(f"picture: {picture.resolve()}", markup=False, highlight=False, soft_wrap=True)
