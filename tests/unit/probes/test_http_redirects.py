"""Where redirects lead, and what goes along."""

from __future__ import annotations

import pytest

from streamswarm.targets import parse_url
from worker.http import requests
from worker.probing import ProbeFailure


def _order(url: str) -> requests.Order:
    return requests.Order(target=parse_url(url), method="POST", body=b"secret")


def test_raw_utf_8_in_a_location_is_escaped() -> None:
    """Fields are read as Latin-1, so each byte is one character; what is escaped already stays."""
    location = "/caf\u00e9/%20?q=\u00fc&a=b".encode().decode("latin-1")
    target = requests.next_target("http://www.example.org/", location)
    assert target.url == "http://www.example.org/caf%C3%A9/%20?q=%C3%BC&a=b"


def test_a_blank_in_a_location_is_escaped() -> None:
    """As browsers do: some servers send names of files as they are."""
    target = requests.next_target("http://www.example.org/", "/my file.pdf?a b")
    assert target.url == "http://www.example.org/my%20file.pdf?a%20b"
    with pytest.raises(ProbeFailure, match="not a host name"):
        requests.next_target("http://www.example.org/", "http://www.exa mple.org/")


@pytest.mark.parametrize("code", [307, 308])
def test_a_body_goes_nowhere_unencrypted_that_was_meant_to_go_encrypted(code: int) -> None:
    """The other way round, and where the method changes to GET, nothing is given away."""
    secure, plain = "https://www.example.org/", "http://www.example.org/"
    with pytest.raises(ProbeFailure, match="would go unencrypted"):
        requests.redirected(_order(secure), code, plain)
    assert requests.redirected(_order(plain), code, secure).body == b"secret"
    assert requests.redirected(_order(secure), 303, plain).body == b""


@pytest.mark.parametrize("code", [307, 308])
def test_a_body_goes_along_to_another_origin_and_header_fields_do_not(code: int) -> None:
    """As browsers do: these codes ask for the same method and content (RFC 9110, sections 15.4.8 and 15.4.9)."""
    order = requests.Order(
        target=parse_url("https://www.example.org/"),
        method="POST",
        headers=(("Authorization", "secret"),),
        body=b"text",
    )
    there = requests.redirected(order, code, "https://www.example.com/")
    assert (there.method, there.body, there.headers) == ("POST", b"text", ())
    assert requests.redirected(order, code, "/next").headers == order.headers
