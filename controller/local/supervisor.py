"""Starts everything on one machine in order, watches it, and stops it in reverse order.

Database → schema → first administrator → gateway, keeper, dashboard → local worker → example tests → healthy. A step
that fails stops what was started and says why; nothing half-done stays. After a crash of the supervisor itself
its children end too, and the next start finds everything again.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
from sqlalchemy import select
from sqlalchemy.orm import Session

from controller import assets
from controller.errors import ConfigurationError, PortInUseError, StreamSwarmError
from controller.gateway.opening import open_authority
from controller.local import examples, localworker
from controller.local.environment import inherited
from controller.local.lock import only_one
from controller.local.processes import Family, Program, keep_rights_to_myself, rotate
from controller.local.progress import Listener, Ready, Step
from controller.programs import module_command
from controller.settings import PREFIX, Settings, on_this_machine, split_address
from controller.store import schema
from controller.store.commands import login_links, tokens
from controller.store.commands.users import ensure_first_admin
from controller.store.embedded import EmbeddedPostgres
from controller.store.engine import make_engine, session_factory
from controller.store.entities import User

_HEALTHY_WITHIN_S = 60.0
_WATCH_EVERY_S = 0.2
#: Logs and the embedded database are looked after less often.
_LOOK_EVERY_S = 2.0
#: Every program carries the data folder's name, by which `streamswarm down` knows whose it is.
_MARK = PREFIX + "DATA_DIR"
#: Programs that work with the controller's settings.
CONTROLLER = ("gateway", "keeper", "web")


class Supervisor:
    """One run of `streamswarm up`, from its start to its end."""

    def __init__(self, settings: Settings, *, tell: Listener, reload: bool = False) -> None:
        self._settings = settings
        self._tell = tell
        self._reload = reload
        self._stop = threading.Event()
        self._family = Family(say=_log)
        self._embedded = EmbeddedPostgres(settings.data_dir) if not settings.database_url else None
        self._logs = settings.data_dir / "logs"

    def run(self) -> None:
        """Start everything, report readiness, watch until SIGTERM or SIGINT, stop everything."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        keep_rights_to_myself()
        started = time.monotonic()
        with only_one(self._settings.data_dir):
            try:
                ready = self._start()
                self._tell(replace(ready, elapsed_s=time.monotonic() - started))
                _log(f"healthy after {time.monotonic() - started:.1f} s")
                self._watch()
            finally:
                self._end()

    def _start(self) -> Ready:
        settings = self._settings
        _ = (
            settings.public_gateways,
            settings.public_enrolment,
        )  # an address that nobody can dial is refused first
        self._check_ports()
        if self._embedded is not None:
            self._tell(Step(text="Database: embedded PostgreSQL"))
            self._embedded.start()
        else:
            self._tell(Step(text="Database: the server that STREAMSWARM_DATABASE_URL names"))
        schema.upgrade(settings)
        engine = make_engine(settings, application="streamswarm-up", pool_size=1)
        try:
            schema.check(engine)
            open_authority(settings, engine)
            sessions = session_factory(engine)
            with sessions.begin() as session:
                first = ensure_first_admin(session)
                tokens.ensure_local(session, settings.data_dir / tokens.LOCAL_FILE)
            self._tell(
                Step(text=f"Gateway: {settings.gateway_listen}, enrolment {settings.enrolment_listen}")
            )
            self._start_program("gateway", "controller.gateway")
            self._tell(Step(text="Keeper"))
            self._start_program("keeper", "controller.keeper")
            self._tell(Step(text=f"Dashboard: {settings.public_web_url}"))
            self._start_program("web", "web")
            host, port = split_address(
                settings.example_resolver_listen, what="STREAMSWARM_EXAMPLE_RESOLVER_LISTEN"
            )
            self._start_program("resolver", "controller.local.resolver", host, str(port))
            self._tell(Step(text="Worker: this machine"))
            self._wait_for_gateway()
            with sessions.begin() as session:
                configuration = localworker.prepare(session, settings)
            self._start_program("worker", "worker", "run", "--config", str(configuration), raw_sockets=True)
            self._wait_until_healthy()
            with sessions.begin() as session:
                made = examples.create_once(session, settings, host_name=localworker.HOST_NAME)
                unavailable = examples.unavailable_kinds(session, localworker.HOST_NAME)
                name, password = first or (_an_administrator(session), None)
                link = login_links.create_login_link(session, name, minutes=settings.enrolment_token_minutes)
        finally:
            engine.dispose()
        return Ready(
            web_url=settings.public_web_url,
            login_url=f"{settings.public_web_url}/login/once/{link}",
            administrator=name,
            password=password,
            examples=made,
            unavailable=unavailable,
            data_dir=str(settings.data_dir),
            elapsed_s=0.0,
        )

    def _start_program(self, name: str, module: str, *arguments: str, raw_sockets: bool = False) -> None:
        """Start one of the programs. Only those of the controller get its settings, the database's password among them."""
        settings = self._settings.environment()
        if name not in CONTROLLER:
            settings = {_MARK: settings[_MARK]}
        self._family.start(
            Program(
                name=name,
                argv=tuple(module_command(module, *arguments)),
                environment={**inherited(), **settings, "PYTHONUNBUFFERED": "1"},
                log=self._logs / f"{name}.log",
                raw_sockets=raw_sockets,
            )
        )

    def _check_ports(self) -> None:
        settings = self._settings
        listens = {
            "the dashboard": (settings.web_listen, "STREAMSWARM_WEB_LISTEN"),
            "the gateway": (settings.gateway_listen, "STREAMSWARM_GATEWAY_LISTEN"),
            "enrolment": (settings.enrolment_listen, "STREAMSWARM_ENROLMENT_LISTEN"),
            "the example name server": (
                settings.example_resolver_listen,
                "STREAMSWARM_EXAMPLE_RESOLVER_LISTEN",
            ),
        }
        for what, (address, variable) in listens.items():
            host, port = split_address(address, what=variable)
            try:
                family, _, _, _, place = socket.getaddrinfo(
                    host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )[0]
                with socket.socket(family, socket.SOCK_STREAM) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(place)
            except OSError as error:
                raise PortInUseError(
                    f"{what} cannot listen on {address}: {error.strerror}",
                    mend=f"end what holds the port (ss -ltnp 'sport = :{port}'), or set {variable} to another",
                ) from error

    def _wait_for_gateway(self) -> None:
        for listen in (self._settings.gateway_listen, self._settings.enrolment_listen):
            address = split_address(listen, what="listener")
            for _ in self._patience(f"the gateway does not listen on {listen}"):
                try:
                    with socket.create_connection(address, timeout=1):
                        break
                except OSError:
                    continue

    def _wait_until_healthy(self) -> None:
        self._tell(Step(text="Waiting until everything is healthy"))
        url = f"http://{on_this_machine(self._settings.web_listen)}/api/v1/health"
        seen = ["no answer from the dashboard"]
        for _ in self._patience(lambda: f"not everything became healthy: {seen[-1]}"):
            try:
                reply = httpx.get(url, timeout=2, trust_env=False)
            except httpx.HTTPError as error:
                seen.append(f"{url}: {error}")
                continue
            if reply.status_code == httpx.codes.OK:
                return
            seen.append(reply.text.strip()[:500])

    def _patience(self, complaint: str | Callable[[], str]) -> Iterator[None]:
        """Yield several times a second until the time is over; then say what did not come about."""
        deadline = time.monotonic() + _HEALTHY_WITHIN_S
        while time.monotonic() < deadline:
            if self._stop.wait(0.1):
                raise StreamSwarmError("interrupted while starting; everything was stopped again")
            for name in self._family.children:
                said = self._family.failed(name)
                if said is not None:
                    raise StreamSwarmError(
                        f"{name} ended while starting:\n{said}",
                        mend=f"the whole log: {self._logs / name}.log",
                    )
            yield
        text = complaint() if callable(complaint) else complaint
        raise StreamSwarmError(f"{text} within {_HEALTHY_WITHIN_S:g} s", mend=f"see the logs in {self._logs}")

    def _watch(self) -> None:
        changed = _Sources() if self._reload else None
        next_look = 0.0
        while not self._stop.wait(_WATCH_EVERY_S):
            self._family.watch()
            if time.monotonic() >= next_look:
                rotate(self._logs)
                self._revive_database()
                next_look = time.monotonic() + _LOOK_EVERY_S
            if changed is not None and changed.since_last_look():
                _log("sources changed; restarting")
                self._family.restart({"gateway", "keeper", "web", "worker"})

    def _revive_database(self) -> None:
        """Start the embedded PostgreSQL again when it has ended by itself."""
        if self._embedded is None or self._embedded.status().running:
            return
        _log("the embedded PostgreSQL has ended; it is started again")
        try:
            self._embedded.start()
        except StreamSwarmError as error:  # a full disk, say: it is tried again at the next look
            _log(f"the embedded PostgreSQL did not start: {error}")
        else:
            _log("the embedded PostgreSQL runs again")

    def _end(self) -> None:
        _log("stopping")
        # The worker first: it delivers what it has while the gateway still listens.
        if "worker" in self._family.children:
            self._family.stop(("worker",))
        self._family.stop()
        if self._embedded is not None:
            self._embedded.stop()
        _log("stopped")


class _Sources:
    """Notices changes of the sources of a checkout."""

    def __init__(self) -> None:
        root = assets.checkout()
        if root is None:
            raise ConfigurationError(
                "--reload watches the sources of a checkout, and this is an installed package"
            )
        self._folders = [root / name for name in ("controller", "worker", "web", "proto")]
        self._seen = self._look()

    def _look(self) -> dict[Path, int]:
        found: dict[Path, int] = {}
        for folder in self._folders:
            for path in folder.rglob("*.py"):
                try:
                    found[path] = path.stat().st_mtime_ns
                except FileNotFoundError:  # an editor replaces the file just now
                    continue
        return found

    def since_last_look(self) -> bool:
        """Whether a source file has come, gone or changed."""
        now = self._look()
        changed = now != self._seen
        self._seen = now
        return changed


def _an_administrator(session: Session) -> str:
    found = session.scalar(
        select(User.name).where(User.role == "admin", User.active).order_by(User.id).limit(1)
    )
    if found is None:
        raise StreamSwarmError(
            "the database has users, but no active administrator",
            mend="make one: streamswarm user create NAME --role admin",
        )
    return found


def _log(text: str) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stderr.write(f"{stamp} {text}\n")
    sys.stderr.flush()
