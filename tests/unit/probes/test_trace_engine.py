"""The engine's one timer, on the event loop that workers have."""

from __future__ import annotations

import asyncio
import sys
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from worker import loop
from worker.wire import stamps
from worker.wire.trace.plan import Protocol

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the engine is of Linux alone")


def test_looks_that_are_due_at_once_are_had() -> None:
    """On a busy host a look may be due when it is asked for; uvloop's handle for that knows no instant."""
    from worker.wire.trace.engine import Engine

    looked: list[str] = []

    async def wake_twice() -> None:
        engine = Engine(asyncio.get_running_loop())
        for name in ("first", "second"):
            course = SimpleNamespace(look=0, step=lambda _now_s, name=name: looked.append(name))
            engine._wake(cast("Any", course), time.monotonic() - 1)
        await asyncio.sleep(0.02)

    loop.run(wake_twice())
    assert looked == ["first", "second"]


@pytest.mark.parametrize("protocol", ["icmp", "udp", "tcp"])
@pytest.mark.parametrize("version", [4, 6])
def test_an_answer_must_quote_what_was_sent(version: int, protocol: Protocol) -> None:
    """One field that is another, and the message is somebody else's, or forged."""
    from worker.wire.trace.decoding import Seen
    from worker.wire.trace.engine import Engine
    from worker.wire.trace.packets import Flow, Template, shape
    from worker.wire.trace.plan import Answer, Probe

    size = 4 if version == 4 else 16
    own, there, router = (bytes([number] * size) for number in (10, 11, 12))
    flow = Flow(
        version=version, protocol=protocol, number=0, ident=61_008, port=443, size=32, dscp=0, sequence_high=77
    )  # fmt: skip
    template = Template(shape(flow), own + there)
    answers: list[Answer] = []
    course = SimpleNamespace(
        destination=there, templates=[template], answered=lambda _probe, answer, now_s: answers.append(answer)
    )

    async def take() -> None:
        engine = Engine(asyncio.get_running_loop())
        probe = Probe(cast("Any", course), 2, 0)
        engine._slots.assign(probe)
        probe.sent = stamps.now()
        right = Seen(
            slot=probe.slot, protocol=template.protocol, head=template.head | probe.slot, origin=own, destination=there,
            source=router, type=11 if version == 4 else 3, code=0, reply=False, size=56, ttl=60, quoted_ttl=1, quoted_tos=0,
            quoted_length=60, stamped_ns=None, message=None,
        )  # fmt: skip
        wrong = [
            right._replace(slot=probe.slot % 65_535 + 1),
            right._replace(protocol=right.protocol ^ 1),
            right._replace(origin=router),
            right._replace(destination=router),
            right._replace(head=right.head ^ 1 << 48),
            right._replace(head=right.head ^ 1 << {"icmp": 16, "udp": 32, "tcp": 31}[protocol]),
        ]
        for seen in wrong:
            engine._take(version, iter([seen]), stamps.now())
            assert answers == [], seen
        engine._take(version, iter([right]), stamps.now())
        assert [answer.type for answer in answers] == [right.type]

    asyncio.run(take())
