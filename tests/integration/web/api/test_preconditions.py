"""No change is lost: each can say which state it is based on, and is refused when that is no longer the state."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine
from support.clients import Api, make_destination, make_test

from controller.store.queries.users import Role

#: What can be changed, and two changes of it.
SORTS = {
    "destinations": ({"description": "a"}, {"description": "b"}),
    "tests": ({"description": "a"}, {"description": "b"}),
    "tokens": ({"description": "a"}, {"description": "b"}),
    "users": ({"email": "a@example.org"}, {"email": "b@example.org"}),
    "workers": ({"site": "a"}, {"site": "b"}),
}
VERSIONED = {"destinations", "tests"}


@pytest.fixture
def paths_of(api: Api, make_user: Callable[..., int], worker: str) -> dict[str, str]:
    """The path of one object of each sort."""
    return {
        "destinations": f"/destinations/{make_destination(api, 'Other')}",
        "tests": f"/tests/{make_test(api)['id']}",
        "tokens": f"/tokens/{api('POST', '/tokens', {'name': 'ci'}).json['id']}",
        "users": f"/users/{make_user('ada')}",
        "workers": f"/workers/{worker}",
    }


def change(api: Api, path: str, values: dict[str, Any], tag: str | None = None) -> Any:
    """Send a change that is based on a tag."""
    headers = {} if tag is None else {"If-Match": tag}
    return api("PATCH", path, values, headers=headers)


@pytest.mark.parametrize("sort", SORTS)
def test_a_change_that_is_based_on_an_old_state_is_refused(
    api: Api, paths_of: dict[str, str], sort: str
) -> None:
    """The first of two who have read the same succeeds, the second is answered 412 and changes nothing."""
    path, (first, second) = paths_of[sort], SORTS[sort]
    tag = api("GET", path).headers["ETag"]
    changed = change(api, path, first, tag)
    assert changed.status_code == 200, changed.json
    assert changed.headers["ETag"] != tag
    refused = change(api, path, second, tag)
    assert refused.status_code == 412
    assert "has changed meanwhile" in refused.json["detail"]
    assert "read it again" in refused.json["mend"]
    now = api("GET", path)
    assert first.items() <= now.json.items()
    assert now.headers["ETag"] == changed.headers["ETag"]
    assert change(api, path, second, f"W/{now.headers['ETag']}").status_code == 200


@pytest.mark.parametrize("sort", SORTS)
def test_a_change_may_be_based_on_whatever_is_there(api: Api, paths_of: dict[str, str], sort: str) -> None:
    """`If-Match: *` asks for nothing but that the object is there."""
    path, (first, _) = paths_of[sort], SORTS[sort]
    assert change(api, path, first, "*").status_code == 200
    absent = path.replace(
        path.rpartition("/")[2], "987654321" if sort != "workers" else str(uuid.UUID(int=1))
    )
    assert change(api, absent, first, "*").status_code == 404


@pytest.mark.parametrize("sort", SORTS)
def test_a_change_that_says_nothing(api: Api, paths_of: dict[str, str], sort: str) -> None:
    """Tests and destinations want a basis (428); the others take it as it comes."""
    answer = change(api, paths_of[sort], SORTS[sort][0])
    assert answer.status_code == (428 if sort in VERSIONED else 200)
    if sort in VERSIONED:
        assert "If-Match" in answer.json["mend"]


@pytest.mark.parametrize("tag", ["3", '"1", "2"', "", '"', "*, *"])
def test_a_tag_that_is_none_is_told_as_that(api: Api, paths_of: dict[str, str], tag: str) -> None:
    """400 for every sort, instead of a change on whatever basis."""
    for sort, path in paths_of.items():
        answer = change(api, path, SORTS[sort][0], tag)
        assert answer.status_code == 400, (sort, answer.json)
        assert "If-Match" in answer.json["detail"]


def test_a_version_that_never_was_is_not_the_state(api: Api, paths_of: dict[str, str]) -> None:
    """A tag of another object's form is refused like an old one; a version in the body that is no number is wrong input."""
    for sort in VERSIONED:
        assert change(api, paths_of[sort], SORTS[sort][0], '"0123456789abcdef"').status_code == 412
        assert change(api, paths_of[sort], SORTS[sort][0], '"77"').status_code == 412
        wrong = change(api, paths_of[sort], {**SORTS[sort][0], "version": "x"})
        assert [error["path"] for error in wrong.json["errors"]] == ["version"]
        assert change(api, paths_of[sort], {**SORTS[sort][0], "version": 77}).status_code == 409


def test_of_two_changes_at_the_same_time_one_succeeds(
    app: Flask, api: Api, paths_of: dict[str, str], engine: Engine, token: Callable[[Role], str]
) -> None:
    """The state is looked at while the row is locked."""
    for sort, path in paths_of.items():
        tag = api("GET", path).headers["ETag"]
        barrier = threading.Barrier(2)
        statuses: list[int] = []

        def send(
            values: dict[str, Any],
            path: str = path,
            tag: str = tag,
            barrier: threading.Barrier = barrier,
            statuses: list[int] = statuses,
        ) -> None:
            client = app.test_client()
            headers = {"Authorization": f"Bearer {api.token}", "If-Match": tag}
            barrier.wait()
            answer = client.patch(f"/api/v1{path}", json=values, headers=headers)
            statuses.append(answer.status_code)

        threads = [threading.Thread(target=send, args=(values,)) for values in SORTS[sort]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [200, 412], (sort, statuses)
