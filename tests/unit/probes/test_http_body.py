"""Bodies: content codings undone, bounded on both sides, searched across pieces."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.wire import http_body
from worker.wire.http_body import Body, BodyTooLongError, BrokenBodyError

TEXT = b"the needle lies somewhere in here " * 50


def bare_deflate(data: bytes) -> bytes:
    """RFC 1951 without a wrapping, as some servers send for `deflate`."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


async def take(body: Body, coding: str, data: bytes, pieces: int = 7) -> Body:
    """Feed a whole body in pieces."""
    body.begin(coding)
    size = max(1, len(data) // pieces)
    for position in range(0, len(data), size):
        await body.feed(data[position : position + size])
    body.finish()
    return body


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT)),
        ("x-gzip", gzip.compress(TEXT)),
        ("GZip", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", bare_deflate(TEXT)),
    ],
    ids=["none", "identity", "gzip", "x-gzip", "members", "zlib", "bare"],
)
async def test_codings_are_undone(coding: str, packed: bytes) -> None:
    """Both sizes are counted, and the text is found that lies across pieces."""
    body = await take(
        Body(longest=10_000, needles=(b"needle lies", b"haystack"), keep=True), coding, packed, pieces=20
    )
    assert body.content == TEXT
    assert (body.wire_bytes, body.content_bytes) == (len(packed), len(TEXT))
    assert body.found == {b"needle lies"}
    assert body.readable


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 131_072, 131_073, 262_144, 262_344])
@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, bare_deflate], ids=["gzip", "zlib", "bare"])
async def test_a_decoder_that_has_taken_all_may_hold_content_still(
    pack: Callable[[bytes], bytes], size: int
) -> None:
    """Content that fills its pieces to the byte, or comes out of no more input, is there as a whole."""
    text = bytes(size)
    body = await take(Body(longest=300_000, keep=True), "deflate", pack(text), pieces=1)
    assert body.content == text


@pytest.mark.parametrize(
    "packed",
    [bare_deflate(TEXT), bare_deflate(b""), zlib.compress(TEXT), gzip.compress(TEXT)],
    ids=["bare", "bare and empty", "zlib", "gzip"],
)
async def test_the_wrapping_is_told_from_single_bytes(packed: bytes) -> None:
    """One byte does not tell it; the first two do (RFC 1950, section 2.2; RFC 1952, section 2.3.1)."""
    body = await take(Body(longest=10_000, keep=True), "deflate", packed, pieces=len(packed))
    assert body.content in (TEXT, b"")
    assert body.content_bytes == (len(TEXT) if len(packed) > 2 else 0)


@pytest.mark.parametrize("pieces", [1, 1_000])
async def test_zeros_after_gzip_are_padding(pieces: int) -> None:
    """Between members, too, as gzip takes them."""
    packed = gzip.compress(TEXT[:100]) + bytes(3) + gzip.compress(TEXT[100:]) + bytes(8)
    body = await take(Body(longest=10_000, keep=True), "gzip", packed, pieces=pieces)
    assert body.content == TEXT


async def test_an_unknown_coding_is_counted_and_not_read() -> None:
    """Brotli was not offered: what it says cannot be told."""
    body = await take(Body(longest=100, needles=(b"x",)), "br", b"\x0b\x02\x80")
    assert not body.readable
    assert body.wire_bytes == 3


async def test_a_bomb_is_stopped_at_the_limit() -> None:
    """10 MB of zeros in 10 kB; not a byte more than the limit and one piece is ever made of it."""
    bomb = gzip.compress(bytes(10_000_000))
    body = Body(longest=100_000)
    with pytest.raises(BodyTooLongError, match="decodes to more than 100000 bytes"):
        await take(body, "gzip", bomb, pieces=1)
    assert body.content_bytes <= 100_000 + http_body._PIECE_BYTES


async def test_the_wire_is_bounded_too() -> None:
    """Without a coding as with one."""
    with pytest.raises(BodyTooLongError, match="is longer than 10 bytes"):
        await take(Body(longest=10), "", b"x" * 11, pieces=1)


async def test_what_is_kept_is_bounded() -> None:
    """Whatever the test allows for."""
    body = Body(longest=10**9, keep=True)
    with pytest.raises(BodyTooLongError, match="the most that can be examined"):
        await take(body, "", bytes(http_body.MOST_KEPT + 1))


@pytest.mark.parametrize(
    "data",
    [b"this is not gzip", gzip.compress(TEXT)[:-9], gzip.compress(TEXT) + b"rest"],
    ids=["never", "cut", "followed"],
)
async def test_broken_codings_are_said(data: bytes) -> None:
    """Never begun, cut short, or followed by something else."""
    with pytest.raises(BrokenBodyError):
        await take(Body(longest=10_000), "gzip", data)


async def test_no_body_at_all_is_fine() -> None:
    """An answer to HEAD names the coding of a body that it does not have."""
    assert (await take(Body(longest=10), "gzip", b"")).content_bytes == 0


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "br", ""]))
async def test_any_bytes_are_decoded_or_refused(data: bytes, coding: str) -> None:
    """With one of the two exceptions and no other."""
    body = Body(longest=200, needles=(b"ab",), keep=True)
    try:
        await take(body, coding, data)
    except (BodyTooLongError, BrokenBodyError):
        return
    assert body.wire_bytes == len(data)
