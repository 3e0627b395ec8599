"""The worker of this machine: it enrols with a one-time token like every other."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from cryptography import x509
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller.settings import Settings
from controller.store.commands.enrolment import make_enrolment_token
from controller.store.commands.secret_files import write_secret
from controller.store.entities import Certificate, Worker

#: Its name in the inventory of hosts.
HOST_NAME = "localhost"

_POLICY = """\
# What the local worker may measure. Other than on ordinary hosts, loopback is allowed: the examples aim at it.
allow_loopback: true
"""


def prepare(session: Session, settings: Settings) -> Path:
    """Write the worker's files and return its configuration; a token is made only when it has no good identity.

    An identity that gateways no longer hear, expired while the machine was off or revoked, gives way to a new one: who
    starts this has the CA's key anyway. The policy is written once, so that an operator's changes stay.
    """
    folder = settings.data_dir / "worker"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    roots = sorted((settings.data_dir / "ca").glob("root*.pem"))
    (folder / "ca.pem").write_bytes(b"".join(path.read_bytes() for path in roots))
    configuration = {
        "gateways": list(settings.public_gateways),
        "enrolment": settings.public_enrolment,
        "ca_file": str(folder / "ca.pem"),
        "token_file": str(folder / "token"),
        "host_name": HOST_NAME,
        "data_dir": str(folder),
        "policy_file": str(folder / "policy.yaml"),
        "log_format": settings.log_format,
    }
    write_secret(folder / "worker.yaml", yaml.safe_dump(configuration, sort_keys=False).encode())
    if not (folder / "policy.yaml").exists():
        write_secret(folder / "policy.yaml", _POLICY.encode())
    identity = folder / "identity" / "identity.json"
    if not _is_heard(session, identity):
        identity.unlink(missing_ok=True)
        token = make_enrolment_token(session, HOST_NAME, minutes=settings.enrolment_token_minutes)
        write_secret(folder / "token", token.encode())
    return folder / "worker.yaml"


def _is_heard(session: Session, identity: Path) -> bool:
    """Whether gateways accept the certificate in the worker's identity file."""
    try:
        chain = json.loads(identity.read_text(encoding="utf-8"))["chain"]
        [leaf, *_] = x509.load_pem_x509_certificates(chain.encode())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    query = (
        select(Certificate.serial)
        .join(Worker, Worker.id == Certificate.worker_id)
        .where(
            Certificate.serial == f"{leaf.serial_number:x}",
            Certificate.revoked_at.is_(None),
            Certificate.superseded_at.is_(None),
            Certificate.not_after > func.now(),
            Worker.revoked_at.is_(None),
            Worker.deleted_at.is_(None),
        )
    )
    return session.scalar(query) is not None
