"""A session that never stops talking is read at the limit's pace, harms nobody, and is ended at last."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import grpc
import pytest

from controller.gateway import limits
from controller.gateway import session as session_module


async def test_an_endless_loop_of_heartbeats_is_slowed_down_and_then_ended(
    deployment: Any, tools: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An honest neighbour's results are stored meanwhile; the log says once why the loud session has ended."""
    monkeypatch.setattr(limits, "MESSAGES_AT_ONCE", 20.0)
    monkeypatch.setattr(session_module, "_MOST_SHORT_S", 3.0)
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
        reason, _ = await loud.ending(60)  # the status may be lost in what is still being sent
        assert reason == "PROTOCOL"
        took_s = time.monotonic() - begun
        await shouting
    assert took_s >= 3
    assert heard <= 20 + took_s * limits.MESSAGES_PER_S + 5
    assert caplog.text.count("more messages were sent than any worker sends") == 1
