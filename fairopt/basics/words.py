"""Names in one spelling."""

from __future__ import annotations

import re


def notion_word(text: str) -> str:
    """A notion's name in the form of the tables: ``EqualOpportunity`` and ``equal-opportunity`` are ``equal_opportunity``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text.strip())
    return spaced.replace("-", "_").lower()
