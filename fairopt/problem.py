"""``fairopt.contract.problem`` under its public name."""

from fairopt.contract.problem import *  # noqa: F403
