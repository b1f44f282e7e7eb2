"""fairopt's docstrings as Markdown: aligned lists of names become definition lists.

    check     what it says,
              over as many lines as it takes
    n, m      ...

A docstring is written to be read where it stands, so its lists are columns of text; Markdown would run them together.
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
    lines, made, at = text.splitlines(), [], 0
    while at < len(lines):
        size = _entry(lines, at)
        # a single line with a wide gap inside indented code is code
        if size == 0:
            made.append(lines[at])
            at += 1
            continue
        stop = at
        entries: list[str] = []
        while stop < len(lines) and (size := _entry(lines, stop)):
            found = ENTRY.match(lines[stop])
            assert found is not None
            words = " ".join([found["text"], *(line.strip() for line in lines[stop + 1 : stop + size])])
            entries += [f"`{found['names'].strip('`')}`", f":   {words}", ""]
            stop += size
        made += ["", *entries] if made and made[-1].strip() else entries
        at = stop
    return "\n".join(made)


def _entry(lines: list[str], at: int) -> int:
    """How many lines the entry takes that begins here; 0: none begins."""
    found = ENTRY.match(lines[at])
    if found is None or found["names"].rstrip().endswith((".", ";", ":", ",")) or not _is_list(lines, at, found):
        return 0
    column = found.start("text")
    size = 1
    while at + size < len(lines) and lines[at + size].startswith(" " * column) and lines[at + size].strip():
        size += 1
    return size


def _is_list(lines: list[str], at: int, found: re.Match[str]) -> bool:
    """Code with a comment behind it has a wide gap too."""
    return not found["text"].startswith("#") and not re.search(r"[=(]", found["names"].split(" ")[0])
