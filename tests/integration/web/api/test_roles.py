"""Who may call what: every route, with every method, as everybody."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.clients import csrf_of, log_in
from werkzeug.routing import Rule

from controller.store.queries.users import ROLES

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

#: Endpoint → the least role that may call it. A route that is not here fails the test: decide who may call it.
NEEDED = {
    "static": "public",
    "auth.login": "public",
    "auth.log_in": "public",
    "auth.login_link": "public",
    "auth.use_login_link": "public",
    "auth.logout": "public",
    "api.show_accounts": "viewer",
    "api.show_health": "public",
    "api.show_openapi": "public",
    "api.change_own_password": "viewer",
    "api.change_own_preferences": "viewer",
    "api.end_own_sessions": "viewer",
    "api.end_sessions": "admin",
    "api.ask_operation": "admin",
    "api.begin_operation": "operator",
    "api.cancel_operation": "admin",
    "api.finish_operation": "operator",
    "api.list_events_of_operation": "viewer",
    "api.list_figures_of_operation": "viewer",
    "api.list_hosts_of_operation": "viewer",
    "api.list_operations": "viewer",
    "api.show_operation": "viewer",
    "api.tell_operation": "operator",
    "api.create_destination": "operator",
    "api.create_enrolment_token": "operator",
    "api.create_login_link": "admin",
    "api.create_report": "operator",
    "api.create_test": "operator",
    "api.create_token": "viewer",
    "api.create_user": "admin",
    "api.delete_destination": "operator",
    "api.delete_report": "operator",
    "api.delete_test": "operator",
    "api.delete_user": "admin",
    "api.delete_worker": "admin",
    "api.export_results": "viewer",
    "api.fetch_report": "viewer",
    "api.list_audit": "admin",
    "api.list_destinations": "viewer",
    "api.list_jobs_of_test": "viewer",
    "api.list_jobs_of_worker": "viewer",
    "api.list_releases_of_worker": "viewer",
    "api.list_kinds": "viewer",
    "api.list_refused_results": "viewer",
    "api.list_reports": "viewer",
    "api.list_results": "viewer",
    "api.list_tests": "viewer",
    "api.list_tokens": "viewer",
    "api.list_users": "admin",
    "api.list_events": "viewer",
    "api.list_workers": "viewer",
    "api.note_drained_worker": "operator",
    "api.note_resumed_worker": "operator",
    "api.pause_test": "operator",
    "api.resume_test": "operator",
    "api.regenerate_token": "viewer",
    "api.show_enrolment": "operator",
    "api.revoke_token": "viewer",
    "api.revoke_worker": "admin",
    "api.restart_test": "operator",
    "api.preview_test": "operator",
    "api.run_test": "operator",
    "api.set_password": "admin",
    "api.show_destination": "viewer",
    "api.show_diagnosis": "viewer",
    "api.show_kind": "viewer",
    "api.show_me": "viewer",
    "api.show_overview": "viewer",
    "api.show_report": "viewer",
    "api.show_settings": "admin",
    "api.update_settings": "admin",
    "api.show_series": "viewer",
    "api.show_test": "viewer",
    "api.show_token": "viewer",
    "api.show_user": "admin",
    "api.show_worker": "viewer",
    "api.stop_test": "operator",
    "api.update_destination": "operator",
    "api.update_test": "operator",
    "api.update_token": "viewer",
    "api.update_user": "admin",
    "api.update_worker": "operator",
    "live.stream": "viewer",
    "pages.audit": "admin",
    "pages.destination": "viewer",
    "pages.help": "viewer",
    "pages.help_kind": "viewer",
    "pages.help_kinds": "viewer",
    "pages.help_metrics": "viewer",
    "pages.destination_create": "operator",
    "pages.destination_delete": "operator",
    "pages.destination_new": "operator",
    "pages.destination_update": "operator",
    "pages.destinations": "viewer",
    "pages.destinations_bulk": "operator",
    "pages.fleet": "viewer",
    "pages.mesh": "viewer",
    "pages.operation": "viewer",
    "pages.operation_cancel": "admin",
    "pages.operation_create": "admin",
    "pages.operation_live": "viewer",
    "pages.overview": "viewer",
    "pages.overview_live": "viewer",
    "pages.profile": "viewer",
    "pages.profile_end_sessions": "viewer",
    "pages.profile_password": "viewer",
    "pages.profile_preferences": "viewer",
    "pages.report_create": "operator",
    "pages.report_delete": "operator",
    "pages.reports": "viewer",
    "pages.settings": "admin",
    "pages.settings_update": "admin",
    "pages.test": "viewer",
    "pages.test_chart": "viewer",
    "pages.test_rows": "viewer",
    "pages.test_create": "operator",
    "pages.test_delete": "operator",
    "pages.test_accounts": "viewer",
    "pages.test_diagnosis": "viewer",
    "pages.test_edit": "operator",
    "pages.test_fields": "operator",
    "pages.test_latest": "viewer",
    "pages.test_new": "operator",
    "pages.test_pause": "operator",
    "pages.test_resume": "operator",
    "pages.test_restart": "operator",
    "pages.test_run": "operator",
    "pages.test_stop": "operator",
    "pages.tests_bulk": "operator",
    "pages.test_run_of_job": "viewer",
    "pages.test_preview": "operator",
    "pages.test_update": "operator",
    "pages.tests": "viewer",
    "pages.token": "viewer",
    "pages.token_create": "viewer",
    "pages.token_regenerate": "viewer",
    "pages.token_revoke": "viewer",
    "pages.token_update": "viewer",
    "pages.tokens": "viewer",
    "pages.user": "admin",
    "pages.user_create": "admin",
    "pages.user_delete": "admin",
    "pages.user_end_sessions": "admin",
    "pages.user_login_link": "admin",
    "pages.user_new": "admin",
    "pages.user_password": "admin",
    "pages.user_update": "admin",
    "pages.users": "admin",
    "pages.worker": "viewer",
    "pages.worker_live": "viewer",
    "pages.worker_delete": "admin",
    "pages.worker_operate": "admin",
    "pages.worker_revoke": "admin",
    "pages.workers": "viewer",
}
#: Tokens below administrator cannot look after tokens: they could make one that outlives them.
CARETAKING = {
    "api.create_token",
    "api.list_tokens",
    "api.regenerate_token",
    "api.revoke_token",
    "api.show_token",
    "api.update_token",
}
#: What no token may do, whatever its scope.
PERSONAL = {"api.change_own_password", "api.change_own_preferences", "api.end_own_sessions"}
#: What ends the session that the test has, or gives it another; another test's matter.
LEAVING = {"/api/v1/me/end-sessions", "/profile/end-sessions"}
#: Values for the variables of a path; nothing has them, so nothing is changed.
SAMPLES = {
    "filename": "img/favicon.svg",
    "name": "ping",
    "token": "x" * 43,
    "worker_id": str(uuid.UUID(int=1)),
}


def path_of(app: Flask, rule: Rule) -> str:
    """Return a path that the rule matches."""
    values = {name: SAMPLES.get(name, 987654321) for name in rule.arguments}
    return str(
        app.url_map.bind("localhost").build(rule.endpoint, values, method=sorted(rule.methods or ())[0])
    )


def rules(app: Flask) -> list[Rule]:
    """Return all routes."""
    return list(app.url_map.iter_rules())


def outcome(client: FlaskClient, method: str, path: str, headers: dict[str, str]) -> str:
    """Return `login`, `forbidden`, `method` or `passed`."""
    json = {} if path.startswith("/api/") and method != "GET" else None
    with client.open(path, method=method, headers=headers, json=json) as answer:
        location = answer.headers.get("Location", "")
        # Health and enrolment say 503 here, for no gateway runs and none has made a certificate authority.
        excused = path.endswith(("/health", "/enrolment"))
        assert answer.status_code < 500 or excused, (method, path, answer.status_code)
        if answer.status_code == 405:
            return "method"
        if answer.status_code == 403:
            return "forbidden"
        if path == "/login":
            return "passed"
        if answer.status_code == 401 or location.startswith("/login"):
            return "login"
        return "passed"


def test_every_route_is_listed_and_none_is_listed_in_vain(app: Flask) -> None:
    """The table above has exactly the routes that there are."""
    assert {rule.endpoint for rule in rules(app)} == set(NEEDED)


@pytest.mark.parametrize("role", ["stranger", *ROLES])
@pytest.mark.parametrize("way", ["session", "token"])
def test_each_role_passes_exactly_where_the_table_says(
    app: Flask,
    role: str,
    way: str,
    make_user: Callable[..., int],
    token: Callable[..., str],
) -> None:
    """Every method of every route, as this role: passed, refused, sent to the login, or no such method."""
    client = app.test_client()
    headers = {}
    if role != "stranger" and way == "session":
        make_user("somebody", role)
        assert log_in(client, "somebody").status_code == 302
    if way == "session":
        headers["X-CSRFToken"] = csrf_of(client, "/login" if role == "stranger" else "/")
    elif role != "stranger":
        headers["Authorization"] = f"Bearer {token(role)}"
    by_path: dict[str, dict[str, str]] = {}
    for rule in rules(app):
        for method in rule.methods or ():
            by_path.setdefault(path_of(app, rule), {})[method] = rule.endpoint
    wrong = []
    for path, methods in by_path.items():
        if path == "/logout" or (way == "token" and not path.startswith("/api/")):
            continue  # a token opens no page; that is another test's matter
        if path in LEAVING and way == "session" and role != "stranger":
            continue
        for method in METHODS:
            expected = "method"
            if method in methods:
                needed = NEEDED[methods[method]]
                if needed == "public":
                    expected = "passed"
                elif role == "stranger":
                    expected = "login"
                else:
                    expected = "passed" if ROLES.index(role) >= ROLES.index(needed) else "forbidden"  # type: ignore[arg-type]
                if way == "token" and methods[method] in CARETAKING and role in ("viewer", "operator"):
                    expected = "forbidden"
                if way == "token" and methods[method] in PERSONAL and role != "stranger":
                    expected = "forbidden"
            found = outcome(client, method, path, headers)
            if found != expected:
                wrong.append(f"{method} {path} as {role}: {found} instead of {expected}")
    assert not wrong, "\n".join(wrong)


def test_a_token_opens_no_page(app: Flask, token: Callable[..., str]) -> None:
    """Bearer tokens are for the API; on a page they are as good as nothing."""
    client = app.test_client()
    answer = client.get("/", headers={"Authorization": f"Bearer {token('admin')}"})
    assert answer.headers["Location"].startswith("/login")


def test_a_route_without_a_role_keeps_the_application_from_starting(app: Flask) -> None:
    """The check names the route that forgot to say who may call it."""
    from web.auth import check_marks

    app.view_functions["forgotten"] = lambda: "secret"
    with pytest.raises(RuntimeError, match="forgotten"):
        check_marks(app)
