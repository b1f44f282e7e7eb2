"""Files of delimited text: the only place where the library reads them, and where its own tables of text are written.

An audit reads a whole file, a stream reads row by row and goes on where it stood: both through ``Delimited``.
"""

from __future__ import annotations

from fairopt.basics.files.delimited import Delimited, Page, Place, Record
from fairopt.basics.files.dialect import Dialect
from fairopt.basics.files.encoding import legible
from fairopt.basics.files.names import column_name, column_names
from fairopt.basics.files.numbers import label, number, zero_or_one
from fairopt.basics.files.opened import Opened, open_input
from fairopt.basics.files.places import check_places
from fairopt.basics.files.writing import csv_line, csv_table, guarded, write_whole

__all__ = [
    "Delimited", "Dialect", "Opened", "Page", "Place", "Record", "check_places", "column_name", "column_names", "csv_line", "csv_table",
    "guarded", "label", "legible", "number", "open_input", "write_whole", "zero_or_one",
]  # fmt: skip
