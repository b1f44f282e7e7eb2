"""The commands, gathered. A command's module is imported when it is called: help and ``fairopt stream`` must not wait for torch."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

import fairopt

TABLES = (".csv", ".tsv", ".tab", ".txt", ".gz", ".parquet", ".pq")  # how the names of inputs end


class Command(NamedTuple):
    """Where a command is: a function of a module of ``fairopt.cli``; and what the list of commands says of it."""

    module: str
    function: str
    help: str  # the first words of the function's own docstring


COMMANDS = {
    "audit": Command("audit", "audit", "Audit a file of scores: gaps of scores and of decisions with counts and intervals, rates, ratios."),
    "backends": Command("backends", "backends", "List the backends, what each can do, and how to install those that are absent."),
    "compare": Command(
        "compare", "compare", "Race solver backends: time, memory, exact violation, distance to the optimum, gradient error."
    ),
    "demo": Command("demo", "demo", "Train on 1,989 real mortgage decisions, with the approval gap between races under the tolerance."),
    "project": Command(
        "project", "project", "Write fair scores beside those of a table, a folder or a pattern of them: one guarantee over all rows."
    ),
    "replay": Command("replay", "replay", "Send out-of-fold probabilities of a real data set through all controllers."),
    "reproduce": Command("reproduce", "reproduce", "Run one of the experiments, with the paper's figures beside it."),
    "stream": Command("stream", "stream", "Send a file's scores through a streaming controller: the pooled gap stays near the tolerance."),
    "verify": Command("verify", "verify", "Measure the claims on a backend or a notion; exit code 1 if one does not hold."),
    "warmup": Command("warmup", "warmup", "Compile the solver now, rather than at the first projection (needs the extra 'fast')."),
}


class _OnDemand(TyperGroup):
    """Lists its commands by name and help; the one that is called is imported then."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name not in COMMANDS else _imported(name), _placed(rest)


def _placed(args: list[str]) -> list[str]:
    """``--json`` alone is standard output: before an option, at the end, and before a name that is a table's.

    So ``fairopt audit --json scores.csv`` audits scores.csv, and never writes JSON over it. ``--json=PLACE`` takes any name.
    """
    placed: list[str] = []
    for word, following in zip(args, [*args, ""][1:], strict=True):
        option = following == "" or (following.startswith("-") and following != "-")
        table = following.lower().endswith(TABLES)
        placed.append("--json=-" if word == "--json" and (option or table) else word)
    return placed


def _imported(name: str) -> Any:
    """The command itself, with its options."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    place = COMMANDS[name]
    app.command(name)(getattr(import_module(f"fairopt.cli.{place.module}"), place.function))
    return typer.main.get_command(app)


def build() -> typer.Typer:
    """The application with all commands."""
    app = typer.Typer(
        name="fairopt",
        cls=_OnDemand,
        help="Fairness layers for PyTorch.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def _fairopt(
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.", show_default=False)
        ] = False,
    ) -> None:
        """Fairness layers for PyTorch."""

    for name, place in COMMANDS.items():
        app.command(name, help=place.help)(_listed)
    return app


def _listed() -> None:
    """Stands for a command in the list."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fairopt {fairopt.__version__}")
        raise typer.Exit
