"""The responder that tells with which marks packets came: whom it answers, how much, how often."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import ipaddress
import socket
import struct
from typing import Any

import pytest

from worker.clock import SystemClock
from worker.concurrency import cancel
from worker.config import WorkerConfig
from worker.errors import ConfigurationError
from worker.policy import Policy, PolicyError
from worker.responders.marks import MOST_PER_S, Answering, _way_back, listening, respond
from worker.wire import mark_messages
from worker.wire.mark_messages import MarkMessage, Sort

SECRET = "a text that is long enough to be a key"
KEY = mark_messages.derived(SECRET)
NONCE = b"8 bytes."
HERE = ipaddress.ip_address("10.1.0.1")
OTHER = ipaddress.ip_address("10.1.0.9")
PORT = 40_000


class Hands:
    """A clock that is set by hand."""

    us = 5_000_000_000

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def answering(hands: Hands) -> Answering:
    return Answering(SECRET, Policy(), hands)


def opened(answering: Answering) -> MarkMessage:
    """Return the answer to an opening from HERE."""
    request = mark_messages.packed(MarkMessage(sort=Sort.OPEN, nonce=NONCE), KEY)
    data = answering.answer(request, 0, HERE, PORT)
    assert data is not None
    assert len(data) <= len(request), "nobody is sent more than was sent in his name"
    answer = mark_messages.read(data, KEY)
    assert answer is not None
    assert (answer.sort, answer.nonce) == (Sort.OPENED, NONCE)
    return answer


def marked(challenge: bytes, *, sequence: int = 7) -> bytes:
    return mark_messages.packed(
        MarkMessage(sort=Sort.MARKED, nonce=NONCE, sequence=sequence, challenge=challenge), KEY
    )


def test_the_octet_comes_back_with_the_number_of_the_request(answering: Answering) -> None:
    """DSCP and ECN as the kernel told them, in a datagram of the request's length."""
    request = marked(opened(answering).challenge)
    data = answering.answer(request, 0xB9, HERE, PORT)
    assert data is not None
    assert len(data) == len(request)
    answer = mark_messages.read(data, KEY)
    assert answer is not None
    assert (answer.sort, answer.octet, answer.sequence, answer.nonce) == (Sort.SEEN, 0xB9, 7, NONCE)


def test_nobody_without_the_key_is_answered(answering: Answering) -> None:
    """Nor who changes a bit, sends another length, or sends an answer back."""
    other = mark_messages.derived(SECRET + "!")
    for sort in Sort:
        assert (
            answering.answer(mark_messages.packed(MarkMessage(sort=sort, nonce=NONCE), other), 0, HERE, 1)
            is None
        )
    good = mark_messages.packed(MarkMessage(sort=Sort.OPEN, nonce=NONCE), KEY)
    assert answering.answer(good, 0, HERE, PORT) is not None
    for at in range(len(good)):
        changed = bytearray(good)
        changed[at] ^= 1
        assert answering.answer(bytes(changed), 0, HERE, PORT) is None
    for data in (b"", good[:-1], good + b"\0", bytes(len(good))):
        assert answering.answer(data, 0, HERE, PORT) is None
    for sort in (Sort.OPENED, Sort.SEEN):
        data = mark_messages.packed(MarkMessage(sort=sort, nonce=NONCE), KEY)
        assert answering.answer(data, 0, HERE, PORT) is None


def test_a_request_repeated_from_elsewhere_is_not_answered(answering: Answering) -> None:
    """Who has seen it cannot have the answer sent to another address or port, nor without a challenge."""
    request = marked(opened(answering).challenge)
    assert answering.answer(request, 0, OTHER, PORT) is None
    assert answering.answer(request, 0, HERE, PORT + 1) is None
    assert answering.answer(marked(mark_messages.NO_CHALLENGE), 0, HERE, PORT) is None
    assert answering.answer(request, 0, HERE, PORT) is not None


def test_a_challenge_ends(answering: Answering, hands: Hands) -> None:
    """A minute later it is good, after three it is not."""
    request = marked(opened(answering).challenge)
    hands.us += 60_000_000
    assert answering.answer(request, 0, HERE, PORT) is not None
    hands.us += 120_000_000
    assert answering.answer(request, 0, HERE, PORT) is None


def test_answers_are_limited(answering: Answering, hands: Hands) -> None:
    """So many a second to everybody together."""
    request = marked(opened(answering).challenge)
    answers = sum(answering.answer(request, 0, HERE, PORT) is not None for _ in range(2 * MOST_PER_S))
    assert answers == MOST_PER_S - 1  # one was the opening
    hands.us += 100_000
    answers = sum(answering.answer(request, 0, HERE, PORT) is not None for _ in range(MOST_PER_S))
    assert answers == MOST_PER_S // 10


def test_the_policy_says_whom_this_host_sends_to(hands: Hands) -> None:
    """Nothing is sent to a network that it denies."""
    answering = Answering(SECRET, Policy.parse({"deny": ["10.1.0.8/29"]}), hands)
    request = mark_messages.packed(MarkMessage(sort=Sort.OPEN, nonce=NONCE), KEY)
    assert answering.answer(request, 0, OTHER, PORT) is None
    assert answering.answer(request, 0, HERE, PORT) is not None


def test_the_signature_is_hmac_sha256_cut_to_128_bits() -> None:
    """RFC 2104, over everything before it."""
    data = mark_messages.packed(MarkMessage(sort=Sort.OPEN, nonce=NONCE, sequence=1), KEY)
    assert data[:4] == b"SSM1"
    assert data[-16:] == hmac.new(KEY, data[:-16], "sha256").digest()[:16]


@pytest.mark.parametrize("value", [0, 80, 70_000, True, "7862"])
def test_policies_name_a_port_or_nobody_is_answered(value: object) -> None:
    """None by default; what is no unprivileged port is refused."""
    assert Policy().responder is None
    assert Policy.parse({"responder": 7862}).responder == 7862
    with pytest.raises(PolicyError, match="`responder` must be a port from 1024 to 65535"):
        Policy.parse({"responder": value})


def test_the_key_is_long_and_not_shown() -> None:
    """A short one is refused; neither message nor configuration shows one."""
    with pytest.raises(ConfigurationError, match="32 characters or more") as caught:
        WorkerConfig.from_values({"responder_key": "too-short"}, where="worker.yaml")
    assert "too-short" not in str(caught.value)
    config = WorkerConfig.from_values({"responder_key": SECRET}, where="worker.yaml")
    assert config.responder_key == SECRET
    assert SECRET not in repr(config)
    assert SECRET not in repr(dataclasses.replace(config, log_level="debug"))


class StoppingError(Exception):
    """Ends what would go on for ever."""


class Once:
    """A clock whose second sleep ends the test."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def steady_us(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) > 1:
            raise StoppingError


async def test_a_port_that_another_program_has_is_told_once_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The worker goes on without it."""
    clock: Any = Once()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", 0))  # noqa: S104  as the responder does
        with pytest.raises(StoppingError):
            await respond(Policy(responder=other.getsockname()[1]), SECRET, clock)
    assert clock.slept == [30.0, 30.0]
    [record] = caplog.records
    assert "Address already in use (EADDRINUSE); free the port, or set another" in record.getMessage()


async def test_a_responder_without_a_key_says_so_and_answers_nobody(
    caplog: pytest.LogCaptureFixture, free_udp_port: int
) -> None:
    """Nothing listens."""
    responding = asyncio.ensure_future(respond(Policy(responder=free_udp_port), "", SystemClock()))
    await asyncio.sleep(0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("0.0.0.0", free_udp_port))  # noqa: S104  as the responder would
    await cancel(responding)
    assert "set `responder_key` in the worker's configuration" in caplog.text


@pytest.fixture
def free_udp_port() -> int:
    """A UDP port that nothing has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104  as the responder does
        return int(taken.getsockname()[1])


async def test_what_was_sent_to_many_at_once_is_not_answered() -> None:
    """Otherwise one request to a broadcast address would bring an answer of every worker of the link."""
    answering = Answering(SECRET, Policy.parse({"allow_loopback": True}), SystemClock().steady_us)
    request = mark_messages.packed(MarkMessage(sort=Sort.OPEN, nonce=NONCE), KEY)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.bind(("127.0.0.1", 0))
        asker.setblocking(False)
        asker.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as free:
            free.bind(("::", 0))
            port = free.getsockname()[1]
        with listening(port, answering):
            for address in ("127.255.255.255", "127.0.0.1"):
                asker.sendto(request, (address, port))
            loop = asyncio.get_running_loop()
            _, sender = await asyncio.wait_for(loop.sock_recvfrom(asker, 2000), 5)
            assert sender == ("127.0.0.1", port)
            await asyncio.sleep(0.1)
            with pytest.raises(BlockingIOError):
                asker.recvfrom(2000)


def test_an_answer_takes_the_route_of_its_way() -> None:
    """From the address that was asked, over whatever interface leads back, except where an address is of one link only."""
    for address, kept in (("2001:db8::7", 0), ("fe80::7", 3)):
        asked = ipaddress.IPv6Address(address).packed
        [(_, _, data)] = _way_back([(socket.IPPROTO_IPV6, 50, asked + struct.pack("=i", 3))]) or []
        assert data == asked + struct.pack("=i", kept)
    many = ipaddress.IPv6Address("ff02::1").packed
    assert _way_back([(socket.IPPROTO_IPV6, 50, many + struct.pack("=i", 3))]) is None
