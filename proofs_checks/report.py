"""What a run leaves: a table on the terminal, JSON, one HTML page with a picture a claim, and the docs pages."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from fairopt.basics.figures import drawing, logarithmic, png
from proofs_checks.claim import Claim
from proofs_checks.formal import table as formal
from proofs_checks.registry import all_claims
from proofs_checks.run import Result

FORMAT = 1
TEMPLATE = Path(__file__).parent / "claims.html"


def ratio_words(value: float) -> str:
    return f"{value:.3f}" if 0.001 <= value < 10 else f"{value:.1e}" if value else "0"


def table(results: Sequence[Result], seed: int) -> Table:
    """One row a claim."""
    shown = Table(title=f"claims, seed {seed}", box=box.SIMPLE_HEAD, title_justify="left")
    for name, justify in (
        ("claim", "left"), ("kind", "left"), ("instances", "right"), ("worst measured / bound", "right"), ("by search", "right"),
        ("z3", "left"), ("mutants", "right"), ("smallest deviation", "left"), ("s", "right"), ("verdict", "left"),
    ):  # fmt: skip
        shown.add_column(name, justify=justify)  # type: ignore[arg-type]
    for r in results:
        shown.add_row(
            f"{r.name} {r.title}", f"{r.kind}, {r.whose}", str(r.instances), ratio_words(r.ratio),
            "-" if r.tight is None else ratio_words(float(r.tight["ratio"])),
            _exact(r) or "-", f"{r.killed}/{len(r.mutants)}", r.smallest or "-", f"{r.seconds:.1f}",
            r.verdict,
        )  # fmt: skip
    return shown


def _exact(r: Result) -> str:
    return f"{r.exact}, {r.exact_seconds:.1f} s" if r.exact else ""


def write_json(results: Sequence[Result], seed: int, path: Path) -> None:
    told = {"format": FORMAT, "seed": seed, "claims": [r.to_dict() for r in results]}
    path.write_text(json.dumps(told, indent=1, default=float), encoding="utf-8")


def kept(claims: Sequence[Claim], results: Sequence[Result], path: Path) -> tuple[list[Claim], list[Result]]:
    """All claims, with the figures of this run or, where there is none, of the run told in ``path``. ValueError for another format."""
    told = json.loads(path.read_text(encoding="utf-8"))
    if told.get("format") != FORMAT:
        raise ValueError(f"{path}: format {told.get('format')!r}, expected {FORMAT}")
    found = {c["name"]: Result(**{k: v for k, v in c.items() if k != "verdict"}) for c in told["claims"]}
    found |= {r.name: r for r in results}
    everything = [c for c in all_claims() if c.name in found]
    return everything, [found[c.name] for c in everything]


def write_html(claims: Sequence[Claim], results: Sequence[Result], seed: int, path: Path) -> None:
    """One page: statement, proof, figures and the picture of every claim."""
    page_of = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    parts = [(claim, page(claim, r), picture(r)) for claim, r in zip(claims, results, strict=True)]
    path.write_text(page_of.render(seed=seed, results=results, parts=parts, ratio=ratio_words), encoding="utf-8")


def picture(r: Result) -> str:
    """Measured against the bound, every instance: PNG, base64. The line is the bound; nothing may lie above it."""
    points = np.array([p for p in r.points if np.isfinite(p).all()], dtype=float).reshape(-1, 2)
    with drawing("the pictures need", "race") as canvas:
        figure = canvas(figsize=(6.0, 3.6), layout="tight")
        _fill(figure.add_subplot(), points, f"{r.name}: {r.instances} instances")
        return base64.b64encode(png(figure, dpi=80)).decode()


def _fill(axes: Any, points: NDArray[np.float64], title: str) -> None:
    """Points (k, 2) of measured and bound; a histogram of their shares where logarithms would show nothing."""
    positive = points[(points > 0).all(axis=1)]
    if len(positive) > 1 and np.ptp(np.log10(positive[:, 1])) > 1e-9:
        axes.loglog(positive[:, 1], positive[:, 0], ".", ms=3)
        logarithmic(axes.xaxis)
        logarithmic(axes.yaxis)
        ends = [float(positive[:, 1].min()), float(positive[:, 1].max())]
        axes.plot(ends, ends, "-", lw=1, color="black")
        axes.set_xlabel("bound")
        axes.set_ylabel("measured")
    else:
        shares = [m / b if b > 0 else 0.0 for m, b in points.tolist()]
        axes.hist(np.log10(np.maximum(shares, 1e-18)) if shares else [], bins=40)
        axes.axvline(0.0, lw=1, color="black")
        axes.set_xlabel("log10 of measured / bound (0 below 1e-18)")
        axes.set_ylabel("instances")
    axes.set_title(title)


def page(claim: Claim, result: Result | None) -> str:
    """The Markdown page of a claim: from the very text that stands beside its check."""
    lines = [
        f"# {claim.name}: {claim.title}",
        "",
        f"{claim.kind.capitalize()}, {WHOSE[claim.whose]}.",
        "",
        "## Statement",
        "",
        claim.statement.strip(),
        "",
    ]
    lines += ["## Proof", "", claim.proof.strip(), "", *_formal(claim), "## Check", "", _checked(claim), ""]
    if claim.loose:
        lines += ["## Why it is not tight", "", claim.loose, ""]
    if claim.open:
        lines += ["## Open", "", claim.open, ""]
    if result is not None:
        lines += ["## Last run", "", *_figures(claim, result), ""]
    return "\n".join(lines)


def _formal(claim: Claim) -> list[str]:
    """The claim as Coq states it, each hypothesis beside the words of the table kept by hand."""
    entries = formal.of(claim.name)
    if not entries:
        return []
    lines = ["## As Coq states and proves it", "", "Checked by `make formal`.", ""]
    for entry in entries:
        stated = entry.stated()
        lines += [f"`proofs_checks/formal/{entry.file}.v`:", ""]
        if entry.hypotheses:
            lines += ["| hypothesis | in Coq |", "|---|---|"]
            lines += [f"| {words} | `{name} : {_one_line(stated[0].hypotheses[name])}` |" for name, words in entry.hypotheses.items()]
            lines.append("")
        lines += ["```coq", *stated[0].context, *(t.statement for t in stated), "```", ""]
        if entry.beyond:
            lines += [f"Not in Coq: {entry.beyond}", ""]
    return lines


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


WHOSE = {"ours": "ours", "paper": "the paper's", "textbook": "known"}


def _checked(claim: Claim) -> str:
    words = (claim.check.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
    text = (
        f"`{claim.check.__module__}.{claim.check.__name__}`: {' '.join(words.split())}"
        if words
        else f"`{claim.check.__module__}.{claim.check.__name__}`."
    )
    text += f"\n\nMutants, on each of which the check fails: {', '.join(claim.mutants)}."
    if claim.deviations:
        text += f"\n\nDeviations, each noticed at a tenth: {', '.join(claim.deviations)}."
    if claim.exact is not None:
        text += f"\n\nExactly, by z3: {claim.exact.what}. A broken formula is not proved."
    return text


def _figures(claim: Claim, r: Result) -> list[str]:
    out = [
        f"- {r.instances} instances, seed {r.seed}: worst measured / bound {ratio_words(r.ratio)} "
        f"(instance {r.worst_number}; {r.worst.get('note') or 'as stated'})"
    ]
    if r.tight is not None:
        out.append(f"- by search: {ratio_words(float(r.tight['ratio']))} of the bound")
    out.append(f"- mutants killed: {r.killed} of {len(r.mutants)}")
    out += [f"- smallest deviation noticed, {what}: {size:.2g}" for what, size in r.noticed.items()]
    if r.exact:
        out.append(f"- z3: {r.exact}")
    out.append(f"- verdict: {r.verdict}")
    out.append(f"- again: `python -m proofs_checks --replay {claim.name} {r.worst_number} --seed {r.seed}`")
    return out


INDEX = """# The claims behind fairopt

Written by `python -m proofs_checks --docs docs/claims`; the text stands beside each check in `proofs_checks/claims`.

Paper: the proof in words on the page. z3: proved exactly at small size. Coq: proved by machine (`make formal`; the page says what of the
claim). Checked: instances of fairopt's own code that were measured, and the verdict. Reached: measured / bound, the worst instance or one
found by search. Smallest deviation: how far the code may be off in the thing named before the check notices, of those that the page
lists: the least, and the one of which most is needed.

| claim | kind | paper | z3 | Coq | checked | reached | mutants | smallest deviation noticed |
|---|---|---|---|---|---|---|---|---|
"""
ROW = re.compile(r"^\| \[(\w+)\]\(.*\|$", re.MULTILINE)


def write_docs(claims: Sequence[Claim], results: Sequence[Result], folder: Path) -> None:
    """A page a claim, and the index of all claims: those that were not run keep the row that they have there."""
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / "README.md"
    before = index.read_text(encoding="utf-8") if index.exists() else ""
    rows = {m.group(1): m.group() for m in ROW.finditer(before) if m.group().count(" | ") == INDEX.splitlines()[-2].count(" | ")}
    for claim, result in zip(claims, results, strict=True):
        (folder / f"{claim.name}.md").write_text(page(claim, result), encoding="utf-8")
        rows[claim.name] = _row(claim, result)
    table = [rows.get(c.name, _row(c, None)) for c in all_claims()]
    still = [f"- {c.name}: {c.open}" for c in all_claims() if c.open]
    index.write_text(INDEX + "\n".join([*table, "", "## Open", "", *still, ""]), encoding="utf-8")


def _row(claim: Claim, r: Result | None) -> str:
    exact = "-" if claim.exact is None else r.exact if r and r.exact else "not run"
    cells = [
        f"[{claim.name}]({claim.name}.md) {claim.title}",
        f"{claim.kind}, {WHOSE[claim.whose]}",
        claim.paper,
        exact,
        "proved" if formal.of(claim.name) else "-",
        *(["not run", "-", "-", "-"] if r is None else _checked_cells(r)),
    ]
    return f"| {' | '.join(cells)} |"


def _checked_cells(r: Result) -> list[str]:
    return [f"{r.instances}: {r.verdict}", ratio_words(r.best), f"{r.killed}/{len(r.mutants)}", r.smallest or "-"]
