"""Pooled connections are seen to be good before they are used, without a round trip while they are in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, text

from controller.gateway.database import Database
from controller.settings import Settings
from controller.store import engine as module
from controller.store.engine import libpq_url, make_engine


@pytest.fixture
def pooled(settings: Settings) -> Iterator[Engine]:
    """An engine with a pool of its own."""
    engine = make_engine(settings, application="test-pooled")
    yield engine
    engine.dispose()


@pytest.fixture
def asked(pooled: Engine, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often connections were asked whether they work."""
    count = [0]
    ping = pooled.dialect.do_ping

    def counted(driver: object) -> bool:
        count[0] += 1
        return ping(driver)  # type: ignore[arg-type]

    monkeypatch.setattr(pooled.dialect, "do_ping", counted)
    return lambda: count[0]


def _pid(pooled: Engine) -> int:
    with pooled.connect() as connection:
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def _end(engine: Engine, pid: int) -> None:
    with engine.begin() as connection:
        assert connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid}).scalar_one()


def test_no_default_of_the_server_changes_what_a_transaction_is(engine: Engine, settings: Settings) -> None:
    """Neither of pooled connections nor of a gateway's: they are isolated as the code expects."""
    with engine.begin() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"))
    fresh = make_engine(settings, application="test-fresh")
    with fresh.connect() as connection:
        assert connection.execute(text("SHOW transaction_isolation")).scalar_one() == "read committed"
    fresh.dispose()
    line = Database(libpq_url(settings)).line()
    with line.connection() as blocking, blocking.transaction():
        assert blocking.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
    line.close()


def test_a_connection_in_use_is_not_asked(pooled: Engine, asked: Callable[[], int]) -> None:
    """It serves again and again."""
    pids = {_pid(pooled) for _ in range(10)}
    assert len(pids) == 1
    assert asked() == 0


def test_a_connection_that_was_ended_is_replaced(
    engine: Engine, pooled: Engine, asked: Callable[[], int]
) -> None:
    """By the server, between two uses: nobody notices."""
    before = _pid(pooled)
    _end(engine, before)
    assert _pid(pooled) != before
    assert asked() == 1


def test_all_that_were_ended_are_replaced(engine: Engine, pooled: Engine) -> None:
    """A server that starts anew ends them all; the first use after it throws all away."""
    with pooled.connect(), pooled.connect(), pooled.connect():
        pass
    with engine.begin() as connection:
        ended = connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'test-pooled'"
            )
        ).all()
    assert len(ended) >= 1
    for _ in range(3):
        with pooled.connect() as one, pooled.connect() as other:
            assert one.execute(text("SELECT 1")).scalar_one() == other.execute(text("SELECT 1")).scalar_one()


def test_a_connection_that_lay_idle_is_asked(
    pooled: Engine, asked: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies between may have forgotten it without a word."""
    before = _pid(pooled)
    monkeypatch.setattr(module, "_ASKED_AFTER_S", 0.0)
    assert _pid(pooled) == before
    assert asked() == 1
