"""Serves the dashboard and the API with gunicorn: one process, many threads.

More processes are more of these, behind a proxy: each counts its own rate limits and holds its own live streams.
"""

from __future__ import annotations

import errno
import logging
import logging.config
import socket
import threading
from pathlib import Path
from typing import Any, NoReturn, cast

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from controller.errors import ConfigurationError, DatabaseUnavailableError, PortInUseError
from controller.settings import Settings, split_address
from controller.store import schema
from controller.store.commands import roots
from controller.store.engine import make_engine
from streamswarm import collector
from web import create_app, logs
from web.auth import read_key
from web.presence import Presence
from web.reception import ReceivingWorker

log = logging.getLogger(__name__)

#: Seconds that open requests are given at the end; live streams are ended at once.
_GRACE_S = 5
_BACKLOG = 512
#: Seconds that what was sent may lie unread at a client: then the connection is closed, and its thread is free again.
_UNREAD_S = 30.0


def serve(settings: Settings) -> NoReturn:
    """Serve until SIGTERM or SIGINT.

    Raises PortInUseError, ConfigurationError, UnsafeDatabaseError, SchemaError or ForeignRootError before anything is
    served. A database that is away is waited for while pages say so.
    """
    logging.config.dictConfig(logs.configuration(settings.log_level, settings.log_format))
    read_key(settings)
    _check_database(settings)
    listener = listen(settings)
    Arbiter(_Server(settings, listener)).run()
    raise SystemExit(0)


def listen(settings: Settings, *, unread_s: float = _UNREAD_S) -> socket.socket:
    """Return the listening socket, so that a port in use is told clearly and at once.

    Connections that it accepts end when a client leaves unread what it is sent for `unread_s`.
    """
    host, port = split_address(settings.web_listen, what="STREAMSWARM_WEB_LISTEN")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(
            f"STREAMSWARM_WEB_LISTEN is `{settings.web_listen}`, which is no address of this machine: {error}",
            mend="name an address of this machine, such as `127.0.0.1:8080`",
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(unread_s * 1000))
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"port {port} on {host} is taken by another process, so the dashboard cannot listen there",
                mend=f"end that process (`ss -ltnp 'sport = :{port}'` names it), or set STREAMSWARM_WEB_LISTEN",
            ) from error
        raise ConfigurationError(
            f"the dashboard cannot listen on {settings.web_listen}: {error.strerror}",
            mend="name an address of this machine and a port that you may use in STREAMSWARM_WEB_LISTEN",
        ) from error
    return listener


def _check_database(settings: Settings) -> None:
    engine = make_engine(settings, application="streamswarm-web-start", pool_size=1)
    try:
        schema.check(engine)
        roots.check_at_start(engine, settings.data_dir)
    except DatabaseUnavailableError as error:
        log.warning("%s", error)
    finally:
        # No connection may be shared with the process that serves.
        engine.dispose()


class _Worker(ReceivingWorker):
    """Ends live streams as soon as it is told to end: they would hold it up for all of their lives."""

    def handle_exit(self, sig: Any, frame: Any) -> None:
        super().handle_exit(sig, frame)
        application = cast("Flask", self.wsgi)
        # Not here: the signal may have interrupted somebody who holds the hub's lock.
        threading.Thread(target=application.extensions["live"].stop, name="end-streams", daemon=True).start()


class _ProxiedWorker(_Worker):
    """The same behind a proxy, whose address all clients have."""

    counts_addresses = False


class _Server(BaseApplication):
    """gunicorn, configured by our settings and nothing else."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        super().__init__()

    def load_config(self) -> None:
        memory = Path("/dev/shm")  # noqa: S108  gunicorn makes files of its own there
        options: dict[str, Any] = {
            "bind": f"fd://{self._listener.detach()}",
            "workers": 1,
            "threads": self._settings.web_threads,
            "worker_class": _ProxiedWorker if self._settings.web_proxy_hops else _Worker,
            "worker_connections": self._settings.web_threads * 4,
            "graceful_timeout": _GRACE_S,
            "timeout": 60,
            "keepalive": 15,
            "backlog": _BACKLOG,
            "worker_tmp_dir": str(memory) if memory.is_dir() else None,
            # Forwarded headers are looked at by the application, which knows the number of proxies.
            "forwarded_allow_ips": "",
            "access_log_format": logs.ACCESS_FORMAT,
            "logconfig_dict": logs.configuration(self._settings.log_level, self._settings.log_format),
            "post_worker_init": _begin,
            "worker_exit": _stop_presence,
            "proc_name": "streamswarm-web",
            "control_socket_disable": True,
        }
        for name, value in options.items():
            if name in self.cfg.settings:  # the control socket came with a later release
                self.cfg.set(name, value)

    def load(self) -> Flask:  # type: ignore[override]
        return create_app(self._settings)


def _begin(worker: Any) -> None:
    app: Flask = worker.wsgi
    # A look at all that was loaded holds every page up for a tenth of a second and more, and finds nothing.
    collector.set_aside()
    hub = app.extensions["live"]
    presence = Presence(
        app.extensions["streamswarm.engine"],
        app.extensions["streamswarm.settings"],
        lambda: {"streams": hub.streams, "stream_capacity": hub.capacity},
    )
    app.extensions["streamswarm.presence"] = presence
    presence.start()


def _stop_presence(arbiter: Any, worker: Any) -> None:
    app: Flask | None = getattr(worker, "wsgi", None)
    if app is not None and "streamswarm.presence" in app.extensions:
        app.extensions["streamswarm.presence"].stop()
