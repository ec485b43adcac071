"""Decompression: what comes out, and where it stops."""

from __future__ import annotations

import gzip
import zlib

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.ground.errors import BadData, TooLarge
from ninefold.sources.body import decompress

PACK = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
    "snappy": lambda body: bytes(cramjam.snappy.compress_raw(body)),
}


@given(st.sampled_from(sorted(PACK)), st.binary(max_size=2000))
def test_what_was_packed_comes_out(encoding: str, body: bytes) -> None:
    assert decompress(PACK[encoding](body), encoding, len(body)) == body


@given(st.binary(max_size=200))
def test_deflate_without_the_header_of_zlib(body: bytes) -> None:
    packer = zlib.compressobj(wbits=-15)
    raw = packer.compress(body) + packer.flush()
    assert decompress(raw, "deflate", 200) == body


@pytest.mark.parametrize("encoding", sorted(PACK))
def test_one_byte_too_many(encoding: str) -> None:
    packed = PACK[encoding](bytes(5000))
    assert len(decompress(packed, encoding, 5000)) == 5000
    with pytest.raises(TooLarge):
        decompress(packed, encoding, 4999)


def test_a_bomb_is_stopped_before_it_fills_the_memory() -> None:
    bomb = gzip.compress(bytes(1 << 24)) * 64
    with pytest.raises(TooLarge):
        decompress(bomb, "gzip", 1 << 20)


def test_gzip_of_several_members() -> None:
    assert decompress(gzip.compress(b"one ") + gzip.compress(b"two"), "gzip", 100) == b"one two"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "snappy"])
def test_cut_or_foreign_bodies(encoding: str) -> None:
    packed = PACK[encoding](b"some text that is long enough to be cut " * 9)
    for body in (packed[:-3], packed + b"more", b"plain text", b""):
        with pytest.raises(BadData):
            decompress(body, encoding, 1 << 20)


def test_an_encoding_that_is_not_known_is_named() -> None:
    with pytest.raises(BadData, match="'br'"):
        decompress(b"", "br", 10)
