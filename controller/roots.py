"""The root certificates that workers must trust, as this machine has them."""

from __future__ import annotations

from pathlib import Path

from controller.errors import ConfigurationError


def trusted_roots(data_dir: Path) -> str:
    """Return the root certificates that workers must trust, PEM: the root and those that overlap with it."""
    folder = data_dir / "ca"
    try:
        texts = [
            path.read_text(encoding="ascii")
            for path in (folder / "root.pem", *sorted(folder.glob("root-*.pem")))
        ]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the root certificate in {folder} cannot be read: {error}",
            mend="start a gateway once on this machine, or copy its root.pem there",
        ) from error
    return "".join(text if text.endswith("\n") else f"{text}\n" for text in texts)
