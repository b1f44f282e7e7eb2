"""A notion as the last layer of a network: project, compile, FairnessLayer, FairModel, FrozenLayer, decisions."""

from fairopt.layer.decisions import decide
from fairopt.layer.fairness_layer import FairnessLayer
from fairopt.layer.frozen import FrozenLayer
from fairopt.layer.model import FairModel
from fairopt.layer.one_shot import compile, project
from fairopt.layer.prepared import Prepared

__all__ = ["FairModel", "FairnessLayer", "FrozenLayer", "Prepared", "compile", "decide", "project"]
