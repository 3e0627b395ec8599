"""Asking a mail server to begin TLS: STARTTLS of SMTP (RFC 3207), IMAP (RFC 9051), and STLS of POP3 (RFC 2595)."""

from __future__ import annotations

from streamswarm.targets import shown
from worker.wire.stream import ByteStream, PeerClosedError

_LONGEST_LINE = 4096
_MOST_LINES = 100


class StartTlsError(Exception):
    """The server does not begin TLS; the message says what it answered."""


async def start(stream: ByteStream, protocol: str) -> None:
    """Talk until the server is ready for a handshake; raises StartTlsError, PeerClosedError or OSError."""
    await _PROTOCOLS[protocol](_Lines(stream))


class _Lines:
    """Lines of a stream. What came after the last line that was asked for must be nothing when TLS begins."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._buffer = b""

    async def send(self, line: str) -> None:
        await self._stream.send(line.encode("ascii") + b"\r\n")

    async def receive(self) -> str:
        while b"\n" not in self._buffer:
            if len(self._buffer) > _LONGEST_LINE:
                raise StartTlsError(f"sent a line of more than {_LONGEST_LINE} bytes")
            data = await self._stream.receive()
            if not data:
                raise PeerClosedError("closed the connection before TLS could begin")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r").decode("utf-8", errors="replace")

    def end(self) -> None:
        # What somebody on the way has put in before TLS must not count as said under TLS (CVE-2011-0411).
        if self._buffer:
            raise StartTlsError("sent more before TLS began than it may")


async def _smtp(lines: _Lines) -> None:
    await _smtp_reply(lines, "220")
    await lines.send("EHLO streamswarm.invalid")
    offers = await _smtp_reply(lines, "250")
    if "STARTTLS" not in (offer[4:].strip().upper() for offer in offers):
        raise StartTlsError("does not offer STARTTLS")
    await lines.send("STARTTLS")
    await _smtp_reply(lines, "220")
    lines.end()


async def _smtp_reply(lines: _Lines, wanted: str) -> list[str]:
    """Read one reply of several lines, of which all but the last have a hyphen after the code."""
    found: list[str] = []
    while True:
        line = await lines.receive()
        found.append(line)
        if not line.startswith(wanted):
            raise StartTlsError(f"answered `{shown(line)}` where {wanted} was expected")
        if line[3:4] != "-":
            return found
        if len(found) >= _MOST_LINES:
            raise StartTlsError(f"sent more than {_MOST_LINES} lines in one reply")


async def _imap(lines: _Lines) -> None:
    greeting = await lines.receive()
    if not greeting.upper().startswith("* OK"):
        raise StartTlsError(f"greeted with `{shown(greeting)}`")
    await lines.send("s1 STARTTLS")
    for _ in range(_MOST_LINES):
        line = await lines.receive()
        if line.startswith("*"):  # untagged: not yet the answer
            continue
        if not line.upper().startswith("S1 OK"):
            raise StartTlsError(f"answered `{shown(line)}` to STARTTLS")
        lines.end()
        return
    raise StartTlsError(f"sent more than {_MOST_LINES} lines before its answer to STARTTLS")


async def _pop3(lines: _Lines) -> None:
    for command in ("", "STLS"):
        if command:
            await lines.send(command)
        line = await lines.receive()
        if not line.upper().startswith("+OK"):
            raise StartTlsError(f"answered `{shown(line)}`{f' to {command}' if command else ''}")
    lines.end()


_PROTOCOLS = {"smtp": _smtp, "imap": _imap, "pop3": _pop3}
