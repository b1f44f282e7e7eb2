"""Data sets in files: read shard by shard, in memory bounded by the shards in flight; projected with one guarantee over all, audited."""

from __future__ import annotations

from fairopt.datasets.audit import audit_dataset
from fairopt.datasets.freeze import freeze_dataset
from fairopt.datasets.job import Told
from fairopt.datasets.project import project_dataset
from fairopt.datasets.report import DatasetReport

__all__ = ["DatasetReport", "Told", "audit_dataset", "freeze_dataset", "project_dataset"]
