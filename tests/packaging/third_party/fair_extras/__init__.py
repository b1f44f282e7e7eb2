"""What a third party adds to fairopt: ``uzawa``, a backend, and ``no_worse_than``, a notion."""

from __future__ import annotations

from fair_extras.notions import no_worse_than

__all__ = ["no_worse_than"]
