"""The certificate authority: made once, whatever happens while it is made; signs only what it should."""

from __future__ import annotations

import dataclasses
import datetime as dt
import multiprocessing
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from controller.gateway import authority as module
from controller.gateway.authority import Authority, AuthorityError, open_root
from controller.gateway.certificates import RequestRefusedError, check_request, server_names
from controller.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a data folder of their own."""
    return Settings(data_dir=tmp_path / "data")


def _csr(curve: ec.EllipticCurve | None = None) -> bytes:
    key = ec.generate_private_key(curve or ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


class _Clock:
    def __init__(self) -> None:
        self.now = dt.datetime.now(dt.UTC).replace(microsecond=0)

    def __call__(self) -> dt.datetime:
        return self.now


def test_files_are_private(settings: Settings) -> None:
    """The folder is 0700, every file 0600."""
    Authority(settings)
    folder = settings.data_dir / "ca"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert {path.name for path in folder.iterdir()} == {
        ".lock",
        "gateway-gateway-1.key",
        "gateway-gateway-1.pem",
        "intermediate-gateway-1.key",
        "intermediate-gateway-1.pem",
        "root.key",
        "root.pem",
    }


def test_opening_again_changes_nothing(settings: Settings) -> None:
    """Root, intermediate and gateway certificate are made once."""
    first = Authority(settings)
    second = Authority(settings)
    assert first.bundle_pem == second.bundle_pem
    assert first.server_identity() == second.server_identity()


def test_a_crash_at_any_write_leaves_what_the_next_start_completes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever file is the last to be written, or is left half-written, the authority comes up whole."""
    whole = module.write_private

    class CrashError(Exception):
        pass

    for survivors in range(6):
        for half_written in (False, True):
            case = dataclasses.replace(settings, data_dir=settings.data_dir / f"{survivors}-{half_written}")
            written = 0

            def crash(
                path: Path, content: bytes, *, half: bool = half_written, most: int = survivors
            ) -> None:
                nonlocal written
                if written == most:
                    if half:
                        path.with_name(".partial-0123").write_bytes(content[:20])
                    raise CrashError
                written += 1
                whole(path, content)

            monkeypatch.setattr(module, "write_private", crash)
            with pytest.raises(CrashError):
                Authority(case)
            monkeypatch.setattr(module, "write_private", whole)
            authority = Authority(case)
            chain = x509.load_pem_x509_certificates(authority.server_identity().chain_pem)
            chain[0].verify_directly_issued_by(chain[1])
            chain[1].verify_directly_issued_by(authority.root_certificate)
            assert not list((case.data_dir / "ca").glob(".partial-*"))


def _open_in_process(settings: Settings, gateway: str) -> bytes:
    return Authority(dataclasses.replace(settings, gateway_name=gateway)).bundle_pem


def test_processes_that_start_at_once_share_one_root(settings: Settings) -> None:
    """Eight processes that find an empty folder end with the same root."""
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        bundles = pool.starmap(_open_in_process, [(settings, f"gateway-{number}") for number in range(8)])
    assert len(set(bundles)) == 1


def test_the_intermediate_can_sign_leaves_only(settings: Settings) -> None:
    """Its path length is nothing, the root's one."""
    authority = Authority(settings)
    _, intermediate = x509.load_pem_x509_certificates(authority.server_identity().chain_pem)
    constraints = intermediate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)


def test_the_gateways_certificate_is_renewed_at_half_its_life(settings: Settings) -> None:
    """Before that it stays; after that there is a new one by the same key."""
    clock = _Clock()
    authority = Authority(settings, now=clock)
    first = authority.server_identity()
    clock.now += dt.timedelta(days=3)
    assert authority.server_identity() == first
    clock.now += dt.timedelta(days=1)
    second = authority.server_identity()
    assert second.not_after > first.not_after
    assert second.key_pem == first.key_pem


def test_new_names_bring_a_new_certificate(settings: Settings) -> None:
    """A gateway that gets another address does not go on showing the old one."""
    Authority(settings)
    renamed = dataclasses.replace(settings, gateway_names=("gateway.example", "2001:db8::1"))
    leaf = x509.load_pem_x509_certificate(Authority(renamed).server_identity().chain_pem)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "gateway.example" in names.get_values_for_type(x509.DNSName)
    assert "2001:db8::1" in [str(address) for address in names.get_values_for_type(x509.IPAddress)]


def test_the_dashboards_certificate_is_made_anew_when_it_has_to_be(settings: Settings) -> None:
    """It has the names and no gateway's identity, stays while it is good, and changes with names, age and intermediate."""
    clock = _Clock()
    authority = Authority(settings, now=clock)
    folder = settings.data_dir / "ca"
    assert not authority.web_is_good(["monitor.example.org"])
    assert not (folder / "web.key").exists()
    assert authority.ensure_web(["monitor.example.org", "192.0.2.1"])
    key = (folder / "web.key").read_bytes()
    leaf, intermediate = x509.load_pem_x509_certificates((folder / "web.pem").read_bytes())
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(authority.root_certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["monitor.example.org"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == []
    assert (folder / "web.key").stat().st_mode & 0o777 == 0o600
    assert not authority.ensure_web(["monitor.example.org", "192.0.2.1"])
    assert authority.ensure_web(["monitor.example.org"])
    assert not authority.ensure_web(["monitor.example.org"])
    assert authority.web_is_good(["monitor.example.org"])
    clock.now += dt.timedelta(days=184)
    assert not authority.web_is_good(["monitor.example.org"])
    assert Authority(settings, now=clock).ensure_web(["monitor.example.org"])
    assert (folder / "web.key").read_bytes() == key


def test_a_listener_on_every_address_names_none(settings: Settings) -> None:
    """0.0.0.0 is never dialled, so it is no name."""
    everywhere = dataclasses.replace(
        settings,
        gateway_listen="0.0.0.0:7443",
        enrolment_listen="[::]:7444",
        gateway_addresses=("gw.example:7443",),
    )
    assert server_names(everywhere)[:-1] == [x509.DNSName("gw.example")]


def test_the_intermediate_is_renewed_while_the_root_key_is_there(settings: Settings) -> None:
    """At half its life it is made anew; without the root's key it serves until its end, then the start fails."""
    clock = _Clock()
    Authority(settings, now=clock)
    path = settings.data_dir / "ca" / "intermediate-gateway-1.pem"
    first = path.read_bytes()
    clock.now += dt.timedelta(days=200)
    Authority(settings, now=clock)
    assert path.read_bytes() != first
    second = path.read_bytes()
    (settings.data_dir / "ca" / "root.key").unlink()
    clock.now += dt.timedelta(days=300)
    Authority(settings, now=clock)
    assert path.read_bytes() == second
    clock.now += dt.timedelta(days=100)
    with pytest.raises(AuthorityError, match=r"root\.key"):
        Authority(settings, now=clock)


def test_no_certificate_outlives_its_issuer(settings: Settings) -> None:
    """A leaf ends no later than the intermediate that signed it."""
    clock = _Clock()
    Authority(settings, now=clock)
    (settings.data_dir / "ca" / "root.key").unlink()
    clock.now += dt.timedelta(days=364, hours=20)
    issued = Authority(settings, now=clock).issue(_csr(), uuid.uuid4())
    assert issued.not_after - clock.now <= dt.timedelta(hours=4)


def test_two_roots_overlap(settings: Settings) -> None:
    """A further root beside the current one is in the bundle, after it."""
    other = dataclasses.replace(settings, data_dir=settings.data_dir / "other")
    foreign = open_root(other)
    authority = Authority(settings)
    pem = foreign.public_bytes(serialization.Encoding.PEM)
    (settings.data_dir / "ca" / "root-next.pem").write_bytes(pem)
    assert x509.load_pem_x509_certificates(authority.bundle_pem) == [authority.root_certificate, foreign]


def test_keys_that_do_not_fit_are_named(settings: Settings) -> None:
    """A root key of another installation is an error that names both files."""
    open_root(settings)
    other = dataclasses.replace(settings, data_dir=settings.data_dir / "other")
    open_root(other)
    (settings.data_dir / "ca" / "root.key").write_bytes((other.data_dir / "ca" / "root.key").read_bytes())
    with pytest.raises(AuthorityError, match=r"root\.key does not belong to .*root\.pem"):
        open_root(settings)
    (settings.data_dir / "ca" / "root.pem").write_bytes(b"nonsense")
    with pytest.raises(AuthorityError, match=r"root\.pem is not a certificate"):
        open_root(settings)


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "x" * 64])
def test_odd_gateway_names_are_refused(settings: Settings, name: str) -> None:
    """The name becomes a file's and a certificate's, so it is a plain word."""
    with pytest.raises(AuthorityError, match="cannot stand in a certificate"):
        Authority(dataclasses.replace(settings, gateway_name=name))


def _flipped() -> bytes:
    good = bytearray(_csr())
    good[-2] ^= 0xFF
    return bytes(good)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: b"", "PKCS #10"),
        (lambda: b"\x30\x82", "PKCS #10"),
        (lambda: b"x" * 9000, "9000 bytes"),
        (lambda: _csr(ec.SECP384R1()), "P-256"),
        (_flipped, "not signed by the key|PKCS #10"),
    ],
)
def test_requests_that_prove_nothing_are_refused(make: Callable[[], bytes], why: str) -> None:
    """Only a P-256 key whose holder signed the request gets a certificate."""
    with pytest.raises(RequestRefusedError, match=why):
        check_request(make())
