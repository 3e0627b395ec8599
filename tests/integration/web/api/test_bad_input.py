"""What is not understood is refused with one clear answer, and never answered with a fault of our own."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import HealthCheck, given, strategies
from hypothesis import settings as hypothesis_settings
from support.clients import Api

from controller.settings import Settings
from web.limits import CALLS, Limits


def raw(api: Api, data: bytes, content_type: str = "application/json") -> Any:
    """Send a body as it is."""
    headers = {"Authorization": f"Bearer {api.token}", "Content-Type": content_type}
    return api.client.post("/api/v1/destinations", data=data, headers=headers)


BODIES = [
    (b"", 400, "not JSON"),
    (b"{", 400, "not JSON"),
    (b"[]", 400, "must be a JSON object"),
    (b"null", 400, "must be a JSON object"),
    (b"\xff", 400, "not UTF-8"),
    (b'{"name": NaN}', 400, "NaN is not a number"),
    (b'{"name": "a", "name": "b"}', 400, "same name twice"),
    (b'{"name": ' + b"9" * 5000 + b"}", 400, "not JSON"),
    (b"[" * 100_000, 400, ""),
    (b'{"x": ' + b"[" * 20 + b"]" * 20 + b"}", 422, "nested"),
    (b'{"name": "a\\u0000b", "address": "x"}', 422, "NUL"),
    (b'{"name": "\\ud800", "address": "x"}', 422, "half a character"),
    (b'{"tags": [{"a\\u0000": 1}]}', 422, "NUL"),
    (b'{"name": "' + b"x" * 300_000 + b'"}', 413, "more than"),
]


def test_a_body_that_is_no_good_is_refused(api: Api) -> None:
    """Each with a status and words that tell what is wrong with it."""
    for data, status, words in BODIES:
        answer = raw(api, data)
        found = (answer.status_code, answer.headers["Content-Type"])
        assert found == (status, "application/problem+json"), data[:80]
        assert words in answer.json["detail"], data[:80]


def test_numbers_are_not_sent_as_text(api: Api) -> None:
    """Forms send them so, and nothing for none; in JSON both are slips, but for the interval and parameters of a kind."""
    test = {"name": "a", "kind": "system", "interval_s": "60", "max_runs": "5", "ends_at": ""}
    answer = api("POST", "/tests", test)
    assert (answer.status_code, [error["path"] for error in answer.json["errors"]]) == (
        422,
        ["ends_at", "max_runs"],
    )
    said = {"version": 1, "hosts": [{"host": "a", "state": "ok", "changed": "2"}]}
    answer = api("POST", "/operations/1/events", said)
    assert [error["path"] for error in answer.json["errors"]] == ["hosts[0].changed"]


def test_only_json_is_taken(api: Api) -> None:
    """A form, text or nothing at all is not JSON, whatever is in it."""
    for content_type in ("application/x-www-form-urlencoded", "text/plain", ""):
        assert raw(api, b'{"name": "a", "address": "192.0.2.1"}', content_type).status_code == 415


QUERIES = ["limit=0", "limit=501", "limit=x", "limit=-1", "cursor=x", "cursor=%00", "cursor=WyJhIl0", "cursor=W10",
     "unknown=1", "limit=1&limit=2", "cursor=W1tbW1tb", "cursor=WyJhIiwxZTk5OTld", "cursor=WyJhXHUwMDAwIiwxXQ",
     "cursor=WyJhIiw5OTk5OTk5OTk5OTk5OTk5OTk5OTk5XQ", "search=a%00b", "search=a%0Ab"]  # fmt: skip


def test_a_query_that_is_no_good_is_refused(api: Api) -> None:
    """Limits, cursors of others' making, names that nobody asked for, control characters."""
    for query in QUERIES:
        answer = api("GET", f"/destinations?{query}")
        assert answer.status_code == 422, (query, answer.json)
        assert answer.json["errors"][0]["path"] == query.partition("=")[0]


PATHS = ["/tests/0", "/tests/99999999999999999999", "/tests/-1", "/tests/x", "/tests/1/nothing", "/workers/x",
     "/nothing", "/users/9223372036854775807", "/kinds/%00"]  # fmt: skip


def test_what_is_not_there_is_not_there(api: Api) -> None:
    """Ids that cannot be, and those that could: 404 in the form of the API."""
    for path in PATHS:
        answer = api("GET", path)
        found = (answer.status_code, answer.headers["Content-Type"])
        assert found == (404, "application/problem+json"), path
        assert "The requested URL" not in answer.json["detail"]
    lost = api("GET", "/nothing").json
    assert lost["detail"] == "there is nothing at `/api/v1/nothing`"
    assert "/api/v1/openapi.json" in lost["mend"]


def test_an_id_that_cannot_be_names_nothing_whatever_is_asked_of_it(api: Api) -> None:
    """Also where another method of the same path is known: 404, not 405."""
    for number in ("0", "9223372036854775808", "9" * 30):
        for method in ("GET", "PATCH", "DELETE"):
            answer = api(method, f"/reports/{number}" if method != "PATCH" else f"/tests/{number}", {})
            assert answer.status_code == 404, (method, number)


def test_a_site_is_a_word_or_nothing(api: Api, settings: Settings) -> None:
    """What is empty and no text is no site either, where a host enrols."""
    (settings.data_dir / "ca").mkdir(parents=True)
    (settings.data_dir / "ca" / "root.pem").write_text("a certificate")
    for site in ({}, [], 0, False, " "):
        answer = api("POST", "/enrolment-tokens", {"host": "a.example.org", "site": site})
        assert [error["path"] for error in answer.json["errors"]] == ["site[0]"], site
    for site in ("", None, "oslo"):
        assert api("POST", "/enrolment-tokens", {"host": "a.example.org", "site": site}).status_code == 201


def test_a_method_that_a_route_has_not_is_answered_with_those_it_has(api: Api) -> None:
    """405 with Allow."""
    answer = api("PUT", "/tests")
    assert (answer.status_code, set(answer.headers["Allow"].split(", "))) == (
        405, {"GET", "HEAD", "POST", "OPTIONS"},
    )  # fmt: skip
    assert answer.json["detail"] == "`/api/v1/tests` does not take PUT"
    assert answer.json["mend"] == "use one of GET, HEAD, OPTIONS, POST"


ADDRESSES = ["-f", "--help", "$(id)", "a;b", "a\0b", "a\r\nb", "x" * 254, "2852039166", "0xa9fea9fe", "0", "",
     "file:///etc/passwd", "https://user:secret@example.org/", "https://example.org/#x", "gopher://x/",
     "[::1", "a:0", "a:70000", "http://", "ex ample.org", "127.1", "2001:db8::1%eth0"]  # fmt: skip


def test_an_address_that_nothing_can_be_sent_to_is_refused(api: Api) -> None:
    """With the path `address`; nothing of it is stored."""
    for address in ADDRESSES:
        answer = api("POST", "/destinations", {"name": "x", "address": address})
        assert answer.status_code == 422, address
        assert {fault["path"] for fault in answer.json["errors"]} == {"address"}
    assert api("GET", "/destinations").json["items"] == []


def test_who_asks_too_often_is_told_when_to_come_back(api: Api, stranger: Api) -> None:
    """600 calls a minute for each token, the one that asks for its number among them, counted apart from others."""
    limits: Limits = api.client.application.extensions["streamswarm.limits"]
    (own,) = api("GET", "/tokens").json["items"]
    with api.client.application.app_context():
        for _ in range(CALLS.amount - 1):
            limits.hit(CALLS, "calls", f"token:{own['id']}")
    answer = api("GET", "/me")
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert answer.headers["RateLimit"].startswith('"calls";r=0;t=')
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert stranger("GET", "/health").status_code == 503


_JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats(allow_nan=False, allow_infinity=False)
    | strategies.text(max_size=20),
    lambda inner: strategies.lists(inner, max_size=4) | strategies.dictionaries(strategies.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
_FIELDS = (
    "name", "description", "kind", "spec", "destinations", "selection", "tags", "interval_s", "starts_at",
    "ends_at", "paused", "version", "address", "labels", "groups", "site", "host", "scope", "expires_at",
    "email", "role", "active", "password", "minutes",
)  # fmt: skip
_CALLS = (
    ("POST", "/destinations"), ("POST", "/tests"), ("PATCH", "/tests/{test}"), ("PATCH", "/destinations/{destination}"),
    ("PATCH", "/workers/00000000-0000-0000-0000-000000000001"), ("POST", "/tokens"), ("POST", "/users"),
    ("POST", "/enrolment-tokens"), ("PATCH", "/users/1"),
)  # fmt: skip


@hypothesis_settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    call=strategies.sampled_from(_CALLS),
    values=strategies.dictionaries(strategies.sampled_from(_FIELDS), _JSON, max_size=6),
)
def test_no_body_makes_the_program_fail(api: Api, call: tuple[str, str], values: dict[str, Any]) -> None:
    """Whatever is sent to whatever call, the answer is no fault of the program."""
    method, path = call
    ids = _ids(api)
    if method == "PATCH":
        values.setdefault("version", 1)
    answer = api(
        method, path.format(**ids), data=json.dumps(values), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code != 500, (answer.json, values)
    assert answer.status_code in (200, 201, 404, 409, 422, 503), (answer.status_code, answer.json)


_made: dict[str, dict[str, int]] = {}


def _ids(api: Api) -> dict[str, int]:
    """Return a test and a destination to change, made once for each token."""
    if api.token not in _made:
        destination = api("POST", "/destinations", {"name": "d", "address": "192.0.2.1"}).json["id"]
        test = api("POST", "/tests", {"name": "t", "kind": "ping", "destinations": [destination]}).json["id"]
        _made[api.token] = {"destination": destination, "test": test}
    return _made[api.token]


def test_settings_of_the_fuzz_reach_deep_enough(api: Api) -> None:
    """The values that the fuzz starts from are themselves good, so that it gets past the first check."""
    ids = _ids(api)
    for method, path in itertools.islice(_CALLS, 2, 4):
        answer = api(method, path.format(**ids), {"version": 1, "description": "x"})
        assert answer.status_code == 200
