"""``make reproduce-check``: ten cells of the stored tables, drawn at random, made again from the data and compared.

The same figures to rounding, where the page was made on a machine of this kind. On another one training carries the last bits of a sum into
digits that show, and a decision that flips is one row of a group: there figures have to be near, and the output says so.

Some trainings of the comparison are decided by rounding on any machine: where a figure is another one the cell is made again with its
features an ulp or a few off (``nudges``).
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fairopt.basics.errors import InputError, MissingExtraError
from fairopt.experiments.data.files import pandas
from fairopt.experiments.evidence.again import distances, made_again
from fairopt.experiments.evidence.candidates import Ground, candidates
from fairopt.experiments.evidence.cells import PARTS, Cell, Rows, make_cell
from fairopt.experiments.evidence.collected import of_output
from fairopt.experiments.evidence.nudges import NUDGES, Figures, apart, nudged, scattered
from fairopt.experiments.evidence.parts import GROUP, cut
from fairopt.experiments.evidence.protocol import DATA, code_mark
from fairopt.experiments.evidence.study import task_named
from fairopt.experiments.marks import machine
from fairopt.experiments.reproduce import FINISHED, module_of

WITHIN = 1e-6  # the table is rounded to seven digits
NEAR = 0.01  # of figures that another machine made
WORDS = {True: "ok  ", False: "FAIL", None: "-   "}
FIGURES = ("validation quality", "validation gap", "test quality", "test gap")
ENDING = "-cells.csv.gz"
OF_A_CELL = ("data", "attributes", "notion", "known", "seed", "method", "base", "setting")
Key = tuple[str, ...]
Line = dict[str, str]
Cells = Mapping[Key, Sequence[Line]]


@dataclass(frozen=True)
class Checked:
    """What came of one drawn cell. ok: the same figures, or marked as one that time decides; None: a package that it needs is not here."""

    key: Key
    ok: bool | None
    words: str


def machines(folder: Path) -> dict[str, str]:
    """page -> the machine that its figures were made on, where it says so."""
    stored = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    return {name: page["machine"] for name, page in stored.items() if "machine" in page}


def stored_cells(files: Iterable[Path]) -> dict[Key, list[Line]]:
    """cell -> its lines, of all stored tables. A key begins with the page's name; beside the comparison each line is a cell."""
    found: dict[Key, list[Line]] = {}
    for path in files:
        page = path.name.removesuffix(ENDING)
        for number, line in enumerate(_lines(path)):
            key = tuple(line[n] for n in OF_A_CELL) if page in DATA else (str(number),)
            found.setdefault((page, *key), []).append(line)
    return found


def _lines(path: Path) -> Iterator[Line]:
    yield from pandas().read_csv(path, dtype=str, keep_default_na=False).to_dict("records")


def check(key: Key, cells: Cells, data: Path | None = None, made_on: str | None = None) -> Checked:
    """Make one of the cells again. ``made_on``: the machine that its page names."""
    lines = cells[key]
    here = made_on is None or made_on == machine()
    try:
        if key[0] in DATA:
            return _of_comparison(key, lines, data, here=here)
        if tuple(lines[0]) == FINISHED:
            return _finished(key, cells, data, here=here)
        return _of_study(key, lines[0], data, here=here)
    except MissingExtraError as error:
        return Checked(key, None, str(error))


def _finished(key: Key, cells: Cells, data: Path | None, *, here: bool) -> Checked:
    drawn, record = (cells[key][0][name] for name in FINISHED)
    named = (key[0], drawn)
    given = {lines[0]["cell"]: json.loads(lines[0]["record"]) for other, lines in cells.items() if other[0] == key[0]}
    try:
        made = made_again(key[0], given, drawn, data)
    except InputError as error:
        return Checked(named, False, str(error))
    return _judged(named, list(distances(json.loads(record), made)), here=here)


def _of_study(key: Key, line: Line, data: Path | None, *, here: bool) -> Checked:
    named = (*key, *(value for name, value in line.items() if not _is_number(value) or name == "seed"))
    made: Mapping[str, float] | None = module_of(key[0]).remade(line, data)
    if made is None:
        return Checked(named, True, "a time: not made again")
    return _judged(named, [abs(value - float(line[name])) for name, value in made.items()], here=here)


def _judged(key: Key, apart: Sequence[float], more: str = "", *, here: bool) -> Checked:
    """NaN, and no figure at all, are another figure."""
    most = max(apart, default=0.0)
    ok = bool(apart) and all(distance <= (WITHIN if here else NEAR) for distance in apart)
    same = bool(apart) and all(distance <= WITHIN for distance in apart)
    words = "the same" if same else "near, of another machine" if ok else "ANOTHER FIGURE"
    return Checked(key, ok, f"{words}, at most {most:.1e} apart{more}")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _of_comparison(key: Key, lines: Sequence[Line], data: Path | None, *, here: bool) -> Checked:
    _, name, attributes, notion, known, seed, method, base, setting = key
    task = task_named(name, attributes, notion, known == "True")
    asked = [c for c in candidates(task) if (c.method, c.base, str(c.setting)) == (method, base, setting)]
    if len(asked) != 1:
        return Checked(key, False, "this code has no such candidate")
    if lines[0]["status"] == "time":
        return Checked(key, True, "limited by time: not made again")
    old = "" if lines[0]["code"] == code_mark() else "; stale: made by other code"
    own = cut(task, int(seed), data)
    stored = {(line["row"], line["serving"], line["output"]): [float(line[n]) for n in FIGURES] for line in lines if line["row"]}
    first, runs = None, list[Figures]()
    for ulps in (0, *NUDGES):
        ground = Ground(task, int(seed), nudged(own, ulps))
        cell = make_cell(asked[0], ground)
        made = figures_of(cell, ground)
        if first is None:
            other = _otherwise(key, lines[0], cell, made.keys() == stored.keys(), old)
            if other is not None:
                return other
        if made.keys() != stored.keys():  # out of time, this once
            continue
        one = _judged(key, apart(made, stored), old, here=here)
        if one.ok:
            more = "" if first is None else f"; with features {ulps:+d} ulp, which decides this training ({first.words})"
            return replace(one, words=one.words + more)
        first = one if first is None else first
        runs.append(made)
    assert first is not None
    ok, nearest, widest = scattered(runs, stored)
    words = f"{nearest:.1e} from the nearest of {len(runs)} runs with features an ulp or a few off, which are up to {widest:.1e} apart"
    return Checked(key, ok, f"rounding decides this training: {words}{old}" if ok else f"{first.words}; {words}")


def _otherwise(key: Key, line: Line, cell: Cell, same_outputs: bool, old: str) -> Checked | None:
    """What is said of a cell that has no figures to compare; None of one that has."""
    if cell.status == "time":
        return Checked(key, True, "limited by time here" + old)
    if cell.status == "absent" and line["status"] != "absent":
        return Checked(key, None, cell.why)
    if cell.status != line["status"]:
        return Checked(key, False, f"{cell.status} ({cell.why}), stored: {line['status']}{old}")
    if not same_outputs:
        return Checked(key, False, f"other outputs than stored: {sorted(cell.outputs)}{old}")
    return Checked(key, True, f"{cell.status}, as stored{old}") if cell.status != "done" else None


def figures_of(cell: Cell, ground: Ground) -> Figures:
    """The figures of each output of a cell."""
    parts = {"validation": ground.cut.validation, "test": ground.cut.test}
    rows = {n: Rows(ground.cut.rows[n], parts[n].y.double().numpy(), parts[n].sensitive[GROUP], ground.task.values) for n in PARTS}
    return {output: of_output(rows, ground.task, output[2], said) for output, said in cell.outputs.items()}


def main(arguments: Sequence[str]) -> int:
    """FOLDER [DRAWS] [SEED]; 1 where a figure differs or nothing was checked. For what cannot be made here another is drawn."""
    folder = Path(arguments[0])
    count = int(arguments[1]) if len(arguments) > 1 else 10
    seed = int(arguments[2]) if len(arguments) > 2 else random.SystemRandom().randrange(10**6)
    cells = stored_cells(sorted(folder.glob(f"*{ENDING}")))
    if not cells:
        raise InputError(f"reproduce-check: no table of cells in {folder}")
    keys = sorted(cells)
    random.Random(seed).shuffle(keys)
    made_on = machines(folder)
    sys.stdout.write(f"{min(count, len(cells))} of {len(cells)} cells, drawn with seed {seed}; this machine: {machine()}\n")
    decided: list[bool] = []
    for key in keys:
        if len(decided) == count:
            break
        one = check(key, cells, made_on=made_on.get(key[0]))
        if one.ok is not None:
            decided.append(one.ok)
        sys.stdout.write(f"{WORDS[one.ok]} {' / '.join(one.key)}: {one.words}\n")
        sys.stdout.flush()
    return 0 if decided and all(decided) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
