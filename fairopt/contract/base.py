"""``fairopt.contract.backend`` under its public name."""

from fairopt.contract.backend import *  # noqa: F403
