"""The commands, gathered."""

from __future__ import annotations

import typer

from fairopt.cli import backends, demo

app = typer.Typer(
    name="fairopt", help="Fairness layers for PyTorch.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.callback()
def _fairopt() -> None:
    """Fairness layers for PyTorch."""


app.command("backends")(backends.backends)
app.command("demo")(demo.demo)
