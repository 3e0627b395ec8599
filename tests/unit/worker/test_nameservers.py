"""Which name servers a host has."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from worker.vantage.nameservers import name_servers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("# nameserver 192.0.2.1\nsearch example.test\n", []),
        ("nameserver 192.0.2.1\nnameserver 2001:db8::1\n", ["192.0.2.1", "2001:db8::1"]),
        ("nameserver ::ffff:192.0.2.1\n", ["192.0.2.1"]),
        ("nameserver\nnameserver nonsense\n  nameserver\t192.0.2.1 extra\n", ["192.0.2.1"]),
        (
            "".join(f"nameserver 192.0.2.{number}\n" for number in range(1, 6)),
            ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
        ),
    ],
)
def test_resolv_conf_is_read_as_the_c_library_reads_it(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    """Three at most; what is no address is passed over."""
    path = tmp_path / "resolv.conf"
    path.write_text(text)
    assert name_servers(path) == tuple(map(ipaddress.ip_address, expected))


def test_a_host_without_the_file_has_none(tmp_path: Path) -> None:
    """As far as can be told."""
    assert name_servers(tmp_path / "none") == ()
