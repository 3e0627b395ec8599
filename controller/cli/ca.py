"""`streamswarm ca`: the certificate authority of this installation."""

from __future__ import annotations

import sys

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from sqlalchemy.orm import Session

from controller.errors import StreamSwarmError
from controller.gateway import rotation
from controller.gateway.authority import Authority
from controller.gateway.opening import open_authority
from controller.local import account
from controller.roots import has_root
from controller.settings import Settings
from controller.store import schema
from controller.store.commands.enrolment import revoke_worker
from controller.store.engine import make_engine

#: Exit code of `rotate` when workers still need what the next step would take away: try again later (EX_TEMPFAIL).
NOT_YET = 75
#: What was reached, and what comes next.
NEXT = {
    rotation.Stage.TRUSTED: "a new root is trusted beside the old one; workers learn of it with their next certificate\n"
    "  → streamswarm fleet rotate, or wait for a day; then call this again",
    rotation.Stage.SWITCHED: "the new root signs from now on; the old one is still trusted\n"
    "  → streamswarm fleet rotate, or wait for a day; then call this again",
    rotation.Stage.SINGLE: "the old root is gone; the rotation is complete\n"
    "  → streamswarm fleet provision brings the new CA file to the hosts, for when they enrol anew",
}


@click.group()
def ca() -> None:
    """Look after the certificates by which workers and gateways know each other."""


@ca.command()
@click.option(
    "--replace",
    is_flag=True,
    help="Give up the roots that the installation had: for when they are lost. All workers have to be enrolled anew.",
)
def init(replace: bool) -> None:
    """Make the root and this gateway's intermediate certificate where they are missing. Safe to call again.

    The root is made once for an installation; where another has been made elsewhere, its files are to be copied.
    """
    settings = Settings.load()
    engine = make_engine(settings, application="streamswarm-ca", pool_size=1)
    try:
        schema.check(engine)
        authority = open_authority(settings, engine, replace=replace)
    finally:
        engine.dispose()
    click.echo(f"the certificate authority is in {authority.folder}")
    _show(authority)


@ca.command()
def show() -> None:
    """Show the roots that workers trust, and until when this gateway's certificates hold."""
    _show(_present())


@ca.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--check", is_flag=True, help="Make nothing; ends with 1 when something is to be made.")
def web(names: tuple[str, ...], check: bool) -> None:
    """Make key and certificate for an HTTPS proxy before the dashboard, where they are missing or want renewal.

    NAMES are names and addresses under which people reach it. Their browsers have to trust the root.
    """
    authority = _present()
    if check:
        sys.exit(not authority.web_is_good(names))
    made = authority.ensure_web(names)
    state = "was made" if made else "is good"
    click.echo(f"the certificate {authority.folder / 'web.pem'} {state}; its key is web.key beside it")


@ca.command()
@click.option(
    "--leave-behind",
    is_flag=True,
    help="Go on although workers have not come along; they have to be enrolled anew.",
)
def rotate(leave_behind: bool) -> None:
    """Replace the root by a new one, step by step: each call takes the next step and says what comes then.

    Both roots are trusted until every worker has a certificate under the new one, so nobody is cut off.
    Ends with 75 when workers still need what the next step would take away.
    `streamswarm fleet rotate --ca` does all of it in one go. With several gateways keep the folders `ca` of all alike.
    """
    try:
        reached = take_step(Settings.load(), leave_behind=leave_behind)
    except rotation.NotYetError as error:
        click.echo(f"streamswarm: {error}", err=True)
        sys.exit(NOT_YET)
    click.echo(NEXT[reached])


def take_step_as_owner(settings: Settings) -> rotation.Stage:
    """Take the next step within a command that root calls: what it makes is the data folder's owner's, as the gateway is.

    Raises as `take_step` does.
    """
    done = account.run_as_owner(settings, ["ca", "rotate"])
    if done is None:
        return take_step(settings)
    if done.returncode:
        message = done.stderr.strip().removeprefix("streamswarm: ")
        kind = rotation.NotYetError if done.returncode == NOT_YET else StreamSwarmError
        raise kind(message or f"the step of the rotation ended with {done.returncode} and said nothing")
    return rotation.stage(settings)


def take_step(settings: Settings, *, leave_behind: bool = False) -> rotation.Stage:
    """Take the next step of a rotation of the root; see `rotation.advance`."""
    engine = make_engine(settings, application="streamswarm-ca", pool_size=1)
    try:
        schema.check(engine)
        with Session(engine) as session:
            return rotation.advance(session, settings, leave_behind=leave_behind)
    finally:
        engine.dispose()


@ca.command()
@click.argument("worker")
def revoke(worker: str) -> None:
    """Revoke WORKER, named by its id or its host: its session ends within seconds, its certificates are void."""
    engine = make_engine(Settings.load(), application="streamswarm-ca", pool_size=1)
    try:
        schema.check(engine)
        with Session(engine) as session, session.begin():
            worker_id = revoke_worker(session, worker)
    finally:
        engine.dispose()
    click.echo(f"worker {worker_id} is revoked; a new enrolment token for its host lets it back in")


def _present() -> Authority:
    """Return the authority that is in the data folder; nothing is asked of the database, and no root is made."""
    settings = Settings.load()
    if not has_root(settings.data_dir):
        raise click.ClickException(
            f"there is no certificate authority in {settings.data_dir / 'ca'}\n  → streamswarm ca init"
        )
    return Authority(settings)


def _show(authority: Authority) -> None:
    for root in x509.load_pem_x509_certificates(authority.bundle_pem):
        click.echo(f"root          {_line(root)}")
    gateway, intermediate = x509.load_pem_x509_certificates(authority.server_identity().chain_pem)
    click.echo(f"intermediate  {_line(intermediate)}")
    click.echo(f"gateway       {_line(gateway)}")


def _line(certificate: x509.Certificate) -> str:
    name = certificate.subject.rfc4514_string()
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex(":")
    return f"{name}, until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, SHA-256 {fingerprint}"
