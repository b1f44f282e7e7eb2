"""``fairopt.layer.prepared`` under its public name."""

from fairopt.layer.prepared import *  # noqa: F403
