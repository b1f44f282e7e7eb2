"""Cells of the race: a backend on one kind of problem. Grids multiply them out; presets are sums of grids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from typing import Any, Literal, get_args

from fairopt.basics.errors import InputError
from fairopt.contract.backend import GradientKind

NotionName = Literal["demographic_parity", "equal_opportunity", "equalized_odds", "two_attributes", "mean_residual", "impact_ratio"]
DType = Literal["float64", "float32"]
# "none": no bounds; "inactive": bounds that no score reaches; "active": bounds that clamp about a fifth of the scores.
Box = Literal["none", "inactive", "active"]
Measure = Literal["squared", "kl"]  # what "nearest" means, in the words of ``compile``
CHOICES: dict[str, tuple[str, ...]] = {
    "notion": get_args(NotionName), "dtype": get_args(DType), "box": get_args(Box), "gradient": get_args(GradientKind),
    "distance": get_args(Measure),
}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """What is solved: the same drawn numbers for every backend. classes: 1 for one score a sample, else class probabilities."""

    notion: NotionName
    n: int
    groups: int
    dtype: DType
    box: Box
    distance: Measure = "squared"
    classes: int = 1


@dataclass(frozen=True)
class Cell:
    """One measurement: ``backend`` is the label of a contestant, ``subject`` what it is asked, ``gradient`` "implicit" or "native".

    Examples:
        >>> from fairopt.race import Cell, Grid
        >>> subject, gradient = Grid(n=(64,), boxes=("none",)).subjects()[0]
        >>> cell = Cell("dual_newton", subject, gradient)
        >>> Cell.from_dict(cell.to_dict()) == cell
        True
    """

    backend: str
    subject: Subject
    gradient: GradientKind = "implicit"

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a file of finished cells."""
        return {"backend": self.backend, **asdict(self.subject), "gradient": self.gradient}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Cell:
        """The cell that ``to_dict`` wrote."""
        subject = Subject(**{part.name: data[part.name] for part in fields(Subject)})
        return cls(data["backend"], subject, data["gradient"])


@dataclass(frozen=True)
class Grid:
    """Every combination of ``notions``, ``n``, ``groups``, ``dtypes``, ``boxes``, ``gradients``, ``distances`` and ``classes``, as in
    ``compare``.

    Raises InputError for a word or number that is none of the choices.

    Examples:
        >>> from fairopt.race import Grid
        >>> len(Grid(n=(64, 256), groups=(2, 4), boxes=("active",)).subjects())
        4
    """

    notions: tuple[str, ...] = ("demographic_parity",)
    n: tuple[int, ...] = (64, 1024)
    groups: tuple[int, ...] = (2,)
    dtypes: tuple[str, ...] = ("float64",)
    boxes: tuple[str, ...] | None = None
    gradients: tuple[str, ...] = ("implicit",)
    distances: tuple[str, ...] = ("squared",)
    classes: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        for argument, values, key in (
            ("notions", self.notions, "notion"), ("dtypes", self.dtypes, "dtype"),
            ("boxes", self.boxes or (), "box"), ("gradients", self.gradients, "gradient"), ("distances", self.distances, "distance"),
        ):  # fmt: skip
            for value in values:
                if value not in CHOICES[key]:
                    raise InputError(f"{argument}: got {value!r}, expected some of {', '.join(CHOICES[key])}")
        for argument, numbers, least in (("n", self.n, 2), ("groups", self.groups, 2), ("classes", self.classes, 1)):
            for number in numbers:
                if isinstance(number, bool) or not isinstance(number, int) or number < least:
                    raise InputError(f"{argument}: got {number!r}, expected whole numbers >= {least}")
        classes = max(self.classes, default=1)
        least = 2 * max(self.groups, default=0) * classes
        if self.n and min(self.n) < least:
            times = " times that of classes" if classes > 1 else ""
            raise InputError(f"n: got {min(self.n)}, expected at least twice the largest number of groups{times}, {least}")
        if classes > 1:
            for argument, words, only in (("boxes", self.boxes, "none"), ("gradients", self.gradients, "implicit")):
                if words and set(words) != {only}:
                    raise InputError(f"{argument}: got {', '.join(words)} beside several classes, expected {only}: nothing else is there")

    def subjects(self) -> list[tuple[Subject, str]]:
        """(subject, gradient), n running slowest: small problems of every kind come first. Boxes that are not chosen: none and active,
        and of class probabilities none."""
        several = max(self.classes, default=1) > 1
        boxes = (("none",) if several else ("none", "active")) if self.boxes is None else self.boxes
        return [
            (Subject(notion, n, groups, dtype, box, distance, classes), gradient)  # type: ignore[arg-type]
            for n, notion, groups, classes, distance, dtype, box, gradient in product(
                self.n, self.notions, self.groups, self.classes, self.distances, self.dtypes, boxes, self.gradients
            )
        ]


# quick: 5 problems, so that 16 backends make 80 cells at most. kinds: every distance, one score and class probabilities.
PRESETS: dict[str, tuple[Grid, ...]] = {
    "quick": (
        Grid(n=(64, 1024), boxes=("active",)),
        Grid(n=(64, 1024), dtypes=("float32",), boxes=("none",)),
        Grid(("equalized_odds",), n=(256,), groups=(4,), boxes=("active",)),
    ),
    "kinds": (
        Grid(n=(256,), boxes=("none", "active"), distances=("kl",)),
        Grid(n=(256,), distances=("squared", "kl"), classes=(3,)),
        Grid(("equalized_odds",), n=(256,), groups=(4,), distances=("squared", "kl"), classes=(10,)),
    ),
    "full": (
        Grid(
            ("demographic_parity", "equalized_odds", "two_attributes", "mean_residual"),
            n=(64, 256, 1024, 4096, 16384), groups=(2, 8), dtypes=("float64", "float32"), boxes=("none", "active"),
        ),
        Grid(n=(64, 256, 1024), boxes=("active",), gradients=("native",)),
        Grid(n=(64, 256, 1024, 4096, 16384), groups=(2, 8), dtypes=("float64", "float32"), distances=("kl",)),
        Grid(
            ("demographic_parity", "equalized_odds"), n=(64, 256, 1024, 4096), groups=(2,), dtypes=("float64", "float32"),
            distances=("squared", "kl"), classes=(3, 10),
        ),
    ),
}  # fmt: skip
"""The grids of ``compare(preset=...)``, by name."""


# Seconds of timing and limit of time a cell, where they are not chosen.
PACE: dict[str | None, tuple[float, float]] = {"quick": (0.2, 20.0), "kinds": (0.2, 20.0), "full": (0.5, 60.0), None: (0.5, 60.0)}


def cells(backends: Sequence[str], grids: Iterable[Grid]) -> list[Cell]:
    """Backend by backend, for one process each; within one, small n first, so that the peak of memory rises with n."""
    subjects = sorted({pair: None for grid in grids for pair in grid.subjects()}, key=lambda pair: pair[0].n)
    if not backends or not subjects:
        raise InputError("the race has no cells: expected at least one backend and one value of everything else")
    return [Cell(name, subject, gradient) for name in backends for subject, gradient in subjects]  # type: ignore[arg-type]
