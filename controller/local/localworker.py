"""The worker of this machine: it enrols with a one-time token like every other."""

from __future__ import annotations

from pathlib import Path

import yaml
from sqlalchemy.orm import Session

from controller.settings import Settings
from controller.store.commands.enrolment import make_enrolment_token
from controller.store.commands.secret_files import write_secret

#: Its name in the inventory of hosts.
HOST_NAME = "localhost"

_POLICY = """\
# What the local worker may measure. Other than on ordinary hosts, loopback is allowed: the examples aim at it.
allow_loopback: true
"""


def prepare(session: Session, settings: Settings) -> Path:
    """Write the worker's files and return its configuration; a token is made only when it has no identity yet.

    The policy is written once, so that an operator's changes stay.
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
    }
    write_secret(folder / "worker.yaml", yaml.safe_dump(configuration, sort_keys=False).encode())
    if not (folder / "policy.yaml").exists():
        write_secret(folder / "policy.yaml", _POLICY.encode())
    if not (folder / "identity" / "identity.json").exists():
        token = make_enrolment_token(session, HOST_NAME, minutes=settings.enrolment_token_minutes)
        write_secret(folder / "token", token.encode())
    return folder / "worker.yaml"
