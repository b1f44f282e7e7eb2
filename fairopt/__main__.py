"""``python -m fairopt``: the command line."""

from __future__ import annotations

from fairopt.cli import main

if __name__ == "__main__":
    main()
