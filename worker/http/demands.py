"""What an `http` test demands of an answer, and what of it is not met: one sentence each, with its reason."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any

from streamswarm.patterns import PatternError, compiled
from streamswarm.targets import shown
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.http_pb2 import HttpSpec
from worker.detached import TooManyHungCallsError
from worker.failures import vantage_failure
from worker.http import conditions, patterns
from worker.http.requests import fields, invalid
from worker.wire.http_body import Body
from worker.wire.http_exchange import Exchange

#: Character sets of bodies that are searched, by the name that Content-Type gives them; others are read as UTF-8.
_CHARSETS = {"utf-8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "utf-16"}
#: Those that leave the order of bytes open.
_ORDERS = {"utf-16": ("utf-16-le", "utf-16-be")}


@dataclass(frozen=True, kw_only=True)
class Demands:
    """What an answer must be; see the parameters of HttpSpec."""

    #: Status codes; empty for 200 to 299.
    valid_status: frozenset[int] = frozenset()
    #: (name, text that its value must contain).
    headers: tuple[tuple[str, str], ...] = ()
    #: Texts that the body must and must not contain; empty for none.
    contains: str = ""
    lacks: str = ""
    #: Regular expression, empty for none.
    pattern: str = ""
    json: tuple[conditions.Condition, ...] = ()
    #: Days that the certificate must be good for; 0 demands nothing.
    min_cert_days: int = 0

    def needles(self, exchange: Exchange) -> tuple[bytes, ...]:
        """What to look for while the body of an answer comes."""
        return (*_written(self.contains, exchange), *_written(self.lacks, exchange))

    @property
    def examines(self) -> bool:
        """Whether the body is needed as a whole."""
        return bool(self.pattern or self.json)


@dataclass(frozen=True, kw_only=True)
class Unmet:
    """One demand that an answer does not meet."""

    #: Goes on from the URL: `answered with …`, `has …`.
    text: str
    reason: probe_pb2.FailureReason


def demands(spec: HttpSpec) -> Demands:
    """Return what a test demands; raises ProbeFailure with INVALID_TEST where a parameter makes no sense."""
    json_conditions: tuple[conditions.Condition, ...] = ()
    try:
        if spec.json_matches.strip():
            json_conditions = conditions.parse(spec.json_matches)
        if spec.body_pattern:
            compiled(spec.body_pattern)
    except conditions.ConditionError as error:
        raise invalid("json_matches", str(error)) from error
    except PatternError as error:
        raise invalid("body_pattern", f"no regular expression: {error}") from error
    return Demands(
        valid_status=frozenset(spec.valid_status),
        headers=fields(spec.header_matches, "header_matches"),
        contains=spec.body_contains,
        lacks=spec.body_lacks,
        pattern=spec.body_pattern,
        json=json_conditions,
        min_cert_days=spec.min_cert_days,
    )


def unmet(demands: Demands, exchange: Exchange, body: Body, cert_days_left: float | None) -> list[Unmet]:
    """Return what of the demands is not met that can be told of any answer, the weightiest first."""
    found = [
        *_status(demands, exchange.status or 0),
        *_certificate(demands, cert_days_left),
        *_headers(demands, exchange),
    ]
    if not (demands.contains or demands.lacks):
        return found
    if not body.readable:
        return [*found, _unreadable(body)]
    if demands.contains and body.found.isdisjoint(_written(demands.contains, exchange)):
        found.append(_wrong(f"has a body that does not contain `{shown(demands.contains)}`"))
    if demands.lacks and not body.found.isdisjoint(_written(demands.lacks, exchange)):
        found.append(_wrong(f"has a body that contains `{shown(demands.lacks)}`"))
    return found


async def unmet_on_examination(demands: Demands, exchange: Exchange, body: Body) -> list[Unmet]:
    """Return what of the demands on the body as a whole is not met."""
    if not body.readable:
        return [_unreadable(body)]
    found = []
    if demands.pattern and not await _matches(demands.pattern, _text(exchange, body)):
        found.append(_wrong(f"has a body in which nothing matches `{shown(demands.pattern)}`"))
    if demands.json:
        found += _json(demands, body)
    return found


def _status(demands: Demands, status: int) -> list[Unmet]:
    valid = demands.valid_status
    if status in valid if valid else 200 <= status <= 299:
        return []
    wanted = " or ".join(map(str, sorted(valid))) if valid else "200 to 299"
    text = f"answered with status {status}; the test wants {wanted}"
    return [Unmet(text=text, reason=probe_pb2.FAILURE_REASON_WRONG_STATUS)]


def _certificate(demands: Demands, days_left: float | None) -> list[Unmet]:
    wanted = demands.min_cert_days
    if not wanted or (days_left is not None and days_left >= wanted):
        return []
    found = "shows no certificate" if days_left is None else f"has a certificate for {days_left:.1f} days"
    text = f"{found}; the test wants one that is good for {wanted} days"
    return [Unmet(text=text, reason=probe_pb2.FAILURE_REASON_OUT_OF_BOUNDS)]


def _headers(demands: Demands, exchange: Exchange) -> list[Unmet]:
    found = []
    for name, text in demands.headers:
        value = exchange.headers.get(name.lower())
        if value is None:
            found.append(_wrong(f"has no header `{shown(name)}`"))
        elif text not in value:
            line = f"{shown(name)}: {shown(value)}"
            found.append(_wrong(f"has the header `{line}`, which does not contain `{shown(text)}`"))
    return found


def _unreadable(body: Body) -> Unmet:
    return _wrong(f"has a body in the coding `{shown(body.coding)}`, which is not undone to look into it")


async def _matches(pattern: str, text: str) -> bool:
    try:
        return await patterns.occurs(pattern, text)
    except patterns.PatternTooSlowError as error:
        raise invalid("body_pattern", f"{error}; write a simpler one") from error
    except TooManyHungCallsError as error:
        raise vantage_failure(str(error), reason=probe_pb2.FAILURE_REASON_NO_ROOM) from error


def _text(exchange: Exchange, body: Body) -> str:
    return body.content.decode(_charset(exchange), errors="replace")


def _charset(exchange: Exchange) -> str:
    kind = exchange.headers.get("content-type", "").lower()
    charset = kind.partition("charset=")[2].partition(";")[0].strip(" \"'")
    return charset if charset in _CHARSETS else "utf-8"


def _written(text: str, exchange: Exchange) -> tuple[bytes, ...]:
    """Return a text as it may stand in a body; servers that name another character set send UTF-8, too."""
    if not text:
        return ()
    charset = _charset(exchange)
    found = []
    for coding in dict.fromkeys(("utf-8", *_ORDERS.get(charset, (charset,)))):
        with contextlib.suppress(UnicodeEncodeError):  # a set that lacks a character cannot hold the text
            found.append(text.encode(coding))
    return tuple(found)


def _json(demands: Demands, body: Body) -> list[Unmet]:
    try:
        document: Any = json.loads(body.content, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        return [_wrong(f"has a body that is not JSON: {shown(str(error), 120)}")]
    return [
        _wrong(f"has a JSON body in which {problem}")
        for condition in demands.json
        if (problem := condition.problem(document))
    ]


def _no_number(name: str) -> None:
    """Refuse NaN and the infinities, which Python's reader takes and JSON does not have (RFC 8259, section 6)."""
    raise ValueError(f"{name} is no number of JSON")


def _wrong(text: str) -> Unmet:
    return Unmet(text=text, reason=probe_pb2.FAILURE_REASON_WRONG_CONTENT)
