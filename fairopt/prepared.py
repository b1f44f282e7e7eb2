"""``fairopt.layer.prepared`` and ``fairopt.layer.one_shot`` under their public name."""

from fairopt.layer.one_shot import *  # noqa: F403
from fairopt.layer.prepared import *  # noqa: F403
