"""URLs of the database: which are taken, how libpq reads them, and that no message shows a password."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from controller import assets
from controller.errors import ConfigurationError
from controller.settings import Settings
from controller.store.engine import database_url, libpq_url, make_engine, shown_address


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://u:secret@db.example.org:5433/swarm", "db.example.org:5433, database `swarm`"),
        ("postgresql+psycopg2://u:secret@db.example.org/swarm", "db.example.org, database `swarm`"),
        ("postgresql+psycopg://u:secret@/swarm?host=%2Frun%2Fpg", "/run/pg, database `swarm`"),
        ("postgres://u:secret@[2001:db8::1]/swarm", "2001:db8::1, database `swarm`"),
        ("postgresql:///swarm", "the local socket, database `swarm`"),
    ],
)
def test_usual_forms_are_taken(given: str, shown: str) -> None:
    """Every usual way to write the URL works, and messages show where it leads and nothing else."""
    settings = Settings(database_url=given)
    assert shown_address(database_url(settings)) == shown
    assert libpq_url(settings).startswith("postgresql://")
    assert ("secret" in libpq_url(settings)) == ("secret" in given)
    assert make_engine(settings, application="test").url.drivername == "postgresql+psycopg2"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("mysql://u:secret@db/swarm", "starts with `mysql:`; PostgreSQL is the only database"),
        ("sqlite:///secret", "starts with `sqlite:`"),
        ("secret", "is not a URL"),
        ("postgresql://u:secret@db:port/swarm", "is not a URL"),
    ],
)
def test_other_forms_are_refused_without_the_password(given: str, said: str) -> None:
    """What is no PostgreSQL URL is refused with the form that is; a password in it is not repeated."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        database_url(Settings(database_url=given))
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "postgresql://user:password@host:5432/database" in caught.value.mend


def test_assets_of_a_checkout() -> None:
    """In a checkout the files that travel beside the code stand in its root."""
    root = Path(__file__).parents[3]
    assert assets.checkout() == root
    assert assets.migrations() == root / "migrations"
    assert (assets.migrations() / "env.py").is_file()


def test_assets_of_an_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed, they lie inside the package; when they are missing the message says what to do."""
    package = tmp_path / "controller"
    (package / "_assets" / "migrations").mkdir(parents=True)
    monkeypatch.setattr(assets, "_PACKAGE", package)
    assert assets.checkout() is None
    assert assets.migrations() == package / "_assets" / "migrations"
    with pytest.raises(ConfigurationError, match="playbooks, which belongs to the product, is missing"):
        assets.playbooks()


def test_a_space_in_a_sockets_path_reaches_libpq_as_one() -> None:
    """SQLAlchemy writes it as `+`, which libpq takes for itself; a real plus stays one."""
    url = libpq_url(Settings(database_url="postgresql://u:a%2Bb@/swarm?host=%2Fmy+proj%2Fpg%2B1"))
    assert conninfo_to_dict(url) == {
        "user": "u",
        "password": "a+b",
        "dbname": "swarm",
        "host": "/my proj/pg+1",
    }
