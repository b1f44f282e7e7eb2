"""The gallery: short scripts in docs/gallery, each with one idea, one picture and some lines of output.

    python docs/_site/gallery.py            # runs all, writes NAME.svg and NAME.txt beside each script
    python docs/_site/gallery.py stream     # one of them

A script ends with ``plt.show()``, as a reader's own would; here that saves the picture. The page of the site is put together from the
scripts, their pictures and their outputs by ``page``.
"""

from __future__ import annotations

import ast
import contextlib
import io
import runpy
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "gallery"
ORDER = (
    "nearest", "tolerance", "prices", "equalized_odds", "own_notion", "divergence", "classes", "layer_in_training", "stream", "decisions",
)  # fmt: skip


def run(name: str, picture: Path) -> str:
    """Run a script; its picture goes to ``picture``, what it printed is returned. AssertionError where it shows no picture or several."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shown: list[int] = []

    def save() -> None:
        shown.append(len(plt.gca().get_children()))
        plt.savefig(picture, bbox_inches="tight", metadata={"Date": None})
        plt.close("all")

    out, show = io.StringIO(), plt.show
    style = {"svg.hashsalt": name, "svg.fonttype": "none", "figure.figsize": (6.4, 4.0)}
    with mpl.rc_context(style), contextlib.redirect_stdout(out):
        plt.show = save
        try:
            runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        finally:
            plt.show = show
            plt.close("all")
    assert len(shown) == 1, f"{name}: showed {len(shown)} pictures, expected one"
    return out.getvalue()


def page() -> str:
    """The gallery as Markdown, from what lies in the folder."""
    parts = ["# Gallery\n\nTen scripts, each with one idea. They are run by the tests, and print what stands below them.\n"]
    for name in ORDER:
        source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
        title, _, text = (ast.get_docstring(ast.parse(source)) or "").partition("\n")
        code = source.split('"""', 2)[2].strip()
        printed = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").rstrip()
        parts.append(f"## {title}\n\n{text.strip()}\n\n![{title}]({name}.svg)\n\n```text\n{printed}\n```\n\n```python\n{code}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or ORDER:
        printed = run(chosen, FOLDER / f"{chosen}.svg")
        (FOLDER / f"{chosen}.txt").write_text(printed, encoding="utf-8")
        print(f"{chosen}: {len(printed.splitlines())} lines, {(FOLDER / f'{chosen}.svg').stat().st_size // 1024} kB")
