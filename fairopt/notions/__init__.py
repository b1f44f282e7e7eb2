"""Parity notions: the algebra, the decorator and the shipped ones."""

from __future__ import annotations

from fairopt.notions.algebra import Joined, Notion, Softened
from fairopt.notions.batch import Batch
from fairopt.notions.bounds_and_ratios import GroupMeanBound, ImpactRatio, ScoreCovariance
from fairopt.notions.decorator import DecoratedNotion, NotionFactory, notion
from fairopt.notions.events import Mask
from fairopt.notions.functional import Constraint, Functional
from fairopt.notions.groups import Attribute
from fairopt.notions.parity import DemographicParity, EqualizedOdds, EqualOpportunity, PredictiveEquality, Reference
from fairopt.notions.residual import MeanResidual, ResidualParity

__all__ = [
    "Attribute",
    "Batch",
    "Constraint",
    "DecoratedNotion",
    "DemographicParity",
    "EqualOpportunity",
    "EqualizedOdds",
    "Functional",
    "GroupMeanBound",
    "ImpactRatio",
    "Joined",
    "Mask",
    "MeanResidual",
    "Notion",
    "NotionFactory",
    "PredictiveEquality",
    "Reference",
    "ResidualParity",
    "ScoreCovariance",
    "Softened",
    "notion",
]
