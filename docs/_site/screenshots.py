"""Draws every page of a built site in a wide and a narrow window, and says what a reader would stumble over.

    python docs/_site/screenshots.py build/site build/pictures           # every page; or some: ... moving.html docs.html

One PNG a page and width, and a search. Needs Chromium and nothing else. 1 where a page moves sideways, a picture is empty, a formula has no
size, a table's words are squeezed, or the search finds nothing.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from browser import Browser  # beside this file, in a folder that is no package

WIDTHS = (1280, 390)
SEEN = """(() => {
  const found = [], wide = document.documentElement.scrollWidth;
  const name = (one) => (one.innerText || one.textContent || one.src || "").trim().slice(0, 50);
  if (wide > window.innerWidth) found.push(`moves sideways: ${wide} pixels`);
  for (const one of document.querySelectorAll(".md-content img"))
    if (!one.naturalWidth || !one.getBoundingClientRect().height) found.push(`empty picture: ${one.src}`);
  for (const one of document.querySelectorAll(".md-content math"))
    if (one.getBoundingClientRect().width < 2) found.push(`formula without a size: ${name(one)}`);
  for (const one of document.querySelectorAll(".md-content td, .md-content th")) {
    const inside = one.clientWidth - 2 * parseFloat(getComputedStyle(one).paddingLeft);
    if (one.innerText.trim().length > 24 && inside < 90) found.push(`squeezed to ${Math.round(inside)} pixels: ${name(one)}`);
  }
  return found;
})()"""

SEARCHED = """(async () => {
  const field = document.querySelector(".md-search__input");
  if (!field || !field.getBoundingClientRect().width) return -1;
  field.focus();
  field.value = "projection";
  for (let k = 0; k < 50; k += 1) {
    field.dispatchEvent(new Event("keyup"));
    await new Promise((done) => setTimeout(done, 100));
    const found = document.querySelectorAll(".md-search-result__item").length;
    if (found) return found;
  }
  return 0;
})()"""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of ``folder`` on this machine: from a file a page may start no search."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def main() -> int:
    """Draw the pages; print what is wrong with them."""
    site, folder, *chosen = sys.argv[1:]
    root = Path(site).resolve()
    Path(folder).mkdir(parents=True, exist_ok=True)
    pages = [root / page for page in chosen] or sorted(root.rglob("*.html"))
    wrong = 0
    for width in WIDTHS:
        with served(root) as address, Browser(width) as browser:
            for page in pages:
                shown = page.relative_to(root)
                browser.open(f"{address}/{shown.as_posix()}")
                # pictures below the window are fetched when they come into it
                browser.say("document.querySelectorAll('img').forEach((one) => { one.loading = 'eager'; })")
                browser.say("Promise.all([...document.images].map((one) => one.decode().catch(() => null)))")
                for fault in browser.say(SEEN):
                    wrong += 1
                    print(f"{shown} at {width}: {fault}")
                browser.picture(Path(folder) / f"{'.'.join(shown.with_suffix('').parts)}.{width}.png")
    with served(root) as address, Browser(WIDTHS[0]) as browser:
        browser.open(f"{address}/index.html")
        hits = browser.say(SEARCHED)
    print("search: finds pages" if hits > 0 else f"search: {'finds none' if hits == 0 else 'has no field'}")
    wrong += hits <= 0
    print(f"{len(pages)} pages at {' and '.join(map(str, WIDTHS))} pixels, {wrong} faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
