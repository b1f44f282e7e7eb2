"""Solver modules, imported on first use: absent means ``MissingExtraError`` with the line that installs it."""

from __future__ import annotations

import importlib
import sys
import warnings
from threading import Lock
from typing import Any

from fairopt.basics.errors import BackendError, MissingExtraError
from fairopt.basics.extras import install_line

# module -> the extra that it belongs to
_EXTRAS = {"cvxpylayers": "cvxpylayers", "diffcp": "diffcp", "proxsuite": "proxqp", "moreau": "moreau", "qpsolvers": "qpsolvers"}
INSTALL = {
    **{module: install_line(extra) for module, extra in _EXTRAS.items()},
    "scipy": "pip install scipy",
    # Their metadata would downgrade numpy, or need a compiler: hence --no-deps, after torch.
    "qpth": "pip install --no-deps qpth==0.0.18  (and: pip install cvxpy)",
    "theseus": "pip install --no-deps --no-build-isolation torchlie==0.1.0 torchkin==0.1.1 urdf-parser-py==0.0.4 theseus-ai==0.2.3  "
    "(and: pip install lxml pyyaml scipy)",
}

# Importing theseus and cvxpylayers warns about parts that nobody asked for; the filter is process-wide, hence one import at a time.
_import_lock = Lock()


def load(name: str, *, extra: str | None = None) -> Any:
    """The module ``name``; ``extra``: the module whose line installs it, where it differs from the top package."""
    if sys.modules.get(name) is not None:
        return importlib.import_module(name)
    top = name.split(".")[0]
    line = INSTALL[extra or top]
    with _import_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            message = f"this backend needs {name}, but {error.name} is not installed. Install it with:\n    {line}"
            raise MissingExtraError(message) from error
        except Exception as error:  # whatever a broken installation raises is reported as exactly that
            raise BackendError(f"{name} is installed but fails at import: {type(error).__name__}: {error}") from error
