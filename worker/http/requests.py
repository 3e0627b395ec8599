"""What an `http` test asks for: the request of its URL, and of what it is redirected to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urldefrag, urljoin, urlsplit

from streamswarm import __version__
from streamswarm.targets import Target, TargetError, parse_url, shown
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.http_pb2 import HttpSpec
from worker.failures import internal_failure, target_failure
from worker.probing import ProbeFailure
from worker.wire.addresses import host_field
from worker.wire.http_body import CODINGS
from worker.wire.http_exchange import DEFAULT_PORTS, Request

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE = re.compile(r"[\t\x20-\x7e]*\Z")
#: Fields that the exchange itself is made of: given twice, or wrongly, they would break it.
_OURS = {
    "connection", "content-length", "expect", "http2-settings", "keep-alive", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
}  # fmt: skip
_MOST_FIELDS = 50
#: What stays as it is in a Location: blanks are escaped, too.
_AS_IT_IS = "".join(map(chr, range(128))).replace(" ", "")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked of one URL."""

    target: Target
    method: str
    #: Fields that the test adds; they go to its own origin only, for they may be secrets.
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    #: Whether content codings are offered.
    compression: bool = False

    @property
    def url(self) -> str:
        """The URL, which every target of this kind has."""
        return self.target.url or ""

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return self.url.partition(":")[0].lower()

    @property
    def port(self) -> int:
        """The port that the URL names, or its scheme's own."""
        return self.target.port or DEFAULT_PORTS[self.scheme]


def order(target: Target, spec: HttpSpec) -> Order:
    """Return what a test asks for; raises ProbeFailure with INVALID_TEST where a parameter makes no sense."""
    headers = fields(spec.headers, "headers")
    for name, value in headers:
        if name.lower() in _OURS:
            raise invalid("headers", f"`{shown(name)}` is set by the worker itself; leave it out")
        if not _VALUE.match(value):
            raise invalid("headers", f"the value of `{shown(name)}` has characters that no header may have")
    return Order(
        target=target,
        method=spec.method or "GET",
        headers=headers,
        body=spec.body.encode(),
        compression=spec.compression,
    )


def redirected(order: Order, status: int | None, location: str) -> Order:
    """Return what a redirect asks for (RFC 9110, section 15.4); raises ProbeFailure where it leads nowhere."""
    target = next_target(order.url, location)
    method, body = order.method, order.body
    if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
        method, body = "GET", b""
    if body and order.scheme == "https" and urlsplit(target.url or "").scheme == "http":
        raise target_failure(
            f"{shown(order.url)} redirects to `{shown(location)}`, to which the test's body would go unencrypted; "
            "it was not sent",
            reason=probe_pb2.FAILURE_REASON_BAD_ANSWER,
        )
    own = _origin(order.url) == _origin(target.url or "")
    return Order(
        target=target,
        method=method,
        headers=order.headers if own else (),
        body=body,
        compression=order.compression,
    )


def next_target(url: str, location: str) -> Target:
    """Return where a redirect leads, by the same rules as for a destination typed in.

    Servers send names in UTF-8 as they are, whose bytes fields hold as Latin-1, and blanks; they are escaped as browsers do.
    """
    try:
        escaped = quote(location.encode("latin-1"), safe=_AS_IT_IS)
        return parse_url(urldefrag(urljoin(url, escaped)).url)
    except (TargetError, ValueError) as error:
        raise target_failure(
            f"{shown(url)} redirects to `{shown(location)}`: {error}",
            reason=probe_pb2.FAILURE_REASON_BAD_ANSWER,
        ) from error


def message(order: Order) -> Request:
    """Return the request as it is sent."""
    parts = urlsplit(order.url)
    host = host_field(order.target.host, order.port, DEFAULT_PORTS[order.scheme])
    given = {name.lower(): value for name, value in order.headers}
    usual = (
        ("User-Agent", f"streamswarm/{__version__}"),
        ("Accept", "*/*"),
        ("Accept-Encoding", ", ".join(CODINGS) if order.compression else "identity"),
    )
    return Request(
        method=order.method,
        scheme=order.scheme,
        authority=given.get("host", host),
        path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        headers=(
            *(field for field in usual if field[0].lower() not in given),
            *(field for field in order.headers if field[0].lower() != "host"),
        ),
        body=order.body,
    )


def fields(text: str, parameter: str) -> tuple[tuple[str, str], ...]:
    """Return the header fields in a parameter's lines; raises ProbeFailure with INVALID_TEST."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        if not colon or not _NAME.match(name.strip()):
            raise invalid(parameter, f"`{shown(line)}` is not a line such as `Name: text`")
        found.append((name.strip(), value.strip()))
    if len(found) > _MOST_FIELDS:
        raise invalid(parameter, f"has {len(found)} lines; {_MOST_FIELDS} is the most")
    return tuple(found)


def invalid(parameter: str, problem: str) -> ProbeFailure:
    """Return the failure of a test whose parameter cannot be used."""
    return internal_failure(
        f"the test's `{parameter}`: {problem}", reason=probe_pb2.FAILURE_REASON_INVALID_TEST
    )


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)
