"""Data sets in files: projected shard by shard, in memory bounded by the shards in flight, with one guarantee over all rows."""

from __future__ import annotations

from fairopt.datasets.job import Told
from fairopt.datasets.project import project_dataset
from fairopt.datasets.report import DatasetReport

__all__ = ["DatasetReport", "Told", "project_dataset"]
