"""The worker of this machine: it enrols with a one-time token like every other."""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from sqlalchemy.orm import Session

from controller.settings import Settings
from controller.store.commands.enrolment import make_enrolment_token

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
    _write_private(folder / "worker.yaml", yaml.safe_dump(configuration, sort_keys=False))
    if not (folder / "policy.yaml").exists():
        _write_private(folder / "policy.yaml", _POLICY)
    if not (folder / "identity" / "identity.json").exists():
        _write_private(
            folder / "token",
            make_enrolment_token(session, HOST_NAME, minutes=settings.enrolment_token_minutes),
        )
    return folder / "worker.yaml"


def _write_private(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)
