"""The local worker's files: a token whenever gateways would not hear the identity that lies there."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from controller.local import localworker
from controller.settings import Settings
from controller.store.entities import Certificate, Worker


@pytest.fixture
def enrolled(engine: Engine, settings: Settings) -> Path:
    """A worker with a certificate in the database and an identity on disk; returns the identity's file."""
    (settings.data_dir / "ca").mkdir(parents=True)
    (settings.data_dir / "ca" / "root.pem").write_text("a root")
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.timezone.utc)
    name, serial = x509.Name([]), x509.random_serial_number()
    leaf = (
        x509.CertificateBuilder(name, name, key.public_key(), serial)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    worker = uuid.uuid4()
    with Session(engine) as session, session.begin():
        session.add(Worker(id=worker, name="localhost", host_name="localhost", enrolled_at=now))
        session.flush()
        session.add(
            Certificate(
                serial=f"{serial:x}", worker_id=worker, not_before=now, not_after=now + dt.timedelta(hours=1)
            )
        )
    file = settings.data_dir / "worker" / "identity" / "identity.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"chain": leaf.public_bytes(serialization.Encoding.PEM).decode()}))
    return file


def prepare(engine: Engine, settings: Settings) -> bool:
    """Prepare the worker's files; whether a token was made."""
    with Session(engine) as session, session.begin():
        localworker.prepare(session, settings)
    return (settings.data_dir / "worker" / "token").exists()


def test_a_good_identity_stays(engine: Engine, settings: Settings, enrolled: Path) -> None:
    """No token is made, and nothing is taken away."""
    before = enrolled.read_text()
    assert not prepare(engine, settings)
    assert enrolled.read_text() == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE certificates SET not_after = now() - interval '1 s'",
        "UPDATE certificates SET revoked_at = now()",
        "UPDATE certificates SET superseded_at = now()",
        "UPDATE workers SET revoked_at = now()",
        "UPDATE workers SET deleted_at = now()",
        "DELETE FROM certificates",
    ],
)
def test_one_that_gateways_do_not_hear_gives_way(
    engine: Engine, settings: Settings, enrolled: Path, statement: str
) -> None:
    """Expired while the machine was off, revoked, displaced, deleted: the worker enrols anew."""
    with engine.begin() as connection:
        connection.execute(text(statement))
    assert prepare(engine, settings)
    assert not enrolled.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"chain": 5}', '{"chain": "x"}'])
def test_a_damaged_one_gives_way_too(
    engine: Engine, settings: Settings, enrolled: Path, content: str
) -> None:
    """Whatever stands in the file, the worker can start."""
    enrolled.write_text(content)
    assert prepare(engine, settings)
    assert not enrolled.exists()
