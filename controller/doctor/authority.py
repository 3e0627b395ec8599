"""The files of the certificate authority, and whether they are this installation's: only read here, never made or renewed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from sqlalchemy.orm import Session

from controller.errors import StreamSwarmError
from controller.roots import has_root
from controller.settings import Settings
from controller.store.commands import roots
from streamswarm.findings import Finding, ok, unknown, wrong

#: A root that ends is replaced by hand, on every host: that takes its time.
_ROOT_LEFT = dt.timedelta(days=90)
#: An intermediate is renewed half a year before its end, when its gateway starts.
_INTERMEDIATE_LEFT = dt.timedelta(days=30)
_RESTORE = "restore the folder `ca` from a backup"


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield what is to be said of roots, this gateway's intermediate, and keys that others can read."""
    folder = settings.data_dir / "ca"
    if not (folder / "root.pem").exists():
        yield unknown(
            "CA",
            f"there is no certificate authority in {folder}: no gateway was ever started with this data folder",
            "streamswarm ca init",
        )
        return
    now = dt.datetime.now(dt.UTC)
    root = _read(folder / "root.pem")
    if isinstance(root, Finding):
        yield root
        return
    yield _until("CA", "the root", root, now, _ROOT_LEFT, "streamswarm fleet rotate --ca")
    for path in sorted(folder.glob("root-*.pem")):
        other = _read(path)
        yield (
            other
            if isinstance(other, Finding)
            else ok("CA", f"{path.name} is trusted too, until {other.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
        )
    yield from _intermediate(settings, folder, root, now)
    yield _keys(folder)


def known(session: Session, settings: Settings) -> Iterator[Finding]:
    """Yield whether the root here is this installation's, where there is one."""
    if not has_root(settings.data_dir):
        return
    try:
        roots.check(session, settings.data_dir)
    except StreamSwarmError as error:
        yield wrong("CA", error.message, error.mend)


def _intermediate(
    settings: Settings, folder: Path, root: x509.Certificate, now: dt.datetime
) -> Iterator[Finding]:
    name = "CA"
    path = folder / f"intermediate-{settings.gateway_name}.pem"
    if not path.exists():
        yield unknown(
            name,
            f"gateway {settings.gateway_name} has no intermediate certificate in {folder}",
            "streamswarm ca init, if it is this machine's gateway",
        )
        return
    found = _read(path)
    if isinstance(found, Finding):
        yield found
        return
    try:
        found.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        yield wrong(name, f"{path} is not signed by {folder / 'root.pem'}", _RESTORE)
        return
    mend = "restart the gateway: it is renewed at the start"
    if not (folder / "root.key").exists():
        mend = f"bring root.key back to {folder} for one start of the gateway"
    yield _until(name, f"the intermediate of {settings.gateway_name}", found, now, _INTERMEDIATE_LEFT, mend)


def _keys(folder: Path) -> Finding:
    open_keys = [path for path in sorted(folder.glob("*.key")) if path.stat().st_mode & 0o077]
    if open_keys:
        names = " ".join(str(path) for path in open_keys)
        return wrong("CA keys", f"other accounts can read {names}", f"chmod 600 {names}")
    where = "" if (folder / "root.key").exists() else "; the root's key is kept elsewhere"
    return ok("CA keys", f"only their owner can read the keys in {folder}{where}")


def _until(
    name: str, what: str, found: x509.Certificate, now: dt.datetime, least: dt.timedelta, mend: str
) -> Finding:
    end = f"{found.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if now < found.not_valid_before_utc:
        begin = f"{found.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        return wrong(name, f"{what} is good from {begin} on only", "set this machine's clock")
    if now > found.not_valid_after_utc:
        return wrong(name, f"{what} was good until {end}", mend)
    if found.not_valid_after_utc - now < least:
        return wrong(name, f"{what} is good until {end}, less than {least.days} days", mend)
    return ok(name, f"{what} is good until {end}")


def _read(path: Path) -> x509.Certificate | Finding:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        return unknown(
            "CA", f"{path} cannot be read: {error.strerror}", "call this as the folder's owner or as root"
        )
    except ValueError as error:
        return wrong("CA", f"{path} is no certificate in PEM: {error}", _RESTORE)
