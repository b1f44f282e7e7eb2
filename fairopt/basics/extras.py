"""How to install what an optional part needs: a line that works whether or not fairopt itself came from an index."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires

from fairopt.basics.errors import MissingExtraError


def install_line(extra: str) -> str:
    """``pip install 'pandas>=2.2' ...``: the requirements of an extra, read from fairopt's own metadata."""
    try:
        declared = requires("fairopt") or []
    except PackageNotFoundError:  # run from a bare checkout
        declared = []
    pattern = re.compile(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]")
    wanted = [line.split(";")[0].strip() for line in declared if pattern.search(line)]
    return "pip install " + " ".join(f"'{w}'" for w in wanted) if wanted else f"pip install -e '.[{extra}]' in fairopt's checkout"


def missing(what: str, extra: str) -> MissingExtraError:
    """The error for ``what`` ("the report needs Jinja2"), with the line that installs the extra's packages."""
    return MissingExtraError(f"{what}: {install_line(extra)}")
