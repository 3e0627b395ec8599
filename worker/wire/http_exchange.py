"""One HTTP request and what is seen of its answer, whichever version of HTTP carries it (RFC 9110)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from worker.wire.http_body import Body

#: Where a URL names no port, by its scheme (RFC 9110, 4.2).
DEFAULT_PORTS = {"http": 80, "https": 443}
#: Longest header section of an answer that is taken in, bytes: refused well before it costs memory.
LONGEST_HEAD = 65_536
#: Header fields of an answer that are taken in, those of interim answers and of its trailer section included.
MOST_FIELDS = 1_000


class BadAnswerError(Exception):
    """What came is not HTTP, or not what HTTP allows; the message is the protocol's own."""


class HeaderTooLargeError(Exception):
    """The header of the answer went beyond a limit; the message says which."""

    @classmethod
    def by_bytes(cls) -> HeaderTooLargeError:
        """Return the error of a header section that is too long."""
        return cls(f"the response header is too large: more than {LONGEST_HEAD:,} bytes")


class FieldLimit:
    """Counts the header fields of one answer and their bytes, those of its interim answers and its trailer among them."""

    def __init__(self) -> None:
        self._left = MOST_FIELDS
        self._bytes_left = LONGEST_HEAD

    def take(self, fields: Collection[tuple[bytes, bytes]]) -> None:
        """Take one section of fields, or an interim answer without any; raises HeaderTooLargeError."""
        self._left -= max(1, len(fields))
        if self._left < 0:
            raise HeaderTooLargeError(f"the response header is too large: more than {MOST_FIELDS:,} fields")
        self._bytes_left -= sum(len(name) + len(value) for name, value in fields)
        if self._bytes_left < 0:
            raise HeaderTooLargeError.by_bytes()


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request, ready to be sent."""

    method: str
    #: `http` or `https`.
    scheme: str
    #: Host, with the port unless it is the scheme's own.
    authority: str
    #: Path and query.
    path: str
    #: Header fields beside those that the version itself needs (Host, Content-Length, Connection).
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def says_length(self) -> bool:
        """Whether the length of the body is to be stated: also of an empty one, where the method expects one."""
        return bool(self.body) or self.method in ("POST", "PUT")


@dataclass(kw_only=True)
class Exchange:
    """What is known of an exchange so far; instants by time.perf_counter_ns, 0 before they happened."""

    #: The connection was there, and the request about to be sent.
    begun_ns: int = 0
    #: The request, or as much of it as was wanted, was handed to the kernel.
    sent_ns: int = 0
    #: The first byte of the answer came.
    first_byte_ns: int = 0
    #: The last byte that was waited for came.
    end_ns: int = 0
    #: Version of HTTP that the answer has: 1.0, 1.1 or 2.
    version: float | None = None
    #: Status of the final answer.
    status: int | None = None
    #: Header fields of the final answer by their names in lower case; several of one name are joined by commas
    #: (RFC 9110, section 5.3).
    headers: dict[str, str] = field(default_factory=dict)


def headers_of(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return header fields as an Exchange has them; their values may be any bytes."""
    found: dict[str, list[str]] = {}
    for name, value in fields:
        found.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return {name: ", ".join(values) for name, values in found.items()}


def closed_early(exchange: Exchange) -> str:
    """Return what the peer did when it closed the connection before its answer was complete."""
    return (
        "closed the connection before its answer was complete"
        if exchange.first_byte_ns
        else "closed the connection without an answer"
    )


class Session(Protocol):
    """HTTP on one open stream: one exchange after another."""

    #: Whether the connection can carry a further exchange.
    reusable: bool

    async def converse(
        self,
        request: Request,
        exchange: Exchange,
        body: Body,
        *,
        last: bool,
        wants_body: Callable[[Exchange], bool],
    ) -> None:
        """Send a request, and fill in `exchange` and `body` as its answer comes.

        `last` says that no further request will follow on this connection. Where `wants_body` says no to what is
        known after the head, the body is left unread.

        Raises BadAnswerError, HeaderTooLargeError, PeerClosedError, BodyTooLongError, BrokenBodyError, and OSError or ssl.SSLError of the
        stream.
        """
