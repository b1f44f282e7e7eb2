"""``backends``: which solvers there are, which of them can be used here, and what they declare."""

from __future__ import annotations

from fairopt.basics.errors import BackendError, MissingExtraError
from fairopt.basics.table import Table
from fairopt.contract.registry import absent, installed, load

COLUMNS = (
    "name", "available", "reason", "softness", "ranges", "ratio_ranges", "bounds", "weights", "dense", "devices", "dtypes", "gradients",
    "distances", "outputs", "accuracy_y", "accuracy_gradient", "accuracy_native_y", "accuracy_native_gradient",
)  # fmt: skip


def backends() -> Table:
    """One row per installed backend: whether it can be imported here, else why not and the line that installs it, and its capabilities.

    Examples:
        >>> "dual_newton" in fo.backends()["name"]
        True
    """
    return Table(COLUMNS, tuple(_row(name) for name in installed()))


def _row(name: str) -> tuple[object, ...]:
    try:
        cls = load(name)
        reason = absent(cls)
    except (MissingExtraError, BackendError) as error:
        return (name, False, str(error), *([None] * (len(COLUMNS) - 3)))
    can = cls.capabilities
    return (
        name, not reason, reason, ", ".join(sorted(can.softness)), can.ranges, can.ratio_ranges, can.bounds, can.weights, can.dense,
        ", ".join(can.devices), ", ".join(can.dtypes), ", ".join(can.gradients),
        ", ".join(sorted(can.distances)), ", ".join(sorted(can.outputs)), can.accuracy_y, can.accuracy_gradient,
        can.accuracy_native_y, can.accuracy_native_gradient,
    )  # fmt: skip
