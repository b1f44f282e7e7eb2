"""Holds a built site to what is said of it: every link and anchor leads somewhere, every picture is there, nothing comes from another
host, every formula is drawn.

    python docs/_site/check_site.py build/site
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself. A link that a reader follows may lead to another host.
FETCHED = {"link": "href", "object": "data"} | dict.fromkeys(("img", "script", "iframe", "source", "video", "audio"), "src")
CODE = {"code", "pre", "script", "style", "math"}
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
STYLE_FETCHES = re.compile(r"(?:url\(|@import )[\"']?(https?:[^)\"']+)")
# What stays of a formula that was not drawn.
UNDRAWN = re.compile(r"\$\$|\\\(|\\\[|\$\\?[A-Za-z]|\\(frac|sum|le|ge|in|cdot|mathbb|text)\b")


@dataclass
class Page(HTMLParser):
    """What one page refers to, and what can be referred to on it."""

    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    undrawn: list[str] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        self.anchors |= {told[name] for name in ("id", "name") if name in told}
        if tag == "a" and "href" in told:
            self.links.append(told["href"])
        elif tag in FETCHED and FETCHED[tag] in told and told.get("rel") != "canonical":
            self.fetched.append(told[FETCHED[tag]])
        if tag not in VOID:
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.inside:
            del self.inside[len(self.inside) - 1 - self.inside[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        in_math = "math" in self.inside
        if (in_math and "\\" in data) or (not CODE & set(self.inside) and UNDRAWN.search(data)):
            self.undrawn.append(data.strip()[:60])


def faults(site: Path) -> list[str]:
    """What is wrong with the site in the folder ``site``, a line each."""
    pages = {path.resolve(): _read(path) for path in sorted(site.rglob("*.html"))}
    found: list[str] = []
    for path, page in pages.items():
        if path.name == "404.html":  # its addresses begin at the host's root, wherever that will be
            continue
        shown = path.relative_to(site.resolve())
        found += [f"{shown}: formula not drawn: {text}" for text in page.undrawn]
        found += [f"{shown}: comes from another host: {to}" for to in page.fetched if urlsplit(to).netloc]
        inner = [to for to in (*page.links, *page.fetched) if not urlsplit(to).netloc and urlsplit(to).scheme in ("", "file")]
        found += [f"{shown}: {fault}: {to}" for to in inner if (fault := _dead(path, to, pages))]
    for path in sorted(site.rglob("*.css")):
        text = path.read_text(encoding="utf-8")
        found += [f"{path.relative_to(site)}: comes from another host: {to}" for to in STYLE_FETCHES.findall(text)]
    return found if pages else [f"{site}: no page is there"]


def _read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _dead(path: Path, to: str, pages: dict[Path, Page]) -> str | None:
    parts = urlsplit(to)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        return "leads nowhere"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors and anchor != "__top":
        return "no such anchor"
    return None


def main() -> int:
    """Print what is wrong; 1 where anything is."""
    site = Path(sys.argv[1])
    found = faults(site)
    sys.stdout.writelines(f"{line}\n" for line in found)
    sys.stdout.write(f"{site}: {len(list(site.rglob('*.html')))} pages, {len(found)} faults\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
