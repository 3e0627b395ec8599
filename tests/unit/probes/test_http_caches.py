"""What caches say of an answer, with the examples of RFC 9211 and what common ones send."""

from __future__ import annotations

import pytest

from worker.wire.http_caches import age_s, came_from_cache
from worker.wire.http_exchange import Exchange, headers_of


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ([], None),
        # RFC 9211, section 3
        ([("cache-status", "ExampleCache; hit")], True),
        ([("cache-status", "ExampleCache; hit; ttl=376")], True),
        ([("cache-status", "ExampleCache; fwd=uri-miss")], False),
        ([("cache-status", "ExampleCache; fwd=stale; fwd-status=304")], False),
        ([("cache-status", 'OriginCache; hit; ttl=1100, "CDN Company Here"; fwd=uri-miss;')], True),
        ([("cache-status", "OriginCache; hit; ttl=1100"), ("cache-status", "Edge; fwd=miss")], True),
        ([("cache-status", 'Odd; detail="hit, or not; hit"; fwd=bypass')], False),
        ([("cache-status", "Odd; hit=?0; fwd=miss")], False),
        ([("cache-status", "Silent")], None),
        ([("cf-cache-status", "HIT")], True),
        ([("cf-cache-status", "dynamic")], False),
        ([("cf-cache-status", "?")], None),
        ([("x-cache", "Hit from cloudfront")], True),
        ([("x-cache", "Miss from cloudfront")], False),
        ([("x-cache", "MISS, HIT")], True),
        ([("x-cache", "whitehit")], None),
        ([("age", "12")], True),
        ([("age", "0")], None),
        ([("age", "-1")], None),
        ([("cache-status", "Edge; fwd=miss"), ("age", "12")], False),
    ],
)
def test_what_caches_say(headers: list[tuple[str, str]], verdict: bool | None) -> None:
    """A hit anywhere on the way is one; silence is neither."""
    assert (
        came_from_cache(
            Exchange(headers=headers_of((name.encode(), value.encode()) for name, value in headers))
        )
        is verdict
    )


@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", ['\\"' * 32_000, '"' * 64_001, '"\\' * 32_000, '"' + "\\" * 64_000])
def test_quotes_that_are_never_closed_take_no_time(text: str) -> None:
    """A server writes what it likes; what stands behind an open quote is part of it."""
    headers = headers_of([(b"cache-status", b"Odd; fwd=miss; detail=" + text.encode() + b"; hit")])
    assert came_from_cache(Exchange(headers=headers)) is not None


@pytest.mark.parametrize("value", ["", "x", "-3", "1.5", "9" * 101, "٣"])
def test_an_age_that_is_none_is_none(value: str) -> None:
    """RFC 9111 wants a whole number of seconds."""
    assert age_s(Exchange(headers={"age": value})) is None


@pytest.mark.parametrize("value", ["2147483648", "9999999999", "9" * 50])
def test_an_age_beyond_what_counts_is_the_greatest(value: str) -> None:
    """RFC 9111, section 1.2.2: too great a number counts as 2^31; the field has room for one less."""
    assert age_s(Exchange(headers={"age": value})) == 2**31 - 1
