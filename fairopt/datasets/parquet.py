"""A Parquet file of a data set: blocks of its rows, and the same file with one more column; its schema, row groups and compression stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing
from fairopt.datasets.find import Shard
from fairopt.datasets.reading import Reject

ROWS = 1 << 17  # of a block


@dataclass(frozen=True, eq=False)
class ArrowRows:
    """A record batch; ``first``: the number of its first row in the file."""

    batch: Any
    first: int
    bad: list[Reject]

    @property
    def n(self) -> int:
        return int(self.batch.num_rows)

    def cells(self, column: str) -> Any:
        return self.batch.column(self.batch.schema.get_field_index(column))

    def number(self, row: int) -> int:
        return self.first + row

    def content(self, row: int) -> str:
        return repr(self.batch.slice(row, 1).to_pylist()[0])


class ParquetTable:
    """A Parquet file."""

    def __init__(self, shard: Shard) -> None:
        try:
            import pyarrow
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise missing("Parquet needs pyarrow", "project") from error
        self._path = shard.path
        self._errors = (pyarrow.ArrowException, OSError, ValueError)
        try:
            self._file = parquet.ParquetFile(shard.path)
            self._schema = self._file.schema_arrow
        except self._errors as error:
            raise InputError(f"{shard.path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from error
        self.columns = list(self._schema.names)
        twice = [c for c in self.columns if self.columns.count(c) > 1]
        if twice:
            self.close()
            raise InputError(f"{shard.path}: a column's name stands twice: {twice[0]!r}")
        empty = not self._file.metadata.num_rows
        self.types = {f.name: "" if empty and pyarrow.types.is_null(f.type) else str(f.type) for f in self._schema}

    def close(self) -> None:
        import pyarrow

        self._file.close()
        pyarrow.default_memory_pool().release_unused()  # else what the largest row groups took stays for good

    def count(self) -> int:
        """Its rows."""
        return int(self._file.metadata.num_rows)

    def blocks(self, columns: Sequence[str]) -> Iterator[ArrowRows]:
        first = 1
        for batch in self._batches(self._file.iter_batches(batch_size=ROWS, columns=list(columns))):
            yield ArrowRows(batch, first, [])
            first += batch.num_rows

    def _batches(self, batches: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from batches
        except self._errors as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self._path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from error

    def write(self, file: IO[bytes], columns: Sequence[str], name: str, fair: Callable[[Any], tuple[Any, Any]]) -> int:
        import pyarrow
        import pyarrow.parquet as parquet

        kind = pyarrow.float32() if pyarrow.types.is_float32(self._schema.field(columns[0]).type) else pyarrow.float64()
        schema = self._schema.append(pyarrow.field(name, kind))
        written, first = 0, 1
        with parquet.ParquetWriter(file, schema, compression=self._compression(name, columns[0])) as writer:
            for group in range(self._file.metadata.num_row_groups):
                parts: list[Any] = []
                for batch in self._batches(self._file.iter_batches(batch_size=ROWS, row_groups=[group])):
                    scores, keep = fair(ArrowRows(batch, first, []))
                    first += batch.num_rows
                    batch = batch if keep is None else batch.filter(pyarrow.array(keep))
                    columns_ = [*batch.columns, pyarrow.array(scores, type=kind)]
                    parts.append(pyarrow.record_batch(columns_, schema=schema))
                table = pyarrow.Table.from_batches(parts, schema=schema)
                if table.num_rows:
                    writer.write_table(table, row_group_size=table.num_rows)
                written += table.num_rows
        return written

    def _compression(self, name: str, score: str) -> dict[str, str]:
        """Codec of each leaf as it was; the new column has the scores'."""
        metadata = self._file.metadata
        codecs: dict[str, str] = {}
        if metadata.num_row_groups:
            group = metadata.row_group(0)
            for k in range(group.num_columns):
                codec = group.column(k).compression
                codecs[group.column(k).path_in_schema] = "NONE" if codec == "UNCOMPRESSED" else codec
        codecs[name] = codecs.get(score, "SNAPPY")
        return codecs
