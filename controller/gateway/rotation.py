"""Replaces the root of the certificate authority while everything runs, in three steps that may lie days apart.

1. A second root is made and trusted beside the first: `next.key`, `root-next.pem`. Workers learn to trust it with their
   next certificate.
2. Once all have, the two change places: the second becomes `root.pem` and `root.key`, the first `root-old.pem`. Gateways
   notice by themselves and sign by the new one; both are trusted, so that nobody is cut off.
3. Once all workers have a certificate under the new root, the old one is no longer trusted and is removed.

Each step can be called again after a crash at any instant. The folder is the only memory: what lies in it tells the
stage, and the age of its file since when. The database follows: before and after each step its list of this installation's
roots becomes what lies in the folder.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from controller.errors import StreamSwarmError
from controller.gateway.authority import make_root, open_root
from controller.gateway.files import exclusive, write_private
from controller.gateway.opening import settle
from controller.settings import Settings
from controller.store.commands import roots
from controller.store.entities import Certificate, Worker

#: Gateways notice within ten seconds what has changed in the folder; what they issued until then does not count.
NOTICED = dt.timedelta(seconds=15)
#: Workers that are named, at the most.
_NAMED = 20


class Stage(enum.StrEnum):
    """Where a rotation stands."""

    #: One root, no rotation under way.
    SINGLE = "single"
    #: The next root is trusted too; workers are learning to.
    TRUSTED = "trusted"
    #: The new root signs; the old one is still trusted.
    SWITCHED = "switched"


class NotYetError(StreamSwarmError):
    """Some workers are not as far as the next step needs them to be."""


@dataclass(frozen=True, kw_only=True)
class _Files:
    folder: Path

    @property
    def key(self) -> Path:
        return self.folder / "root.key"

    @property
    def root(self) -> Path:
        return self.folder / "root.pem"

    @property
    def next_key(self) -> Path:
        return self.folder / "next.key"

    @property
    def next(self) -> Path:
        return self.folder / "root-next.pem"

    @property
    def old(self) -> Path:
        return self.folder / "root-old.pem"


def stage(settings: Settings) -> Stage:
    """Return where the rotation stands."""
    files = _files(settings)
    if files.next.exists():
        return Stage.TRUSTED
    return Stage.SWITCHED if files.old.exists() else Stage.SINGLE


def advance(session: Session, settings: Settings, *, leave_behind: bool = False) -> Stage:
    """Take the next step, and return the stage that is reached by it. The session's transaction is committed.

    Raises NotYetError, naming workers, when some still need what the step would take away; with `leave_behind` those
    are cut off and have to be enrolled anew. Raises ForeignRootError where the folder is not this installation's.
    """
    settle(session, settings)
    # Before a root can be in use the installation knows it, also where the last step ended before it had said so. Others
    # stay: a folder that lacks the newest root, and its key, gets no further.
    roots.add(session, settings.data_dir)
    session.commit()
    reached = take_step(settings, partial(waiting_for, session), leave_behind=leave_behind)
    roots.keep(session, settings.data_dir)
    session.commit()
    return reached


def take_step(
    settings: Settings, waiting: Callable[[dt.datetime], Sequence[str]], *, leave_behind: bool = False
) -> Stage:
    """Take the next step in the folder alone; `waiting` names the workers without a certificate newer than an instant."""
    at = stage(settings)
    files = _files(settings)
    if at is not Stage.SINGLE and not _is_broken_off(files):
        since = files.next if at is Stage.TRUSTED else files.old
        missing = waiting(_changed_at(since) + NOTICED)
        if missing and not leave_behind:
            more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            raise NotYetError(
                f"{len(missing)} workers have no certificate yet from after the last step: "
                f"{', '.join(missing[:_NAMED])}{more}",
                mend="renew them now (`streamswarm fleet rotate`) or wait until they do by themselves, at half of a "
                "certificate's life; revoke or delete workers that are gone for good",
            )
    return {Stage.SINGLE: _trust_next, Stage.TRUSTED: _switch, Stage.SWITCHED: _drop_old}[at](settings)


def waiting_for(session: Session, since: dt.datetime) -> Sequence[str]:
    """Return the hosts of workers, by name, whose certificates in force are all older than an instant.

    Workers whose certificates have expired do not count: they enrol anew in any case.
    """
    newer = (
        select(Certificate.serial)
        .where(
            Certificate.worker_id == Worker.id,
            Certificate.revoked_at.is_(None),
            Certificate.first_used_at.is_not(None),
            Certificate.issued_at > since,
        )
        .exists()
    )
    good = (
        select(Certificate.serial)
        .where(
            Certificate.worker_id == Worker.id,
            Certificate.revoked_at.is_(None),
            Certificate.not_after > func.now(),
            or_(Certificate.superseded_at.is_(None), Certificate.first_used_at.is_(None)),
        )
        .exists()
    )
    return session.scalars(
        select(Worker.host_name)
        .where(Worker.deleted_at.is_(None), Worker.revoked_at.is_(None), good, ~newer)
        .order_by(Worker.host_name)
    ).all()


def _files(settings: Settings) -> _Files:
    return _Files(folder=settings.data_dir / "ca")


def _changed_at(path: Path) -> dt.datetime:
    return dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)


def _is_broken_off(files: _Files) -> bool:
    """Whether the change of places was begun and not ended: the certificate is in its place already."""
    return files.next.exists() and files.root.read_bytes() == files.next.read_bytes()


def _trust_next(settings: Settings) -> Stage:
    open_root(settings)  # makes what is missing, and raises when the files do not belong together
    files = _files(settings)
    if not files.key.exists():
        raise StreamSwarmError(
            f"{files.key} is not here, and key and root are replaced together",
            mend="bring root.key back for the time of the rotation",
        )
    with exclusive(files.folder):
        make_root(settings, files.next_key, files.next)
    return Stage.TRUSTED


def _switch(settings: Settings) -> Stage:
    files = _files(settings)
    with exclusive(files.folder):
        if not _is_broken_off(files):
            write_private(files.old, files.root.read_bytes())
            write_private(files.root, files.next.read_bytes())
        if files.next_key.exists():
            files.next_key.rename(files.key)
        files.next.unlink()
        # Gateways look at the certificate's file: it is to be newer than its key.
        write_private(files.root, files.root.read_bytes())
    return Stage.SWITCHED


def _drop_old(settings: Settings) -> Stage:
    files = _files(settings)
    with exclusive(files.folder):
        files.old.unlink()
    return Stage.SINGLE
