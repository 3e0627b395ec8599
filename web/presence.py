"""Tells the other processes that this one is alive, as soon as the database answers and for as long as it runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from controller.errors import ConfigurationError
from controller.settings import Settings
from controller.store import health
from controller.store.commands import tokens

log = logging.getLogger(__name__)


class Presence:
    """A thread that keeps this process's row fresh."""

    def __init__(self, engine: Engine, settings: Settings, gauges: Callable[[], Mapping[str, Any]]) -> None:
        self._engine = engine
        self._settings = settings
        self._gauges = gauges
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)
        self._id: int | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Say that the process has ended in good order, if the database still listens."""
        self._stopped.set()
        self._thread.join(timeout=2)
        if self._id is not None:
            try:
                with self._engine.begin() as connection:
                    health.stop_process(connection, self._id)
            except SQLAlchemyError as error:
                log.info("the end of this process could not be noted: %s", _reason(error))

    def _run(self) -> None:
        heard = True
        while not self._stopped.is_set():
            try:
                self._tell()
            except SQLAlchemyError as error:
                if heard:
                    log.warning("the database does not answer, trying on: %s", _reason(error))
                heard = False
            else:
                if not heard:
                    log.info("the database answers again")
                heard = True
            self._stopped.wait(health.HEARTBEAT_S)

    def _tell(self) -> None:
        if self._id is None:
            self._make_local_token()
        with self._engine.begin() as connection:
            if self._id is None or not health.heartbeat(connection, self._id, self._gauges()):
                self._id = health.register_process(connection, "web", self._settings.web_listen)

    def _make_local_token(self) -> None:
        try:
            with Session(self._engine) as session, session.begin():
                tokens.ensure_local(session, self._settings.data_dir / tokens.LOCAL_FILE)
        except ConfigurationError as error:
            log.warning("the command line on this machine has no token: %s", error)


def _reason(error: SQLAlchemyError) -> str:
    """Return the driver's reason without statement and parameters."""
    return str(getattr(error, "orig", None) or type(error).__name__)
