"""What can never be stored is set aside and spoils nothing else."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
from typing import Any

import pytest

from controller.gateway import plain, storing


async def test_what_can_never_be_stored_is_set_aside_and_the_rest_is_stored(
    deployment: Any, tools: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Unknown jobs, others' jobs, wrong kinds, odd times and broken values are quarantined with their reasons."""
    worker, other = await deployment.enrol("host-a"), await deployment.enrol("host-b")
    job, foreign = deployment.job(worker.worker_id), deployment.job(other.worker_id)
    bad = {
        "there is no job": tools.make_result(999_999, 0),
        "another worker": tools.make_result(foreign, 0),
        "of kind": tools.make_result(job, 1, kind="tcp"),
        "a day ahead": tools.make_result(job, 2, at=dt.datetime(2101, 1, 1, tzinfo=dt.UTC)),
        "no measurement": tools.make_result(job, 3, duration_ms=float("nan")),
        "cannot be kept": tools.make_result(job, 4, detail_json="{"),
        "larger than any number": tools.make_result(job, 8, detail_json='{"a": 1e5000}'),
        "levels deep": tools.make_result(job, 9, detail_json='{"a": ' + "[" * 60 + "]" * 60 + "}"),
        "65537 characters": tools.make_result(job, 15, detail_json=json.dumps({"a": "x" * 65_528})),
        "not an object": tools.make_result(job, 5, detail_json="[1]"),
        "status 0": tools.make_result(job, 6, status=0),
    }
    bad["of kind"].ClearField("metrics")
    wire = [result.SerializeToString() for result in bad.values()]
    bad["no Result message"] = tools.make_result(job, 7)
    wire.append(b"\xff\xff\xff")
    good = [tools.make_result(job, number) for number in range(10, 14)]
    good[0].detail_json = json.dumps({"a": "x" * 65_527})
    async with deployment.session(worker) as session:
        await session.hello()
        first, last = ([result.SerializeToString() for result in some] for some in (good[:2], good[2:]))
        await session.send(
            results={"spool_id": "spool-a", "seqs": range(1, 17), "results": [*first, *wire, *last]}
        )
        await session.expect_ack(16)
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(4,)]
    kept = deployment.sql("SELECT seq, reason, payload FROM quarantine ORDER BY seq")
    assert [seq for seq, _, _ in kept] == list(range(3, 15))
    for reason, text, (_, kept_reason, payload) in zip(bad, wire, kept, strict=True):
        assert reason in kept_reason
        assert payload == text[: 16 * 1024]
    told = [line for line in caplog.messages if line.startswith(f"worker {worker.worker_id} brings")]
    assert sorted(re.findall(r"\((\d+) set aside", "".join(told))) == ["1"] * 9 + ["3"], told


@pytest.mark.parametrize("number", ["9" * 4000, "-" + "9" * 5000, str(2**64), "1" + "0" * 30])
async def test_a_number_that_no_reader_takes_is_set_aside(deployment: Any, tools: Any, number: str) -> None:
    """However large, with its reason; a counter of 64 bits and a number with an exponent are kept as they are."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    good = f'{{"a": [{2**64 - 1}, {-(2**63)}, 1e22]}}'
    results = [
        tools.make_result(job, 0, detail_json=f'{{"a": [{{"b": {number}}}]}}'),
        tools.make_result(job, 1, detail_json=good),
    ]
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results(results, [1, 2])
        await session.expect_ack(2)
    [(reason,)] = deployment.sql("SELECT reason FROM quarantine")
    assert reason.startswith("detail cannot be kept: ")
    assert "larger than any number that can be read again" in reason
    assert len(reason) < 200
    assert deployment.sql("SELECT detail FROM result_ping") == [({"a": [2**64 - 1, -(2**63), 1e22]},)]


async def test_no_worker_fills_the_database_with_what_it_refuses(
    deployment: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many refused results are kept for each worker, of each the beginning; the rest is counted and acknowledged."""
    monkeypatch.setattr(storing, "MOST_KEPT", 5)
    worker, other = await deployment.enrol("host-a"), await deployment.enrol("host-b")
    large = [
        tools.make_result(999_999, number, detail_json=json.dumps({"x": "y" * 40_000})) for number in range(4)
    ]
    async with deployment.session(worker) as session, deployment.session(other) as neighbour:
        await session.hello()
        await neighbour.hello()
        for first in range(1, 13, 4):
            await session.results(large, range(first, first + 4))
            await session.expect_ack(first + 3)
        await neighbour.results(large[:1], [1])
        await neighbour.expect_ack(1)
    kept = deployment.sql(
        "SELECT worker_id, count(*), max(length(payload)) FROM quarantine GROUP BY worker_id"
    )
    assert {row[0]: row[1:] for row in kept} == {
        worker.worker_id: (8, 16_384),
        other.worker_id: (1, 16_384),
    }
    assert deployment.gateway.ingest.tally.quarantined == 13


async def test_many_alike_are_checked_like_each_by_itself(deployment: Any, tools: Any) -> None:
    """Among hundreds of like results those of others' jobs, of odd times and broken values are still set aside."""
    worker, other = await deployment.enrol("host-a"), await deployment.enrol("host-b")
    job, foreign = deployment.job(worker.worker_id), deployment.job(other.worker_id)
    results = [tools.make_result(job, number) for number in range(300)]
    results[50].job_id, results[51].job_id = foreign, 999_999
    results[100].scheduled_at_us = 4_000_000_000_000_000
    results[150].ping.rtt_avg_ms = float("inf")
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results(results, range(1, 301))
        await session.expect_ack(300)
    assert deployment.sql("SELECT count(*), sum(rtt_avg_ms) FROM result_ping") == [
        (296, sum(result.ping.rtt_avg_ms for n, result in enumerate(results) if n not in (50, 51, 100, 150)))
    ]
    assert deployment.sql("SELECT seq FROM quarantine ORDER BY seq") == [(51,), (52,), (101,), (151,)]


async def test_a_row_that_only_the_database_refuses_spoils_no_other(
    deployment: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where our checks let through what PostgreSQL's JSON does not hold, it alone is set aside, by every way down."""
    monkeypatch.setattr(plain, "finite", float)
    worker, other = await deployment.enrol("host-a"), await deployment.enrol("host-b")
    job, others_job = deployment.job(worker.worker_id), deployment.job(other.worker_id)
    results = [tools.make_result(job, number) for number in range(5)]
    results[2].detail_json = '{"huge": 1e200000}'
    async with deployment.session(worker) as session, deployment.session(other) as neighbour:
        await session.hello()
        await neighbour.hello()
        await asyncio.gather(
            session.results(results, range(1, 6)),
            neighbour.results([tools.make_result(others_job, 0)], [1]),
        )
        await asyncio.gather(session.expect_ack(5), neighbour.expect_ack(1))
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(5,)]
    ((seq, reason),) = deployment.sql("SELECT seq, reason FROM quarantine")
    assert seq == 3
    assert reason.startswith("the database refuses it")
    assert deployment.sql("SELECT payload FROM quarantine") == [(results[2].SerializeToString(),)]
    tally = deployment.gateway.ingest.tally
    assert (tally.stored, tally.quarantined) == (5, 1), "what is set aside is not told as stored"


async def test_odd_text_is_stored_cleaned(deployment: Any, tools: Any) -> None:
    """NUL characters, plain or escaped, and halves of surrogate pairs do not keep a result out."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    result = tools.make_result(job, 0, error="a\0b", detail_json='{"k\\u0000": ["x\\u0000y", "\\ud800"]}')
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([result], [1])
        await session.expect_ack(1)
    assert deployment.sql("SELECT error, detail FROM result_ping") == [("ab", {"k": ["xy", "?"]})]
    assert deployment.sql("SELECT count(*) FROM quarantine") == [(0,)]
