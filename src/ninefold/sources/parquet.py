"""Parquet files: their rows as records or as metrics, a row group at a time."""

from __future__ import annotations

from datetime import UTC, tzinfo
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ninefold.ground.errors import BadData, TooLarge
from ninefold.model.signal import Decoded
from ninefold.sources.tables import CsvParser, MetricsParser

_GROUP_BYTES = 512 << 20


class Parquet:
    """A complete Parquet file. Arguments as for `text.TextParser`; `metrics` says that its rows are metrics.

    Raises:
        BadData: it is no Parquet file, or not all of one.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, metrics: bool, mapping: str, source: str, entity: str, zone: tzinfo | None = UTC) -> None:
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # it could not be read; one without a number is what Arrow says of damage
            raise BadData(f"{path.name} is not a whole Parquet file: {error}", str(path)) from None
        self._metrics = MetricsParser(path.name, str(path), mapping, source, entity, zone) if metrics else None
        self._records = CsvParser(path.name, str(path), mapping, source, entity, zone)

    @property
    def groups(self) -> int:
        """How many row groups it has."""
        return int(self._file.num_row_groups)

    def read(self, group: int, received: int) -> Decoded:
        """The rows of one row group.

        Raises:
            BadData: it is damaged, too large to be read at once, or has no time column if it holds metrics.
        """
        if self._file.metadata.row_group(group).total_byte_size > _GROUP_BYTES:
            raise TooLarge(f"row group {group} is larger than {_GROUP_BYTES} bytes; write smaller ones", str(group))
        try:
            table = self._file.read_row_group(group)
            if self._metrics is not None:
                return self._metrics.take(_texts(table), [], received)
            rows = [_plain(row) for row in _told(table).to_pylist()]
            payloads = [orjson.dumps(row, default=str, option=orjson.OPT_NON_STR_KEYS) for row in rows]
        except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:  # also values that neither Python nor JSON has
            raise BadData(f"row group {group} cannot be read: {error}", str(group)) from None
        return self._records.take([(payload, orjson.loads(payload)) for payload in payloads], received)


def _told(table: pa.Table) -> pa.Table:
    """The table with its times as text, as Python's own end at microseconds, and its texts as bytes, which need not be UTF-8."""
    for place, field in enumerate(table.schema):
        kind = pa.string() if pa.types.is_timestamp(field.type) else pa.binary() if pa.types.is_string(field.type) else None
        if kind is not None:
            table = table.set_column(place, field.name, table.column(place).cast(kind))
    return table


def _texts(table: pa.Table) -> pa.Table:
    """The columns that can be as text, nulls as ""."""
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        if not pa.types.is_nested(plain.type) and not pa.types.is_binary(plain.type):
            columns[name] = pc.fill_null(plain.cast(pa.string()), "")
    return pa.table(columns)


def _plain(row: dict[str, object]) -> dict[str, object]:
    """A row as JSON can hold it: bytes as text, what is null left out."""
    return {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value for name, value in row.items() if value is not None
    }
