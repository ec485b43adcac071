"""Bodies as they travel: decompression that stops at a limit, so a small body can never become a large one."""

from __future__ import annotations

import zlib

import cramjam

from ninefold.ground.errors import BadData, TooLarge

_WINDOW = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_RAW_DEFLATE = -15
_MEMBERS = 1000
"""Most members of a gzip body: each costs a copy of what follows it."""


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """The plain bytes of a body with `Content-Encoding` gzip, deflate, snappy (the block format of remote write) or none.

    Raises:
        TooLarge: the plain body would be longer than `limit` bytes.
        BadData: the encoding is not known, or the body is not in it.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        if len(body) > limit:
            raise _too_large(limit)
        return body
    if encoding in _WINDOW:
        return _inflate(body, encoding, limit)
    if encoding == "snappy":
        return _unsnap(body, limit)
    raise BadData(f"the content encoding {encoding!r} is not understood; send gzip, deflate, snappy or none", "Content-Encoding")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is longer than the limit of {limit} bytes after decompression; send smaller batches")


def _inflate(body: bytes, encoding: str, limit: int) -> bytes:
    window = _WINDOW[encoding]
    if encoding == "deflate" and (len(body) < 2 or (body[0] << 8 | body[1]) % 31 or body[0] & 15 != 8):
        window = _RAW_DEFLATE  # RFC 9110 means zlib's format by "deflate", yet some senders leave its header out
    parts: list[bytes] = []
    size = 0
    rest = body
    for _ in range(_MEMBERS):
        member = zlib.decompressobj(window)
        try:
            part = member.decompress(rest, limit - size + 1)
        except zlib.error as error:
            raise BadData(f"the body is not {encoding}: {error}", f"byte {len(body) - len(rest)}") from None
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        if not member.eof:
            raise BadData(f"the {encoding} body ends too early", f"byte {len(body)}")
        rest = member.unused_data
        if not rest:
            return b"".join(parts)
        if window != _WINDOW["gzip"]:
            raise BadData(f"{len(rest)} bytes follow the end of the {encoding} body", f"byte {len(body) - len(rest)}")
    raise TooLarge(f"the {encoding} body has more than {_MEMBERS} members; send it as one")


def _unsnap(body: bytes, limit: int) -> bytes:
    declared = 0
    for i, byte in enumerate(body[:5]):
        declared |= (byte & 127) << 7 * i
        if byte < 128:
            break
    else:
        raise BadData("the body does not begin with a snappy block's length", "byte 0")
    if declared > limit:
        raise _too_large(limit)
    try:
        return bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise BadData(f"the body is not a snappy block: {error}") from None
