"""The methods by a short word, imported on use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fairopt.basics.errors import InputError
from fairopt.experiments.methods.base import Method

HERE = "fairopt.experiments.methods"
# word -> module:class
METHODS = {
    "constant": "references:Constant",
    "linear": "references:Linear",
    "linear_projected": "references:LinearProjected",
    "plain": "plain:Plain",
    "projection": "projection:Projection",
    "penalty": "penalty:Penalty",
    "strict_penalty": "penalty:StrictPenalty",
    "layer": "layer:Layer",
    "decisions": "decisions:FairDecisions",
    "lagrangian": "lagrangian:Lagrangian",
    "exponentiated_gradient": "exponentiated:ExponentiatedGradient",
    "threshold_optimizer": "threshold:ThresholdOptimizer",
    "fairret": "fairret:Fairret",
    "error_parity": "error_parity:ErrorParity",
    "linear_post": "linear_post:LinearPost",
    "postprocessor": "postprocessor:Postprocessor",
}


def method(word: str, **options: Any) -> Method:
    """The method under ``word`` with its options; an unknown word or option is an InputError."""
    if word not in METHODS:
        raise InputError(f"method: got {word!r}, expected one of {', '.join(METHODS)}")
    module, name = METHODS[word].split(":")
    made = getattr(import_module(f"{HERE}.{module}"), name)
    try:
        found: Method = made(**options)
    except TypeError as error:
        raise InputError(f"method {word!r}: {error}") from error
    return found
