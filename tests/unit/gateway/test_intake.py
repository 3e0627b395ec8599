"""What a worker may say: the cheapest question comes first, and what is refused uses nothing up."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from controller.gateway.batches import Batch
from controller.gateway.credit import CREDIT_RESULTS
from controller.gateway.intake import Intake, RuleBrokenError
from streamswarm.v1.gateway_pb2 import ResultBatch


class _Session:
    worker_id = uuid.uuid4()
    epoch = 1
    spool_id = "spool-a"

    def stored(self, batch: Batch) -> None:
        raise NotImplementedError

    def refused(self) -> None:
        raise NotImplementedError

    def broken(self) -> None:
        raise NotImplementedError


def _batch(count: int, *, first: int = 1, last: int | None = None, spool_id: str = "spool-a") -> ResultBatch:
    seqs = [*range(first, first + count - 1), first + count - 1 if last is None else last]
    return ResultBatch(spool_id=spool_id, seqs=seqs, results=[b""] * count)


def test_a_batch_that_is_too_large_is_refused_before_it_is_walked() -> None:
    """What is wrong at its far end is not even seen: the largest message that the transport takes holds so many."""
    with pytest.raises(RuleBrokenError, match="more was sent than the credit allows"):
        Intake().batch(_Session(), _batch(300_000, last=0))


@pytest.mark.parametrize(
    ("batch", "why"),
    [
        (_batch(2, spool_id="spool-b"), "another spool"),
        (ResultBatch(spool_id="spool-a"), "at least one"),
        (ResultBatch(spool_id="spool-a", seqs=[1, 2], results=[b""]), "as many sequence numbers"),
        (_batch(3, last=2), "2 does not follow 2"),
        (_batch(2, first=0), "0 does not follow 0"),
        (_batch(CREDIT_RESULTS + 1), "credit"),
    ],
)
async def test_what_is_refused_uses_no_credit(batch: ResultBatch, why: str) -> None:
    """A session that ends for it does not wait until what was never taken in is stored."""
    intake = Intake()
    with pytest.raises(RuleBrokenError, match=why):
        intake.batch(_Session(), batch)
    async with asyncio.timeout(1):
        await intake.settled()


async def test_credit_is_used_until_it_is_given_back() -> None:
    """Numbers go on over batches; all of the credit may be on its way, and not one result more."""
    intake, session = Intake(), _Session()
    taken = [intake.batch(session, _batch(500, first=first)) for first in (1, 501)]
    with pytest.raises(RuleBrokenError, match="credit"):
        intake.batch(session, _batch(1, first=1001))
    for batch in taken:
        assert list(batch.seqs) == list(range(batch.seqs[0], batch.seqs[0] + 500))
        intake.stored(batch)
    await intake.settled()
    with pytest.raises(RuleBrokenError, match="1000 does not follow 1000"):
        intake.batch(session, _batch(1, first=1000))
    assert intake.batch(session, _batch(1, first=1001)).seqs == [1001]


def test_a_single_batch_may_have_more_bytes_than_the_credit() -> None:
    """Beside another it may not."""
    large = ResultBatch(spool_id="spool-a", seqs=[1], results=[b"x" * 1_500_000])
    Intake().batch(_Session(), large)
    intake = Intake()
    intake.batch(_Session(), _batch(1))
    large.seqs[0] = 2
    with pytest.raises(RuleBrokenError, match="credit"):
        intake.batch(_Session(), large)
