"""What a race returns: its records, as a tidy table, a summary, and files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing
from fairopt.basics.finished_cells import Record
from fairopt.basics.table import Table
from fairopt.race.rows import failures, shown, tidy


@dataclass(frozen=True, eq=False)
class Race:
    """``records``: one a cell, as in the file of finished cells; ``header``: settings, machine, versions.

    Examples:
        >>> subject = {"notion": "demographic_parity", "n": 64, "groups": 2, "classes": 1, "distance": "squared"}
        >>> subject |= {"dtype": "float64", "box": "none", "gradient": "implicit"}
        >>> race = fo.Race(({"backend": "mine", **subject, "outcome": "time", "message": "beyond 60 s"},), {})
        >>> print(race.failures())
        backend  what  cells  message
        -------  ----  -----  -----------
        mine     time      1  beyond 60 s
    """

    records: tuple[Record, ...]
    header: Record

    @cached_property
    def _tidy(self) -> Table:
        return tidy(self.records)

    def table(self) -> Table:
        """One row a cell. Times are medians in seconds, spreads the range between the quartiles (q1, q3); absent figures are None."""
        return self._tidy

    def shown(self) -> Table:
        """The same for the eye: milliseconds, sorted by problem and then by time."""
        return shown(self._tidy)

    def failures(self) -> Table:
        """The cells without an answer, or with one that is neither certified nor within rounding, and why; equal ones together."""
        return failures(self.records)

    def save(self, folder: str | Path, *, form: str = "parquet") -> list[Path]:
        """Write cells.parquet (or .csv), the pictures and report.html into ``folder``; returns the paths. MissingExtraError without the
        packages of ``fairopt[race]``."""
        from fairopt.race.pictures import draw_pictures
        from fairopt.race.report import write_report

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = [self.save_table(folder / f"cells.{form}"), *draw_pictures(self._tidy, folder)]
        page = write_report(folder / "report.html", self.header, self._tidy, self.shown(), self.failures(), written[1:])
        return [*written, page]

    def save_table(self, path: str | Path) -> Path:
        """Write the tidy table to ``path``, as .parquet or .csv by its ending; InputError for another one."""
        path = Path(path)
        if path.suffix not in (".parquet", ".csv"):
            raise InputError(f"{path.name}: expected a name that ends in .parquet or .csv")
        try:
            frame = self._tidy.to_pandas()
            if path.suffix == ".csv":
                frame.to_csv(path, index=False)
            else:
                frame.to_parquet(path, index=False)
        except ImportError as error:
            raise missing("the race's table needs pandas and pyarrow", "race") from error
        return path
