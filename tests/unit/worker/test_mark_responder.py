"""The responder that tells with which marks packets came: whom it answers, how much, how often."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import ipaddress
import json
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from streamswarm.findings import Verdict
from worker.clock import SystemClock
from worker.concurrency import cancel
from worker.config import WorkerConfig, read_responder_keys
from worker.doctor import responder
from worker.errors import ConfigurationError
from worker.policy import Policy, PolicyError
from worker.responders.answering import MOST_OPENED_PER_S, MOST_SEEN_PER_S, Answering
from worker.responders.marks import _way_back, listening, respond
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
    #: How far the wall clock is ahead of it.
    WALL_US = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.us

    def wall_us(self) -> int:
        return self.us + self.WALL_US


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def answering(hands: Hands) -> Answering:
    return Answering((SECRET,), Policy(), steady_us=hands, now_us=hands.wall_us)


def opening(hands: Hands, *, key: bytes = KEY, sequence: int = 0, late_s: float = 0.0) -> bytes:
    """Return an opening as somebody made it so many seconds ago."""
    at_us = hands.wall_us() - round(late_s * 1e6)
    return mark_messages.packed(MarkMessage(sort=Sort.OPEN, nonce=NONCE, sequence=sequence, at_us=at_us), key)


def said(data: bytes | None, *keys: bytes) -> MarkMessage:
    """Return what an answer says, which there must be."""
    assert data is not None
    read = mark_messages.read(data, keys or (KEY,))
    assert read is not None
    return read[0]


def opened(answering: Answering, hands: Hands) -> MarkMessage:
    """Return the answer to an opening from HERE."""
    request = opening(hands)
    data = answering.answer(request, 0, HERE, PORT)
    assert data is not None
    assert len(data) <= len(request), "nobody is sent more than was sent in his name"
    answer = said(data)
    assert (answer.sort, answer.nonce) == (Sort.OPENED, NONCE)
    return answer


def marked(challenge: bytes, *, sequence: int = 7) -> bytes:
    return mark_messages.packed(
        MarkMessage(sort=Sort.MARKED, nonce=NONCE, sequence=sequence, challenge=challenge), KEY
    )


def test_the_octet_comes_back_with_the_number_of_the_request(answering: Answering, hands: Hands) -> None:
    """DSCP and ECN as the kernel told them, in a datagram of the request's length."""
    request = marked(opened(answering, hands).challenge)
    data = answering.answer(request, 0xB9, HERE, PORT)
    answer = said(data)
    assert len(data or b"") == len(request)
    assert (answer.sort, answer.octet, answer.sequence, answer.nonce) == (Sort.SEEN, 0xB9, 7, NONCE)


def test_nobody_without_the_key_is_answered(answering: Answering, hands: Hands) -> None:
    """Nor who changes a bit, sends another length, or sends an answer back."""
    other = mark_messages.derived(SECRET + "!")
    for sort in Sort:
        message = MarkMessage(sort=sort, nonce=NONCE, at_us=hands.wall_us())
        assert answering.answer(mark_messages.packed(message, other), 0, HERE, 1) is None
    good = opening(hands)
    for at in range(len(good)):
        changed = bytearray(good)
        changed[at] ^= 1
        assert answering.answer(bytes(changed), 0, HERE, PORT) is None
    for data in (b"", good[:-1], good + b"\0", bytes(len(good))):
        assert answering.answer(data, 0, HERE, PORT) is None
    for sort in (Sort.OPENED, Sort.SEEN):
        data = mark_messages.packed(MarkMessage(sort=sort, nonce=NONCE, at_us=hands.wall_us()), KEY)
        assert answering.answer(data, 0, HERE, PORT) is None
    assert answering.answer(good, 0, HERE, PORT) is not None


def test_an_answer_is_signed_with_the_key_of_its_request(hands: Hands) -> None:
    """While a key is being replaced both are taken, so that hosts with only one of them are served; a third is not."""
    previous, gone = (mark_messages.derived(word + SECRET) for word in ("previous ", "gone "))
    answering = Answering((SECRET, "previous " + SECRET), Policy(), steady_us=hands, now_us=hands.wall_us)
    for key in (KEY, previous):
        challenge = said(answering.answer(opening(hands, key=key), 0, HERE, PORT), key).challenge
        message = MarkMessage(sort=Sort.MARKED, nonce=NONCE, challenge=challenge)
        answer = answering.answer(mark_messages.packed(message, key), 0x28, HERE, PORT)
        assert said(answer, key).octet == 0x28
    assert answering.answer(opening(hands, key=gone), 0, HERE, PORT) is None


def test_a_request_repeated_from_elsewhere_is_not_answered(answering: Answering, hands: Hands) -> None:
    """Who has seen it cannot have the answer sent to another address or port, nor without a challenge."""
    request = marked(opened(answering, hands).challenge)
    assert answering.answer(request, 0, OTHER, PORT) is None
    assert answering.answer(request, 0, HERE, PORT + 1) is None
    assert answering.answer(marked(mark_messages.NO_CHALLENGE), 0, HERE, PORT) is None
    assert answering.answer(request, 0, HERE, PORT) is not None


def test_nothing_is_answered_twice(answering: Answering, hands: Hands) -> None:
    """Neither an opening nor what follows it, whoever repeats it, as long as either is good; another try is another request."""
    first = opening(hands)
    challenge = said(answering.answer(first, 0, HERE, PORT)).challenge
    request = marked(challenge)
    assert answering.answer(request, 0, HERE, PORT) is not None
    for _ in range(240):
        hands.us += 1_000_000
        for address, port in ((HERE, PORT), (HERE, PORT + 1), (OTHER, PORT)):
            assert answering.answer(first, 0, address, port) is None
            assert answering.answer(request, 0, address, port) is None
    assert answering.answer(opening(hands, sequence=1), 0, HERE, PORT) is not None


@pytest.mark.parametrize("late_s", [-61.0, 61.0, 3_600.0, 1e9])
def test_an_opening_of_another_time_is_not_answered_and_told(
    answering: Answering, hands: Hands, caplog: pytest.LogCaptureFixture, late_s: float
) -> None:
    """What was seen an hour ago is worth nothing; a clock that is wrong would look the same, so the log says it, once."""
    for sequence in range(5):
        assert answering.answer(opening(hands, sequence=sequence, late_s=late_s), 0, HERE, PORT) is None
    [record] = caplog.records
    assert "does not answer 10.1.0.1: its request is" in record.getMessage()
    assert "set the clock that is wrong" in record.getMessage()
    assert answering.answer(opening(hands, late_s=59.0), 0, HERE, PORT) is not None
    hands.us += 600_000_000
    assert answering.answer(opening(hands, late_s=late_s), 0, HERE, PORT) is None
    assert len(caplog.records) == 2


def test_what_is_kept_of_answers_is_bounded(answering: Answering, hands: Hands) -> None:
    """By how often is answered and how long a request is good: what nobody can repeat any more is forgotten."""
    kept = 0
    for second in range(600):
        hands.us += 1_000_000
        for number in range(2 * MOST_OPENED_PER_S):
            answering.answer(opening(hands, sequence=second * 1_000 + number), 0, HERE, PORT)
        memory = answering._answered
        kept = max(kept, len(memory._now) + len(memory._earlier))
    assert 120 * MOST_OPENED_PER_S <= kept <= 241 * MOST_OPENED_PER_S


def test_a_challenge_ends(answering: Answering, hands: Hands) -> None:
    """A minute later it is good, after three it is not."""
    challenge = opened(answering, hands).challenge
    hands.us += 60_000_000
    assert answering.answer(marked(challenge), 0, HERE, PORT) is not None
    hands.us += 120_000_000
    assert answering.answer(marked(challenge, sequence=8), 0, HERE, PORT) is None


def test_answers_are_limited(answering: Answering, hands: Hands) -> None:
    """So many a second to everybody together."""
    challenge = opened(answering, hands).challenge
    numbers = iter(range(10_000))

    def answers(count: int) -> int:
        return sum(
            answering.answer(marked(challenge, sequence=next(numbers)), 0, HERE, PORT) is not None
            for _ in range(count)
        )

    assert answers(2 * MOST_SEEN_PER_S) == MOST_SEEN_PER_S
    hands.us += 100_000
    assert answers(MOST_SEEN_PER_S) == MOST_SEEN_PER_S // 10


def test_openings_and_marks_have_room_of_their_own(answering: Answering, hands: Hands) -> None:
    """Neither keeps the other from being answered, however many of it there are."""
    challenge = opened(answering, hands).challenge
    openings = [opening(hands, sequence=number) for number in range(1, 3 * MOST_OPENED_PER_S)]
    assert (
        sum(answering.answer(each, 0, HERE, PORT) is not None for each in openings) == MOST_OPENED_PER_S - 1
    )
    marks = [marked(challenge, sequence=number) for number in range(2 * MOST_SEEN_PER_S)]
    assert sum(answering.answer(each, 0, HERE, PORT) is not None for each in marks) == MOST_SEEN_PER_S
    hands.us += 10_000
    assert answering.answer(opening(hands), 0, HERE, PORT) is not None


def test_the_policy_says_whom_this_host_sends_to(hands: Hands) -> None:
    """Nothing is sent to a network that it denies."""
    policy = Policy.parse({"deny": ["10.1.0.8/29"]})
    answering = Answering((SECRET,), policy, steady_us=hands, now_us=hands.wall_us)
    assert answering.answer(opening(hands), 0, OTHER, PORT) is None
    assert answering.answer(opening(hands), 0, HERE, PORT) is not None


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
    assert config.responder_keys == (SECRET,)
    assert SECRET not in repr(config)
    assert SECRET not in repr(dataclasses.replace(config, log_level="debug"))


def test_there_may_be_a_previous_key(tmp_path: Path) -> None:
    """Beside one in force, never without; for runs without a daemon it is the second line of the file."""
    both = {"responder_key": SECRET, "responder_key_previous": SECRET + "!"}
    config = WorkerConfig.from_values(both, where="worker.yaml")
    assert config.responder_keys == (SECRET, SECRET + "!")
    assert SECRET not in repr(config)
    same = WorkerConfig.from_values(dict.fromkeys(both, SECRET), where="worker.yaml")
    assert same.responder_keys == (SECRET,)
    assert WorkerConfig().responder_keys == ()
    with pytest.raises(ConfigurationError, match="`responder_key_previous` and no `responder_key`"):
        WorkerConfig.from_values({"responder_key_previous": SECRET}, where="worker.yaml")
    with pytest.raises(ConfigurationError, match="`responder_key_previous` must have 32 characters"):
        WorkerConfig.from_values(both | {"responder_key_previous": "short"}, where="worker.yaml")
    file = tmp_path / "keys"
    for text, keys in ((f"{SECRET}\n", (SECRET,)), (f"{SECRET}\n{SECRET}!\n", (SECRET, SECRET + "!"))):
        file.write_text(text)
        assert read_responder_keys(file) == keys
    for text in (
        "",
        f"\n{SECRET}\n",
        f"{SECRET}\nshort\n",
        f"{SECRET}\n\n{SECRET}!",
        f"{SECRET}\n{SECRET}1\n{SECRET}2",
    ):
        file.write_text(text)
        with pytest.raises(ConfigurationError):
            read_responder_keys(file)


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
            await respond(Policy(responder=other.getsockname()[1]), (SECRET,), clock, clock.steady_us)
    assert clock.slept == [30.0, 30.0]
    [record] = caplog.records
    assert "Address already in use (EADDRINUSE); free the port, or set another" in record.getMessage()


async def test_a_responder_without_a_key_says_so_and_answers_nobody(
    caplog: pytest.LogCaptureFixture, free_udp_port: int
) -> None:
    """Nothing listens."""
    clock = SystemClock()
    responding = asyncio.ensure_future(respond(Policy(responder=free_udp_port), (), clock, clock.wall_us))
    await asyncio.sleep(0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("0.0.0.0", free_udp_port))  # noqa: S104  as the responder would
    await cancel(responding)
    assert "set `responder_key` in the worker's configuration" in caplog.text


@pytest.mark.parametrize(
    ("allow", "silent"),
    [(["router.example"], True), (["router.example", "10.1.0.0/16"], False), ([], False)],
)
async def test_a_policy_of_names_alone_has_a_responder_that_answers_nobody(
    caplog: pytest.LogCaptureFixture, free_udp_port: int, allow: list[str], silent: bool
) -> None:
    """Who asks is known by address: the log, the doctor and what the controller shows say so, and nothing listens."""
    caplog.set_level("INFO")
    policy = Policy.parse({"allow": allow, "responder": free_udp_port})
    clock = SystemClock()
    responding = asyncio.ensure_future(respond(policy, (SECRET,), clock, clock.wall_us))
    await asyncio.sleep(0)
    await cancel(responding)
    assert ("answers nobody: `allow` has names of hosts only" in caplog.text) == silent
    assert (f"answers on UDP port {free_udp_port}" in caplog.text) != silent
    shown = json.loads(policy.as_json())
    assert shown.pop("warning", "").startswith("the responder answers nobody") == silent
    assert shown == {"allow": allow, "responder": free_udp_port}
    [found] = responder.look(WorkerConfig(responder_key=SECRET), policy)
    assert found.verdict is (Verdict.WRONG if silent else Verdict.OK)
    assert ("names of hosts only" in found.found) == silent


def test_the_doctor_looks_at_the_responders_keys() -> None:
    """None is wrong, two are said; without a responder nothing is."""
    policy = Policy(responder=7862)
    [found] = responder.look(WorkerConfig(), policy)
    assert (found.verdict, "there is no key" in found.found) == (Verdict.WRONG, True)
    both = WorkerConfig(responder_key=SECRET, responder_key_previous=f"{SECRET}!")
    [found] = responder.look(both, policy)
    assert (found.verdict, found.found) == (
        Verdict.OK, "answers on UDP port 7862; the previous key is taken, too",
    )  # fmt: skip
    assert list(responder.look(both, Policy())) == []


@pytest.fixture
def free_udp_port() -> int:
    """A UDP port that nothing has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104  as the responder does
        return int(taken.getsockname()[1])


async def test_what_was_sent_to_many_at_once_is_not_answered() -> None:
    """Otherwise one request to a broadcast address would bring an answer of every worker of the link."""
    clock = SystemClock()
    policy = Policy.parse({"allow_loopback": True})
    answering = Answering((SECRET,), policy, steady_us=clock.steady_us, now_us=clock.wall_us)
    requests = [
        mark_messages.packed(
            MarkMessage(sort=Sort.OPEN, nonce=NONCE, sequence=number, at_us=clock.wall_us()), KEY
        )
        for number in range(2)
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.bind(("127.0.0.1", 0))
        asker.setblocking(False)
        asker.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as free:
            free.bind(("::", 0))
            port = free.getsockname()[1]
        with listening(port, answering):
            for request, address in zip(requests, ("127.255.255.255", "127.0.0.1"), strict=True):
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
