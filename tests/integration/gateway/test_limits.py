"""A session that never stops talking is read at the limit's pace, harms nobody, and is ended at last."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import grpc
import pytest

from controller.gateway import intake, limits, service
from controller.gateway import session as session_module
from streamswarm.v1 import gateway_pb2, gateway_pb2_grpc


async def test_an_endless_loop_of_heartbeats_is_slowed_down_and_then_ended(
    deployment: Any, tools: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An honest neighbour's results are stored meanwhile; the log says once why the loud session has ended."""
    monkeypatch.setattr(limits, "MESSAGES_AT_ONCE", 20.0)
    monkeypatch.setattr(intake, "_MOST_SHORT_S", 3.0)
    hostile, honest = await deployment.enrol("host-a"), await deployment.enrol("host-b")
    job = deployment.job(honest.worker_id)
    heard = 0
    pulse = deployment.gateway.sessions.pulse

    def count(told: Any) -> None:
        nonlocal heard
        heard += told.worker_id == hostile.worker_id
        pulse(told)

    monkeypatch.setattr(deployment.gateway.sessions, "pulse", count)
    async with deployment.session(hostile) as loud, deployment.session(honest) as quiet:
        await loud.hello()
        await quiet.hello()
        begun = time.monotonic()

        async def shout() -> None:
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                while True:
                    await loud.send(heartbeat={"clock_us": 1})

        shouting = asyncio.create_task(shout())
        for number in range(5):
            await quiet.results([tools.make_result(job, number)], [number + 1])
            await quiet.expect_ack(number + 1)
        reason, _ = await loud.ending(60)
        # gRPC throws away what has come on a stream that is reset while it is written to; the log below has it always.
        assert reason in {"PROTOCOL", ""}
        took_s = time.monotonic() - begun
        await shouting
    assert took_s >= 3
    assert heard <= 20 + took_s * limits.MESSAGES_PER_S + 5
    assert caplog.text.count("more messages were sent than any worker sends") == 1


async def test_a_worker_that_begins_one_session_after_the_other_is_kept_waiting(
    deployment: Any, tools: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On one connection, or on many; another worker's session begins at once, and its own when it has rested."""
    monkeypatch.setattr(service, "_TURNED_AWAY_S", 0.5)
    hostile, honest = await deployment.enrol("host-a"), await deployment.enrol("host-b")
    hello = gateway_pb2.Hello(spool_id="a", contract_version=1, next_seq=1)
    begun = time.monotonic()

    async def knock(channel: grpc.aio.Channel) -> None:
        while time.monotonic() < begun + 2:
            call = gateway_pb2_grpc.GatewayStub(channel).Session()
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await call.write(gateway_pb2.WorkerMessage(hello=hello))
                await call.read()
            call.cancel()

    monkeypatch.setattr(deployment.gateway.session_limit, "_burst", 20.0)
    async with contextlib.AsyncExitStack() as stack:
        port = deployment.gateway.session_port
        channels = [
            await stack.enter_async_context(tools.channel_to(port, hostile.credentials)) for _ in range(2)
        ]
        knocking = asyncio.gather(*(knock(channel) for channel in channels for _ in range(4)))
        await asyncio.sleep(1)
        async with deployment.session(honest) as session:
            asked = time.monotonic()
            await session.hello()
            assert time.monotonic() - asked < 1
        await knocking
    [(epoch,)] = deployment.sql("SELECT session_epoch FROM workers WHERE id = %s", hostile.worker_id)
    assert 10 <= epoch <= 20 + 2 * service.SESSIONS_PER_S + 2
    assert caplog.text.count("begins more sessions than any worker does") == 1
    await asyncio.sleep(1)
    async with deployment.session(hostile) as session:
        await session.hello()


async def test_certificates_are_not_renewed_without_end(
    deployment: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many sessions ask: twenty at once, then one a minute; what was issued stays good."""
    monkeypatch.setattr(session_module, "_RENEWAL_PAUSE_S", 0.0)
    worker = await deployment.enrol("host-a")
    csr = tools.make_csr(tools.make_key())
    answers = []
    for _ in range(6):
        async with deployment.session(worker) as session:
            await session.hello()
            for _ in range(5):
                await session.send(renew={"csr_der": csr})
                answers.append((await session.expect("renewed")).renewed.error)
    assert [answer == "" for answer in answers] == [True] * 20 + [False] * 10
    assert "wait a little" in answers[-1]
    assert deployment.sql("SELECT count(*) FROM certificates WHERE superseded_at IS NULL") == [(21,)]
