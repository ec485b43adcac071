"""Tables in files: CSV and JSON Lines as raw records or log records, CSV of metrics as points and series."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from ninefold.ground.errors import BadData
from ninefold.model.entity import entity_of, series_id
from ninefold.model.severity import log_severity_number
from ninefold.model.signal import METRIC, TIME, Batch, Decoded, batch_of, quarantine
from ninefold.sources.guessing import guess
from ninefold.sources.reading import attributes_of, leaves, raw_batch, text_of, time_of
from ninefold.sources.wall_time import is_wall_time, moved_to

Bad = list[tuple[str, str, bytes]]
Piece = tuple[list[str], Callable[[int], str], pa.Array]
"""Points of one column: the columns that are their labels, the name in each row, the values."""
_TIME_NAMES = ("time", "timestamp", "ts", "datetime", "date", "@timestamp", "_time")
_MOST_BYTES = (1 << 31) - 1


class _Parser:
    """What the table parsers share. Arguments as for `text.TextParser`; `mapping` names the webhook mapping that reads each row."""

    def __init__(self, name: str, path: str, mapping: str, source: str, entity: str, zone: tzinfo | None = UTC) -> None:
        self._name, self._path, self._mapping, self._source, self._entity, self._zone = name, path, mapping, source, entity, zone

    def start(self, first_line: bytes) -> None:
        """Learn a header from the file's first line when reading begins behind it."""

    def complete(self, buffer: bytes, final: bool) -> int:
        """How many bytes of the buffer are whole records."""
        return len(buffer) if final else buffer.rfind(b"\n") + 1

    def parse(self, block: bytes, offset: int, received: int) -> Decoded:
        """The rows of a block of whole records that begins at `offset` in its file."""
        raise NotImplementedError

    def _records(self, records: Sequence[tuple[bytes, Any]], bad: Bad, received: int) -> Decoded:
        """Records (their JSON, and as an object) as raw rows when there is a mapping, else as log rows."""
        format_ = f"webhook:{self._mapping}" if self._mapping else "file"
        decoded, rows = Decoded(), list[dict[str, Any]]()
        if records and self._mapping:
            decoded.batches.append(raw_batch(format_, self._source, received, [payload for payload, _ in records]))
        else:
            for payload, record in records:
                try:
                    rows.append(self._log_row(payload, record, received))
                except BadData as error:
                    bad.append((error.reason, self._path, payload))
        if rows:
            decoded.batches.append(batch_of("log", self._source, received, rows))
        if bad:
            decoded.rejected, decoded.reason = len(bad), bad[0][0]
            decoded.batches.append(quarantine(self._source, received, "event" if self._mapping else "log", format_, bad))
        return decoded

    def _log_row(self, payload: bytes, record: Any, received: int) -> dict[str, Any]:
        """A record as a log row: its message is the body (all of it when there is none), the rest are attributes."""
        found = leaves(record if isinstance(record, dict) else {})
        seen = guess(found)
        attributes = attributes_of(found)
        body = next((text_of(leaf.value) for leaf in found if leaf.path == seen.paths.get("body")), "")
        attributes.pop(seen.paths.get("body", ""), None)
        level = seen.text("severity")
        file = {"log.file.name": self._name, "log.file.path": self._path}
        time = seen.values.get("time")
        if time and self._zone is not UTC and any(leaf.path == seen.paths.get("time") and is_wall_time(leaf.value) for leaf in found):
            time = moved_to(time, self._zone)
        return {
            "time": time or received, "entity": seen.entity() or self._entity, "body": body or payload.decode(),
            "severity_text": level, "severity_number": log_severity_number(level),
            "trace_id": attributes.pop("trace_id", ""), "span_id": attributes.pop("span_id", ""), "attributes": attributes | file,
        }  # fmt: skip


class JsonLinesParser(_Parser):
    """One JSON object a line. A line that is none is a log record as it stands, or quarantined when there is a mapping."""

    def parse(self, block: bytes, offset: int, received: int) -> Decoded:
        """Rows of a block of whole lines."""
        records: list[tuple[bytes, Any]] = []
        bad: Bad = []
        for line in block.split(b"\n"):
            if line.strip():
                try:
                    record = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    record = error.msg
                if isinstance(record, dict):
                    records.append((line, record))
                elif self._mapping:
                    bad.append(("the line is not a JSON object; write one object a line", f"byte {offset}", line))
                else:
                    records.append((line.decode("utf-8", "replace").rstrip("\r").encode(), None))
            offset += len(line) + 1
        return self._records(records, bad, received)


class _Csv(_Parser):
    """Comma-separated values (RFC 4180) with a header line."""

    _names: Sequence[str] | None = None
    """The columns' names; empty when the first line has none that can be used."""

    def start(self, first_line: bytes) -> None:
        """Learn the columns' names; without any, rows are refused."""
        try:
            names = next(csv.reader([first_line.decode("utf-8-sig", "replace").rstrip("\r\n")]), [])
        except csv.Error:  # a line that only carriage returns divide, or a name of more than 128 kB
            names = []
        self._names = names if any(names) and len(set(names)) == len(names) else ()

    def complete(self, buffer: bytes, final: bool) -> int:
        """How many bytes are whole rows: a newline within quotes ends none."""
        return len(buffer) if final else whole_rows(buffer)

    def _table(self, block: bytes, offset: int) -> tuple[pa.Table | None, Bad]:
        """The block as text columns, and the rows that have too many or too few of them.

        Raises:
            BadData: the file has no header, or the block is no table.
        """
        if self._names is None:
            first, _, block = block.partition(b"\n")
            self.start(first)
        if not self._names:
            raise BadData(f"the first line of {self._path} is no header with one name a column, ended by a newline; add one", "line 1")
        bad: Bad = []
        if not block.strip(b"\r\n"):
            return None, bad

        def keep_bad(row: Any) -> str:
            reason = f"the row has {row.actual_columns} columns where the header has {row.expected_columns}"
            bad.append((reason, f"in the block at byte {offset}", row.text.encode()))
            return "skip"

        text = block.decode("utf-8", "replace").encode()
        try:
            table = pacsv.read_csv(
                io.BytesIO(text),
                read_options=pacsv.ReadOptions(column_names=self._names, use_threads=False, block_size=min(len(text) + 1, _MOST_BYTES)),
                parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=keep_bad),
                convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(self._names, pa.string()), strings_can_be_null=False),
            )
        except pa.ArrowException as error:
            raise BadData(f"the rows cannot be read: {error}", f"in the block at byte {offset}") from None
        return table, bad


class CsvParser(_Csv):
    """CSV whose rows are records."""

    def parse(self, block: bytes, offset: int, received: int) -> Decoded:
        """Rows of a block of whole lines; the first block of a file begins with the header."""
        table, bad = self._table(block, offset)
        records = [(orjson.dumps(row), row) for row in table.to_pylist()] if table is not None else []
        return self._records(records, bad, received)

    def take(self, records: Sequence[tuple[bytes, Any]], received: int) -> Decoded:
        """Rows that were read elsewhere: their JSON, and as an object."""
        return self._records(records, [], received)


class MetricsParser(_Csv):
    """CSV of metrics: columns time, name, value and labels; or a time, one column a metric, and text columns as labels."""

    def __init__(self, name: str, path: str, mapping: str, source: str, entity: str, zone: tzinfo | None = UTC) -> None:
        super().__init__(name, path, mapping, source, entity, zone)
        self._seen: set[int] = set()
        self._is_label: dict[str, bool] = {}
        """What each column is, known from its first cells that are not empty."""

    def parse(self, block: bytes, offset: int, received: int) -> Decoded:
        """Points, and the series seen for the first time.

        Raises:
            BadData: no column holds the time, or none numbers.
        """
        return self.take(*self._table(block, offset), received)

    def take(self, table: pa.Table | None, bad: Bad, received: int) -> Decoded:
        """Points and new series of a table of texts.

        Raises:
            BadData: no column holds the time, or none numbers.
        """
        decoded = Decoded()
        if table is not None and table.num_rows:
            self._names = table.column_names
            time_name = next((name for name in self._names if name.lower() in _TIME_NAMES), "")
            if not time_name:
                raise BadData(f"{self._path} has no time column; name it one of {', '.join(_TIME_NAMES)}", "line 1")
            times = self._times(table.column(time_name))
            columns = {name: table.column(name).combine_chunks() for name in self._names if name != time_name}
            pieces = self._long(columns) if {"name", "value"} <= columns.keys() else self._wide(columns)
            series, points = self._points(pieces, times, received, bad, table)
            decoded.batches += [batch_of("series", self._source, received, series)] if series else []
            decoded.batches += [Batch("metric", self._source, received, points)] if points.num_rows else []
        if bad:
            decoded.batches.append(quarantine(self._source, received, "metric", "file.metrics", bad))
            decoded.rejected, decoded.reason = len(bad), bad[0][0]
        return decoded

    def _long(self, columns: Mapping[str, pa.Array]) -> Iterable[Piece]:
        labels = [name for name in columns if name not in ("name", "value")]
        names = columns["name"].to_pylist()
        return [(labels, names.__getitem__, columns["value"])]

    def _wide(self, columns: Mapping[str, pa.Array]) -> Iterable[Piece]:
        for name, column in columns.items():
            given = column.filter(pc.not_equal(column, ""))
            if name not in self._is_label and len(given):
                self._is_label[name] = bool(np.isnan(_numbers(given)).all()) and not _not_numbers(given).all()
        if all(self._is_label.get(name) for name in columns):
            raise BadData(f"{self._path} has no column of numbers; is it of another format?", "line 1")
        labels = [name for name in columns if self._is_label.get(name)]
        values = [name for name in columns if self._is_label.get(name) is False]
        return [(labels, lambda _, name=name: name, columns[name]) for name in values]  # type: ignore[misc]

    def _times(self, column: pa.ChunkedArray) -> Any:
        """Times in ns, 0 where one cannot be read; each distinct text is read once."""
        coded = column.combine_chunks().dictionary_encode()
        table = np.array([self._time(text) for text in coded.dictionary.to_pylist()], np.int64)
        return table[coded.indices.to_numpy(zero_copy_only=False)]

    def _time(self, text: str) -> int:
        time = time_of(text) or 0
        return moved_to(time, self._zone) if time and self._zone is not UTC and is_wall_time(text) else time

    def _points(
        self, pieces: Iterable[Piece], times: Any, received: int, bad: Bad, table: pa.Table
    ) -> tuple[list[dict[str, Any]], pa.RecordBatch]:
        series: list[dict[str, Any]] = []
        parts: list[tuple[Any, Any, Any]] = []
        wrong = times == 0
        for labels, name_of, column in pieces:
            values = _numbers(column)
            given = pc.not_equal(column, "").to_numpy(zero_copy_only=False)
            wrong |= given & np.isnan(values) & ~_not_numbers(column)
            use = given & ~wrong
            ids = self._ids(labels, name_of, table, received, series)
            parts.append((ids[use], times[use], values[use]))
        for place in np.flatnonzero(wrong):
            row = table.slice(place, 1).to_pylist()[0]
            bad.append(("the row's time or value cannot be read", f"row {place} of its block", orjson.dumps(row)))
        nothing = np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0)
        ids, when, values = (np.concatenate([part[i] for part in (nothing, *parts)]) for i in range(3))
        return series, pa.RecordBatch.from_arrays([pa.array(ids), pa.array(when).cast(TIME), pa.array(values)], schema=METRIC)

    def _ids(self, labels: list[str], name_of: Callable[[int], str], table: pa.Table, received: int, series: list[dict[str, Any]]) -> Any:
        """The series id of every row; new series are appended to `series`."""
        known: dict[tuple[str, ...], int] = {}
        ids = np.empty(table.num_rows, np.uint64)
        values = [table.column(label).to_pylist() for label in labels]
        for place in range(table.num_rows):
            key = (name_of(place), *(value[place] for value in values))
            found = known.get(key)
            if found is None:
                attributes = {label: value for label, value in zip(labels, key[1:], strict=True) if value}
                found = known[key] = series_id(key[0], attributes)
                if found not in self._seen:
                    self._seen.add(found)
                    kind = "counter" if key[0].endswith("_total") else "gauge"
                    entity = entity_of(attributes) or self._entity
                    series.append(
                        {"series": found, "name": key[0], "kind": kind, "entity": entity, "attributes": attributes, "seen": received}
                    )
            ids[place] = found
        return ids


def whole_rows(buffer: bytes) -> int:
    """How many bytes of CSV are whole rows: those up to the last newline before which the quotes are even."""
    end = buffer.rfind(b"\n") + 1
    quotes = buffer.count(b'"', 0, end)
    while end and quotes % 2:
        before = buffer.rfind(b"\n", 0, end - 1) + 1
        quotes, end = quotes - buffer.count(b'"', before, end), before
    return end


def _not_numbers(column: pa.Array) -> Any:
    """Where a cell says NaN."""
    return pc.is_in(column, pa.array(["NaN", "nan"])).to_numpy(zero_copy_only=False)


def _numbers(column: pa.Array) -> Any:
    """Values as floats, NaN where the text is no number."""
    try:
        return pc.cast(pc.if_else(pc.equal(column, ""), "nan", column), pa.float64()).to_numpy(zero_copy_only=False).copy()
    except pa.ArrowInvalid:
        return np.array([_number(text) for text in column.to_pylist()], np.float64)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
