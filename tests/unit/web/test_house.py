"""Host names, logs, where a login leads: the small rules of the dashboard."""

from __future__ import annotations

import logging
import sys

from hypothesis import given, strategies

from controller.settings import Settings
from web.auth.views import local_path
from web.logs import LineFormatter
from web.security import POLICY, is_known_host, known_names


def record(message: str, *arguments: object, exc_info: object = None) -> logging.LogRecord:
    """Return a log record."""
    return logging.LogRecord("web", logging.INFO, "f", 1, message, arguments, exc_info)  # type: ignore[arg-type]


def test_a_log_line_is_one_line_whatever_was_sent() -> None:
    """Line breaks and escapes of a message and of a traceback are shown as such."""
    assert (
        LineFormatter()
        .format(record("%s", "a\nINFO forged\x1b[2J\u2028"))
        .endswith("a\\nINFO forged\\x1b[2J\\u2028")
    )
    try:
        raise ValueError("x\nforged")
    except ValueError:
        line = LineFormatter().format(record("failed", exc_info=sys.exc_info()))
    assert "\n" not in line
    assert "ValueError: x\\nforged" in line


def test_links_and_tokens_are_left_out_of_the_log() -> None:
    """What follows their beginning is cut."""
    line = LineFormatter().format(record("GET /login/once/%s ssw_%s", "A" * 43, "b-_" * 14))
    assert line.endswith("GET /login/once/… ssw_…")


def test_we_answer_to_our_names_and_to_plain_addresses() -> None:
    """Names that merely contain ours are not ours."""
    names = known_names(Settings(web_url="https://mon.example.org:8443", web_hosts=("Extra.example",)))
    for host in (
        "localhost:1",
        "mon.example.org",
        "MON.example.org.:8443",
        "extra.example",
        "[2001:db8::1]:80",
        "10.0.0.1",
    ):
        assert is_known_host(host, names), host
    for host in (
        "",
        "example.org",
        "mon.example.org.evil",
        "xmon.example.org",
        "10.0.0.1.evil",
        "[x]",
        "localhost@evil",
    ):
        assert not is_known_host(host, names), host


@given(strategies.text(max_size=40))
def test_a_login_never_leads_elsewhere(wanted: str) -> None:
    """What is gone to is a path on this dashboard or nothing."""
    path = local_path(wanted)
    assert path in ("", wanted)
    if path:
        assert path[0] == "/"
        assert path[1:2] not in ("/", "\\")
        assert path.isprintable()
        assert "\\" not in path


def test_the_policy_allows_nothing_inline() -> None:
    """No directive is loosened, and what is not named is forbidden."""
    assert POLICY.startswith("default-src 'none';")
    assert "unsafe" not in POLICY
    assert "*" not in POLICY
    assert "http" not in POLICY
