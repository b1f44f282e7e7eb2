"""Claims that apply to a user's own backend or notion, as checks: ``fairopt verify`` and ``proofs_checks`` run them.

Statements, proofs and the planted mutants stand in ``proofs_checks`` (not in the wheel); here is what measures.
"""

from __future__ import annotations

from fairopt.testing.claims.measurement import Measurement, worst
from fairopt.testing.claims.subject import Case, Layer
from fairopt.testing.claims.verify import CHECKS, Outcome, applying, check_claim, verify, verify_apart

__all__ = ["CHECKS", "Case", "Layer", "Measurement", "Outcome", "applying", "check_claim", "verify", "verify_apart", "worst"]
