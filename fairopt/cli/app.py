"""The commands, gathered. A command's module is imported when it is asked for: ``fairopt stream`` must not wait for torch."""

from __future__ import annotations

from importlib import import_module

import typer

# name -> module of fairopt.cli and the function in it
COMMANDS = {
    "audit": ("audit", "audit"),
    "backends": ("backends", "backends"),
    "compare": ("compare", "compare"),
    "demo": ("demo", "demo"),
    "replay": ("replay", "replay"),
    "reproduce": ("reproduce", "reproduce"),
    "stream": ("stream", "stream"),
    "verify": ("verify", "verify"),
}


def build(arguments: list[str]) -> typer.Typer:
    """The application for these command-line arguments: with the one command that they name, or with all of them."""
    app = typer.Typer(
        name="fairopt", help="Fairness layers for PyTorch.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )

    @app.callback()
    def _fairopt() -> None:
        """Fairness layers for PyTorch."""

    named = next((a for a in arguments if not a.startswith("-")), None)
    for name, (module, function) in COMMANDS.items():
        if named == name or named not in COMMANDS:
            app.command(name)(getattr(import_module(f"fairopt.cli.{module}"), function))
    return app
