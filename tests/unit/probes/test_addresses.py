"""Socket addresses: what a zone may be."""

from __future__ import annotations

import errno
import ipaddress
import socket

import pytest

from worker.wire.addresses import interface_index, socket_address


def test_a_zone_is_a_name_or_a_number() -> None:
    """Both lead to the same interface."""
    index = socket.if_nametoindex("lo")
    for zone in ("lo", str(index)):
        assert socket_address(ipaddress.ip_address(f"fe80::1%{zone}"), 80) == ("fe80::1", 80, 0, index)
    assert interface_index(str(2**31 - 1)) == 2**31 - 1


@pytest.mark.parametrize("zone", ["2147483648", "4294967295", "99999999999", "²", "٣", "nowhere0"])
def test_a_zone_that_no_interface_can_have_is_an_error(zone: str) -> None:
    """Never cut down to a number that another interface has."""
    with pytest.raises(OSError, match="No such device") as caught:
        socket_address(ipaddress.ip_address(f"fe80::1%{zone}"), 80)
    assert caught.value.errno in (errno.ENXIO, errno.ENODEV)
