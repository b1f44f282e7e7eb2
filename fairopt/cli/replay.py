"""``fairopt replay``: every streaming controller on the same real stream, as a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fairopt.basics.files import check_places
from fairopt.cli.options import ends_in, tolerable
from fairopt.cli.show import STDOUT, console, rich_table, say, write_json
from fairopt.experiments.data.scored import DATA, ORDERS, scored
from fairopt.experiments.studies.replay import replay as run
from fairopt.streaming.durable.picture import stream_picture

SHOWN = ("PooledParity", "Cumulative", "PrimalDual (paper)", "PrimalDual (paper), batch 64")


def replay(
    data: Annotated[str, typer.Option(help=f"One of {', '.join(DATA)}.")] = "loanapp",
    path: Annotated[Path | None, typer.Option(help="The file of adult (adult.data) or acs (CSV); .gz too.")] = None,
    order: Annotated[str, typer.Option(help=f"One of {', '.join(ORDERS)}.")] = "file",
    tolerance: Annotated[float, typer.Option(help="Largest pooled gap of the mean probability.")] = 0.05,
    picture: Annotated[Path, typer.Option(help="PNG of pooled gaps and bounds over time.")] = Path("fairopt-replay.png"),
    json: Annotated[Path | None, typer.Option(help="The table, on standard output, or to a file with its name behind.")] = None,
) -> None:
    """Send out-of-fold probabilities of a real data set through all controllers, one decision after the other."""
    ends_in(picture, ".png", "picture")
    tolerable(tolerance)
    check_places({"path": path}, {"picture": picture, "json": json})
    screen = console(stderr=json == STDOUT)
    with screen.status("scoring") as status:
        stream = scored(data, path).ordered(order)
        title = f"{stream.name}: {len(stream.scores):,} scores by {stream.attribute}, tolerance {tolerance:g}"
        done = run(stream.scores, stream.groups, tolerance, title=title, on_entrant=status.update)
    stream_picture({name: done.reports[name] for name in SHOWN}, picture, title=title)
    if json is not None:
        write_json(list(done.table), json)
    screen.print(rich_table(done.table))
    say(screen, f"picture: {picture.resolve()}")
