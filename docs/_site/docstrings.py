"""fairopt's docstrings as Markdown: aligned lists of names become definition lists.

    check     what it says,
              over as many lines as it takes
    n, m      ...

A docstring is written to be read where it stands, so its lists are columns of text; Markdown would run them together. The example at its
end stays as it is: what it prints may stand in columns too.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ENTRY = re.compile(r"^(?P<indent>(?: {4})?)(?P<names>[`\"'\w*(][^|]*?)(?P<gap> {2,})(?P<text>\S.*)$")


class AlignedLists(griffe.Extension):
    """Rewrites the docstring of every object once it has been read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """``text`` with its aligned lists as definition lists."""
    prose, heading, example = text.partition("Examples:\n")
    lines, made, at = prose.splitlines(), [], 0
    while at < len(lines):
        entries, stop = _list(lines, at)
        if not entries:
            made.append(lines[at])
            at += 1
            continue
        made += ["", *entries] if made and made[-1].strip() else entries
        at = stop
    return "\n".join([*made, *([heading + example] if heading else [])])


def _list(lines: list[str], at: int) -> tuple[list[str], int]:
    """The list that begins here as Markdown, and the line after it; no entries where none begins."""
    entries: list[str] = []
    column = None
    while at < len(lines) and (cut := _cut(lines[at], column)):
        column = cut
        words = [lines[at][cut:]]
        names = lines[at][:cut].strip()
        at += 1
        while at < len(lines) and lines[at].startswith(" " * cut) and lines[at].strip():
            words.append(lines[at].strip())
            at += 1
        # a line that is short of names says several: "lower, upper  the limits;  width  of the range"
        first, *more = re.split(r";  (?=[\w, ]+  \S)", " ".join(words))
        pairs = [(names, first), *(tuple(re.split(r"  +", one, maxsplit=1)) for one in more)]
        for name, said in pairs:
            entries += [f"`{name.strip('`')}`", f":   {said}", ""]
    return entries, at


def _cut(line: str, column: int | None) -> int:
    """Where the text of an entry begins that stands in ``line``; 0: it is no entry. ``column``: where the text of the one before began."""
    found = ENTRY.match(line)
    if found is not None and not found["names"].rstrip().endswith((".", ";", ":", ",")) and not _is_code(found):
        return found.start("text")
    # the longest name of a list has one space behind it
    if column is not None and len(line) > column and line[column - 1] == " " and re.fullmatch(r" {0,4}[\w.]+", line[: column - 1]):
        return column
    return 0


def _is_code(found: re.Match[str]) -> bool:
    """Code with a comment behind it has a wide gap too."""
    return found["text"].startswith("#") or re.search(r"[=(]", found["names"].split(" ")[0]) is not None
