"""Tells systemd in one line how the worker is, for `systemctl status` and for whoever has to judge a new release.

The protocol is that of sd_notify(3): a datagram of `NAME=value` lines to the socket that NOTIFY_SOCKET names.
"""

from __future__ import annotations

import logging
import os
import socket

from streamswarm.targets import shown

log = logging.getLogger(__name__)

#: The line begins so while a gateway has welcomed this worker; playbooks look for it.
CONNECTED = "connected"
_LONGEST = 200


def tell(status: str) -> None:
    """Set the line; without systemd, or where it does not listen, nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return
    # A name that begins with @ lies in the abstract namespace, where its first byte is zero.
    name = f"\0{address[1:]}" if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notification:
            notification.setblocking(False)
            notification.sendto(f"STATUS={shown(status, _LONGEST)}".encode(), name)
    except OSError as error:
        log.debug("systemd was not told how the worker is: %s", error)
