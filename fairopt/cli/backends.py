"""``fairopt backends``: every solver that is known, whether it can run here, and what it can do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import fairopt as fo
from fairopt.basics.files import check_places
from fairopt.cli.show import STDOUT, console, rich_table, say, word, write_json
from fairopt.contract.backend import ALL_SOFTNESS

# No extra can name these two: pip would follow their metadata and downgrade numpy, or fail to build. Both go after torch.
WITHOUT_DEPENDENCIES = (
    "pip install cvxpy && pip install --no-deps qpth==0.0.18",
    "pip install lxml pyyaml scipy && pip install --no-deps --no-build-isolation"
    " torchlie==0.1.0 torchkin==0.1.1 urdf-parser-py==0.0.4 theseus-ai==0.2.3",
)
ANY_SOFTNESS = ", ".join(sorted(ALL_SOFTNESS))


def backends(
    json: Annotated[
        Path | None, typer.Option(help="The list with every capability, on standard output, or to a file with its name behind.")
    ] = None,
) -> None:
    """List the backends, what each can do, and how to install those that are absent."""
    check_places({}, {"json": json})
    screen = console(stderr=json == STDOUT)
    table = fo.backends()
    if json is not None:
        write_json(list(table), json)
    if json == STDOUT:
        return
    common = shared_columns(table)
    screen.print(rich_table(_narrow(table, {"reason", *common})))
    if common:
        say(screen, f"all of them: {', '.join(f'{name} {word(value)}' for name, value in common.items())}")
    for row in table:
        if not row["available"]:
            say(screen, f"{row['name']}: {row['reason']}")
    say(screen, "qpth and theseus have no extra of their own; they are installed without their dependencies:")
    for line in WITHOUT_DEPENDENCIES:
        say(screen, f"    {line}")


def shared_columns(table: fo.Table) -> dict[str, object]:
    """Capabilities that every available backend has alike: a line says them better than a column. Nothing where there is one row."""
    rows = [row for row in table if row["available"]]
    if len(rows) < 2:
        return {}
    return {c: rows[0][c] for c in table.columns if c not in {"available", "reason"} and len({row[c] for row in rows}) == 1}


def _narrow(table: fo.Table, without: set[str]) -> fo.Table:
    """The other columns, with long words cut short: a header folds at its underscores, all kinds of softness are "any"."""
    kept = [k for k, c in enumerate(table.columns) if c not in without]
    rows = tuple(tuple("any" if row[k] == ANY_SOFTNESS else row[k] for k in kept) for row in table.rows)
    return replace(table, columns=tuple(table.columns[k].replace("_", "\n") for k in kept), rows=rows)
