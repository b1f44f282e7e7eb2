"""``python -m proofs_checks [CLAIMS...]``: run claims, print one table, exit 1 on any failure."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from proofs_checks import report
from proofs_checks.claim import Claim
from proofs_checks.formal import table as formal
from proofs_checks.registry import all_claims, claim_named
from proofs_checks.run import Result, run

QUICK = 200


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m proofs_checks", description="Check the claims behind fairopt on fairopt's own code.")
    parser.add_argument("claims", nargs="*", help="names like L3 P2, or families like L; default: all")
    parser.add_argument("--instances", type=int, default=1000, help="instances a claim (a claim may name fewer)")
    parser.add_argument("--quick", action="store_const", dest="instances", const=QUICK, help=f"{QUICK} instances a claim")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--replay", nargs=2, metavar=("CLAIM", "NUMBER"), help="measure one instance again")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--html", type=Path)
    parser.add_argument("--keep", type=Path, help="JSON of an earlier run: its figures stand for the claims that are not run now")
    parser.add_argument("--docs", type=Path, help="write a page a claim into this folder")
    return parser.parse_args(words)


def chosen(names: Sequence[str]) -> list[Claim]:
    if not names:
        return list(all_claims())
    families = {c.name[0] for c in all_claims()}
    wanted = [
        c for n in names for c in ([c for c in all_claims() if c.name[0] == n.upper()] if n.upper() in families else [claim_named(n)])
    ]
    return list(dict.fromkeys(wanted))


def go(claims: Sequence[Claim], options: argparse.Namespace, screen: Console) -> list[Result]:
    """Run with a bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as bars:
        task = bars.add_task("claims", total=None)

        def progress(name: str, done: int, total: int) -> None:
            bars.update(task, description=f"{name:4}", completed=done, total=total)

        return run(claims, instances=options.instances, seed=options.seed, workers=options.workers, progress=progress)


def replay(name: str, number: int, seed: int, screen: Console) -> int:
    claim = claim_named(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        m = claim.measure(seed, number)
    screen.print(
        f"{claim.name} instance {number}, seed {seed}: measured {m.measured!r}, bound {m.bound!r}, slack {m.slack:.1e} {m.note}",
        highlight=False,
    )
    screen.print("holds" if m.holds else "fails")
    return 0 if m.holds else 1


def main(words: Sequence[str] | None = None) -> int:
    options = arguments(words)
    screen = Console(width=None if sys.stdout.isatty() else 220)
    start = time.perf_counter()
    try:
        if options.replay:
            return replay(options.replay[0], int(options.replay[1]), options.seed, screen)
        claims = chosen(options.claims)
    except KeyError as error:
        screen.print(error.args[0], highlight=False)
        return 2
    differences = formal.troubles()
    for difference in differences:
        screen.print(f"Coq and the table of hypotheses part: {difference}", highlight=False)
    results = go(claims, options, screen)
    if options.keep:
        claims, results = report.kept(claims, results, options.keep)
    screen.print(report.table(results, options.seed))
    if options.json:
        report.write_json(results, options.seed, options.json)
    if options.html:
        report.write_html(claims, results, options.seed, options.html)
    if options.docs:
        report.write_docs(claims, results, options.docs)
    bad = [r.name for r in results if r.verdict != "holds"]
    proved = sum(r.exact == "proved" for r in results)
    screen.print(
        f"{len(results)} claims, {sum(r.instances for r in results):,} instances, {proved} proved by z3, "
        f"{time.perf_counter() - start:.0f} s; {'failing: ' + ', '.join(bad) if bad else 'all hold'}",
        highlight=False,
    )
    return 1 if bad or differences else 0


if __name__ == "__main__":
    sys.exit(main())
