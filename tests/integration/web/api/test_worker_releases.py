"""The releases that a worker had, over the REST API."""

from __future__ import annotations

from sqlalchemy import Engine, text
from support.clients import Api


def test_releases_are_listed_the_newest_first(api: Api, worker: str, engine: Engine) -> None:
    """Each with the session since which."""
    path = f"/workers/{worker}/releases"
    assert api("GET", path).json == {"items": [], "next_cursor": None}
    with engine.begin() as connection:
        for version, day in (("1.0", 1), ("1.1", 3), ("1.0", 2)):
            connection.execute(
                text(
                    "INSERT INTO worker_releases (worker_id, since, version) "
                    "VALUES (:worker, make_timestamptz(2030, 1, :day, 12, 0, 0, 'UTC'), :version)"
                ),
                {"worker": worker, "version": version, "day": day},
            )
    items = api("GET", path).json["items"]
    assert [(item["version"], item["since"][:10]) for item in items] == [
        ("1.1", "2030-01-03"), ("1.0", "2030-01-02"), ("1.0", "2030-01-01"),
    ]  # fmt: skip
    assert api("GET", "/workers/00000000-0000-0000-0000-000000000001/releases").status_code == 404
