"""Enrolment over the real listener: one token, one certificate."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from grpc import aio
from sqlalchemy.orm import Session

from controller.errors import NotFoundError
from controller.gateway.limits import RateLimit
from controller.store.commands import workers
from controller.store.commands.audit import SYSTEM
from controller.store.commands.enrolment import make_enrolment_token, revoke_worker
from streamswarm.contract import InvalidInputError


async def test_a_token_brings_a_certificate_with_one_name(deployment: Any, tools: Any) -> None:
    """Whatever the request asks for, the certificate holds the worker's SPIFFE id alone, for clients only."""
    key = tools.make_key()
    csr = tools.make_csr(
        key,
        x509.DNSName("gateway.example"),
        x509.UniformResourceIdentifier(f"spiffe://streamswarm.local/worker/{uuid.uuid4()}"),
    )
    reply = await deployment.request_enrolment(deployment.token("host-a"), "host-a", csr)
    leaf, intermediate = x509.load_pem_x509_certificates(reply.certificate_chain_pem)
    (root,) = x509.load_pem_x509_certificates(reply.ca_bundle_pem)
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)
    assert list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == [
        x509.UniformResourceIdentifier(f"spiffe://streamswarm.local/worker/{reply.worker_id}")
    ]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert leaf.public_key() == key.public_key()
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == dt.timedelta(hours=24, minutes=1)
    assert deployment.sql("SELECT id::text, host_name, enrolled_at IS NOT NULL FROM workers") == [
        (reply.worker_id, "host-a", True)
    ]
    assert deployment.sql("SELECT serial FROM certificates") == [(f"{leaf.serial_number:x}",)]
    assert ("worker.enrol", reply.worker_id) in deployment.sql("SELECT action, object_id FROM audit")
    assert deployment.sql(
        "SELECT args->>'worker_id' FROM procrastinate_jobs WHERE task_name = 'plan' AND status = 'todo'"
    ) == [(reply.worker_id,)]


async def test_only_the_hash_of_a_token_is_kept(deployment: Any) -> None:
    """The token's text is nowhere in the database."""
    token = deployment.token("host-a")
    assert len(token) >= 43  # 256 bits
    ((kept,),) = deployment.sql("SELECT t::text FROM enrolment_tokens t")
    assert token not in kept


async def test_every_bad_token_gets_the_same_answer(deployment: Any, tools: Any) -> None:
    """Used, expired, unknown and another host's tokens cannot be told apart."""
    used, expired, foreign = (
        deployment.token("host-a"),
        deployment.token("host-a"),
        deployment.token("host-b"),
    )
    csr = tools.make_csr(tools.make_key())
    await deployment.request_enrolment(used, "host-a", csr)
    deployment.sql(
        "UPDATE enrolment_tokens SET expires_at = now() WHERE used_at IS NULL AND host_name = 'host-a'"
    )
    answers = set()
    for token in (used, expired, foreign, "unknown"):
        with pytest.raises(aio.AioRpcError) as refused:
            await deployment.request_enrolment(token, "host-a", csr)
        answers.add((refused.value.code(), refused.value.details()))
    assert len(answers) == 1
    assert answers.pop()[0] is grpc.StatusCode.UNAUTHENTICATED
    assert deployment.sql("SELECT count(*) FROM certificates") == [(1,)]


async def test_of_two_who_show_a_token_at_once_one_wins(deployment: Any, tools: Any) -> None:
    """A race for one token has exactly one winner, every time."""
    for turn in range(5):
        token = deployment.token(f"host-{turn}")
        answers = await asyncio.gather(
            *(
                deployment.request_enrolment(token, f"host-{turn}", tools.make_csr(tools.make_key()))
                for _ in range(4)
            ),
            return_exceptions=True,
        )
        refused = [answer for answer in answers if isinstance(answer, aio.AioRpcError)]
        assert len(refused) == 3
        assert {answer.code() for answer in refused} == {grpc.StatusCode.UNAUTHENTICATED}
    assert deployment.sql("SELECT count(*) FROM certificates") == [(5,)]


async def test_a_bad_request_does_not_spend_the_token(deployment: Any, tools: Any) -> None:
    """Requests that are none, of another key type or not signed by their key are refused before the token is used."""
    token = deployment.token("host-a")
    good = tools.make_csr(tools.make_key())
    forged = bytearray(good)
    forged[-3] ^= 1
    for csr in (
        b"",
        b"nonsense",
        bytes(forged),
        tools.make_csr(rsa.generate_private_key(65537, 2048)),
        good * 50,
    ):
        with pytest.raises(aio.AioRpcError) as refused:
            await deployment.request_enrolment(token, "host-a", csr)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await deployment.request_enrolment(token, "host-a", good)


async def test_enrolling_a_host_again_keeps_the_worker_and_ends_its_old_certificates(
    deployment: Any, tools: Any
) -> None:
    """The same host is the same worker; its older identity is refused and its open session ends."""
    old = await deployment.enrol("host-a")
    async with deployment.session(old) as session:
        await session.hello()
        new = await deployment.enrol("host-a")
        reason, _ = await session.ending()
        assert reason in ("REVOKED", "SUPERSEDED")
    assert new.worker_id == old.worker_id
    async with deployment.session(old) as session:
        await session.send(hello={"spool_id": "s"})
        assert await session.ending() == ("REVOKED", grpc.StatusCode.UNAUTHENTICATED)
    async with deployment.session(new) as session:
        await session.hello()


@pytest.mark.parametrize("end", ["revoke", "delete", "delete after revoke"])
async def test_an_older_token_does_not_bring_a_revoked_worker_back(
    deployment: Any, tools: Any, end: str
) -> None:
    """Tokens made before the end of a worker are worth nothing after it, even if their life is prolonged."""
    worker = await deployment.enrol("host-a")
    older, others = deployment.token("host-a"), deployment.token("host-b")
    csr = tools.make_csr(tools.make_key())
    if end == "delete after revoke":
        with Session(deployment.engine) as session, session.begin():
            workers.revoke(session, worker.worker_id, actor=SYSTEM)
        between = deployment.token("host-a")
    with Session(deployment.engine) as session, session.begin():
        command = workers.revoke if end == "revoke" else workers.delete
        command(session, worker.worker_id, actor=SYSTEM)
    open_tokens = "SELECT host_name FROM enrolment_tokens WHERE used_at IS NULL AND expires_at > now()"
    assert deployment.sql(open_tokens) == [("host-b",)]
    stale = [older] if end != "delete after revoke" else [older, between]
    for turn in range(2):
        for token in stale:
            with pytest.raises(aio.AioRpcError) as refused:
                await deployment.request_enrolment(token, "host-a", csr)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        if turn == 0:
            # What was made after the revocation is held back by its expiry alone.
            stale = [older]
            deployment.sql("UPDATE enrolment_tokens SET expires_at = now() + interval '1 hour'")
    await deployment.request_enrolment(others, "host-b", csr)
    reply = await deployment.request_enrolment(deployment.token("host-a"), "host-a", csr)
    assert (reply.worker_id == str(worker.worker_id)) is (end == "revoke")


async def test_too_many_knocks_are_turned_away(deployment: Any, tools: Any) -> None:
    """Beyond its burst an address is told to come again later; the database is not asked."""
    deployment.gateway.enrolment._per_address = RateLimit(rate=0.001, burst=2)
    codes = []
    for _ in range(4):
        with pytest.raises(aio.AioRpcError) as refused:
            await deployment.request_enrolment("unknown", "host-a", tools.make_csr(tools.make_key()))
        codes.append(refused.value.code().name)
    assert codes == ["UNAUTHENTICATED"] * 2 + ["RESOURCE_EXHAUSTED"] * 2


async def test_a_gateway_is_known_by_every_name_it_is_dialled_by(deployment: Any) -> None:
    """The listener's certificate holds its addresses and its SPIFFE id, for servers only."""
    chain = deployment.gateway.authority.server_identity().chain_pem
    leaf = x509.load_pem_x509_certificate(chain)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert {str(address) for address in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1"}
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://streamswarm.local/gateway/gateway-1"
    ]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert leaf.public_bytes(serialization.Encoding.PEM) in chain


def test_odd_host_names_get_no_token(engine: Any) -> None:
    """Names that are none, and lives that are none, are refused with the field's path."""
    with Session(engine) as session:
        for name in ("", "-a", "a b", "a;b", "a\0", "x" * 254):
            with pytest.raises(InvalidInputError, match="host_name"):
                make_enrolment_token(session, name, minutes=1)
        with pytest.raises(InvalidInputError, match="minutes"):
            make_enrolment_token(session, "host-a", minutes=0)


def test_revoking_nobody_says_so(engine: Any) -> None:
    """An unknown worker is an error that names it."""
    with Session(engine) as session, pytest.raises(NotFoundError, match="no worker `host-x`"):
        revoke_worker(session, "host-x")
