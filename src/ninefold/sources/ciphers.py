"""The block ciphers that collectd and SNMP encrypt with, out of the library `cryptography`, which only they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from ninefold.ground.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

BLOCK = 16
_DES_BLOCK = 8


def need(where: str) -> None:
    """Make sure that ciphers can be had.

    Raises:
        ConfigError: the library is not installed.
    """
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{where}: encryption needs the library cryptography; install ninefold[encrypted]") from error


def aes(key: bytes) -> Callable[[bytes], bytes]:
    """AES on single blocks, one behind the other, with a key of 16, 24 or 32 bytes: what the stream modes below are made of."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    encrypt: Callable[[bytes], bytes] = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update  # noqa: S305
    return encrypt


def ofb(key: bytes, start: bytes, data: bytes) -> bytes:
    """Data encrypted or decrypted by AES in output feedback mode."""
    encrypt, block = aes(key), start

    def keys() -> Iterator[bytes]:
        nonlocal block
        while True:
            block = encrypt(block)
            yield block

    return _xor(data, b"".join(islice(keys(), -(-len(data) // BLOCK))))


def cfb_decrypt(key: bytes, start: bytes, data: bytes) -> bytes:
    """Data decrypted by AES in cipher feedback mode of whole blocks."""
    stream = start + data
    return _xor(data, aes(key)(stream[: -(-len(data) // BLOCK) * BLOCK]))


def cfb_encrypt(key: bytes, start: bytes, data: bytes) -> bytes:
    """Data encrypted by AES in cipher feedback mode of whole blocks."""
    encrypt, block, out = aes(key), start, []
    for place in range(0, len(data), BLOCK):
        block = _xor(data[place : place + BLOCK], encrypt(block))
        out.append(block)
    return b"".join(out)


def des_decrypt(key: bytes, start: bytes, data: bytes) -> bytes:
    """Data decrypted by DES in cipher block chaining mode."""
    return _des(key, start).decryptor().update(data)


def des_encrypt(key: bytes, start: bytes, data: bytes) -> bytes:
    """Data, filled up with zeros, encrypted by DES in cipher block chaining mode."""
    return _des(key, start).encryptor().update(data + bytes(-len(data) % _DES_BLOCK))


def _des(key: bytes, start: bytes) -> Cipher[modes.CBC]:
    """DES is triple DES with the same key three times."""
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

    return Cipher(TripleDES(key * 3), modes.CBC(start))


def _xor(data: bytes, keys: bytes) -> bytes:
    size = len(data)
    return (int.from_bytes(data, "big") ^ int.from_bytes(keys[:size], "big")).to_bytes(size, "big")
