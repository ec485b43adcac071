"""Reading senders' JSON: documents, times, texts and flat attributes, and keeping accepted records as `raw` rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from ninefold.ground.clock import SECOND, parse
from ninefold.ground.errors import BadData, TooLarge
from ninefold.model.entity import vnode_of
from ninefold.model.signal import Batch, Decoded, batch_of, quarantine

EARLIEST = 365 * 86400 * SECOND
"""1971-01-01: an earlier time is an unset or broken clock, never a record's time."""
_LATEST = 7258118400 * SECOND
_KEPT_BYTES = 64 << 20
_LEAVES, _DEPTH, _WIDTH, _ITEMS = 1024, 8, 256, 16
LEFT_OUT = "ninefold.attributes_left_out"
"""The attribute that says how many others a record had too many."""
_NESTED = 254
"""How deeply what is written as JSON may be nested."""


def load_json(body: bytes) -> Any:
    """The document in `body`.

    Raises:
        BadData: it is not JSON; `where` is the offset at which reading stopped.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadData(f"the body is not JSON: {error.msg}; send one JSON document", f"offset {error.pos}") from None


def dump_json(value: Any) -> bytes:
    """Compact JSON of a value that came from JSON.

    Raises:
        BadData: it is nested too deeply (254 levels).
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise BadData(f"the record cannot be kept: {error}; flatten it") from None


def keep(format_: str, source: str, received: int, records: Iterable[tuple[Any, str, str]]) -> Decoded:
    """Accepted records as `raw` rows; each is (its JSON value, what is wrong with it or "", where), and the wrong ones go to quarantine.

    Raises:
        BadData: a record is nested too deeply.
        TooLarge: the records repeat so much of what surrounds them that they would fill the memory.
    """
    good: list[bytes] = []
    bad: list[tuple[str, str, bytes]] = []
    size = 0
    for value, problem, where in records:
        payload = dump_json(value)
        size += len(payload)
        if size > _KEPT_BYTES:
            raise TooLarge("the records with what surrounds them are too large; send fewer of them at once")
        if problem:
            bad.append((problem, where, payload))
        else:
            good.append(payload)
    decoded = Decoded(rejected=len(bad), reason=bad[0][0] if bad else "")
    if good:
        decoded.batches.append(raw_batch(format_, source, received, good))
    if bad:
        decoded.batches.append(quarantine(source, received, "event", format_, bad))
    return decoded


def raw_batch(format_: str, source: str, received: int, payloads: Sequence[bytes]) -> Batch:
    """A `raw` batch of payloads of one format; they are in their source's virtual partition until normalisation knows their entity."""
    one = batch_of("raw", source, received, [{"format": format_, "vnode": vnode_of(source), "payload": b""}]).rows
    place = pa.array([0] * len(payloads), pa.int32())
    columns = [
        pa.array(payloads, pa.binary()) if name == "payload" else column.take(place)
        for name, column in zip(one.schema.names, one, strict=True)
    ]
    return Batch("raw", source, received, pa.RecordBatch.from_arrays(columns, schema=one.schema))


def text_of(value: Any) -> str:
    """A scalar as text, a list or object as compact JSON, null as ""."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if value is True or value is False:
        return "true" if value else "false"
    return dump_json(value).decode() if isinstance(value, dict | list) else str(value)


_GO = re.compile(r"^(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?) ?([+-]\d{4}|UTC|GMT|Z)?(?: [A-Z]{3,5})?$")
_SLASHED = re.compile(r"^(\d{4})/(\d\d)/(\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)(?: (?:GMT|UTC))?$")
_DOTTED_ZONE = re.compile(r"([+-]\d\d)\.(\d\d)$")
_FORMATS = ("%a %b %d %H:%M:%S %Z %Y", "%a %b %d %H:%M:%S %Y", "%d/%b/%Y:%H:%M:%S %z")


def time_of(value: Any) -> int | None:
    """The time in ns of what senders call a time: ISO 8601, epoch seconds to nanoseconds, and the common odd spellings.

    None when it is not a time, or not one between 1971 and 2200. A time without a zone is read as UTC.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        found = _epoch(value)
    elif isinstance(value, str):
        found = _text_time(value[:80])
    else:
        return None
    return found if found is not None and EARLIEST <= found < _LATEST else None


@lru_cache(maxsize=8192)
def _text_time(text: str) -> int | None:
    text = text.strip()
    return _epoch_text(text) if text[:12].replace(".", "", 1).isdigit() else _written(text)


def _epoch(value: int | float) -> int | None:
    size = abs(value)
    if not size < 1e19:
        return None
    unit = 10**9 if size < 1e11 else 10**6 if size < 1e14 else 1000 if size < 1e17 else 1
    return value * unit if isinstance(value, int) else round(value * (unit // 1000)) * 1000 if unit > 1 else round(value)


def _epoch_text(text: str) -> int | None:
    try:
        return _epoch(float(text) if "." in text else int(text))
    except ValueError:
        return None


def _written(text: str) -> int | None:
    try:
        return parse(text)
    except (ValueError, OverflowError):
        pass
    if match := _GO.match(text):
        zone = match[2] or ""
        text = match[1] + (zone if zone[:1] in "+-" else "")
    elif match := _SLASHED.match(text):
        text = f"{match[1]}-{match[2]}-{match[3]}T{match[4]}"
    else:
        text = _DOTTED_ZONE.sub(r"\1:\2", text)
    for read in (parse, _by_format, _by_mail):
        try:
            return read(text)
        except (ValueError, OverflowError, TypeError, IndexError):
            continue
    return None


def _by_format(text: str) -> int:
    for form in _FORMATS:
        try:
            moment = datetime.strptime(text, form)
        except ValueError:
            continue
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * SECOND
    raise ValueError(text)


def _by_mail(text: str) -> int:
    moment = parsedate_to_datetime(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * SECOND


class Leaf(NamedTuple):
    """One scalar of a document: its dotted path, its own key, its depth and its value."""

    path: str
    key: str
    depth: int
    value: Any


def leaves(document: Any) -> list[Leaf]:
    """The scalars of a document in order, at most 1,024 of them, 8 levels deep and 16 items of a list; one more, `LEFT_OUT`, then says
    how many scalars and items there are beside them.

    Lists of name/value pairs, as many tools send their labels, read as an object; a list of scalars is one value (JSON);
    text that holds a JSON object or list is read as such; a `tags` text "a:b,c:d" reads as an object.

    Raises:
        BadData: the document is nested too deeply (254 levels below those).
    """
    found: list[Leaf] = []
    left_out = 0
    for leaf in _walk("", "", document, 0):
        if leaf.depth < 0:
            left_out += leaf.value
        elif len(found) < _LEAVES:
            found.append(leaf)
        else:
            left_out += 1
    return [*found, Leaf(LEFT_OUT, "", 0, left_out)] if left_out else found


def _walk(path: str, key: str, value: Any, depth: int) -> Iterator[Leaf]:
    if isinstance(value, str):
        value = _unwrap(key, value)
    if isinstance(value, list):
        named = _pairs(value)
        if named is None and not any(isinstance(item, dict | list) for item in value):
            yield Leaf(path, key, depth, dump_json(value).decode())
            return
        if named is None and len(value) > _ITEMS:
            yield Leaf("", "", -1, len(value) - _ITEMS)
        value = named if named is not None else {str(i): item for i, item in enumerate(value[:_ITEMS])}
    if not isinstance(value, dict):
        if value is not None:
            yield Leaf(path, key, depth, value)
    elif depth >= _DEPTH:
        yield Leaf(path, key, depth, dump_json(value).decode())
    else:
        for name, item in value.items():
            yield from _walk(f"{path}.{name}" if path else name, name, item, depth + 1)


def _unwrap(key: str, text: str) -> Any:
    if text[:1] in "{[" and text[-1:] in "}]" and len(text) > 2:
        try:
            found = orjson.loads(text)
            if text.count("{") + text.count("[") > _NESTED:
                dump_json(found)
            return found
        except (orjson.JSONDecodeError, BadData):  # what is nested too deeply stays text as well
            return text
    if key == "tags" and ":" in text:
        parts = [part.strip().partition(":") for part in text.split(",")]
        return {name: item if sep else "true" for name, sep, item in parts}
    return text


def _pairs(items: Sequence[Any]) -> dict[str, Any] | None:
    """``[{"key": k, "value": v}, …]`` or ``[[k, v], …]`` as one object; None for any other list."""
    found: dict[str, Any] = {}
    for item in items:
        if isinstance(item, dict) and "value" in item and len(item) == 2:
            name = next((value for key, value in item.items() if key != "value"), None)
            value = item["value"]
            if isinstance(value, dict) and len(value) == 1:  # OTLP's AnyValue in JSON: {"stringValue": "x"}
                value = next(iter(value.values()))
        elif isinstance(item, list) and len(item) == 2:
            name, value = item
        else:
            return None
        if not isinstance(name, str) or not name or isinstance(value, dict):
            return None
        found[name] = value
    return found or None


def attributes_of(found: Sequence[Leaf]) -> dict[str, str]:
    """Flat text attributes of a document's leaves; empty values are left out. Of more than 256 the others are counted in one more."""
    cuts = [leaf for leaf in found if leaf.path == LEFT_OUT and not leaf.key]
    found = [leaf for leaf in found if leaf not in cuts] if cuts else found
    left_out = sum(leaf.value for leaf in cuts) + max(0, len(found) - _WIDTH)
    texts = ((leaf.path or "value", text_of(leaf.value)) for leaf in found[:_WIDTH])
    attributes = {path: text for path, text in texts if text}
    return attributes | {LEFT_OUT: str(left_out)} if left_out else attributes
