"""Key, certificate and the authorities by which worker and gateways know each other."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from streamswarm.findings import Finding, ok, unknown, wrong
from worker.config import WorkerConfig
from worker.errors import IdentityError
from worker.identity import Identity, IdentityStore
from worker.spool.peek import Waiting

#: Renewal begins at half of a certificate's life; one in whose last quarter it is still there was not renewed.
_LATE_SHARE = 0.75
_ENROL = "enrol this worker again: make a token for this host, or provision it with `streamswarm_worker_enrol_again: true`"


def identity(config: WorkerConfig) -> tuple[Identity | None, list[Finding]]:
    """Return the identity, if it can be used, and what is to be said of it, its certificate and the CA's files."""
    store = IdentityStore(config.data_dir / "identity")
    try:
        found = store.load()
    except IdentityError as error:
        if isinstance(error.__cause__, PermissionError):
            return None, [unknown("identity", error.message, "look as root or as the worker's user")]
        return None, [wrong("identity", error.message, error.mend), *_ca_file(config)]
    if found is None:
        return None, [_not_enrolled(config, store.path), *_ca_file(config)]
    text = f"worker {found.worker_id} of {found.trust_domain}; key and certificate belong together"
    return found, [ok("identity", text), _certificate(found), *_ca_file(config)]


def refusal(waiting: Waiting | None) -> Iterator[Finding]:
    """Yield a finding when the last word of the controller was that it does not want this worker."""
    if waiting is not None and waiting.refusal:
        yield wrong("controller", f"it refuses this worker: {waiting.refusal}", _ENROL)


def _not_enrolled(config: WorkerConfig, path: Path) -> Finding:
    name = "identity"
    missing = [key for key in ("enrolment", "ca_file", "token_file") if not getattr(config, key)]
    if missing:
        return wrong(
            name,
            f"this worker is not enrolled (there is no {path}), and the configuration lacks {', '.join(missing)}",
            "provision this host, or complete the configuration as docs/how-to/provision.md shows",
        )
    if config.token_file is not None and not config.token_file.exists():
        return wrong(
            name, f"this worker is not enrolled, and there is no token in {config.token_file}", _ENROL
        )
    return wrong(
        name,
        f"this worker is not enrolled yet, though a token lies in {config.token_file}",
        "start the worker; its log says why when it cannot enrol (a token is good for a quarter of an hour)",
    )


def _certificate(found: Identity) -> Finding:
    name = "certificate"
    now_us = time.time() * 1e6
    begin, end = _shown(found.not_before_us), _shown(found.not_after_us)
    if now_us > found.not_after_us:
        return wrong(name, f"it was good until {end}", _ENROL)
    if now_us < found.not_before_us:
        mend = "set this host's clock: certificates are good from a minute before they are made"
        return wrong(name, f"it is good from {begin} on only, by this host's clock not yet", mend)
    if not _is_vouched_for(found):
        return wrong(name, "none of the roots in the identity has signed it", _ENROL)
    life_us = found.not_after_us - found.not_before_us
    if now_us > found.not_before_us + life_us * _LATE_SHARE:
        return wrong(
            name,
            f"good until {end}, and should have been renewed from {_shown(found.renew_at_us)} on",
            "see what is said of the gateways: it is renewed in a session",
        )
    return ok(name, f"good until {end}; renewed from {_shown(found.renew_at_us)} on")


def _is_vouched_for(found: Identity) -> bool:
    """Whether each certificate of the chain is signed by the next and the last by one of the roots."""
    chain = x509.load_pem_x509_certificates(found.chain_pem)
    roots = x509.load_pem_x509_certificates(found.ca_pem)
    return all(_signed(own, by) for own, by in itertools.pairwise(chain)) and any(
        _signed(chain[-1], root) for root in roots
    )


def _signed(own: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        own.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _ca_file(config: WorkerConfig) -> list[Finding]:
    if config.ca_file is None:
        return []
    name, mend = "CA file", "bring the controller's CA certificate there again: provision this host"
    try:
        roots = x509.load_pem_x509_certificates(config.ca_file.read_bytes())
    except OSError as error:
        return [wrong(name, f"{config.ca_file} cannot be read: {error.strerror}", mend)]
    except ValueError as error:
        return [wrong(name, f"{config.ca_file} holds no certificate in PEM: {error}", mend)]
    now = datetime.now(timezone.utc)
    good = [root for root in roots if root.not_valid_before_utc <= now <= root.not_valid_after_utc]
    if not good:
        return [wrong(name, f"no certificate in {config.ca_file} is good by this host's clock", mend)]
    end = max(root.not_valid_after_utc for root in good)
    return [ok(name, f"{config.ca_file} is good until {end:%Y-%m-%d %H:%M} UTC")]


def _shown(instant_us: int) -> str:
    return f"{datetime.fromtimestamp(instant_us / 1e6, timezone.utc):%Y-%m-%d %H:%M} UTC"
