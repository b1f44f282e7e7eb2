"""What the documents show is what is printed, what they link to is there, and the check of the built site is awake."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

import fairopt as fo

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def _blocks(document: Path, language: str) -> list[str]:
    return [str(found) for found in re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)]


@pytest.mark.parametrize(
    "page",
    [
        "README.md", "not_expressible.md", "compared.md", "moving.md", "soft_groups.md", "coming_from.md", "loggers.md", "lightning.md",
        "choose_backend.md", "notions.md", "adding_a_claim.md", "streaming.md",
    ],
)  # fmt: skip
def test_each_example_prints_what_stands_below_it(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    document = ROOT / "docs" / page
    codes, printed = _blocks(document, "python"), _blocks(document, "text")
    module = ModuleType(f"blocks_of_{document.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # what is defined in it can be pickled, as at the prompt
    names = vars(module)
    shown: list[str] = []
    for code in codes:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, str(document), "exec"), names)
        shown += [out.getvalue()] if out.getvalue() else []
    assert len(shown) == len(printed) >= 1
    for came, expected in zip(shown, printed, strict=True):
        assert [line.split() for line in came.splitlines()] == [line.split() for line in expected.splitlines()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_document_links_to_exists(document: Path) -> None:
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = [to for to in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in to and not to.startswith("#")]
    dead = [to for to in links if not (document.parent / to.partition("#")[0]).exists()]
    assert dead == []


def test_every_page_that_the_navigation_names_exists() -> None:
    named = re.findall(r"^ +- (?:.*: )?\"?([\w/]+\.md)\"?$", (ROOT / "docs/.nav.yml").read_text(), re.MULTILINE)
    made = {"gallery/README.md", "contributing.md", "changelog.md"}
    assert len(named) > 25
    assert [page for page in named if page not in made and not (ROOT / "docs" / page).exists()] == []
    assert [page for page in named if named.count(page) > 1] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_document_that_a_document_names_exists(document: Path) -> None:
    assert [path for path in re.findall(r"`(docs/[\w/]+(?:\.\w+)?)`", document.read_text()) if not (ROOT / path).exists()] == []


def _tool(name: str) -> ModuleType:
    """A module of docs/_site, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/_site/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def check_site() -> ModuleType:
    return _tool("check_site")


GALLERY = _tool("gallery")


@pytest.mark.parametrize("name", GALLERY.ORDER)
def test_a_script_of_the_gallery_shows_one_picture_and_prints_what_is_shown(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    printed = GALLERY.run(name, tmp_path / "picture.svg")
    assert printed == (GALLERY.FOLDER / f"{name}.txt").read_text()
    assert (tmp_path / "picture.svg").read_text().count("<path") > 5
    assert 5_000 < (GALLERY.FOLDER / f"{name}.svg").stat().st_size < 60_000


def test_the_gallery_has_ten_scripts_and_all_are_on_its_page() -> None:
    assert sorted(GALLERY.ORDER) == sorted(path.stem for path in GALLERY.FOLDER.glob("*.py"))
    assert len(GALLERY.ORDER) >= 10
    page = GALLERY.page()
    assert all(f"]({name}.svg)" in page for name in GALLERY.ORDER)


GOOD = (
    '<link href="site.css"><p id="here">costs $5 or $6</p><a href="b.html#there">b</a><a href="https://example.org">x</a><code>$x$</code>'
)


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ("", None),
        ('<a href="c.html">c</a>', "leads nowhere"),
        ('<a href="#gone">c</a>', "no such anchor"),
        ('<a href="b.html#gone">c</a>', "no such anchor"),
        ('<img src="gone.png">', "leads nowhere"),
        ('<script src="https://cdn.example.org/x.js"></script>', "another host"),
        ('<link href="//fonts.example.org/x.css">', "another host"),
        ("<p>so $x \\le y$</p>", "not drawn"),
        ("<p><br>so \\(x\\)</p>", "not drawn"),
        ("<math><mi>\\norm</mi></math>", "not drawn"),
    ],
)
def test_the_check_of_the_site_sees_what_is_planted(check_site: ModuleType, tmp_path: Path, planted: str, said: str | None) -> None:
    (tmp_path / "a.html").write_text(GOOD + planted)
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1>')
    (tmp_path / "site.css").write_text("p { color: red }")
    found = check_site.faults(tmp_path)
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_the_check_of_the_site_sees_a_font_of_another_host_and_an_empty_site(check_site: ModuleType, tmp_path: Path) -> None:
    assert check_site.faults(tmp_path) == [f"{tmp_path}: no page is there"]
    (tmp_path / "a.html").write_text(GOOD.replace("b.html#there", "#here"))
    (tmp_path / "site.css").write_text('@font-face { src: url("https://fonts.example.org/x.woff2") }')
    assert ["another host" in fault for fault in check_site.faults(tmp_path)] == [True]


LISTED = """First line.

    scores         (n,) what came,
                   and went
    rounding_bound how far
    n, m           sizes;  box  none or a pair

    layer = Layer(notion)          # code stays code
    a sentence that goes on
"""

MADE = """First line.

`scores`
:   (n,) what came, and went

`rounding_bound`
:   how far

`n, m`
:   sizes

`box`
:   none or a pair


    layer = Layer(notion)          # code stays code
    a sentence that goes on"""


def test_columns_of_arguments_become_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "griffe", SimpleNamespace(Extension=object, Object=object))  # the site's tools are not here
    as_markdown = _tool("docstrings").as_markdown
    assert as_markdown(LISTED).replace("\n\n\n", "\n\n") == MADE.replace("\n\n\n", "\n\n")
    untouched = "A table:\n\n| a  | b |\n|---|---|\n\n    x = f(1)  # why"
    assert as_markdown(untouched) == untouched


def test_every_place_that_says_a_version_says_the_same() -> None:
    said = {
        "fairopt/__init__.py": r'^__version__ = "(.+)"$',
        "pyproject.toml": r'^version = "(.+)"$',
        "CITATION.cff": r"^version: (.+)$",
        "CHANGELOG.md": r"^## ([\d.]+)",
    }
    found = {name: re.findall(pattern, (ROOT / name).read_text(), re.MULTILINE)[:1] for name, pattern in said.items()}
    assert len({tuple(versions) for versions in found.values()}) == 1, found


@pytest.mark.parametrize(
    ("cell", "made"),
    [
        ("<td>0.9095 ± 0.0022</td>", '<td class="figure">0.9095 ± 0.0022</td>'),
        ("<td>[-0.0071, 0.0505]</td>", '<td class="figure">[-0.0071, 0.0505]</td>'),
        ("<td>+0.6 to +0.7 %</td>", '<td class="figure">+0.6 to +0.7 %</td>'),
        ('<td style="text-align: left;">9 of 10</td>', '<td style="text-align: left;" class="figure">9 of 10</td>'),
        ("<th>a few words</th>", "<th>a few words</th>"),
        ("<td>words that would be squeezed</td>", '<td class="long">words that would be squeezed</td>'),
        (r"<td><code>a \| b</code></td>", "<td><code>a | b</code></td>"),
    ],
)
def test_cells_of_tables_are_marked_for_narrow_windows(cell: str, made: str) -> None:
    assert _tool("tables").on_page_content(f"<tr>{cell}</tr>") == f"<tr>{made}</tr>"


def test_the_example_on_ranks_runs_on_one(tmp_path: Path) -> None:
    text = (ROOT / "docs/scale.md").read_text()
    block = re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, flags=re.MULTILINE)[0]
    assert block.count('init_process_group("nccl")') == 1
    here = f'init_process_group("gloo", init_method="file://{tmp_path}/store", rank=0, world_size=1)'
    code = textwrap.dedent(block).replace('init_process_group("nccl")', here)
    names: dict[str, object] = {"torch": torch, "fo": fo, "scores": torch.tensor([0.2, 0.9]), "sex": ["f", "m"]}
    try:
        exec(compile(code, "scale.md", "exec"), names)
    finally:
        torch.distributed.destroy_process_group()
    fair = names["fair"]
    assert isinstance(fair, torch.Tensor)
    assert abs(float(fair[1] - fair[0])) <= 0.05
