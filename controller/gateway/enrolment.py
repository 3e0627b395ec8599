"""Enrolment: a one-time token and a certificate request in, a worker with a certificate out.

Everything happens in one transaction: the token is used up by a single UPDATE, so that of two who show it at once
one wins; the worker's row is made, or taken up again for the same host; its older certificates are revoked.
"""

from __future__ import annotations

import json
import logging
import re
import uuid

import grpc
from grpc import aio

from controller.gateway import roster
from controller.gateway.authority import Authority, IssuedCertificate
from controller.gateway.certificates import RequestRefusedError, check_request
from controller.gateway.database import Connection, Database, is_transient
from controller.gateway.identity import NotIdentifiedError, check_transport
from controller.gateway.limits import RateLimit, limit_key, peer_address
from controller.settings import Settings
from controller.store.commands.enrolment import hash_token
from controller.store.queue import plan_worker_async
from streamswarm.v1 import gateway_pb2, gateway_pb2_grpc

_log = logging.getLogger(__name__)
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\Z")
#: One text for every fault of a token: whoever tries tokens learns nothing from the answers.
_REFUSED = (
    "the enrolment token is not valid for this host: it is unknown, used, expired, revoked or made for another host; "
    "make a new one for exactly this host name"
)


class TokenRefusedError(Exception):
    """The token is unknown, used, expired, older than a revocation, or made for another host."""


async def enrol(
    connection: Connection, authority: Authority, request: gateway_pb2.EnrolRequest, *, address: str
) -> IssuedCertificate:
    """Use up the token and return the new worker's certificate; raises TokenRefusedError or RequestRefusedError."""
    check_request(request.csr_der)  # before the token is spent
    async with connection.transaction():
        shown = {"hash": hash_token(request.token), "host": request.host_name}
        # The worker before the token, as revocation locks them; only for who has a token of this host.
        await connection.execute(
            "SELECT FROM workers WHERE host_name = %(host)s AND deleted_at IS NULL AND EXISTS "
            "(SELECT FROM enrolment_tokens WHERE token_hash = %(hash)s AND host_name = %(host)s) FOR UPDATE",
            shown,
        )
        # A token that is older than a revocation of its host never brings the worker back.
        cursor = await connection.execute(
            "UPDATE enrolment_tokens AS token SET used_at = now() "
            "WHERE token_hash = %(hash)s AND host_name = %(host)s AND used_at IS NULL AND expires_at > now() "
            "AND NOT EXISTS (SELECT FROM workers "
            "WHERE workers.host_name = token.host_name AND workers.revoked_at >= token.created_at) "
            "RETURNING id, site, labels, groups",
            shown,
        )
        token = await cursor.fetchone()
        if token is None:
            raise TokenRefusedError
        token_id, site, labels, groups = token
        cursor = await connection.execute(
            """
            INSERT INTO workers (name, host_name, site, labels, groups, version, enrolled_at)
            VALUES (%(host)s, %(host)s, %(site)s, %(labels)s::jsonb, %(groups)s::jsonb, %(version)s, now())
            ON CONFLICT (host_name) WHERE deleted_at IS NULL DO UPDATE SET
                site = excluded.site, labels = excluded.labels, groups = excluded.groups,
                version = excluded.version, enrolled_at = now(), revoked_at = NULL,
                session_epoch = workers.session_epoch + 1
            RETURNING id
            """,
            {
                "host": request.host_name,
                "site": site,
                "labels": json.dumps(labels),
                "groups": json.dumps(groups),
                "version": request.worker_version.replace("\0", "")[:100],
            },
        )
        row = await cursor.fetchone()
        if row is None:
            raise RuntimeError("INSERT … RETURNING gave no row")
        worker_id: uuid.UUID = row[0]
        await connection.execute(
            "UPDATE certificates SET revoked_at = now() WHERE worker_id = %s AND revoked_at IS NULL",
            (worker_id,),
        )
        issued = authority.issue(request.csr_der, worker_id)
        await roster.register(connection, issued)
        await connection.execute(
            "INSERT INTO audit (actor, address, action, object_type, object_id, detail) "
            "VALUES ('system', %s, 'worker.enrol', 'worker', %s, %s::jsonb)",
            (
                address,
                str(worker_id),
                json.dumps({"host_name": request.host_name, "token": token_id, "certificate": issued.serial}),
            ),
        )
        await plan_worker_async(connection, worker_id)
    return issued


class Enrolment(gateway_pb2_grpc.EnrolmentServicer):
    """Serves the enrolment listener."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        authority: Authority,
        *,
        per_address: RateLimit | None = None,
        overall: RateLimit | None = None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._authority = authority
        # Generous enough for many hosts behind one address that a playbook enrols at once.
        self._per_address = per_address or RateLimit(rate=2, burst=60)
        self._overall = overall or RateLimit(rate=20, burst=200)

    async def Enrol(  # noqa: N802  the name is the contract's
        self,
        request: gateway_pb2.EnrolRequest,
        context: aio.ServicerContext[gateway_pb2.EnrolRequest, gateway_pb2.EnrolReply],
    ) -> gateway_pb2.EnrolReply:
        """Answer one request."""
        try:
            check_transport(context.auth_context())
        except NotIdentifiedError as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        if not (self._per_address.allow(limit_key(context.peer())) and self._overall.allow("")):
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "too many enrolments at once; try again in a few seconds"
            )
        if not _HOST_NAME.match(request.host_name) or not 1 <= len(request.token) <= 200:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "host_name and token must be a host's name and a token"
            )
        address = peer_address(context.peer())
        try:
            async with self._database.connection() as connection:
                issued = await enrol(connection, self._authority, request, address=address)
        except RequestRefusedError as error:
            _log.warning("%s sent no good request for host %s: %s", address, request.host_name, error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except TokenRefusedError:
            _log.warning("%s showed a token that is not valid for host %s", address, request.host_name)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, _REFUSED)
        except Exception as error:
            if not is_transient(error):
                raise
            _log.warning("enrolment of %s has to wait for the database: %s", request.host_name, error)
            await context.abort(
                grpc.StatusCode.UNAVAILABLE, "the controller's database cannot be reached now; try again"
            )
        _log.info(
            "enrolled host %s as worker %s, certificate %s",
            request.host_name,
            issued.worker_id,
            issued.serial,
        )
        return gateway_pb2.EnrolReply(
            worker_id=str(issued.worker_id),
            certificate_chain_pem=issued.chain_pem,
            ca_bundle_pem=self._authority.bundle_pem,
            trust_domain=self._settings.trust_domain,
            gateways=self._settings.public_gateways,
        )
