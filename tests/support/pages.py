"""Every page of the dashboard, found by its routes: a new one is among them by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flask import Flask

from web.auth.roles import needed_role

#: What pages fetch by themselves, and what is seen only by who is not logged in.
PARTS = {
    "pages.operation_live",
    "pages.overview_live",
    "pages.test_chart",
    "pages.test_fields",
    "pages.test_latest",
    "pages.test_preview",
    "pages.test_rows",
    "pages.worker_live",
}


def pages_of(app: Flask, known: Mapping[str, Any], *, parts: bool = False) -> Iterator[tuple[str, str]]:
    """Yield path and needed role of every page, or of every part; one whose path wants an id that `known` lacks fails here."""
    urls = app.url_map.bind("localhost")
    for rule in app.url_map.iter_rules():
        if "GET" not in (rule.methods or ()) or not rule.endpoint.startswith("pages."):
            continue
        if (rule.endpoint in PARTS) == parts:
            role = needed_role(app, rule.endpoint)
            assert role
            yield urls.build(rule.endpoint, {name: known[name] for name in rule.arguments}), role
