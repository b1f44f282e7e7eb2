"""Which text of docs/experiments/PROTOCOL.md holds, by its hash and by the commit that brought it.

A commit cannot name itself: the protocol is committed first, then these two constants. A test holds them against the file and, where
there is a history, against the commit. They are no part of what makes a cell.
"""

from __future__ import annotations

from fairopt.experiments.evidence.protocol import VERSION

COMMIT = "730f275a4d60c29e9b11a34e17ca61735e969b7c"
SHA256 = "3243dedc88635d79bd02adcc19c95eb6ff44a56a444448bc3a1b6239a5e0dd30"


def protocol_words() -> str:
    """For the head of a page."""
    return f"[Protocol](PROTOCOL.md), version {VERSION}, as of commit {COMMIT[:10]} (sha256 {SHA256[:12]})"
