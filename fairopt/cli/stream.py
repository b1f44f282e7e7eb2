"""``fairopt stream``: fair scores for a file or a pipe, durable and resumable. Imports no torch."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import TextColumn

from fairopt.basics.errors import InputError, MissingExtraError
from fairopt.basics.files import check_places, column_name, column_names, number, write_whole
from fairopt.basics.words import notion_word
from fairopt.cli import in_options
from fairopt.cli.grouped import grouped
from fairopt.cli.options import PosLabel, TextOptions, check_pos_label, two_numbers
from fairopt.cli.show import console, progress, say
from fairopt.cli.show import output as standard
from fairopt.streaming import (
    NOTIONS,
    AllTime,
    Controller,
    Cumulative,
    DurableStream,
    Forget,
    PooledParity,
    PrimalDual,
    Sliding,
    StreamReport,
    named,
)
from fairopt.streaming.durable import run as runs
from fairopt.streaming.durable.outputs import STDOUT
from fairopt.streaming.durable.picture import is_our_picture, stream_picture
from fairopt.streaming.durable.sources import Source, open_source
from fairopt.streaming.durable.store import KEEP_KEYS

_BESIDE = ("-wal", "-shm", "-journal", "-commits")  # files beside the state that belong to it
CONTROLLERS = ("pooled", "primal-dual", "cumulative")


@dataclass(frozen=True)
class ColumnOptions:
    """The columns of a stream."""

    sensitive: Annotated[
        list[str],
        typer.Option("--sensitive", "--group", help="Column of group values; 'sex,race' for an intersection; repeat for several."),
    ]
    score: Annotated[str, typer.Option("--score", "--score-column", help="Column of scores.")] = "score"
    target: Annotated[str | None, typer.Option("--target", "--target-column", help="Column of targets, for notions that need them.")] = None
    pos_label: PosLabel = None
    key: Annotated[
        str | None,
        typer.Option("--key-column", "--key", help="Column of request keys: a key that comes again is not counted again."),
    ] = None
    given: Annotated[str, typer.Option(help="Column(s) of strata, separated by commas.")] = ""

    @property
    def wanted(self) -> list[str]:
        """The columns that are named, as they were given. InputError for --pos-label alone."""
        check_pos_label(self.pos_label, self.target)
        return [self.score, *self.sensitive, *(words for words in (self.target, self.key, self.given) if words)]


@dataclass(frozen=True)
class ControllerOptions:
    """What a controller is asked for."""

    notion: Annotated[str, typer.Option(help=f"One of {', '.join(NOTIONS)}, or module:object, a notion of your own.")] = (
        "demographic_parity"
    )
    tolerance: Annotated[float, typer.Option(help="Largest pooled gap.")] = 0.05
    bounds: Annotated[str, typer.Option(help="Least and largest score.")] = "0,1"
    controller: Annotated[str, typer.Option(help=f"One of {', '.join(CONTROLLERS)}.")] = "pooled"
    kappa: Annotated[float, typer.Option(help="Gain of the pooled controller.")] = 0.25
    window: Annotated[str, typer.Option(help="all, sliding:N or forget:HALF_LIFE.")] = "all"
    missing_group: Annotated[str, typer.Option(help="error: a row without group is rejected; own: it is a group of its own.")] = "error"

    def made(self, groups: list[tuple[str, ...]], strata: tuple[str, ...]) -> Controller:
        """The controller. InputError for what is none."""
        notion = _notion(self.notion, groups, self.tolerance, strata)
        common: dict[str, Any] = {"bounds": two_numbers(self.bounds, "--bounds"), "missing_group": self.missing_group}
        if self.controller == "pooled":
            return PooledParity(notion, window=_window(self.window), kappa=self.kappa, **common)
        if self.controller == "cumulative":
            return Cumulative(notion, window=_window(self.window), **common)
        if self.controller == "primal-dual":
            if self.window != "all":
                raise InputError("--window: the paper's rule has none")
            return PrimalDual(notion, **common)
        raise InputError(f"--controller: expected one of {', '.join(CONTROLLERS)}, got {self.controller!r}")


@dataclass(frozen=True)
class ReportOptions:
    """What is written beside the rows."""

    picture: Annotated[Path | None, typer.Option(help="PNG of pooled gap and bound over time.")] = None
    report: Annotated[Path | None, typer.Option("--report", "--json", help="JSON of the report; '-' for standard output.")] = None


@grouped
def stream(
    input: Annotated[
        str, typer.Option("--input", help="Table of text with a header (CSV, TSV, ..., .gz too), or Parquet; '-' for standard input.")
    ],
    columns: ColumnOptions,
    state: Annotated[Path, typer.Option("--state", help="SQLite database of the run; an existing one is resumed.")],
    control: ControllerOptions,
    text: TextOptions,
    reports: ReportOptions,
    output: Annotated[
        Path, typer.Option(help="The input's columns and fair_score, in the input's separator; '-' for standard output.")
    ] = Path("fair.csv"),
    rejects: Annotated[Path | None, typer.Option(help="CSV of malformed rows with the reason; by default beside the output.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Lose what stands in an output that is not of this run, in place of an error.")
    ] = False,
    clip: Annotated[bool, typer.Option("--clip", help="Scores outside the bounds are meant to be clipped: no warning.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Rows a step; one transaction each.")] = 1,
    durable: Annotated[str, typer.Option(help="normal: safe against kill; full: against loss of power.")] = "normal",
    keep_keys: Annotated[str, typer.Option(help="How many keys are remembered, or 'all'.")] = str(KEEP_KEYS),
) -> None:
    """Send a file's scores through a streaming controller: the pooled gap stays near the tolerance, each row is written once.

    Exit code 2 where something is wrong with the input: scores outside the bounds, a group of which every row was rejected.
    130 and 143 where an interrupt or SIGTERM ended it: the same command goes on.
    """
    screen = console(stderr=True)
    if input == "-" and keep_keys == str(KEEP_KEYS) and columns.key is not None:
        keep_keys = "all"  # a pipe resumes by its keys alone
    keep = None if keep_keys == "all" else _whole(keep_keys, "keep-keys")
    if batch > 1 and columns.key is not None:
        raise InputError("--batch: expected 1 with --key-column")
    with closing(open_source(input, sys.stdin.buffer, text.dialect, columns.wanted)) as source:
        groups = [column_names(words, source.columns, "sensitive") for words in columns.sensitive]
        made = control.made(groups, column_names(columns.given, source.columns, "given") if columns.given else ())
        job = runs.Job(
            output=output, rejects=rejects if rejects is not None else _beside(output, state), groups=made.plan.columns,
            score=column_name(columns.score, source.columns, "score"), target=_one(columns.target, source, "target"),
            key=_one(columns.key, source, "key-column"), pos_label=columns.pos_label, batch=batch,
            missing_group=control.missing_group == "own", overwrite=overwrite, clip=clip,
        )  # fmt: skip
        job.check(source)
        _check_files(input, job, state, reports)
        with _state_of(source, job, made, state, durable, keep) as store:
            run = runs.Run(
                source, store, job, sync=durable == "full", on_warning=lambda words: say(screen, f"warning: {in_options(words)}")
            )
            if store.resumed:
                say(screen, f"resuming {state}: {made.samples:,} samples were sent before")
            told = _watched(run, state, screen)
    _finish(run, told, reports, screen, control.notion)


def _watched(run: runs.Run, state: Path, screen: Console) -> StreamReport:
    """Run to the end; an interrupt or SIGTERM ends it with a word about how it goes on, and exit code 130 or 143."""
    try:
        with _termination():
            return _watch(run, screen)
    except KeyboardInterrupt as stopped:
        say(screen, f"stopped; all that was sent is in {state}: the same command goes on from there")
        raise typer.Exit(143 if isinstance(stopped, _Terminated) else 130) from None


@contextmanager
def _state_of(source: Source, job: runs.Job, made: Controller, state: Path, durable: str, keep: int | None) -> Iterator[DurableStream]:
    """The run's state. A new one of a run that fails before it has committed anything leaves no file behind."""
    new, empty = not state.exists(), True
    try:
        with DurableStream(made, state, durable=durable, keep_keys=keep, facts=runs.facts(source, job, state)) as store:  # type: ignore[arg-type]
            try:
                yield store
            finally:
                empty = not store.resumed and not store.progress["files"]
    finally:
        if new and empty:
            for end in ("", *_BESIDE):
                Path(f"{state}{end}").unlink(missing_ok=True)


class _Terminated(KeyboardInterrupt):
    """SIGTERM: the process is asked to end."""


@contextmanager
def _termination() -> Iterator[None]:
    """SIGTERM ends the run as an interrupt does: what was sent is written out first."""

    def stop(number: int, frame: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield  # handlers belong to the main thread
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _watch(run: runs.Run, screen: Console) -> StreamReport:
    """Run with a progress bar and the running gap."""
    with progress(screen, TextColumn("{task.fields[now]}", markup=False), transient=True) as bars:
        task = bars.add_task("streaming", total=1.0 if run.source.size else None, now="")

        def show(now: runs.Progress) -> None:
            gap = "none yet" if now.gap is None else f"{now.gap:.4f}"
            bars.update(task, completed=now.done or 0.0, now=f"{now.rows:,} rows, pooled gap {gap}")

        return run.go(show)


def _finish(run: runs.Run, told: StreamReport, reports: ReportOptions, screen: Console, notion: str) -> None:
    """Say what came of it, write the reports, and exit with 2 where something is wrong with the input."""
    rows, sent, rejected, repeated = run.progress_counts()
    say(screen, f"{rows:,} rows read, {sent:,} sent, {rejected:,} rejected, {repeated:,} repeated")
    if run.store.resumed:
        say(screen, f"in all runs {run.tally.sent_in_all:,} sent, {run.tally.rejected_in_all:,} rejected")
    if rejected:
        say(screen, f"rejected rows: {run.job.rejects}")
    say(screen, str(told))
    if reports.report is not None:
        text = json.dumps(told.to_dict(), indent=1) + "\n"
        if reports.report == STDOUT:
            standard(text)
        else:
            write_whole(reports.report, text, "report")
    if reports.picture is not None:
        try:
            stream_picture({told.controller: told}, reports.picture, title=notion)
            say(screen, f"picture: {reports.picture}")
        except MissingExtraError as error:
            say(screen, f"no picture: {error}")
    for problem in run.tally.problems:
        say(screen, f"problem: {in_options(problem)}")
    if run.tally.problems:
        raise typer.Exit(2)


def _check_files(input: str, job: runs.Job, state: Path, reports: ReportOptions) -> None:
    """Before anything is written: every file is another one, and what is there already is the run's own or to be lost."""
    report, picture = reports.report, reports.picture
    writes = {"output": job.output, "rejects": job.rejects, "report": report, "picture": picture}
    logs = {f"state ({end})": f"{state}{end}" for end in _BESIDE}
    check_places({"input": input}, writes, {"state": state, **logs})
    if report == STDOUT and job.output == STDOUT:
        raise InputError("report: standard output is the output's already; expected a file")
    if job.overwrite:
        return
    if not state.exists():
        for option, at in (("output", job.output), ("rejects", job.rejects)):
            if at != STDOUT and at.exists() and at.stat().st_size:
                raise InputError(
                    f"{option}: {at} is there already, and {state} is a new state; "
                    "choose another name, move it away, or pass --overwrite to lose it"
                )
    for option, path, ours in (("report", report, _is_our_report), ("picture", picture, is_our_picture)):
        if path is not None and path != STDOUT and path.is_file() and path.stat().st_size and not ours(path):
            raise InputError(f"{option}: {path} is there already, and is no {option} of fairopt; pass --overwrite to lose it")


def _is_our_report(path: Path) -> bool:
    """A report that an earlier run wrote is renewed."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"format", "controller", "pooled_gap"} <= found.keys()


def _beside(output: Path, state: Path) -> Path:
    beside = state if output == STDOUT else output
    return beside.with_name(beside.stem + ".rejects.csv")


def _one(words: str | None, source: Source, option: str) -> str | None:
    return None if words is None else column_name(words, source.columns, option)


def _notion(notion: str, groups: list[tuple[str, ...]], tolerance: float, strata: tuple[str, ...]) -> Any:
    """The families of a notion by its name, on each attribute; or a notion of the user's own."""
    word = notion_word(notion)
    if word not in NOTIONS:
        from fairopt.notions.named import joined_named  # and with it torch

        return joined_named(notion, groups, tolerance=tolerance, given=strata or None)
    return [family for attribute in groups for family in named(word, attribute, tolerance, strata)]


def _window(text: str) -> AllTime | Sliding | Forget:
    kind, _, size = text.partition(":")
    if text == "all":
        return AllTime()
    if kind == "sliding":
        return Sliding(_whole(size, "window"))
    if kind == "forget":
        return Forget(number(size, "--window"))
    raise InputError(f"--window: expected all, sliding:N or forget:HALF_LIFE, got {text!r}")


def _whole(text: str, option: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise InputError(f"--{option}: expected a whole number >= 1, got {text!r}")
    return int(text)
