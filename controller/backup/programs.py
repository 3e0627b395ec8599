"""pg_dump and pg_restore of the server's own major version: another's dump may not fit the server."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from controller.errors import ConfigurationError, StreamSwarmError
from controller.store.embedded.programs import installed


def find(major: int, folder: Path | None) -> Path:
    """Return the folder with PostgreSQL's programs of a major version: the one given, the wheel's, or the system's."""
    for candidate in _candidates(major, folder):
        if _major_of(candidate / "pg_dump") == major and (candidate / "pg_restore").exists():
            return candidate
    where = f"in {folder}" if folder else "here"
    raise ConfigurationError(
        f"there are no programs of PostgreSQL {major} {where}, and those of another version may not fit the server",
        mend=f"install postgresql-client-{major}, or name their folder: --programs /usr/lib/postgresql/{major}/bin",
    )


def run(program: Path, url: str, words: list[str], *, failing: str) -> None:
    """Run a program on a database; the password goes through its environment, where others cannot see it."""
    address, password = _apart(url)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = subprocess.run(
        [str(program), "--dbname", address, *words],
        env={**environment, "PGPASSWORD": password, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-1000:]
        raise StreamSwarmError(
            f"{failing}: {program.name} ended with {done.returncode}: {said}",
            mend="mend what it says, and try again; of out of shared memory: raise max_locks_per_transaction",
        )


def _candidates(major: int, folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
        return
    with contextlib.suppress(ConfigurationError):  # not installed: the system's serve as well
        yield installed()
    yield Path(f"/usr/lib/postgresql/{major}/bin")
    found = shutil.which("pg_dump")
    if found is not None:
        yield Path(found).parent


def _major_of(program: Path) -> int | None:
    if not program.exists():
        return None
    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return int(match[1]) if match else None


def _apart(url: str) -> tuple[str, str]:
    """Return a URL without its password, and the password."""
    parts = urlsplit(url)
    whom, at, where = parts.netloc.rpartition("@")
    user, _, password = whom.partition(":")
    # Not put together by urllib: it takes an empty host for none at all and leaves its slashes out.
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{user}{at}{where}{parts.path}{query}", unquote(password)
