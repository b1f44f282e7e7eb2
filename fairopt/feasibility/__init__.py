"""Whether any scores inside the bounds meet all hard rows: searched for in floats, said only with a proof in fractions.

``infeasibility(problem)`` gives a ``FarkasProof`` or None. None is not a proof of the contrary: the problem is then solved, and the
solution says what it reached.
"""

from fairopt.feasibility.decide import conflict, infeasibility
from fairopt.feasibility.farkas import FarkasProof

__all__ = ["FarkasProof", "conflict", "infeasibility"]
