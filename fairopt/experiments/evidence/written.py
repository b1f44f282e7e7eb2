"""Which text of docs/experiments/PROTOCOL.md holds, by its hash and by the commit that brought it.

A commit cannot name itself: the protocol is committed first, then these two constants. A test holds them against the file and, where
there is a history, against the commit. They are no part of what makes a cell.
"""

from __future__ import annotations

from fairopt.experiments.evidence.protocol import VERSION

COMMIT = "20cde124c2892170aee49a75ba3b2a3f669a95cf"
SHA256 = "46091f97bf715a4169262c7fc437d1a3def3f0f9950090f6c47cbd8c48e394a9"


def protocol_words() -> str:
    """For the head of a page."""
    return f"[Protocol](PROTOCOL.md), version {VERSION}, as of commit {COMMIT[:10]} (sha256 {SHA256[:12]})"
