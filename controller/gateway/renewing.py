"""The answer to a worker that asks for a new certificate in its session."""

from __future__ import annotations

import logging
import uuid

from controller.gateway import roster
from controller.gateway.authority import Authority
from controller.gateway.certificates import RequestRefusedError
from controller.gateway.database import Database, is_transient
from streamswarm.v1.gateway_pb2 import RenewReply

_log = logging.getLogger(__name__)


async def renewed(
    database: Database, authority: Authority, *, worker_id: uuid.UUID, epoch: int, csr_der: bytes
) -> RenewReply | None:
    """Issue a certificate and list it before the worker sees it; None when the session is not the worker's any more."""
    try:
        issued = authority.issue(csr_der, worker_id)
        async with database.connection() as connection:
            listed = await roster.register_renewal(connection, issued, epoch)
    except RequestRefusedError as error:
        return RenewReply(error=str(error))
    except Exception as error:
        if not is_transient(error):
            raise
        return RenewReply(error="the database cannot be reached now; try again")
    if not listed:
        return None
    _log.info("worker %s renewed its certificate: %s", worker_id, issued.serial)
    return RenewReply(certificate_chain_pem=issued.chain_pem, ca_bundle_pem=authority.bundle_pem)
