"""The page of the installation's settings, for administrators: those that can be changed here, and all others as they are."""

from __future__ import annotations

from typing import Any

from flask import current_app, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from controller.settings import PREFIX, Settings, named
from controller.store import run_time
from streamswarm.contract import InvalidInputError
from web.auth import requires
from web.database import transaction
from web.pages.blueprint import blueprint
from web.pages.context import actor
from web.pages.entity_form import EntityForm, number, problems_of
from web.pages.formatting import NOTHING, shown

_LABELS = {name: choice.label for name, choice in run_time.CHOICES.items()}
#: What holds passwords is told only as given or not.
_SECRET = ("database_url",)


@blueprint.get("/settings", endpoint="settings")
@requires("admin")
def settings_page() -> str:
    """Show the settings."""
    return _draw()


@blueprint.post("/settings")
@requires("admin")
def settings_update() -> Response | tuple[str, int]:
    """Change those that can be changed; an empty field goes back to the default."""
    typed = {name: request.form[name].strip() for name in run_time.CHOICES if name in request.form}
    values = {name: number(text) if text else None for name, text in typed.items()}
    try:
        with transaction() as session:
            run_time.change(session, _settings(), values, actor=actor())
    except InvalidInputError as error:
        return _draw(typed, error), 422
    flash("Saved; it holds from now on.", "success")
    return redirect(url_for("pages.settings"))


def _draw(typed: dict[str, str] | None = None, error: InvalidInputError | None = None) -> str:
    settings = _settings()
    with transaction() as session:
        records = run_time.read(session, settings)
    stored = {record.name: f"{record.value:g}" if record.source == "database" else "" for record in records}
    form = EntityForm(
        labels=_LABELS, values=typed or stored, all_problems=problems_of(error) if error else ()
    )
    return render_template(
        "settings/page.html",
        form=form,
        records=[
            (record, run_time.CHOICES[record.name], getattr(settings, record.name)) for record in records
        ],
        others=_others(settings),
        prefix=PREFIX,
    )


def _others(settings: Settings) -> list[tuple[str, str, bool]]:
    """Return name, value and whether it was given, of every setting that only a start changes."""
    found: list[tuple[str, str, bool]] = []
    for item in named():
        if item.name in run_time.CHOICES:
            continue
        value: Any = getattr(settings, item.name)
        text = (
            ("given, and not shown" if value else NOTHING)
            if item.name in _SECRET
            else shown(list(value) if isinstance(value, tuple) else value)
        )
        found.append((item.name, text, item.name in settings.given))
    return found


def _settings() -> Settings:
    found: Settings = current_app.extensions["streamswarm.settings"]
    return found
