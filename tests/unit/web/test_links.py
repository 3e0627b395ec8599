"""Addresses that are remembered are those that would be found anew."""

from __future__ import annotations

import uuid

import pytest
from flask import Flask, url_for

from web.pages.links import link


@pytest.fixture
def app() -> Flask:
    """An application with a page of each sort of id."""
    made = Flask("some")
    made.add_url_rule("/things/<thing>", endpoint="thing", view_func=str)
    made.add_url_rule("/things", endpoint="things", view_func=str)
    return made


@pytest.mark.parametrize(
    "values", [{}, {"thing": 1}, {"thing": True}, {"thing": "1"}, {"thing": uuid.UUID(int=7)}], ids=str
)
def test_a_link_is_what_flask_says(app: Flask, values: dict[str, object]) -> None:
    """Asked for twice; what is equal for Python and not for an address is told apart."""
    endpoint = "thing" if values else "things"
    with app.test_request_context():
        link(endpoint, **({"thing": 1} if values else {}))
        assert [link(endpoint, **values) for _ in range(2)] == [url_for(endpoint, **values)] * 2


def test_a_link_begins_where_the_application_is_mounted(app: Flask) -> None:
    """One process may be asked for under two prefixes."""
    found = []
    for root in ("", "/swarm"):
        with app.test_request_context(environ_overrides={"SCRIPT_NAME": root}):
            found.append((link("thing", thing=3), link("static", filename="a.css")))
    assert found == [("/things/3", "/static/a.css"), ("/swarm/things/3", "/swarm/static/a.css")]
