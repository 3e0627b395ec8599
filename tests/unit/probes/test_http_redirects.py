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


@pytest.mark.parametrize("code", [307, 308])
def test_a_body_goes_nowhere_unencrypted_that_was_meant_to_go_encrypted(code: int) -> None:
    """The other way round, and where the method changes to GET, nothing is given away."""
    secure, plain = "https://www.example.org/", "http://www.example.org/"
    with pytest.raises(ProbeFailure, match="would go unencrypted"):
        requests.redirected(_order(secure), code, plain)
    assert requests.redirected(_order(plain), code, secure).body == b"secret"
    assert requests.redirected(_order(secure), 303, plain).body == b""
