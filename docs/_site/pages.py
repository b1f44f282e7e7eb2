"""Pages that are made while the site is built: the reference, one a public module, the gallery, the notebooks, two documents of the top.

The reference is read from the source by griffe; nothing of fairopt is imported. A name that several modules offer is described on the
page of the narrowest, and the page of ``fairopt`` links there. Documents name each other by their paths in the checkout; on the site such
a name is a link, and so is a public name in code quotes, `FairnessLayer` or `fo.project`.
"""

from __future__ import annotations

import json
import posixpath
import re
import sys
from functools import cache
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation, Section
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
import gallery  # beside this file, in a folder that is no package
import notebooks

ROOT = Path(__file__).parents[2]
MODULES = ("fairopt.notions", "fairopt.auditing", "fairopt.streaming", "fairopt.training", "fairopt.testing", "fairopt.race", "fairopt")
AT_THE_TOP = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
NAMED = re.compile(r"(?<!\[)`(?P<path>docs/[\w/-]+(?:\.md)?/?|CONTRIBUTING\.md|CHANGELOG\.md)`")
SKIPPED = r"<(?P<tag>a|autoref|pre|h[1-6])\b.*?</(?P=tag)>"
QUOTED = re.compile(rf"(?P<skipped>{SKIPPED})|<code>(?P<fo>fo\.|fairopt\.)?(?P<name>\w+)(?:\(\.\.\.\))?</code>", re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the made pages to those that lie in docs."""
    for source, page in AT_THE_TOP.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")))
    files.append(File.generated(config, "gallery/README.md", content=gallery.page()))
    for notebook in sorted(notebooks.NOTEBOOKS.glob("*.ipynb")):
        text = notebooks.page(json.loads(notebook.read_text(encoding="utf-8")), notebook.name)
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=text))
    for path, text in _reference()[0].items():
        files.append(File.generated(config, path, content=text))
    return files


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Leave out the parts that have no page yet."""
    nav.items = [item for item in nav.items if not isinstance(item, Section) or item.children]
    return nav


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links of the documents that the text names."""

    def linked(found: re.Match[str]) -> str:
        path = found["path"].removeprefix("docs/").rstrip("/")
        for place in (AT_THE_TOP.get(path, path), f"{path}/README.md"):
            if files.get_file_from_path(place) is not None and place != page.file.src_uri:
                return f"[{found[0]}]({posixpath.relpath(place, posixpath.dirname(page.file.src_uri))})"
        return found[0]

    return NAMED.sub(linked, markdown)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links of the public names that the text quotes. `audit` may be a word of something else, `fo.audit` is the function."""
    homes = {path.rpartition(".")[2]: path for path in _reference()[1].values()}

    def linked(found: re.Match[str]) -> str:
        home = homes.get(found["name"])
        if found["skipped"] or home is None or not (found["fo"] or found["name"][0].isupper()):
            return found[0]
        target = f"reference/{home.rpartition('.')[0]}.html"
        here = "" if page.file.dest_uri == target else posixpath.relpath(target, posixpath.dirname(page.file.dest_uri))
        return f'<a href="{here}#{home}">{found[0]}</a>'

    return QUOTED.sub(linked, content)


@cache
def _reference() -> tuple[dict[str, str], dict[str, str]]:
    """The text of each page of the reference; and where each public object is described."""
    package = griffe.load("fairopt", search_paths=[ROOT], allow_inspection=False)
    assert isinstance(package, griffe.Module)
    homes: dict[str, str] = {}  # where an object is defined -> under which public name it is described
    pages = {f"reference/{module}.md": _page(package, module, homes) for module in MODULES}
    return {"reference/README.md": _overview(package), **pages}, homes


def _page(package: griffe.Module, module: str, homes: dict[str, str]) -> str:
    found = _at(package, module)
    names = sorted(found.exports or (), key=lambda name: (str(name).lower(), str(name)))
    lines = [f"# {module}", "", found.docstring.value if found.docstring else "", ""]
    described: list[str] = []
    rows: list[str] = []
    for name in map(str, names):
        member = found[name]
        target = member.final_target if isinstance(member, griffe.Alias) else member
        public = f"{module}.{name}"
        if homes.setdefault(target.canonical_path, public) == public:
            described += [f"::: {public}", ""]
        rows.append(f"| [`{name}`][{homes[target.canonical_path]}] | {_in_a_line(target)} |")
    return "\n".join([*lines, "| name | what it is |", "|---|---|", *rows, "", *described])


def _in_a_line(target: griffe.Object) -> str:
    """The first sentence of a docstring, for a cell of a table. PluginError where there is none."""
    if target.docstring is None:
        raise PluginError(f"{target.path} is a public name and says nothing")
    text = " ".join(target.docstring.value.strip().split("\n\n")[0].split())
    sentence = re.match(r".*?\.(?= |$)", text)
    return (sentence[0] if sentence else text).rstrip(".:").replace("|", "\\|")


def _overview(package: griffe.Module) -> str:
    lines = [
        "# Reference",
        "",
        "Every public name, a page a module, made from the docstrings. The examples are run by the tests; they stand behind",
        "",
        "```python",
        "import numpy as np",
        "import torch",
        "",
        "import fairopt as fo",
        "```",
        "",
        "| module | what is in it |",
        "|---|---|",
    ]
    for module in sorted(MODULES):
        docstring = _at(package, module).docstring
        lines.append(f"| [`{module}`]({module}.md) | {docstring.value.splitlines()[0] if docstring else ''} |")
    return "\n".join([*lines, ""])


def _at(package: griffe.Module, module: str) -> griffe.Module:
    inner = module.removeprefix("fairopt").removeprefix(".")
    found = package[inner] if inner else package
    assert isinstance(found, griffe.Module)
    return found
