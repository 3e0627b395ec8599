"""The pure parts: rate limits, the outbox, differences of job sets, notification payloads, gateway errors."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.gateway.database import is_about_content, is_transient
from controller.gateway.identity import NotIdentifiedError, identify
from controller.gateway.jobs import Change, Jobs, difference
from controller.gateway.limits import RateLimit, limit_key, peer_address
from controller.gateway.notices import payloads
from controller.gateway.outbox import Outbox
from streamswarm.v1 import gateway_pb2, probe_pb2


def test_a_bucket_refills_with_time() -> None:
    """The burst is allowed at once, then the rate; keys do not share."""
    now = [0.0]
    limit = RateLimit(rate=2, burst=3, now=lambda: now[0])
    assert [limit.allow("a") for _ in range(4)] == [True, True, True, False]
    assert limit.allow("b")
    now[0] = 0.5
    assert [limit.allow("a") for _ in range(2)] == [True, False]


def test_forgotten_keys_cost_no_memory() -> None:
    """Only so many keys are kept, the least recently seen go first."""
    limit = RateLimit(rate=0, burst=1, keys=2, now=lambda: 0.0)
    assert [limit.allow(key) for key in "abc"] == [True, True, True]
    assert [limit.allow(key) for key in "bca"] == [False, False, True]


@pytest.mark.parametrize(
    ("peer", "address", "key"),
    [
        ("ipv4:192.0.2.1:5000", "192.0.2.1", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:5000", "2001:db8::1", "2001:db8::/64"),
        ("ipv6:[::ffff:192.0.2.1]:5000", "::ffff:192.0.2.1", "192.0.2.1"),
        ("unix:/tmp/x", "unix:/tmp/x", "unix:/tmp/x"),
    ],
)
def test_peers_are_counted_by_address_or_network(peer: str, address: str, key: str) -> None:
    """An IPv6 host has a whole network of addresses to come from."""
    assert (peer_address(peer), limit_key(peer)) == (address, key)


def test_an_unauthenticated_peer_is_nobody() -> None:
    """Absent means deny, for TLS version, SPIFFE id and certificate alike."""
    tls = {"ssl_tls_version": [b"TLSv1.3"]}
    for auth in (
        {},
        {"ssl_tls_version": [b"TLSv1.2"]},
        tls,
        {**tls, "peer_spiffe_id": [b"spiffe://x/worker/0"]},
        {**tls, "peer_spiffe_id": [b"a", b"b"], "x509_pem_cert": [b""]},
        {**tls, "peer_spiffe_id": [b"\xff"], "x509_pem_cert": [b""]},
    ):
        with pytest.raises(NotIdentifiedError):
            identify(auth, "streamswarm.local")


_versions = st.dictionaries(st.integers(1, 6), st.integers(1, 3), max_size=6)


@given(st.lists(_versions, min_size=1, max_size=6))
def test_differences_bring_a_worker_to_the_wanted_set(steps: list[dict[int, int]]) -> None:
    """Whatever sets follow each other, a worker that applies the messages has the last one."""
    held: dict[int, int] = {}
    base = None
    for revision, step in enumerate(steps):
        jobs = {
            job_id: probe_pb2.Job(
                job_id=job_id, version=version, target="x" * 40 * version
            ).SerializeToString()
            for job_id, version in step.items()
        }
        wanted = Jobs(revision=revision, versions=step)
        message = gateway_pb2.GatewayMessage.FromString(difference(base, wanted, jobs)).jobs
        assert (message.revision, message.full) == (revision, base is None)
        if message.full:
            held.clear()
        held.update({job.job_id: job.version for job in message.jobs})
        for job_id in message.removed:
            del held[job_id]
        assert held == step
        base = wanted


def _change(base: Jobs | None, revision: int) -> Change:
    wanted = Jobs(revision=revision)
    return Change(base=base, wanted=wanted, message=difference(base, wanted, {}))


async def test_the_outbox_says_only_the_newest() -> None:
    """Of many acknowledgements and job sets that pile up the last is said, once."""
    outbox = Outbox("s")
    for seq in range(1, 100):
        outbox.acknowledge(seq)
        outbox.change_jobs(_change(None, seq))
    ack, change = await outbox.take()
    assert isinstance(ack, gateway_pb2.GatewayMessage)
    assert ack.ack.acked_seq == 99
    assert isinstance(change, bytes)
    assert gateway_pb2.GatewayMessage.FromString(change).jobs == gateway_pb2.JobSet(revision=99, full=True)
    outbox.acknowledge(100)
    outbox.finish(gateway_pb2.GatewayMessage(goodbye=gateway_pb2.Goodbye()))
    said = [message for message in await outbox.take() if isinstance(message, gateway_pb2.GatewayMessage)]
    assert [message.WhichOneof("message") for message in said] == ["ack", "goodbye"]
    assert outbox.finished


async def test_a_change_from_a_set_that_the_worker_no_longer_has_is_not_said() -> None:
    """It was worked out while another was being sent; the revision stays behind, so the next look mends it."""
    outbox = Outbox("s")
    outbox.change_jobs(_change(None, 1))
    await outbox.take()
    outbox.change_jobs(_change(None, 2))
    assert outbox.jobs_revision == 1
    outbox.change_jobs(_change(outbox.sent_jobs, 3))
    assert outbox.jobs_revision == 3
    (change,) = await outbox.take()
    assert isinstance(change, bytes)
    assert gateway_pb2.GatewayMessage.FromString(change).jobs == gateway_pb2.JobSet(revision=3)


@given(st.sets(st.integers(1, 2**62), max_size=2000))
def test_notifications_fit_and_name_every_test(tests: set[int]) -> None:
    """No payload reaches PostgreSQL's limit of 8,000 bytes, and none is empty."""
    made = list(payloads(tests))
    assert all(0 < len(payload) < 8000 for payload in made)
    assert {int(text) for payload in made for text in payload.split(",")} == tests


@pytest.mark.parametrize(
    ("error", "transient", "content"),
    [
        (psycopg.errors.AdminShutdown(), True, False),
        (psycopg.errors.DeadlockDetected(), True, False),
        (psycopg.errors.LockNotAvailable(), True, False),
        (psycopg.errors.DiskFull(), True, False),
        (psycopg.errors.ReadOnlySqlTransaction(), True, False),
        (psycopg.errors.IdleInTransactionSessionTimeout(), True, False),
        (psycopg.errors.QueryCanceled(), True, False),
        (psycopg.OperationalError("connection refused"), True, False),
        (ConnectionResetError(), True, False),
        (psycopg.errors.UniqueViolation(), False, True),
        (psycopg.errors.NumericValueOutOfRange(), False, True),
        (psycopg.errors.StatementTooComplex(), False, True),
        (psycopg.errors.UndefinedTable(), False, False),
        (KeyError(), False, False),
    ],
)
def test_errors_are_classified_by_what_to_do(error: Exception, transient: bool, content: bool) -> None:
    """Try again, set the row aside, or tell people: what the schema lacks is neither passing nor the rows' fault."""
    assert (is_transient(error), is_about_content(error)) == (transient, content)
