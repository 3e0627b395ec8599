"""Key, certificate and name belong together, and nobody else can read them."""

from __future__ import annotations

import datetime
import json
import uuid
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from worker.errors import IdentityError
from worker.identity import Identity, IdentityStore, make_identity, new_key, parse_spiffe, signing_request

WORKER = str(uuid.uuid4())


def _certificate(key_pem: bytes, *uris: str) -> bytes:
    request = x509.load_der_x509_csr(signing_request(key_pem))
    assert request.is_signature_valid
    assert len(request.subject) == 0
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(request.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(hours=24))
    )
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=True)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def _identity() -> Identity:
    key = new_key()
    chain = _certificate(key, f"spiffe://example.org/worker/{WORKER}")
    return make_identity(key_pem=key, chain_pem=chain, ca_pem=chain, gateways=("192.0.2.1:7443",))


def test_an_identity_survives_the_disk(tmp_path: Path) -> None:
    """Readable by its owner only, and replaced as a whole."""
    store = IdentityStore(tmp_path / "identity")
    assert store.load() is None
    first, second = _identity(), _identity()
    store.save(first)
    assert store.load() == first
    assert store.path.stat().st_mode & 0o777 == 0o600
    store.save(second)
    assert store.load() == second
    assert [item.name for item in store.path.parent.iterdir()] == [store.path.name]
    assert second.worker_id == WORKER
    assert second.trust_domain == "example.org"
    assert (second.renew_at_us - second.not_before_us) == 12 * 3600 * 1_000_000


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    """With the command that mends it."""
    store = IdentityStore(tmp_path)
    store.save(_identity())
    store.path.chmod(0o640)
    with pytest.raises(IdentityError, match="chmod 600"):
        store.load()


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"key": 1, "chain": 2, "ca": 3, "gateways": []}', "\x00"]
)
def test_a_damaged_file_is_told(tmp_path: Path, content: str) -> None:
    """With the way out."""
    store = IdentityStore(tmp_path)
    store.path.write_text(content)
    store.path.chmod(0o600)
    with pytest.raises(IdentityError, match="enrol this worker again"):
        store.load()


def test_another_workers_key_is_noticed(tmp_path: Path) -> None:
    """A key and a certificate that do not belong together are no identity."""
    store = IdentityStore(tmp_path)
    store.save(_identity())
    values = json.loads(store.path.read_text())
    values["key"] = new_key().decode()
    store.path.write_text(json.dumps(values))
    with pytest.raises(IdentityError, match="not for this worker's key"):
        store.load()


@pytest.mark.parametrize(
    "uris",
    [
        (),
        (f"spiffe://example.org/worker/{WORKER}", f"spiffe://example.org/worker/{uuid.uuid4()}"),
        ("spiffe://example.org/gateway/one",),
        (f"https://example.org/worker/{WORKER}",),
    ],
)
def test_certificates_without_exactly_one_name_are_refused(uris: tuple[str, ...]) -> None:
    """One name, a worker's, nothing else."""
    key = new_key()
    chain = _certificate(key, *uris)
    with pytest.raises(IdentityError):
        make_identity(key_pem=key, chain_pem=chain, ca_pem=chain, gateways=())


def test_spiffe_ids_are_parsed_strictly() -> None:
    """Anything but the one form is refused."""
    assert parse_spiffe(f"spiffe://a.example/worker/{WORKER}") == ("a.example", WORKER)
    for wrong in (
        f"spiffe://a.example/worker/{WORKER.upper()}",
        f"spiffe://a.example/worker/{WORKER}/x",
        f"spiffe://a.example/worker/{WORKER}\n",
        f"spiffe:///worker/{WORKER}",
        f"spiffe://a.example/worker/{'-' * 36}",
        "",
    ):
        with pytest.raises(IdentityError):
            parse_spiffe(wrong)
