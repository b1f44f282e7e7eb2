"""Cells of tables that hold many words, and those that hold a figure, are marked while the site is built, so that a narrow window moves the
table inside its frame and does not squeeze them to a word a line. And `a \\| b` in code loses the stroke that code hosts ask for."""

from __future__ import annotations

import html
import re
from typing import Any

CELL = re.compile(r"<(?P<tag>td|th)(?P<told>[^>]*)>(?P<inside>.*?)</(?P=tag)>", re.DOTALL)
LONG = 24  # characters: more of them want the width that docs/site.css gives
FIGURE = re.compile(r"[\[(<>=~+-]{0,2} ?\d[\d.,e+ %x±-]*(?:to|of|ms|s)?[\d.,e+ %x±-]*[\])]?")  # "0.91 ± 0.02", "+4 to +7 %", "[-0.1, 2]"


def on_page_content(content: str, **_: Any) -> str:
    """Mark the cells with more than ``LONG`` characters as long, those with a figure as one."""
    return CELL.sub(_marked, content)


def _marked(found: re.Match[str]) -> str:
    inside = found["inside"].replace("\\|", "|")
    words = html.unescape(re.sub(r"<math.*?</math>|<[^>]*>", "", inside, flags=re.DOTALL)).strip()
    kind = "long" if len(words) > LONG else "figure" if FIGURE.fullmatch(words) else ""
    marked = f' class="{kind}"' if kind and "class=" not in found["told"] else ""
    return f"<{found['tag']}{found['told']}{marked}>{inside}</{found['tag']}>"
