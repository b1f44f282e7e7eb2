"""The race: backends side by side on the same drawn problems, each in a process of its own.

    race = fo.compare(["dual_newton", "proxqp"], n=(64, 1024))
    print(race.table()); race.save("results")

cells (what is measured) -> worker (one process a backend) -> measure (one cell) -> judge (against a reference) -> store (a file of
finished cells) -> table, pictures, report.
"""

from __future__ import annotations

from fairopt.race.cells import PRESETS, Cell, Grid
from fairopt.race.contest import Progress, compare
from fairopt.race.result import Race
from fairopt.race.settings import Settings

__all__ = ["PRESETS", "Cell", "Grid", "Progress", "Race", "Settings", "compare"]
