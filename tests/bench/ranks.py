"""What a projection over ranks sends and takes: ``python tests/bench/ranks.py`` prints messages, bytes and seconds of a call.

Five groups and two groups, a box, float32, forward and backward, gloo on this machine; then the same at tolerance 0, which is gathered. The
last table delays every message, as a network would, on 2, 4 and 8 ranks, and compares with  seconds without delay + messages x delay.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "ranks"


def pool_of(size: int, folder: Path) -> Any:
    """The tests' pool of ranks."""
    spec = importlib.util.spec_from_file_location("rank_pool", FOLDER / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Pool(size, folder)


def main() -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as folder:
        pool = pool_of(8, Path(folder))
        try:
            print("ranks          n  cells  steps  messages  bytes sent  seconds (a rank's processor seconds)")
            for n in (10_000, 100_000, 1_000_000):
                for ranks in (1, 2, 4):
                    shown(pool.run(ranks, "timed", {"n": n, "rounds": 5, "delay": 0.0})[0], ranks, n)
            print("gathered       n  messages and bytes sent by a rank: the first call, and each that follows")
            for n in (10_000, 100_000):
                for ranks in (2, 4):
                    told = pool.run(ranks, "timed", {"n": n, "rounds": 2, "delay": 0.0, "tolerance": 0.0})[0]
                    print(f"{ranks:8d} {n:7,}  {told['first'][0]:3d} {told['first'][1]:10,}  {told['messages']:3d} {told['bytes']:10,}")
            print("ranks  delay of a message: seconds measured, seconds by the formula (n = 10,000)")
            for ranks in (2, 4, 8):
                base = pool.run(ranks, "timed", {"n": 10_000, "rounds": 5, "delay": 0.0})[0]
                for delay in (0.01, 0.05):
                    found = pool.run(ranks, "timed", {"n": 10_000, "rounds": 5, "delay": delay})[0]
                    formula = base["seconds"] + found["messages"] * delay
                    print(f"{ranks:5d}  {1e3 * delay:4.0f} ms: {found['seconds']:.3f}  {formula:.3f}")
        finally:
            pool.close()


def shown(found: dict[str, Any], ranks: int, n: int) -> None:
    print(
        f"{ranks:5d} {n:10,}  {found['cells']:5d}  {found['steps']:5d}  {found['messages']:8d}  {found['bytes']:10,}  "
        f"{found['seconds']:.4f} ({found['processor']:.4f})"
    )


if __name__ == "__main__":
    main()
