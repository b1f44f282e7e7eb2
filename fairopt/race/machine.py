"""What the race ran on: processor, memory, versions. No host name, no user, no path."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fairopt.contract.registry as registry

PACKAGES = (
    "torch", "numpy", "scipy", "cvxpy", "cvxpylayers", "diffcp", "qpth", "theseus-ai", "proxsuite", "moreau", "qpsolvers", "clarabel",
    "osqp", "piqp", "daqp", "highspy", "scs",
)  # fmt: skip


def machine() -> dict[str, str]:
    """Words about the machine."""
    found = {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    return {name: words for name, words in found.items() if words}


def versions() -> dict[str, str]:
    """Package -> version, of those that are installed: fairopt, the solvers, and whoever else provides a backend."""
    found: dict[str, str] = {}
    names = ["fairopt", *PACKAGES, *(point.dist.name for point in registry.installed().values() if point.dist)]
    for name in names:
        if name not in found:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
    return found


def without_paths(words: str) -> str:
    """A message with every absolute path cut to its last part: reports are shown to others."""
    return re.sub(r"(?<![\w.:/\\])(?:[A-Za-z]:)?[/\\](?:[^\s/\\'\":,()]+[/\\])+([^\s/\\'\":,()]*)", r"\1", words)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a system that tells
        return ""
    return f"{size / 2**30:.0f} GiB"
