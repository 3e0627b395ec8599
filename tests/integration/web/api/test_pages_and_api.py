"""Pages and API are two faces of one layer: what a page shows or does, a call of the API does for the same role."""

from __future__ import annotations

from flask import Flask

from web.auth.roles import needed_role

#: Page → the calls that show or do the same. A page that is not here fails the test: say how a program does it.
CALLS: dict[str, tuple[str, ...]] = {
    "audit": ("list_audit",),
    "destination": ("show_destination", "list_tests"),
    "destination_create": ("create_destination",),
    "destination_delete": ("delete_destination",),
    "destination_update": ("update_destination",),
    "destinations": ("list_destinations",),
    "destinations_bulk": ("delete_destination",),
    "fleet": ("list_operations",),
    "help_kind": ("show_kind",),
    "help_kinds": ("list_kinds",),
    "help_metrics": ("list_kinds",),
    "mesh": ("list_tests", "list_jobs_of_test"),
    "operation": ("show_operation", "list_hosts_of_operation", "list_events_of_operation"),
    "operation_cancel": ("cancel_operation",),
    "operation_create": ("ask_operation",),
    "operation_live": ("show_operation", "list_events_of_operation"),
    "overview": ("show_overview",),
    "overview_live": ("show_overview",),
    "profile": ("show_me",),
    "profile_end_sessions": ("end_own_sessions",),
    "profile_password": ("change_own_password",),
    "profile_preferences": ("change_own_preferences",),
    "report_create": ("create_report",),
    "report_delete": ("delete_report",),
    "reports": ("list_reports",),
    "settings": ("show_settings",),
    "settings_update": ("update_settings",),
    "test": ("show_test", "list_jobs_of_test"),
    "test_accounts": ("show_accounts",),
    "test_chart": ("show_series",),
    "test_create": ("create_test",),
    "test_delete": ("delete_test",),
    "test_diagnosis": ("show_diagnosis",),
    "test_latest": ("show_test", "list_results"),
    "test_pause": ("pause_test",),
    "test_restart": ("restart_test",),
    "test_resume": ("resume_test",),
    "test_rows": ("list_results",),
    "test_preview": ("preview_test",),
    "test_run": ("run_test",),
    "test_run_of_job": ("list_results",),
    "test_stop": ("stop_test",),
    "test_update": ("update_test",),
    "tests": ("list_tests",),
    "tests_bulk": ("pause_test", "resume_test", "run_test", "stop_test", "delete_test"),
    "token": ("show_token",),
    "token_create": ("create_token",),
    "token_regenerate": ("regenerate_token",),
    "token_revoke": ("revoke_token",),
    "token_update": ("update_token",),
    "tokens": ("list_tokens",),
    "user": ("show_user",),
    "user_create": ("create_user",),
    "user_delete": ("delete_user",),
    "user_end_sessions": ("end_sessions",),
    "user_login_link": ("create_login_link",),
    "user_password": ("set_password",),
    "user_update": ("update_user",),
    "users": ("list_users",),
    "worker": ("show_worker", "list_jobs_of_worker"),
    "worker_delete": ("delete_worker",),
    "worker_live": ("show_worker", "list_jobs_of_worker"),
    "worker_operate": ("ask_operation",),
    "worker_revoke": ("revoke_worker",),
    "workers": ("list_workers",),
}
#: Forms, what helps to fill them in, and text to read: programs need none of them.
FOR_PEOPLE = {"destination_new", "help", "test_edit", "test_fields", "test_new", "user_new"}


def test_every_page_has_its_calls(app: Flask) -> None:
    """No page is left out, none is listed in vain, and each call that is named is there."""
    named = {endpoint for endpoint in app.view_functions if endpoint.startswith("pages.")}
    assert named == {f"pages.{name}" for name in {*CALLS, *FOR_PEOPLE}}
    calls = {f"api.{name}" for names in CALLS.values() for name in names}
    assert calls - set(app.view_functions) == set()


def test_a_page_needs_the_role_of_its_calls(app: Flask) -> None:
    """Nobody does on a page what the API would refuse them, nor the other way round."""
    wrong = {
        (name, call): (page, needed)
        for name, calls in CALLS.items()
        for call in calls
        if (page := needed_role(app, f"pages.{name}")) != (needed := needed_role(app, f"api.{call}"))
    }
    assert wrong == {}
