"""``fairopt demo``: the loanapp table with progress bars and a picture. The same code as ``fairopt reproduce loanapp``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from fairopt.cli.options import ends_in, tolerable
from fairopt.cli.reproduce import bars, show
from fairopt.cli.show import console, say
from fairopt.experiments.reproduce import Result
from fairopt.experiments.store import Store
from fairopt.experiments.studies import loanapp


def demo(
    tolerance: Annotated[float, typer.Option(help="Largest gap between the mean probabilities of two races.")] = 0.05,
    seeds: Annotated[int, typer.Option(min=1, help="How many splits, with a network of each kind.")] = loanapp.SEEDS,
    picture: Annotated[Path, typer.Option(help="Where the picture goes (PNG).")] = Path("fairopt-demo.png"),
    quick: Annotated[bool, typer.Option("--quick", help="One seed, few epochs: to see that everything runs.")] = False,
) -> None:
    """Train on 1,989 real mortgage decisions, with the approval gap between races under the tolerance."""
    ends_in(picture, ".png", "picture")
    start = time.perf_counter()
    screen = console()
    setting = loanapp.Setting(tolerance=tolerable(tolerance), seeds=tuple(range(seeds)))
    setting = setting.quick() if quick else setting
    with bars() as on_progress, Store(None, "loanapp") as store:
        section = loanapp.table(setting, store, on_progress)
    if section.picture is not None:
        section.picture(picture)
    show(screen, Result("loanapp", loanapp.TITLE, loanapp.text(setting), (section,)))
    if section.picture is not None:
        say(screen, f"picture: {picture.resolve()}")
    say(screen, f"{time.perf_counter() - start:.1f} s")
