"""The root certificates that workers must trust, as this machine has them."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

from controller.errors import ConfigurationError


def trusted_roots(data_dir: Path) -> str:
    """Return the root certificates that workers must trust, PEM: the root and those that overlap with it."""
    return "".join(_texts(data_dir))


def fingerprints(data_dir: Path) -> tuple[str, ...]:
    """Return the SHA-256 of each of them, in lower-case hexadecimal: the root's first."""
    found = []
    for text in _texts(data_dir):
        try:
            found.append(hashlib.sha256(ssl.PEM_cert_to_DER_cert(text)).hexdigest())
        except ValueError as error:
            raise ConfigurationError(
                f"a root certificate in {data_dir / 'ca'} is not in PEM: {error}",
                mend="restore the folder `ca` from a backup",
            ) from error
    return tuple(found)


def has_root(data_dir: Path) -> bool:
    """Whether there is a root certificate in the data folder."""
    return (data_dir / "ca" / "root.pem").exists()


def _texts(data_dir: Path) -> list[str]:
    folder = data_dir / "ca"
    try:
        texts = [
            path.read_text(encoding="ascii")
            for path in (folder / "root.pem", *sorted(folder.glob("root-*.pem")))
        ]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the root certificate in {folder} cannot be read: {error}",
            mend="start a gateway once on this machine, or copy root.pem there from a gateway's data folder",
        ) from error
    return [text if text.endswith("\n") else f"{text}\n" for text in texts]
