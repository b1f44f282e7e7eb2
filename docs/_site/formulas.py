"""Formulas become MathML while the site is built: the reader's browser draws them, so that no script and no font has to be fetched.

``$...$`` in a line, and ``$$...$$`` or a fence that says ``math`` for one that stands alone, as on a code host.
"""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

FOUND = re.compile(r'<(?P<tag>span|div) class="arithmatex">\\(?P<open>[(\[])(?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Replace each formula that arithmatex has found."""
    return FOUND.sub(_drawn, content)


def _drawn(found: re.Match[str]) -> str:
    display = "block" if found["open"] == "[" else "inline"
    drawn: str = convert(html.unescape(found["tex"]).strip(), display=display)
    return f'<div class="formula">{drawn}</div>' if display == "block" else drawn
