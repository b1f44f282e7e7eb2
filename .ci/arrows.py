"""The arrows between the parts: who may import whom. Exit code 1 and one line a breach.

Three rules, all read from the syntax tree, imports inside functions included:

- a part of ``fairopt`` imports only the parts named for it in ``ARROWS``;
- ``fairopt`` never imports ``fairopt_backends`` (they are found by entry points), and a backend imports ``fairopt`` only as listed;
- outside ``OWN_EXTRAS``, modules import torch, numpy and the standard library when loaded; anything else inside the function that needs it.

Imports under ``if TYPE_CHECKING`` need nothing at run time: they obey the first two rules alone.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

BASE = {"errors", "arrays", "sparse", "wide_rows", "basics"}
DATA = BASE | {"groups", "table", "problem"}
COMPILE = DATA | {"notions", "compiler", "numerics", "feasibility", "dual"}
SOLVE = DATA | {"numerics", "feasibility", "dual", "contract"}
PREPARED = COMPILE | SOLVE | {"solve"}
LAYER = PREPARED | {"prepared", "gap_table", "frozen", "decisions"}
USERS = LAYER | {"listing", "files"} | {"layer", "streaming", "auditing", "race", "testing"}
# Later parts import earlier ones. A part that is not here yet is a breach: place it when you add it.
ARROWS: dict[str, set[str]] = {
    "arrays": set(),
    "errors": set(),
    "sparse": {"arrays"},
    "wide_rows": {"arrays", "sparse"},
    "basics": {"errors", "arrays"},
    "table": BASE,
    # Text read from files and written to them; auditing and streaming read through it.
    "files": BASE,
    "problem": BASE,
    "groups": BASE | {"problem", "table"},
    "numerics": BASE | {"problem"},
    "feasibility": DATA | {"numerics"},
    "notions": BASE | {"problem", "groups", "table"},
    "compiler": DATA | {"notions", "numerics", "feasibility", "dual"},
    "dual": DATA | {"numerics"},
    "contract": SOLVE,
    "listing": SOLVE,
    "solve": SOLVE,
    "prepared": PREPARED,
    "gap_table": COMPILE,
    "decisions": DATA | {"numerics"},
    # Its `controller` makes a stream when it is asked to; streaming knows no layer.
    "layer": LAYER | {"streaming"},
    # Fitted from a layer; the layer's own `freeze` calls it when it is asked to.
    "frozen": LAYER | {"layer"},
    "streaming": LAYER | {"files"},
    "auditing": USERS - {"streaming", "race", "testing"},
    "race": USERS - {"streaming", "auditing"},
    "testing": USERS - {"auditing", "race"},
    "training": USERS,
    "experiments": USERS | {"training", "__init__"},
    "cli": USERS | {"training", "experiments", "__init__"},
    # `import fairopt` shows the public names; what needs an extra stays behind its own import.
    "__init__": USERS,
    "__main__": {"cli"},
}
BACKENDS = SOLVE
# Outside the wheel: it may use all of fairopt and the solvers, and nothing of them imports it.
PROOFS = USERS | {"experiments", "__init__", "fairopt_backends", "proofs_checks"}
OWN_EXTRAS = {"proofs_checks", "cli", "experiments", "training", "testing"}


def imports(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """(module, line, whether it is imported when the file is loaded). ``from fairopt import b`` yields ``fairopt.b``, perhaps a part."""
    outside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) for n in ast.walk(f)}
    typing = {
        id(n)
        for f in ast.walk(tree)
        if isinstance(f, ast.If) and "TYPE_CHECKING" in ast.unparse(f.test)
        for s in f.body
        for n in ast.walk(s)
    }
    for node in ast.walk(tree):
        at_load = id(node) not in outside | typing
        if isinstance(node, ast.Import):
            yield from ((name.name, node.lineno, at_load) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "fairopt":
            yield from ((f"fairopt.{name.name}", node.lineno, at_load) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), node.lineno, at_load


def part_of(path: Path, root: Path) -> str:
    inside = path.relative_to(root).parts
    return inside[0].removesuffix(".py")


def target_part(module: str, package: Path) -> str:
    """The part that ``fairopt.x.y`` belongs to; a name of the package itself counts as ``__init__``."""
    names = module.split(".")
    if len(names) > 1 and ((package / names[1]).is_dir() or (package / f"{names[1]}.py").exists()):
        return names[1]
    return "__init__"


def breaches(root: Path) -> list[str]:
    package, backends = root / "fairopt", root / "backends" / "fairopt_backends"
    found: list[str] = []
    files = [(p, part_of(p, package)) for p in sorted(package.rglob("*.py"))]
    files += [(p, "fairopt_backends") for p in sorted(backends.rglob("*.py"))]
    files += [(p, "proofs_checks") for p in sorted((root / "proofs_checks").rglob("*.py"))]
    for path, part in files:
        where = path.relative_to(root)
        allowed = {"fairopt_backends": BACKENDS | {"fairopt_backends"}, "proofs_checks": PROOFS}.get(part, ARROWS.get(part))
        if allowed is None:
            found.append(f"{where}: part {part!r} has no place in .ci/arrows.py")
            continue
        for module, line, at_load in imports(ast.parse(path.read_text(), str(path))):
            top = module.split(".")[0]
            if top == "fairopt":
                target = target_part(module, package)
            elif top in {"fairopt_backends", "proofs_checks"}:
                target = top
            elif not top:
                found.append(f"{where}:{line}: relative import {module!r}")
                continue
            else:
                foreign = top not in sys.stdlib_module_names and top not in {"torch", "numpy"}
                if at_load and foreign and part not in OWN_EXTRAS | {"fairopt_backends"}:
                    found.append(f"{where}:{line}: imports {top} when loaded; import it inside the function and raise MissingExtraError")
                continue
            if target != part and target not in allowed:
                found.append(f"{where}:{line}: {part} must not import {target} ({module})")
    return found


def main() -> int:
    found = breaches(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve())
    for line in found:
        print(line)
    print(f"arrows: {len(found)} breaches")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
