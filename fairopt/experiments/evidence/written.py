"""Which text of docs/experiments/PROTOCOL.md holds, by its hash and by the commit that brought it.

A commit cannot name itself: the protocol is committed first, then these two constants. A test holds them against the file and, where
there is a history, against the commit. They are no part of what makes a cell.
"""

from __future__ import annotations

from fairopt.experiments.evidence.protocol import VERSION

COMMIT = "3145a54e6ba13332e61da1f6687d13c2d965981a"
SHA256 = "69742f919c88a5d1e93f1b1d46c7209e83c4c82ede89511f4d33abd74d88012d"


def protocol_words() -> str:
    """For the head of a page."""
    return f"[Protocol](PROTOCOL.md), version {VERSION}, as of commit {COMMIT[:10]} (sha256 {SHA256[:12]})"
