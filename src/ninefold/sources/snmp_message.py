"""SNMP messages in bytes: the part of BER that SNMP uses, and notifications (RFC 1157, RFC 3416) in all three versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ninefold.ground.errors import BadData

INTEGER, OCTETS, OID, SEQUENCE = 0x02, 0x04, 0x06, 0x30
COUNTER = 0x41
RESPONSE, TRAP_V1, INFORM, TRAP, REPORT = 0xA2, 0xA4, 0xA6, 0xA7, 0xA8
UPTIME, TRAP_OID = "1.3.6.1.2.1.1.3.0", "1.3.6.1.6.3.1.1.4.1.0"
_ADDRESS, _TICKS, _OPAQUE = 0x40, 0x43, 0x44
_NUMBERS = (INTEGER, COUNTER, 0x42, _TICKS, 0x46)
_NOTHING = {0x05: "", 0x80: "noSuchObject", 0x81: "noSuchInstance", 0x82: "endOfMibView"}
_GENERIC = "1.3.6.1.6.3.1.1.5"
_ENTERPRISE = "1.3.6.1.6.3.1.1.4.3.0"
_ENTERPRISE_SPECIFIC = 6
_WIDTH, _OID_LENGTH = 256, 128


class Item(NamedTuple):
    """One BER value: its tag, and from where to where its content stands in the message."""

    tag: int
    start: int
    stop: int


class Notification(NamedTuple):
    """What a trap or an inform says. `uptime` in hundredths of a second; `agent` is the address a version 1 trap names, else ""."""

    oid: str
    uptime: int
    agent: str
    request: int
    binds: Sequence[tuple[str, str]]


def items(data: bytes, start: int, stop: int) -> list[Item]:
    """The values that stand one behind the other.

    Raises:
        BadData: one is cut short, or its length is not definite.
    """
    found = []
    while start < stop:
        item = item_at(data, start, stop)
        found.append(item)
        start = item.stop
    return found


def item_at(data: bytes, start: int, stop: int) -> Item:
    """The value that begins at `start`; others may follow it.

    Raises:
        BadData: it is cut short, or its length is not definite.
    """
    if stop - start < 2 or data[start] & 31 == 31:
        raise BadData("a BER value is cut short or has an unknown tag", f"byte {start}")
    size, place = data[start + 1], start + 2
    if size & 128:
        digits = size & 127
        if not 0 < digits <= 4:
            raise BadData("a BER length is indefinite or too long", f"byte {start}")
        size, place = int.from_bytes(data[place : place + digits], "big"), place + digits
    if place + size > stop:
        raise BadData("a BER value is longer than what holds it", f"byte {start}")
    return Item(data[start], place, place + size)


def parts(data: bytes, item: Item, *tags: int) -> list[Item]:
    """The values inside another one, which must have these tags, -1 standing for any.

    Raises:
        BadData: there are others.
    """
    found = items(data, item.start, item.stop)
    if len(found) != len(tags) or any(tag not in (-1, part.tag) for part, tag in zip(found, tags, strict=True)):
        raise BadData("the message does not have the parts of an SNMP message", f"byte {item.start}")
    return found


def opened(data: bytes) -> tuple[int, list[Item]]:
    """The version number of a message and its parts.

    Raises:
        BadData: it is not an SNMP message.
    """
    whole = items(data, 0, len(data))
    inside = items(data, whole[0].start, whole[0].stop) if len(whole) == 1 and whole[0].tag == SEQUENCE else []
    if len(inside) < 3 or inside[0].tag != INTEGER:
        raise BadData("the datagram is not an SNMP message", "byte 0")
    return number(data, inside[0]), inside


def content(data: bytes, item: Item) -> bytes:
    """The bytes of a value."""
    return data[item.start : item.stop]


def number(data: bytes, item: Item) -> int:
    """A whole number.

    Raises:
        BadData: it is none, or larger than SNMP's.
    """
    if item.tag not in _NUMBERS or not 0 < item.stop - item.start <= 9:
        raise BadData("a number is expected", f"byte {item.start}")
    return int.from_bytes(content(data, item), "big", signed=item.tag == INTEGER)


def oid(data: bytes, item: Item) -> str:
    """An object identifier, dotted.

    Raises:
        BadData: it is none.
    """
    raw = content(data, item)
    if item.tag != OID or not raw or raw[-1] & 128 or len(raw) > _OID_LENGTH:
        raise BadData("an object identifier is expected", f"byte {item.start}")
    arcs, arc = [], 0
    for byte in raw:
        arc = arc << 7 | byte & 127
        if byte < 128:
            arcs.append(arc)
            arc = 0
    root = min(arcs[0] // 40, 2)
    return ".".join(map(str, (root, arcs[0] - 40 * root, *arcs[1:])))


def notification(data: bytes, pdu: Item) -> Notification:
    """Read a trap or an inform; a version 1 trap is told as RFC 3584 says it is in version 2.

    Raises:
        BadData: it is another message, or malformed.
    """
    if pdu.tag == TRAP_V1:
        enterprise, agent, generic, specific, uptime, binds = parts(data, pdu, OID, _ADDRESS, INTEGER, INTEGER, _TICKS, SEQUENCE)
        kind = number(data, generic)
        company = oid(data, enterprise)
        name = f"{company}.0.{number(data, specific)}" if kind == _ENTERPRISE_SPECIFIC else f"{_GENERIC}.{kind + 1}"
        address = _text(data, agent)
        found = [*_binds(data, binds), (_ENTERPRISE, company)]
        return Notification(name, number(data, uptime), "" if address == "0.0.0.0" else address, 0, found)  # noqa: S104
    if pdu.tag not in (TRAP, INFORM):
        raise BadData("the message is neither a trap nor an inform; only these are received", f"byte {pdu.start}")
    request, _, _, binds = parts(data, pdu, INTEGER, INTEGER, INTEGER, SEQUENCE)
    found = _binds(data, binds)
    about = dict(found)
    if not about.get(TRAP_OID):
        raise BadData("the notification does not name its trap (snmpTrapOID.0)", f"byte {binds.start}")
    uptime_text = about.get(UPTIME, "")
    rest = [(key, value) for key, value in found if key not in (TRAP_OID, UPTIME)]
    return Notification(about[TRAP_OID], int(uptime_text) if uptime_text.isdigit() else 0, "", number(data, request), rest)


def _binds(data: bytes, binds: Item) -> list[tuple[str, str]]:
    pairs = items(data, binds.start, binds.stop)
    if len(pairs) > _WIDTH:
        raise BadData(f"the notification has more than {_WIDTH} variables", f"byte {binds.start}")
    found = []
    for pair in pairs:
        name, value = parts(data, pair, OID, -1)
        found.append((oid(data, name), _text(data, value)))
    return found


def _text(data: bytes, item: Item) -> str:
    """A value as text: numbers in decimal, printable octets as they are, others in hexadecimal."""
    raw = content(data, item)
    if item.tag in _NUMBERS:
        return str(number(data, item))
    if item.tag == OID:
        return oid(data, item)
    if item.tag == _ADDRESS and len(raw) == 4:
        return ".".join(map(str, raw))
    if item.tag in _NOTHING:
        return _NOTHING[item.tag]
    if item.tag == OCTETS:
        try:
            text = raw.decode().rstrip("\0")
        except UnicodeDecodeError:
            text = "\0"
        if all(letter.isprintable() or letter in "\r\n\t" for letter in text):
            return text
    return raw.hex(":")


def wrap(tag: int, *contents: bytes) -> bytes:
    """A value of this tag."""
    inside = b"".join(contents)
    size = len(inside)
    if size < 128:
        return bytes((tag, size)) + inside
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 128 | len(digits))) + digits + inside


def wrap_number(value: int, tag: int = INTEGER) -> bytes:
    """A whole number that is not negative."""
    return wrap(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def wrap_oid(dotted: str) -> bytes:
    """An object identifier."""
    first, second, *rest = map(int, dotted.split("."))
    out = bytearray()
    for arc in (40 * first + second, *rest):
        shift = max(0, (arc.bit_length() - 1) // 7 * 7)
        out += bytes(128 | arc >> at & 127 for at in range(shift, 0, -7))
        out.append(arc & 127)
    return wrap(OID, bytes(out))


def acknowledged(data: bytes, pdu: Item) -> bytes:
    """The response to an inform: the same request, variables and all, under the other tag."""
    return wrap(RESPONSE, content(data, pdu))
