"""Peak memory of this process, in bytes.

A child's ``ru_maxrss`` starts at the size of its parent (the kernel copies the mark at fork), so that a rise measured from it is
hidden below the parent's size. Where the kernel has /proc/self/clear_refs, the mark of this address space is set back before each
cell and read from /proc/self/status; elsewhere ``ru_maxrss`` has to do, and only ever grows.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak() -> int:
    """The largest resident size since ``reset``, or of the process's life where that cannot be asked for."""
    field = _field("VmHWM")
    if field is not None:
        return field
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def resident() -> int:
    """The resident size now (the peak, where the system does not tell)."""
    field = _field("VmRSS")
    return peak() if field is None else field


def reset() -> None:
    """Set the peak back to the present size, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def limit(extra: int) -> None:
    """From now on an allocation that takes the address space more than ``extra`` bytes beyond its present size fails."""
    size = _field("VmSize")
    if size is None or os.name != "posix":
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = size + extra
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _field(name: str) -> int | None:
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None
