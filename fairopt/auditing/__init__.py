"""Audits: gap tables with intervals, ratio formats, exact checks, reports. The function is ``fairopt.audit``."""

from __future__ import annotations

from fairopt.auditing.gap_rows import ExactCheck
from fairopt.auditing.metrics import Metric
from fairopt.auditing.ratios import LocalLaw144
from fairopt.auditing.result import Audit, read_json
from fairopt.auditing.run import audit

__all__ = ["Audit", "ExactCheck", "LocalLaw144", "Metric", "audit", "read_json"]
