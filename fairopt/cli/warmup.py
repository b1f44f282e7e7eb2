"""``fairopt warmup``: compile the solver now, rather than at the first projection."""

from __future__ import annotations

import time

import typer

from fairopt.cli.show import console, say
from fairopt.solve import road


def warmup() -> None:
    """Compile the solver now, rather than at the first projection (needs the extra 'fast'); exit code 1 where it cannot be."""
    screen = console()
    start = time.perf_counter()
    if not road.warm_up():
        say(screen, f"nothing to compile: {road.reason()}; projections take the torch road, with the same answers")
        raise typer.Exit(1)
    say(screen, f"the compiled solver is ready ({time.perf_counter() - start:.1f} s)")
