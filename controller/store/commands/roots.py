"""Which roots of the certificate authority are this installation's.

The first gateway notes the root that it makes; from then on every process that finds another root in its data folder is
refused: of workers that enrol under the one, none would believe the other.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from pathlib import Path

from sqlalchemy import Engine, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from controller import roots
from controller.errors import ForeignRootError
from controller.store import schema
from controller.store.entities import Certificate, TrustedRoot


def known(session: Session) -> frozenset[str]:
    """Return the fingerprints of this installation's roots; none before its first gateway has started."""
    return frozenset(session.scalars(select(TrustedRoot.fingerprint)))


def check(session: Session, data_dir: Path) -> None:
    """Raise ForeignRootError when the root in the data folder is not one of this installation's.

    A folder without a root is no fault, nor is an installation that has none yet.
    """
    if roots.has_root(data_dir) and (ours := known(session)):
        _check(session, data_dir, ours)


def check_at_start(engine: Engine, data_dir: Path) -> None:
    """Do the same at the start of a process; raises DatabaseUnavailableError too."""
    try:
        with Session(engine) as session:
            check(session, data_dir)
    except OperationalError as error:
        raise schema.unavailable(engine, error) from error


def check_before_use(session: Session, data_dir: Path) -> bool:
    """Return whether the data folder's root is this installation's; False where that has none yet, and here one may be made.

    Then the caller's transaction keeps others from registering one. Raises ForeignRootError where the root here is another,
    or is missing and must not be made anew.
    """
    ours = known(session)
    if not ours:
        session.execute(text("LOCK TABLE trusted_roots IN SHARE ROW EXCLUSIVE MODE"))
        ours = known(session)
    here = data_dir / "ca" / "root.pem"
    if ours and not roots.has_root(data_dir):
        raise ForeignRootError(
            f"there is no root certificate {here}, and this installation has one, {_shown(session)}",
            mend=_MEND,
        )
    if ours:
        _check(session, data_dir, ours)
        return True
    if not roots.has_root(data_dir) and session.scalar(select(func.count()).select_from(Certificate)):
        raise ForeignRootError(
            f"there is no root certificate {here}, and workers have certificates under one",
            mend=_MEND,
        )
    return False


def keep(session: Session, data_dir: Path) -> None:
    """Have this installation's roots be those in the data folder, and no others."""
    session.execute(delete(TrustedRoot).where(TrustedRoot.fingerprint.not_in(roots.fingerprints(data_dir))))
    add(session, data_dir)


def add(session: Session, data_dir: Path) -> None:
    """Have those in the data folder be among this installation's roots."""
    here = dict.fromkeys(roots.fingerprints(data_dir))
    rows = [{"fingerprint": each, "host_name": socket.gethostname()} for each in here]
    session.execute(insert(TrustedRoot).values(rows).on_conflict_do_nothing())


_MEND = (
    "copy this gateway's files of the authority from that host's data folder, or restore the folder `ca` from a backup "
    "(docs/how-to/gateways.md); if that authority is lost for good: streamswarm ca init --replace, and enrol every worker anew"
)


def _check(session: Session, data_dir: Path, ours: Collection[str]) -> None:
    here, *_ = roots.fingerprints(data_dir)
    if here not in ours:
        raise ForeignRootError(
            f"the root certificate {data_dir / 'ca' / 'root.pem'} (SHA-256 {_short(here)}) is not this installation's, "
            f"{_shown(session)}: workers that trust the one refuse the other",
            mend=_MEND,
        )


def _shown(session: Session) -> str:
    """Return which roots there are, since when and from where, the newest last."""
    rows = session.scalars(select(TrustedRoot).order_by(TrustedRoot.registered_at, TrustedRoot.fingerprint))
    return " and ".join(
        f"SHA-256 {_short(row.fingerprint)} of host {row.host_name}, noted {row.registered_at:%Y-%m-%d %H:%M} UTC"
        for row in rows
    )


def _short(fingerprint: str) -> str:
    """Return the beginning of a fingerprint as `streamswarm ca show` writes it."""
    return ":".join(fingerprint[at : at + 2] for at in range(0, 16, 2)) + "…"
