"""What a third party's own test suite says about its parts: one line each."""

from __future__ import annotations

from fair_extras import no_worse_than

import fairopt as fo
from fairopt.testing import check_backend, check_notion

NOTION = no_worse_than("sex", tolerance=0.05)

if __name__ == "__main__":
    assert "uzawa" in fo.backends()["name"]
    check_notion(NOTION, draws=10)
    check_backend("uzawa", draws=5)
    print("both hold")  # noqa: T201
