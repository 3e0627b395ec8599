"""A host that forges ICMP, run as a program: `flooder.py DEVICE SORT COUNT RATE`.

It waits for the first echo request that comes by the device, says `began`, and then sends so many messages to whoever
sent that, so many a second at most. SORT is `errors`: half of them quote requests of somebody else, half quote the
identifier of the request, its sequence number or one of the next, and words that were not sent; or `copies`: replies to
the request and errors for it, in turn.
"""

from __future__ import annotations

import socket
import sys
import time

from integration.probes.peers import checksum

_ETH_P_ALL = 0x0003
_VARIANTS = 256
_BATCH = 50


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def _first_request(device: str) -> bytes:
    """Return the IP packet of the first echo request."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL)) as sock:
        sock.bind((device, _ETH_P_ALL))
        _say("listening")
        while True:
            packet, address = sock.recvfrom(65_535)
            if address[2] == 4:  # outgoing
                continue
            if packet[0] >> 4 == 4 and packet[9] == 1 and packet[20] == 8:
                return packet
            if packet[0] >> 4 == 6 and packet[6] == 58 and packet[40] == 128:
                return packet


def _finished(message: bytearray, v4: bool) -> bytes:
    """Return an ICMP message with its checksum, which is the kernel's in IPv6."""
    if v4:
        message[2:4] = b"\0\0"
        message[2:4] = checksum(bytes(message)).to_bytes(2, "big")
    return bytes(message)


def _unreachable(v4: bool) -> bytearray:
    """Return the beginning of an error: host unreachable; address unreachable."""
    return bytearray([3, 1] if v4 else [1, 3]) + bytes(6)


def _errors(packet: bytes, v4: bool) -> list[bytes]:
    header = 20 if v4 else 40
    messages = []
    for number in range(_VARIANTS):
        quoted = bytearray(packet[: header + 24])
        if number % 2:
            quoted[header + 4] ^= 0x5A  # somebody else's identifier
        else:
            sequence = int.from_bytes(quoted[header + 6 : header + 8], "big") + number // 2
            quoted[header + 6 : header + 8] = (sequence & 0xFFFF).to_bytes(2, "big")
            quoted[header + 8] ^= 0x5A
        messages.append(_finished(_unreachable(v4) + quoted, v4))
    return messages


def _copies(packet: bytes, v4: bool) -> list[bytes]:
    message = bytearray(packet[20 if v4 else 40 :])
    message[0] = 0 if v4 else 129
    return [_finished(message, v4), _finished(_unreachable(v4) + packet, v4)]


def main(device: str, sort: str, count: int, rate: int) -> None:
    """See the module."""
    packet = _first_request(device)
    v4 = packet[0] >> 4 == 4
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP) if v4 else (socket.AF_INET6, socket.getprotobyname("ipv6-icmp"))
    )
    there = socket.inet_ntop(family, packet[12:16] if v4 else packet[8:24]), 0
    messages = (_errors if sort == "errors" else _copies)(packet, v4)
    with socket.socket(family, socket.SOCK_RAW, protocol) as sock:
        _say("began")
        began = time.monotonic()
        for number in range(count):
            if not number % _BATCH:
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
            sock.sendto(messages[number % len(messages)], there)
    _say("done")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
