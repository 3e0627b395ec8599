"""Results that a gateway takes from workers' streams, commits and acknowledges, beside psycopg 3's own COPY.

Ours is the whole way: workers (mutual TLS, batches of 500, as much on the way as the credit allows), one gateway
process, one PostgreSQL, acknowledgement after the commit; an acknowledgement's time counts from the moment in which
its batch was handed to the stream. The peer writes the same rows, as many to a commit, from ready tuples by
`write_row`: no network, no checks, no watermark. All of it runs on this machine's processors together.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import multiprocessing
import statistics
import time
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy
import psycopg
from support.deployment import Deployment, Member, deployed

from controller.gateway.packing import copy_target
from controller.store import results as tables
from controller.store.engine import libpq_url
from streamswarm.v1 import gateway_pb2, probe_pb2
from worker import transport

SECONDS = 60.0
WARM_UP_S = 5.0
PEER_SECONDS = 30.0
WORKERS = 16
JOBS = 20
BATCH = 500
#: Batches that the credit of 1,000 results lets be on the way.
ON_THE_WAY = 2
GOAL, AIM, LEAST = 0.35, 0.5, 30_000
LONGEST_ACK_S = 1.0

#: A spread of due instants that stays within a day; each job's runs are this far apart.
STEP_US = 20_000
DAY_US = 86_400_000_000


def result(job_id: int, scheduled_at_us: int, number: int) -> probe_pb2.Result:
    """A `ping` result as a run of 20 packets gives it: 25 metrics."""
    made = probe_pb2.Result(
        job_id=job_id,
        job_version=1,
        scheduled_at_us=scheduled_at_us,
        started_at_us=scheduled_at_us + 150,
        duration_ms=402.5,
        status=probe_pb2.STATUS_OK,
        clock_offset_ms=0.25,
        start_error_us=150,
    )
    rtt = 10 + number % 997 / 100
    ping = made.ping
    ping.packets_sent = ping.packets_received = 20
    ping.loss_pct = 0.0
    ping.rtt_min_ms, ping.rtt_avg_ms, ping.rtt_median_ms, ping.rtt_max_ms = (
        rtt,
        rtt + 0.3,
        rtt + 0.2,
        rtt + 0.8,
    )
    ping.rtt_stddev_ms, ping.rtt_p95_ms, ping.ipdv_avg_ms, ping.pdv_p95_ms = 0.31, rtt + 0.7, 0.42, 0.66
    ping.rfc3550_jitter_ms, ping.ipdv_max_ms, ping.rtt_p90_ms = 0.021, 0.9, rtt + 0.6
    ping.loss_periods = ping.longest_loss_period = 0
    ping.reply_ttls = 1
    ping.duplicates = ping.reordered = ping.late = ping.icmp_errors = 0
    ping.reply_ttl, ping.kernel_timestamps, ping.bytes_sent, ping.bytes_received = 57, True, 1680, 1680
    return made


class Batches:
    """Makes a worker's batches: serialised once, then only sequence numbers and instants are written into them."""

    def __init__(self, spool_id: str, jobs: Sequence[int], start_us: int) -> None:
        self._step_us = BATCH // len(jobs) * STEP_US
        marks = [0x7E00_0000_0000_0000 + number for number in range(3 * BATCH)]
        batch = gateway_pb2.ResultBatch(spool_id=spool_id, seqs=marks[:BATCH])
        self._values = numpy.zeros(3 * BATCH, dtype=numpy.int64)
        for number in range(BATCH):
            made = result(jobs[number % len(jobs)], marks[BATCH + number], number)
            made.started_at_us = marks[2 * BATCH + number]
            due_us = start_us + number // len(jobs) * STEP_US
            self._values[number] = number + 1
            self._values[BATCH + number], self._values[2 * BATCH + number] = due_us, due_us + 150
            batch.results.append(made.SerializeToString())
        self._steps = numpy.repeat(
            numpy.array([BATCH, self._step_us, self._step_us], dtype=numpy.int64), BATCH
        )
        text = bytearray(gateway_pb2.WorkerMessage(results=batch).SerializeToString())
        places = numpy.array([bytes(text).index(mark.to_bytes(8, "little")) for mark in marks])
        self._bytes = numpy.frombuffer(text, dtype=numpy.uint8)
        self._places = (places[:, None] + numpy.arange(8)[None, :]).ravel()
        self._last_seq = 0

    def next(self) -> tuple[int, bytes]:
        """Return the next batch's last sequence number and its message."""
        self._bytes[self._places] = self._values.astype("<i8").view(numpy.uint8)
        self._values += self._steps
        self._last_seq += BATCH
        return self._last_seq, self._bytes.tobytes()


async def _drive(member: Member, address: str, jobs: Sequence[int], begin: float, end: float) -> list[float]:
    """Send batches until `end`; return the seconds that each took to be acknowledged, those after `begin`."""
    grpc = transport.load_grpc()
    credentials = grpc.ssl_channel_credentials(member.ca_pem, member.key_pem, member.chain_pem)
    took: list[float] = []
    async with grpc.aio.secure_channel(address, credentials, options=transport._OPTIONS) as channel:
        call = channel.stream_stream(
            "/streamswarm.v1.Gateway/Session",
            request_serializer=bytes,
            response_deserializer=gateway_pb2.GatewayMessage.FromString,
        )()
        spool_id = uuid.uuid4().hex
        hello = gateway_pb2.Hello(spool_id=spool_id, next_seq=1, contract_version=1)
        await call.write(gateway_pb2.WorkerMessage(hello=hello).SerializeToString())
        while not (await call.read()).HasField("welcome"):
            pass
        batches = Batches(spool_id, jobs, int(time.time() * 1e6) // DAY_US * DAY_US)
        waiting: deque[tuple[int, float]] = deque()
        while time.monotonic() < end or waiting:
            while len(waiting) < ON_THE_WAY and time.monotonic() < end:
                seq, text = batches.next()
                waiting.append((seq, time.monotonic()))
                await call.write(text)
            message = await call.read()
            if not message.HasField("ack"):
                assert not message.HasField("goodbye"), message.goodbye
                continue
            now = time.monotonic()
            while waiting and waiting[0][0] <= message.ack.acked_seq:
                sent_at = waiting.popleft()[1]
                if begin <= now < end:
                    took.append(now - sent_at)
        await call.done_writing()
    return took


def _client(
    members: Sequence[Member],
    address: str,
    jobs: Sequence[Sequence[int]],
    begin: float,
    end: float,
    answer: Any,
) -> None:
    async def all_of_them() -> list[float]:
        took = await asyncio.gather(
            *(_drive(member, address, mine, begin, end) for member, mine in zip(members, jobs, strict=True))
        )
        return [seconds for one in took for seconds in one]

    answer.send(asyncio.run(all_of_them()))


def ours(deployment: Deployment, seconds: float) -> dict[str, float]:
    """Run the whole way for so long and return its figures."""
    members = deployment.make_workers(WORKERS)
    jobs = deployment.make_jobs([member.worker_id for member in members], tests=JOBS)
    gateway, address = deployment.start_gateway()
    mine = [jobs[member.worker_id] for member in members]
    begin = time.monotonic() + WARM_UP_S
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    client = context.Process(target=_client, args=(members, address, mine, begin, begin + seconds, there))
    client.start()
    took = here.recv()
    client.join()
    gateway.terminate()
    gateway.wait(30)
    (gauges,) = deployment.sql("SELECT gauges FROM processes WHERE pid = %s", gateway.pid)[0]
    stored = deployment.sql("SELECT count(*) FROM result_ping")[0][0]
    assert deployment.sql("SELECT sum(acked_seq) FROM workers")[0][0] == stored
    assert deployment.sql("SELECT count(*) FROM quarantine")[0][0] == 0
    took.sort()
    return {
        "rate": len(took) * BATCH / seconds,
        "ack_p50_s": statistics.median(took),
        "ack_p99_s": took[math.ceil(len(took) * 0.99) - 1],
        "rows_per_commit": gauges["results_stored"] / max(1, gauges["transactions"]),
        "loop_lag_ms": gauges.get("loop_lag_ms", 0.0),
    }


def peer(deployment: Deployment, seconds: float, rows_per_commit: int) -> float:
    """Rows a second by psycopg 3's `write_row` into the same table, so many to a commit."""
    target = copy_target("ping")
    statement = f"COPY {target.table} ({target.column_list}) FROM STDIN (FORMAT BINARY)".encode()
    start_us = int(time.time() * 1e6) // DAY_US * DAY_US
    columns = tables.columns("ping")
    names = [column.type for column in columns]
    sample = result(1, start_us, 0)
    metrics = {field.name: value for field, value in sample.ping.ListFields()}

    def row(number: int) -> tuple[Any, ...]:
        due = dt.datetime.fromtimestamp((start_us + number // (WORKERS * JOBS) * STEP_US) / 1e6, dt.UTC)
        envelope = {
            "job_id": number % (WORKERS * JOBS) + 1,
            "scheduled_at": due,
            "started_at": due,
            "duration_ms": 402.5,
            "clock_offset_ms": 0.25,
            "start_error_us": 150,
            "job_version": 1,
            "status": 1,
            "failure_source": 0,
            "failure_reason": None,
            "error": None,
            "detail": None,
        }
        return tuple(
            metrics.get(column.metric.name) if column.metric is not None else envelope[column.name]
            for column in columns
        )

    written = 0
    spent = 0.0
    with psycopg.connect(libpq_url(deployment.settings)) as connection:
        while spent < seconds:
            ready = [row(written + number) for number in range(rows_per_commit)]
            begun = time.monotonic()
            with connection.cursor().copy(statement) as copy:
                copy.set_types(names)
                for values in ready:
                    copy.write_row(values)
            connection.commit()
            spent += time.monotonic() - begun
            written += rows_per_commit
    return written / spent


def measure() -> dict[str, Any]:
    """One run of ours, the peer before and after it; the better of the peer's two counts."""
    with deployed() as deployment:
        before = peer(deployment, PEER_SECONDS / 2, 8 * BATCH)
        deployment.sql("TRUNCATE result_ping")
        figures = ours(deployment, SECONDS)
        together = max(BATCH, round(figures["rows_per_commit"] / BATCH) * BATCH)
        deployment.sql("TRUNCATE result_ping")
        peer_rate = max(before, peer(deployment, PEER_SECONDS / 2, together))
    ratio = figures["rate"] / peer_rate
    return {
        "value": round(figures["rate"]),
        "unit": "results/s",
        "peer": "psycopg 3 binary COPY, write_row",
        "peer_value": round(peer_rate),
        "ratio": round(ratio, 3),
        "goal": f">= {GOAL} (aim {AIM}), >= {LEAST} results/s, acknowledged within {LONGEST_ACK_S:g} s (p99)",
        "ok": ratio >= GOAL and figures["rate"] >= LEAST and figures["ack_p99_s"] <= LONGEST_ACK_S,
        "seconds": SECONDS,
        "metrics": len(result(1, 1, 1).ping.ListFields()),
        "batch": BATCH,
        "rows_per_commit": together,
        "ack_p50_s": round(figures["ack_p50_s"], 4),
        "ack_p99_s": round(figures["ack_p99_s"], 4),
        "loop_lag_ms": figures["loop_lag_ms"],
    }
