"""What happened in each epoch: ``EpochDone``, ``History``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fairopt.basics.table import Table
from fairopt.training.gaps_by_notion import COLUMNS as GAP_COLUMNS
from fairopt.training.gaps_by_notion import GapDone
from fairopt.training.state import FORMAT, check_format


@dataclass(frozen=True)
class EpochDone:
    """One epoch. Two are equal whatever time they took.

    epoch          how many are done with this one: 1, 2, ...
    loss           mean of the batches' losses
    validation     the validation figure after it; None without ``validate``
    improved       whether that is the least so far
    learning_rate  of the optimizer's first group in this epoch
    seconds        spent in training; validation and checkpoints left out
    gaps           what the fairness layers gave in training and in validation, each notion's widest gap of scores and of decisions, all
                   batches of the epoch together; ``GapDone``. Empty where the model has no fairness layer

    Examples:
        >>> from fairopt.training import fit
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> history = fit(model, lambda x: (model(x) ** 2).mean(), [torch.ones(4, 2)], optimizer=optimizer, epochs=2)
        >>> [(done.epoch, done.learning_rate, done.validation) for done in history.epochs]
        [(1, 0.1, None), (2, 0.1, None)]
    """

    epoch: int
    loss: float
    validation: float | None
    improved: bool
    learning_rate: float
    seconds: float = field(compare=False)
    gaps: tuple[GapDone, ...] = ()

    def gap(self, part: str, quantity: str = "score") -> float | None:
        """The gap of ``part`` ("training", "validation") that is furthest beyond its limit; None where none was heard."""
        found = [one for one in self.gaps if (one.part, one.quantity) == (part, quantity)]
        return max(found, key=lambda one: (one.excess, one.gap)).gap if found else None


@dataclass(frozen=True)
class History:
    """All epochs, those before a resume too. stopped: by early stopping.

    Examples:
        >>> from fairopt.training import fit
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> history = fit(model, lambda x: (model(x) ** 2).mean(), [torch.ones(4, 2)], optimizer=optimizer, epochs=2)
        >>> len(history), history.stopped, history.table().columns
        (2, False, ('epoch', 'loss', 'validation', 'improved', 'learning_rate', 'seconds', 'training_gap', 'validation_gap'))
    """

    epochs: tuple[EpochDone, ...] = ()
    stopped: bool = False

    def __len__(self) -> int:
        return len(self.epochs)

    @property
    def best(self) -> EpochDone | None:
        """The epoch with the least validation figure; None without validation."""
        return next((done for done in reversed(self.epochs) if done.improved), None)

    @property
    def seconds(self) -> float:
        """Mean training time of an epoch; 0 where there is none."""
        return sum(done.seconds for done in self.epochs) / len(self.epochs) if self.epochs else 0.0

    def table(self) -> Table:
        """One row an epoch, the widest gap of the scores last; prints itself, and has ``to_pandas``. ``gap_table`` has every gap."""
        names = ("epoch", "loss", "validation", "improved", "learning_rate", "seconds")
        rows = tuple((*(getattr(done, name) for name in names), done.gap("training"), done.gap("validation")) for done in self.epochs)
        return Table((*names, "training_gap", "validation_gap"), rows)

    def gap_table(self) -> Table:
        """One row an epoch, part, quantity and notion: gap and limit."""
        records = [{"epoch": done.epoch, **asdict(one)} for done in self.epochs for one in done.gaps]
        return Table.from_records(("epoch", *GAP_COLUMNS), records)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a checkpoint."""
        return {"format": FORMAT, "stopped": self.stopped, "epochs": [asdict(done) for done in self.epochs]}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> History:
        """The history that ``to_dict`` wrote."""
        check_format(state, "History")
        rows: Iterable[Mapping[str, Any]] = state["epochs"]
        made = (EpochDone(**{**row, "gaps": tuple(GapDone(**one) for one in row.get("gaps", ()))}) for row in rows)
        return cls(tuple(made), bool(state["stopped"]))
