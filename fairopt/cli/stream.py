"""``fairopt stream``: fair scores for a file or a pipe, durable and resumable. Imports no torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fairopt.errors import InputError, MissingExtraError
from fairopt.streaming import (
    NOTIONS,
    AllTime,
    Controller,
    Cumulative,
    DurableStream,
    Family,
    Forget,
    PooledParity,
    PrimalDual,
    Sliding,
    named,
)
from fairopt.streaming import run as runs
from fairopt.streaming.picture import stream_picture
from fairopt.streaming.rows import open_source
from fairopt.streaming.store import KEEP_KEYS

CONTROLLERS = ("pooled", "primal-dual", "cumulative")


def stream(
    input: Annotated[str, typer.Option("--input", help="CSV (with a header) or Parquet file; '-' for CSV lines on standard input.")],
    group: Annotated[
        list[str], typer.Option("--group", help="Column of group values; 'sex,race' for an intersection; repeat for several.")
    ],
    state: Annotated[Path, typer.Option("--state", help="SQLite database of the run; an existing one is resumed.")],
    notion: Annotated[str, typer.Option(help=f"One of {', '.join(NOTIONS)}.")] = "demographic_parity",
    tolerance: Annotated[float, typer.Option(help="Largest pooled gap.")] = 0.05,
    given: Annotated[str, typer.Option(help="Column(s) of strata, separated by commas.")] = "",
    bounds: Annotated[str, typer.Option(help="Least and largest score.")] = "0,1",
    output: Annotated[Path, typer.Option(help="CSV of the input's columns and fair_score.")] = Path("fair.csv"),
    rejects: Annotated[Path | None, typer.Option(help="CSV of malformed rows with the reason; by default beside the output.")] = None,
    score_column: Annotated[str, typer.Option(help="Column of scores.")] = "score",
    target_column: Annotated[str | None, typer.Option(help="Column of targets, for notions that need them.")] = None,
    key_column: Annotated[str | None, typer.Option(help="Column of request keys: a key that comes again is not counted again.")] = None,
    controller: Annotated[str, typer.Option(help=f"One of {', '.join(CONTROLLERS)}.")] = "pooled",
    kappa: Annotated[float, typer.Option(help="Gain of the pooled controller.")] = 0.25,
    window: Annotated[str, typer.Option(help="all, sliding:N or forget:HALF_LIFE.")] = "all",
    batch: Annotated[int, typer.Option(min=1, help="Rows a step; one transaction each.")] = 1,
    durable: Annotated[str, typer.Option(help="normal: safe against kill; full: against loss of power.")] = "normal",
    keep_keys: Annotated[str, typer.Option(help="How many keys are remembered, or 'all'.")] = str(KEEP_KEYS),
    missing_group: Annotated[str, typer.Option(help="error: a row without group is rejected; own: it is a group of its own.")] = "error",
    picture: Annotated[Path | None, typer.Option(help="PNG of pooled gap and bound over time.")] = None,
    report: Annotated[Path | None, typer.Option(help="JSON of the report.")] = None,
) -> None:
    """Send a file's scores through a streaming controller: the pooled gap stays near the tolerance, each row is written once."""
    screen = Console(stderr=True)
    families = _families(notion, group, tolerance, given)
    made = _controller(controller, families, _bounds(bounds), window, kappa, missing_group)
    if input == "-" and keep_keys == str(KEEP_KEYS) and key_column is not None:
        keep_keys = "all"  # a pipe resumes by its keys alone
    keep = None if keep_keys == "all" else _whole(keep_keys, "keep-keys")
    if batch > 1 and key_column is not None:
        raise InputError("--batch: expected 1 with --key-column")
    with DurableStream(made, state, durable=durable, keep_keys=keep) as store:  # type: ignore[arg-type]
        job = runs.Job(
            output=output,
            rejects=rejects if rejects is not None else output.with_name(output.stem + ".rejects.csv"),
            groups=made.plan.columns, score=score_column, target=target_column, key=key_column, batch=batch,
            missing_group=missing_group == "own",
        )  # fmt: skip
        if store.resumed:
            screen.print(f"resuming {state}: {made.samples:,} samples were sent before", highlight=False)
        run = runs.Run(open_source(input, sys.stdin.buffer), store, job, sync=durable == "full")
        told = _watch(run, screen)
    last = run.progress_counts()
    screen.print(f"{last[0]:,} rows read, {last[1]:,} sent, {last[2]:,} rejected, {last[3]:,} repeated", highlight=False)
    screen.print(str(told), markup=False, highlight=False)
    _finish(told, report, picture, screen, notion)


def _watch(run: runs.Run, screen: Console) -> Any:
    """Run with a progress bar and the running gap."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[now]}"), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as bars:
        task = bars.add_task("streaming", total=1.0 if run.source.size else None, now="")

        def show(now: runs.Progress) -> None:
            gap = "none yet" if now.gap is None else f"{now.gap:.4f}"
            bars.update(task, completed=now.done or 0.0, now=f"{now.rows:,} rows, pooled gap {gap}")

        return run.go(show)


def _finish(told: Any, report: Path | None, picture: Path | None, screen: Console, notion: str) -> None:
    if report is not None:
        import json

        report.write_text(json.dumps(told.to_dict(), indent=1))
    if picture is not None:
        try:
            stream_picture({told.controller: told}, picture, title=notion)
            screen.print(f"picture: {picture}", highlight=False, soft_wrap=True)
        except MissingExtraError as error:
            screen.print(f"no picture: {error}", highlight=False)


def _families(notion: str, groups: list[str], tolerance: float, given: str) -> list[Family]:
    strata = tuple(_split(given))
    out: list[Family] = []
    for names in groups:
        attribute = tuple(_split(names))
        if not attribute:
            raise InputError(f"--group: expected a column name, got {names!r}")
        out.extend(named(notion, attribute, tolerance, strata))
    return out


def _controller(name: str, families: list[Family], bounds: tuple[float, float], window: str, kappa: float, missing: str) -> Controller:
    common: dict[str, Any] = {"bounds": bounds, "missing_group": missing}
    if name == "pooled":
        return PooledParity(families, window=_window(window), kappa=kappa, **common)
    if name == "cumulative":
        return Cumulative(families, window=_window(window), **common)
    if name == "primal-dual":
        if window != "all":
            raise InputError("--window: the paper's rule has none")
        return PrimalDual(families, **common)
    raise InputError(f"--controller: expected one of {', '.join(CONTROLLERS)}, got {name!r}")


def _window(text: str) -> AllTime | Sliding | Forget:
    kind, _, number = text.partition(":")
    if text == "all":
        return AllTime()
    if kind == "sliding":
        return Sliding(_whole(number, "window"))
    if kind == "forget":
        return Forget(runs.number(number, "--window"))
    raise InputError(f"--window: expected all, sliding:N or forget:HALF_LIFE, got {text!r}")


def _bounds(text: str) -> tuple[float, float]:
    parts = _split(text)
    if len(parts) != 2:
        raise InputError(f"--bounds: expected two numbers like 0,1, got {text!r}")
    return runs.number(parts[0], "--bounds"), runs.number(parts[1], "--bounds")


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _whole(text: str, option: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"--{option}: expected a whole number >= 1, got {text!r}")
    return int(text)
