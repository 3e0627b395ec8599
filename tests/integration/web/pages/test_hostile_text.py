"""Whatever people, hosts and networks write into the database comes out of every page as text."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from flask import Flask

from streamswarm.v1 import probe_pb2

PAYLOAD = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"


def test_text_of_others_is_text_on_every_page(app: Flask, visit: Any, rows: Any) -> None:
    """Names, descriptions, sites, reasons and errors; none opens a tag."""
    kinds = {"ping": {"available": False, "reason": PAYLOAD, "mend": PAYLOAD}}
    facts = {"hostname": PAYLOAD, "os": PAYLOAD}
    lame = rows.worker(
        PAYLOAD, kinds=kinds, site="x", spool_alarm=PAYLOAD, vantage_alarm=PAYLOAD, facts=facts
    )
    well = rows.worker(f"well {PAYLOAD}")
    place = rows.destination(PAYLOAD[:100], "192.0.2.1")
    test = rows.test(PAYLOAD[:100], "ping", destinations=[place], description=PAYLOAD)
    job = rows.job(test, well, place)
    at = dt.datetime.now(dt.UTC)
    rows.run(job, at, status=probe_pb2.STATUS_FAILED, source=probe_pb2.FAILURE_SOURCE_NETWORK, error=PAYLOAD)
    known = {
        "worker_id": str(lame),
        "test_id": test,
        "job_id": job,
        "destination_id": place,
        "name": "ping",
        "at_us": round(at.timestamp() * 1e6),
    }
    admin = visit("admin")
    shown = 0
    for rule in app.url_map.iter_rules():
        if not rule.endpoint.startswith("pages.") or "GET" not in (rule.methods or ()):
            continue
        values = {name: known.get(name, 1) for name in rule.arguments}
        path = app.url_map.bind("localhost").build(rule.endpoint, values, method="GET")
        for headers in ({}, {"HX-Request": "true"}):
            answer = admin.client.get(path, headers=headers)
            assert answer.status_code < 500, path
            page = answer.get_data(as_text=True)
            if answer.mimetype == "application/json":
                json.loads(page)
                continue
            assert "<script>alert" not in page, path
            assert "<img src=x" not in page, path
            shown += "alert(1)" in page
    assert shown > 8
