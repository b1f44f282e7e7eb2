"""``fairopt.basics.errors`` under its public name."""

from fairopt.basics.errors import *  # noqa: F403
