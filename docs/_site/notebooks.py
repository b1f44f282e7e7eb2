"""The notebooks: runs their cells, keeps what they print, and shows them as pages.

    python docs/_site/notebooks.py         # runs all, from the top of the checkout, and writes their outputs into them

Cells are plain Python that prints; one namespace a notebook. Any Jupyter opens the files; none is needed to run or to show them.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def outputs(notebook: dict[str, Any], name: str) -> list[str]:
    """What each code cell prints, run from the first to the last."""
    module = ModuleType(f"cells of {name}")
    sys.modules[module.__name__] = module  # what is defined in it can be pickled, as under Jupyter
    printed = []
    try:
        for k, cell in enumerate(_code(notebook)):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile("".join(cell["source"]), f"{name}, code cell {k + 1}", "exec"), vars(module))
            printed.append(out.getvalue())
    finally:
        del sys.modules[module.__name__]
    return printed


def shown(notebook: dict[str, Any]) -> list[str]:
    """What the file shows below each code cell."""
    return ["".join(text for output in cell["outputs"] for text in output["text"]) for cell in _code(notebook)]


def page(notebook: dict[str, Any], name: str) -> str:
    """The notebook as Markdown, with a link to the file under its title."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"]).strip()
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        printed = "".join(text for output in cell.get("outputs", ()) for text in output["text"]).rstrip()
        parts += [f"```text\n{printed}\n```"] if printed else []
    title, _, text = "\n\n".join(parts).partition("\n\n")
    return f"{title}\n\n[The notebook as a file]({name})\n\n{text}\n"


def _code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def main() -> None:
    """Run every notebook and write its outputs into it."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for number, (cell, printed) in enumerate(zip(_code(notebook), outputs(notebook, path.name), strict=True), 1):
            text = printed.splitlines(keepends=True)
            cell["execution_count"] = number
            cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": text}] if text else []
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
