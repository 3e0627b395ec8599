"""An answer's body as it comes: counted, its content coding undone, searched, and kept where it is to be examined."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator

#: Content codings that are undone (RFC 9110, section 8.4.1): those of the standard library.
CODINGS = ("gzip", "deflate")
#: Bytes of a body that is kept to be examined as a whole.
MOST_KEPT = 1_048_576
_PIECE_BYTES = 65_536
#: Decoding goes on so long before others get their turn.
_BYTES_IN_A_ROW = 1_048_576
_EITHER_WRAPPING = 32 + zlib.MAX_WBITS
_NO_WRAPPING = -zlib.MAX_WBITS
#: How gzip begins, and how many bytes tell it and zlib from bare deflate.
_GZIP = b"\x1f\x8b"
_WRAPPING_BYTES = 2


class BodyTooLongError(Exception):
    """The body went beyond a limit; the message says which."""


class BrokenBodyError(Exception):
    """The body is not in the content coding that its header names."""


class Body:
    """Takes in one body.

    `longest` bounds what is transferred and what it decodes to, so that a small answer cannot blow itself up.
    """

    def __init__(self, *, longest: int, needles: tuple[bytes, ...] = (), keep: bool = False) -> None:
        self._longest = longest
        self._needles = needles
        self._tail = b""
        self._kept: list[bytes] | None = [] if keep else None
        self._decoder: _Decoder | None = None
        #: Whether it was begun to be read: nothing is known of a body that was not.
        self.begun = False
        #: Bytes as transferred: the coding is not undone, framing is not counted.
        self.wire_bytes = 0
        #: Bytes of content, once the coding is undone.
        self.content_bytes = 0
        #: The content coding that the answer named, in lower case; empty for none.
        self.coding = ""
        #: Those of `needles` that occur in the content.
        self.found: set[bytes] = set()

    def look_for(self, needles: tuple[bytes, ...]) -> None:
        """Say what to look for; to be called before the body comes."""
        self._needles = needles

    @property
    def readable(self) -> bool:
        """Whether the content could be looked at: it had no coding, or one that was undone."""
        return not self.coding or self._decoder is not None

    @property
    def content(self) -> bytes:
        """The content that was kept."""
        return b"".join(self._kept or ())

    def begin(self, coding: str) -> None:
        """Say that the body will be read, and in which Content-Encoding it comes."""
        self.begun = True
        self.coding = coding.strip().lower().removeprefix("x-")
        if self.coding == "identity":
            self.coding = ""
        if self.coding in CODINGS:
            self._decoder = _Decoder()

    async def feed(self, data: bytes) -> None:
        """Take the next bytes; raises BodyTooLongError or BrokenBodyError."""
        self.wire_bytes += len(data)
        if self.wire_bytes > self._longest:
            raise BodyTooLongError(f"is longer than {self._longest} bytes")
        if self._decoder is None:
            self._take(data)
            return
        in_a_row = 0
        for piece in self._decoder.decode(data):
            self._take(piece)
            in_a_row += len(piece)
            if in_a_row >= _BYTES_IN_A_ROW:
                in_a_row = 0
                await asyncio.sleep(0)

    def finish(self) -> None:
        """Say that the body is complete; raises BrokenBodyError when its coding is not."""
        if self._decoder is not None and self.wire_bytes and not self._decoder.complete:
            raise BrokenBodyError(f"ends in the middle of its {self.coding} coding")

    def _take(self, content: bytes) -> None:
        self.content_bytes += len(content)
        if self.content_bytes > self._longest:
            raise BodyTooLongError(f"decodes to more than {self._longest} bytes")
        if len(self.found) < len(self._needles):
            self._search(content)
        if self._kept is not None:
            if self.content_bytes > MOST_KEPT:
                raise BodyTooLongError(
                    f"is longer than {MOST_KEPT} bytes, the most that can be examined as a whole"
                )
            self._kept.append(bytes(content))

    def _search(self, content: bytes) -> None:
        # A text may lie across two pieces.
        window = self._tail + content
        self.found.update(needle for needle in self._needles if needle in window)
        overlap = max(map(len, self._needles)) - 1
        self._tail = window[-overlap:] if overlap else b""


class _Decoder:
    """gzip (RFC 1952) of one or several members, zlib (RFC 1950), and the bare deflate (RFC 1951) that some send for it."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_EITHER_WRAPPING)
        #: The first bytes, until they are enough to tell the wrapping; None from then on.
        self._first: bytes | None = b""

    @property
    def complete(self) -> bool:
        """Whether the coding's end was reached."""
        return self._inflate.eof

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Yield the content in pieces of bounded size."""
        if self._first is not None:
            data = self._first = self._first + data
            if len(data) < _WRAPPING_BYTES:
                return
            self._first = None
            if not _is_wrapped(data):
                self._inflate = zlib.decompressobj(_NO_WRAPPING)
        held = False
        while data or held:
            if self._inflate.eof:
                # A further member; zeros before it, or at the end, are padding, as gzip takes them.
                data = data.lstrip(b"\0")
                if not data:
                    return
                self._inflate = zlib.decompressobj(_EITHER_WRAPPING)
            piece = self._step(data)
            if piece:
                yield piece
            data = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            # All input may be taken in while content is left that the piece had no room for.
            held = len(piece) == _PIECE_BYTES and not self._inflate.eof

    def _step(self, data: bytes) -> bytes:
        try:
            return self._inflate.decompress(data, _PIECE_BYTES)
        except zlib.error as error:
            raise BrokenBodyError(f"breaks its content coding: {error}") from error


def _is_wrapped(data: bytes) -> bool:
    """Whether bytes begin as gzip (RFC 1952, section 2.3.1) or zlib (RFC 1950, section 2.2) does.

    Bare deflate begins like neither: its first byte would be a block of a reserved type, or padding that is not zero.
    """
    return data.startswith(_GZIP) or (
        data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:_WRAPPING_BYTES], "big") % 31 == 0
    )
