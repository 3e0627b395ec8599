"""A worker's refused results over the REST API."""

from __future__ import annotations

from sqlalchemy import Engine, text
from support.clients import Api


def test_refused_results_are_listed_page_by_page(api: Api, worker: str, engine: Engine) -> None:
    """Newest first, those of this worker alone, with the length of what is kept instead of its bytes."""
    path = f"/workers/{worker}/quarantine"
    assert api("GET", path).json == {"items": [], "next_cursor": None}
    with engine.begin() as connection:
        for owner, seq, payload in (
            (worker, 1, b""),
            (worker, 2, b"\0" * 300),
            (None, 3, b"x"),
            (worker, 4, b"xyz"),
        ):
            connection.execute(
                text(
                    "INSERT INTO quarantine (worker_id, spool_id, seq, reason, payload) "
                    "VALUES (coalesce(CAST(:owner AS uuid), gen_random_uuid()), 's', :seq, 'no job of its', :payload)"
                ),
                {"owner": owner, "seq": seq, "payload": payload},
            )
    first = api("GET", f"{path}?limit=2")
    assert [(item["seq"], item["payload_bytes"]) for item in first.json["items"]] == [(4, 3), (2, 300)]
    assert set(first.json["items"][0]) == {"id", "spool_id", "seq", "received_at", "reason", "payload_bytes"}
    rest = api("GET", f"{path}?limit=2&cursor={first.json['next_cursor']}").json
    assert ([item["seq"] for item in rest["items"]], rest["next_cursor"]) == ([1], None)
    assert api("GET", "/workers/00000000-0000-0000-0000-000000000001/quarantine").status_code == 404
    assert api("GET", f"{path}?cursor=x").status_code == 422
