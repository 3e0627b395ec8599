"""Enrolment: a one-time token turns a key made here into an identity."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from streamswarm import __version__
from streamswarm.v1 import gateway_pb2
from worker.config import WorkerConfig
from worker.errors import IdentityError
from worker.identity import Identity, IdentityStore, make_identity, new_key, signing_request
from worker.transport import enrol

log = logging.getLogger(__name__)

_LONGEST_TOKEN = 4096


async def enrol_worker(
    config: WorkerConfig,
    store: IdentityStore,
    *,
    call: Callable[..., Awaitable[gateway_pb2.EnrolReply]] = enrol,
) -> Identity:
    """Enrol this worker with the configured token and keep its identity; raises a WorkerError that says what is missing."""
    token_file = config.token_file
    if token_file is None or not config.enrolment or config.ca_file is None:
        raise IdentityError(
            "this worker is not enrolled and its configuration does not say how",
            mend="set `enrolment`, `ca_file` and `token_file`, or let Ansible provision this host",
        )
    token = _read(token_file, "the token").decode("ascii", "replace").strip()
    ca_pem = _read(config.ca_file, "the CA certificate")
    key_pem = new_key()
    request = gateway_pb2.EnrolRequest(
        token=token, csr_der=signing_request(key_pem), host_name=config.host_name, worker_version=__version__
    )
    reply = await call(config.enrolment, ca_pem=ca_pem, request=request)
    identity = make_identity(
        key_pem=key_pem,
        chain_pem=reply.certificate_chain_pem,
        ca_pem=reply.ca_bundle_pem,
        gateways=tuple(reply.gateways),
    )
    if identity.worker_id != reply.worker_id:
        raise IdentityError(
            "the controller answered with a certificate of another worker", mend="look at its logs"
        )
    store.save(identity)
    log.info("enrolled as worker %s of %s", identity.worker_id, identity.trust_domain)
    try:
        token_file.unlink()
    except OSError as error:
        log.warning("the used token %s could not be removed: %s", token_file, error)
    return identity


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_TOKEN * 16)
    except OSError as error:
        raise IdentityError(
            f"this worker is not enrolled, and {what} {path} cannot be read: {error.strerror or error}",
            mend="make a token for this host in the dashboard or let Ansible provision it, and put both files in place",
        ) from error
