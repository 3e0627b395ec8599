"""The datagrams by which a worker asks another one with which mark they came to it. Pure.

A request and its answer have one form and one length, so that nobody is sent more than was sent in his name. Both carry
a truncated HMAC (RFC 2104, 128 bits of SHA-256) under the key that the hosts share: without it there is no answer.
First the asker opens: the answer brings a challenge, made of the address and port that the request came from. Every
further request shows it, so that who cannot hear answers at an address cannot have any sent there, not even by
repeating requests that he has seen.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum

_MAGIC = b"SSM1"
#: Magic, sort, octet, two bytes of 0, sequence number, nonce, challenge.
_FIELDS = struct.Struct("!4sBB2xI8s16s")
_MAC_BYTES = 16
#: Bytes of every datagram.
SIZE = _FIELDS.size + _MAC_BYTES
NONCE_BYTES = 8
CHALLENGE_BYTES = 16
NO_CHALLENGE = bytes(CHALLENGE_BYTES)
#: Fewer characters of a key are refused: it is not meant to be guessed.
SHORTEST_KEY = 32


class Sort(IntEnum):
    """What a datagram is."""

    OPEN = 1
    OPENED = 2
    MARKED = 3
    SEEN = 4


@dataclass(frozen=True, kw_only=True)
class MarkMessage:
    """One datagram."""

    sort: Sort
    #: Random, of one run; the answer repeats it.
    nonce: bytes
    #: Number of the request; the answer repeats it.
    sequence: int = 0
    #: In SEEN, the octet with DSCP and ECN with which the request came.
    octet: int = 0
    challenge: bytes = NO_CHALLENGE


def derived(secret: str) -> bytes:
    """Return the key that datagrams are signed with, from the text that the hosts share."""
    return hashlib.sha256(b"streamswarm marks 1\0" + secret.encode()).digest()


def packed(message: MarkMessage, key: bytes) -> bytes:
    """Return a datagram, signed."""
    fields = _FIELDS.pack(
        _MAGIC, message.sort, message.octet, message.sequence, message.nonce, message.challenge
    )
    return fields + _mac(fields, key)


def read(data: bytes, key: bytes) -> MarkMessage | None:
    """Return what a datagram says; None for anything that was not signed with this key."""
    if len(data) != SIZE or not data.startswith(_MAGIC):
        return None
    fields, mac = data[: _FIELDS.size], data[_FIELDS.size :]
    if not hmac.compare_digest(mac, _mac(fields, key)):
        return None
    _, sort, octet, sequence, nonce, challenge = _FIELDS.unpack(fields)
    if sort not in tuple(Sort):
        return None
    return MarkMessage(sort=Sort(sort), nonce=nonce, sequence=sequence, octet=octet, challenge=challenge)


def _mac(fields: bytes, key: bytes) -> bytes:
    return hmac.digest(key, fields, "sha256")[:_MAC_BYTES]
