"""500 idle TLS connections and 100 peers that never read, beside one honest worker: about two minutes.

The honest worker sends a batch of 100 results, waits for its acknowledgement, and sends the next; 99 of 100 of its
acknowledgements must come within twice the time that they took without the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
import time
from typing import Any

from support.installation import Installation, installation
from support.killing import tell
from support.surroundings import wait_for

from streamswarm.v1 import gateway_pb2, probe_pb2
from worker.identity import Identity
from worker.transport import Stream, dial

IDLE, SILENT = 500, 100
BATCHES, RESULTS = 300, 100
MOST_RATIO = 2.0


def measure() -> dict[str, Any]:
    """Measure alone, with the others, and once more alone."""
    with installation(gateways=1) as made:
        made.gateways[0].start()
        wait_for("the gateway", lambda: "listens on" in made.gateways[0].said(), 60)
        return asyncio.run(_measure(made))


async def _measure(made: Installation) -> dict[str, Any]:
    honest = _Honest(made)
    await honest.begin()
    await honest.p99_ms(BATCHES // 3)  # connections and caches are warm
    alone = await honest.p99_ms(BATCHES)
    tell(f"alone: p99 {alone:.1f} ms")
    with contextlib.ExitStack() as idle:
        identity = made.enrolled("idle")
        await asyncio.to_thread(_stay_idle, made, identity, idle)
        silent = [asyncio.ensure_future(_never_read(made, number)) for number in range(SILENT)]
        await asyncio.sleep(5)
        beside = await honest.p99_ms(BATCHES)
        broken = [task for task in silent if task.done() and task.exception()]
        for task in silent:
            task.cancel()
        await asyncio.gather(*silent, return_exceptions=True)
    after = await honest.p99_ms(BATCHES)
    await honest.end()
    ratio = beside / alone
    return {
        "idle_connections": IDLE,
        "peers_that_never_read": SILENT,
        "peers_that_failed": len(broken),
        "alone_p99_ms": round(alone, 2),
        "beside_p99_ms": round(beside, 2),
        "after_p99_ms": round(after, 2),
        "ratio": round(ratio, 2),
        "goal": f"< {MOST_RATIO}",
        "ok": ratio < MOST_RATIO and not broken,
    }


class _Honest:
    """A worker that delivers, one batch after the other."""

    def __init__(self, made: Installation) -> None:
        self._made = made
        self._numbers = itertools.count(1)
        self._identity = made.enrolled("honest")
        ((test_id,),) = made.sql(
            "INSERT INTO tests (name, kind, spec, interval_s) VALUES ('t', 'tcp', '{}', 1) RETURNING id"
        )
        ((self._job_id,),) = made.sql(
            "INSERT INTO jobs (test_id, worker_id, kind, target, spec, interval_us, anchor_us) "
            "VALUES (%s, %s, 'tcp', '127.0.0.1:1', '{}', 1000000, 0) RETURNING id",
            test_id,
            self._identity.worker_id,
        )

    async def begin(self) -> None:
        self._stream = await _session(self._made, self._identity)

    async def p99_ms(self, batches: int) -> float:
        """Send batches; return within what time 99 of 100 were acknowledged."""
        waits = []
        for _ in range(batches):
            seqs = list(itertools.islice(self._numbers, RESULTS))
            batch = gateway_pb2.ResultBatch(spool_id="spool", seqs=seqs)
            batch.results.extend(self._result(seq) for seq in seqs)
            started = time.monotonic()
            await self._stream.send(gateway_pb2.WorkerMessage(results=batch))
            while (message := await self._stream.receive()).ack.acked_seq < seqs[-1]:
                assert not message.HasField("goodbye"), message
            waits.append((time.monotonic() - started) * 1000)
        return sorted(waits)[int(len(waits) * 0.99)]

    async def end(self) -> None:
        await self._stream.close()

    def _result(self, seq: int) -> bytes:
        due_us = int(time.time()) // 86_400 * 86_400_000_000 + seq * 1_000
        result = probe_pb2.Result(
            job_id=self._job_id, job_version=1, scheduled_at_us=due_us, started_at_us=due_us, status=1
        )
        result.tcp.connect_ms = 1.0
        return result.SerializeToString()


async def _session(made: Installation, identity: Identity) -> Stream:
    stream = await dial(made.settings.gateway_addresses[0], identity)
    hello = gateway_pb2.Hello(worker_version="soak", contract_version=1, spool_id="spool", next_seq=1)
    await stream.send(gateway_pb2.WorkerMessage(hello=hello))
    assert (await stream.receive()).HasField("welcome")
    return stream


async def _never_read(made: Installation, number: int) -> None:
    """Hold a session, ask for answers ten times a second, and read none of them."""
    stream = await _session(made, made.enrolled(f"silent-{number}"))
    try:
        while True:
            await stream.send(gateway_pb2.WorkerMessage(heartbeat=gateway_pb2.Heartbeat(clock_us=1)))
            await asyncio.sleep(0.1)
    finally:
        await stream.close()


def _stay_idle(made: Installation, identity: Identity, connections: contextlib.ExitStack) -> None:
    """Do handshakes with a good certificate, and say nothing."""
    host, _, port = made.settings.gateway_addresses[0].partition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    path = made.folder / "idle.pem"
    path.write_bytes(identity.chain_pem + identity.key_pem)
    context.load_cert_chain(path)
    for _ in range(IDLE):
        sock = socket.create_connection((host, int(port)), timeout=30)
        connections.enter_context(context.wrap_socket(sock))
