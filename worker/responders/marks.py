"""Tells other workers with which DSCP and ECN their packets came here (RFC 2474, RFC 3168).

`worker.wire.mark_messages` has the form of what is said, `answering` decides what is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from worker.clock import Clock
from worker.failures import error_text
from worker.policy import Policy
from worker.responders.answering import Answering
from worker.wire import mark_messages, options
from worker.wire.turns import Turn

log = logging.getLogger(__name__)

#: So many datagrams are read before other work of the worker may go on.
_TURN = 64
#: Asked for, so that what comes at once is not lost while other work goes on.
_BUFFER_BYTES = 1 << 20
_BIND_AGAIN_S = 30.0
_ANCILLARY_BYTES = 256
_IP_PKTINFO = 8
_IPV6_RECVPKTINFO, _IPV6_PKTINFO = 49, 50
#: struct in_pktinfo: interface, the address of this host that was asked, the address in the packet.
_PKTINFO4 = struct.Struct("=i4s4s")
#: struct in6_pktinfo: the address in the packet, interface.
_PKTINFO6 = struct.Struct("=16si")


async def respond(
    policy: Policy, responder_keys: Sequence[str], clock: Clock, now_us: Callable[[], int]
) -> None:
    """Answer on the port that the policy names, in both address families, until cancelled; off without one.

    `now_us` is the time, microseconds since 1970-01-01 UTC.
    """
    if policy.responder is None:
        await asyncio.Event().wait()
        return
    if not sys.platform.startswith("linux"):
        log.error(
            "the responder that this host's policy allows does not answer: it reads marks on Linux only"
        )
        await asyncio.Event().wait()
        return
    if not responder_keys:
        log.error(
            "the responder that this host's policy allows does not answer, because there is no key: set `responder_key` "
            "in the worker's configuration to the text that the workers share"
        )
        await asyncio.Event().wait()
        return
    if policy.responder_silence:
        log.error(
            "the responder that this host's policy allows answers nobody: %s; add the networks of those who ask to `allow`",
            policy.responder_silence,
        )
        await asyncio.Event().wait()
        return
    answering = Answering(responder_keys, policy, steady_us=clock.steady_us, now_us=now_us)
    told = ""
    while True:
        try:
            with listening(policy.responder, answering):
                log.info("the responder answers on UDP port %d", policy.responder)
                await asyncio.Event().wait()
        except OSError as error:
            text = error_text(error)
            if text != told:
                log.error(
                    "the responder cannot answer on UDP port %d: %s; free the port, or set another as `responder` in "
                    "the policy; it is tried again every %g s",
                    policy.responder, text, _BIND_AGAIN_S,
                )  # fmt: skip
            told = text
        await clock.sleep(_BIND_AGAIN_S)


@contextlib.contextmanager
def listening(port: int, answering: Answering) -> Iterator[None]:
    """Answer on a port of all addresses of this host; raises OSError when neither family has it."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as opened:
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                sock = opened.enter_context(_bound(family, port))
            except OSError as error:
                if family == socket.AF_INET6 and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    continue  # this host has no IPv6
                raise
            loop.add_reader(sock, _serve, sock, answering)
            opened.callback(loop.remove_reader, sock)
        yield


def _bound(family: socket.AddressFamily, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        options.receive_octets(sock)
        options.enlarge_receiving(sock, _BUFFER_BYTES)
        if family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            sock.bind(("0.0.0.0", port))  # noqa: S104  whoever has the key may ask at any address
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
            sock.bind(("::", port))
    except OSError:
        sock.close()
        raise
    return sock


def _serve(sock: socket.socket, answering: Answering) -> None:
    turn = Turn(_TURN)
    while turn.goes_on():
        try:
            data, ancillary, _, address = sock.recvmsg(mark_messages.SIZE + 1, _ANCILLARY_BYTES)
        except OSError:  # nothing more, or an error of an answer sent before
            return
        back = _way_back(ancillary)
        if back is None:
            continue
        sender = ipaddress.ip_address(address[0])
        answer = answering.answer(data, options.octet_in(ancillary), sender, address[1])
        if answer is not None:
            with contextlib.suppress(OSError):  # no way back there: the asker hears nothing
                sock.sendmsg([answer], back, 0, address)


def _way_back(ancillary: Iterable[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]] | None:
    """Return the control message that makes an answer leave from the address that was asked, by the route of that way.

    None when many were asked at once, by broadcast or multicast: one request would bring an answer of each of them.
    """
    for level, sort, data in ancillary:
        if (level, sort) == (socket.IPPROTO_IP, _IP_PKTINFO):
            _, own, asked = _PKTINFO4.unpack(data)
            return [(level, sort, _PKTINFO4.pack(0, own, bytes(4)))] if own == asked else None
        if (level, sort) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO):
            packed, interface = _PKTINFO6.unpack(data)
            asked6 = ipaddress.IPv6Address(packed)
            if asked6.is_multicast:
                return None
            return [(level, sort, _PKTINFO6.pack(packed, interface if asked6.is_link_local else 0))]
    return None
