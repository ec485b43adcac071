"""Tables in files: CSV and JSON Lines as raw records or log records, CSV of metrics as points and series."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from ninefold.sources.reading import attributes_of, leaves, raw_batch, time_of

Bad = list[tuple[str, str, bytes]]
_TIME_NAMES = ("time", "timestamp", "ts", "datetime", "date", "@timestamp", "_time")


class _Parser:
    """What the table parsers share. Arguments as for `text.TextParser`; `mapping` names the webhook mapping that reads each row."""

    def __init__(self, name: str, path: str, mapping: str, source: str, entity: str) -> None:
        self._name, self._path, self._mapping, self._source, self._entity = name, path, mapping, source, entity

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
        decoded = Decoded(rejected=len(bad), reason=bad[0][0] if bad else "")
        if records and self._mapping:
            decoded.batches.append(raw_batch(format_, self._source, received, [payload for payload, _ in records]))
        elif records:
            rows = [self._log_row(payload, record, received) for payload, record in records]
            decoded.batches.append(batch_of("log", self._source, received, rows))
        if bad:
            decoded.batches.append(quarantine(self._source, received, "event" if self._mapping else "log", format_, bad))
        return decoded

    def _log_row(self, payload: bytes, record: Any, received: int) -> dict[str, Any]:
        """A record as a log row: its message is the body (all of it when there is none), the rest are attributes."""
        found = leaves(record if isinstance(record, dict) else {})
        seen = guess(found)
        attributes = attributes_of(found)
        body = attributes.pop(seen.paths["body"], "") if "body" in seen.paths else ""
        level = seen.text("severity")
        file = {"log.file.name": self._name, "log.file.path": self._path}
        return {
            "time": seen.values.get("time") or received, "entity": seen.entity() or self._entity, "body": body or payload.decode(),
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

    _names: Sequence[str] = ()

    def start(self, first_line: bytes) -> None:
        """Learn the columns' names.

        Raises:
            BadData: there are none, or one appears twice.
        """
        names = next(csv.reader([first_line.decode("utf-8-sig", "replace").rstrip("\r\n")]), [])
        if not any(names) or len(set(names)) < len(names):
            raise BadData(f"the first line of {self._path} is no header with one name a column; add one", "line 1")
        self._names = names

    def complete(self, buffer: bytes, final: bool) -> int:
        """How many bytes are whole rows: a newline within quotes ends none."""
        if final:
            return len(buffer)
        end = buffer.rfind(b"\n") + 1
        while end and buffer.count(b'"', 0, end) % 2:
            end = buffer.rfind(b"\n", 0, end - 1) + 1
        return end

    def _table(self, block: bytes, offset: int) -> tuple[pa.Table | None, Bad]:
        """The block as text columns, and the rows that have too many or too few of them."""
        if not self._names:
            first, _, block = block.partition(b"\n")
            self.start(first)
        bad: Bad = []
        if not block.strip(b"\r\n"):
            return None, bad

        def keep_bad(row: Any) -> str:
            reason = f"the row has {row.actual_columns} columns where the header has {row.expected_columns}"
            bad.append((reason, f"in the block at byte {offset}", row.text.encode()))
            return "skip"

        text = pa.string()
        table = pacsv.read_csv(
            io.BytesIO(block.decode("utf-8", "replace").encode()),
            read_options=pacsv.ReadOptions(column_names=self._names, use_threads=False),
            parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=keep_bad),
            convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(self._names, text), strings_can_be_null=False),
        )
        return table, bad


class CsvParser(_Csv):
    """CSV whose rows are records."""

    def parse(self, block: bytes, offset: int, received: int) -> Decoded:
        """Rows of a block of whole lines; the first block of a file begins with the header."""
        table, bad = self._table(block, offset)
        records = [(orjson.dumps(row), row) for row in table.to_pylist()] if table is not None else []
        return self._records(records, bad, received)


class MetricsParser(_Csv):
    """CSV of metrics: columns time, name, value and labels; or a time, one column a metric, and text columns as labels."""

    def __init__(self, name: str, path: str, mapping: str, source: str, entity: str) -> None:
        super().__init__(name, path, mapping, source, entity)
        self._seen: set[int] = set()
        self._labels: list[str] | None = None

    def parse(self, block: bytes, offset: int, received: int) -> Decoded:
        """Points, and the series seen for the first time.

        Raises:
            BadData: no column holds the time.
        """
        table, bad = self._table(block, offset)
        decoded = Decoded()
        if table is not None and table.num_rows:
            time_name = next((name for name in self._names if name.lower() in _TIME_NAMES), "")
            if not time_name:
                raise BadData(f"{self._path} has no time column; name it one of {', '.join(_TIME_NAMES)}", "line 1")
            times = _times(table.column(time_name))
            columns = {name: table.column(name).combine_chunks() for name in self._names if name != time_name}
            pieces = self._long(columns) if {"name", "value"} <= columns.keys() else self._wide(columns)
            series, points = self._points(pieces, times, received, bad, table)
            decoded.batches += [batch_of("series", self._source, received, series)] if series else []
            decoded.batches += [Batch("metric", self._source, received, points)] if points.num_rows else []
        if bad:
            decoded.batches.append(quarantine(self._source, received, "metric", "file.metrics", bad))
            decoded.rejected, decoded.reason = len(bad), bad[0][0]
        return decoded

    def _long(self, columns: Mapping[str, pa.Array]) -> Iterable[tuple[list[str], Callable[[int], str], pa.Array]]:
        labels = [name for name in columns if name not in ("name", "value")]
        names = columns["name"].to_pylist()
        return [(labels, names.__getitem__, columns["value"])]

    def _wide(self, columns: Mapping[str, pa.Array]) -> Iterable[tuple[list[str], Callable[[int], str], pa.Array]]:
        if self._labels is None:
            self._labels = [name for name, column in columns.items() if not np.isfinite(_numbers(column)).any()]
        labels = self._labels
        return [(labels, lambda _, name=name: name, column) for name, column in columns.items() if name not in labels]  # type: ignore[misc]

    def _points(
        self, pieces: Iterable[tuple[list[str], Callable[[int], str], pa.Array]], times: Any, received: int, bad: Bad, table: pa.Table
    ) -> tuple[list[dict[str, Any]], pa.RecordBatch]:
        series: list[dict[str, Any]] = []
        parts: list[tuple[Any, Any, Any]] = []
        wrong = times == 0
        for labels, name_of, column in pieces:
            values = _numbers(column)
            given = pc.not_equal(column, "").to_numpy(zero_copy_only=False)
            wrong |= given & np.isnan(values) & ~pc.is_in(column, pa.array(["NaN", "nan"])).to_numpy(zero_copy_only=False)
            use = given & ~wrong
            ids = self._ids(labels, name_of, table, received, series)
            parts.append((ids[use], times[use], values[use]))
        for place in np.flatnonzero(wrong):
            row = table.slice(place, 1).to_pylist()[0]
            bad.append(("the row's time or value cannot be read", f"row {place} of its block", orjson.dumps(row)))
        ids, when, values = (np.concatenate([part[i] for part in parts]) for i in range(3))
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


def _times(column: pa.ChunkedArray) -> Any:
    """Times in ns, 0 where one cannot be read; each distinct text is read once."""
    coded = column.combine_chunks().dictionary_encode()
    table = np.array([time_of(text) or 0 for text in coded.dictionary.to_pylist()], np.int64)
    return table[coded.indices.to_numpy(zero_copy_only=False)]


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
