"""Making and changing tests: a form whose parameters come from the contract."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from flask import flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from controller.errors import ConflictError
from controller.store.commands import tests as commands
from controller.store.queries import destinations, previews, tests, workers
from controller.store.queries.tests import TestRecord
from streamswarm import contract
from streamswarm.contract import InvalidInputError, Kind, Problem
from streamswarm.windows import DAYS
from streamswarm.zones import zone_names
from web.auth import requires
from web.database import transaction
from web.forms import parameter_fields, read_parameters
from web.pages import schedule_form
from web.pages.blueprint import blueprint
from web.pages.context import actor, seen_version
from web.pages.entity_form import EntityForm, number, problems_of, split_words

_LABELS = {
    "name": "Name",
    "description": "Description",
    "kind": "Kind",
    "destinations": "Destinations",
    "selection": "Workers",
    "tags": "Tags",
    "interval_s": "Interval",
    "cron": "Cron",
    "zone": "Time zone",
    "windows": "Windows",
    "starts_at": "Start",
    "ends_at": "End",
    "max_runs": "Number of runs",
    "recurrence": "Each run",
}
_MOST_CHOICES = 500
#: So much of a name is kept where a copy is made of it.
_LONGEST_NAME = 90


@blueprint.get("/tests/new")
@requires("operator")
def test_new() -> str:
    """Show the form of a new test; the query may choose kind and destination, or a test to be `like`."""
    pattern = request.args.get("like", type=int)
    if pattern is not None:
        return _draw_copy(pattern)
    kind = _kind(request.args.get("kind", ""))
    values = {
        "kind": kind.name,
        "interval_s": "10",
        "destinations": tuple(request.args.getlist("destination")),
        "all": True,
        **schedule_form.blank(),
    }
    return _draw(kind, values, None)


@blueprint.get("/tests/fields")
@requires("operator")
def test_fields() -> str:
    """Draw what depends on the kind: parameters and destinations, keeping what was chosen."""
    kind = _kind(request.args.get("kind", ""))
    values = {"destinations": tuple(request.args.getlist("destinations"))}
    return render_template(
        "tests/kind_fields.html",
        kind=kind,
        form=EntityForm(labels=_labels(kind), values=values),
        fields=parameter_fields(kind),
        choices=_destinations(kind),
    )


@blueprint.post("/tests/preview")
@requires("operator")
def test_preview() -> str:
    """Draw what the test in the form would come to: when it is due, its jobs and their load."""
    now = dt.datetime.now(dt.UTC)
    test_id = request.args.get("test", type=int)
    kind = _kind(request.form.get("kind", ""))
    asked = _submitted(kind)
    load = None
    with transaction() as session:
        created_at = now if test_id is None else tests.get(session, test_id).created_at
        shown = schedule_form.preview(
            asked, repeat=request.form.get("repeat", ""), created_at=created_at, now=now
        )
        if shown.checked is not None:
            load = previews.load(
                session,
                kind.name,
                shown.checked,
                destinations=[one for one in asked["destinations"] if isinstance(one, int)],
                selection=asked["selection"],
                created_at=created_at,
                now=now,
            )
    return render_template("tests/preview.html", preview=shown, load=load)


@blueprint.post("/tests/new")
@requires("operator")
def test_create() -> Response | tuple[str, int]:
    """Make a test."""
    kind = _kind(request.form.get("kind", ""))
    try:
        with transaction() as session:
            made = commands.create(session, {**_submitted(kind), "kind": kind.name}, actor=actor())
    except (InvalidInputError, ConflictError) as error:
        return _draw(kind, _typed(), None, problems=problems_of(error)), 422
    flash(f"The test {made.name} is there; its first results appear below within moments.", "success")
    return redirect(url_for("pages.test", test_id=made.id))


@blueprint.get("/tests/<int:test_id>/edit")
@requires("operator")
def test_edit(test_id: int) -> str:
    """Show the form of an existing test."""
    with transaction() as session:
        found = tests.get(session, test_id)
    return _draw(contract.kind(found.kind), _stored(found), found, version=found.version)


@blueprint.post("/tests/<int:test_id>/edit")
@requires("operator")
def test_update(test_id: int) -> Response | tuple[str, int]:
    """Change a test."""
    with transaction() as session:
        found = tests.get(session, test_id)
    kind = contract.kind(found.kind)
    seen = seen_version()
    try:
        with transaction() as session:
            commands.update(session, test_id, _submitted(kind), seen=seen, actor=actor())
    except (InvalidInputError, ConflictError) as error:
        return _draw(kind, _typed(), found, problems=problems_of(error), version=seen), 422
    flash("Saved; workers take the change over within seconds.", "success")
    return redirect(url_for("pages.test", test_id=test_id))


def _draw_copy(test_id: int) -> str:
    """Draw the form of a new test, filled from another one."""
    with transaction() as session:
        found = tests.get(session, test_id)
    values = {**_stored(found), "name": f"{found.name[:_LONGEST_NAME]} (copy)", "spec": found.spec}
    if found.ends_at is not None and found.ends_at <= dt.datetime.now(dt.UTC):
        values |= {"starts_at": "", "ends_at": ""}
    return _draw(contract.kind(found.kind), values, None)


def _draw(
    kind: Kind,
    values: dict[str, Any],
    found: TestRecord | None,
    *,
    problems: Sequence[Problem] = (),
    version: int | None = None,
) -> str:
    with transaction() as session:
        fleet = workers.choices(session, kind.name, limit=_MOST_CHOICES)
    spec = values.get("spec", found.spec if found else None)
    return render_template(
        "tests/form.html",
        test=found,
        kind=kind,
        kinds=contract.kinds(),
        form=EntityForm(labels=_labels(kind), values=values, all_problems=tuple(problems), version=version),
        fields=parameter_fields(kind, spec, problems),
        choices=_destinations(kind),
        fleet=fleet,
        sites=sorted({worker.site for worker in fleet if worker.site}),
        groups=sorted({group for worker in fleet for group in worker.groups}),
        labels=sorted({f"{key}={value}" for worker in fleet for key, value in worker.labels.items()}),
        zones=sorted(zone_names()),
        days=DAYS,
    )


def _labels(kind: Kind) -> dict[str, str]:
    return _LABELS | {f"spec.{parameter.name}": parameter.label for parameter in kind.parameters}


def _kind(name: str) -> Kind:
    known = contract.kinds()
    return known[name] if name in known else next(iter(known.values()))


def _destinations(kind: Kind) -> list[Any]:
    """Return the destinations whose address suits the kind."""
    if kind.target == "none":
        return []
    found = []
    with transaction() as session:
        known = destinations.find(session, limit=_MOST_CHOICES).items
    for item in known:
        try:
            contract.parse_target(kind, item.address)
        except InvalidInputError:
            continue
        found.append(item)
    return found


def _typed() -> dict[str, Any]:
    """Return the form as it was sent, to be shown again."""
    form = request.form
    kind = _kind(form.get("kind", ""))
    return {
        **{name: form.get(name, "") for name in ("name", "description", "tags")},
        **schedule_form.typed(form),
        "kind": kind.name,
        "destinations": tuple(form.getlist("destinations")),
        "all": form.get("which", "all") == "all",
        "workers": tuple(form.getlist("workers")),
        "sites": tuple(form.getlist("sites")),
        "groups": tuple(form.getlist("groups")),
        "labels": tuple(form.getlist("labels")),
        "spec": read_parameters(kind, form),
    }


def _submitted(kind: Kind) -> dict[str, Any]:
    """Return the form as the values of a test."""
    form = request.form
    values: dict[str, Any] = {
        "name": form.get("name", ""),
        "description": form.get("description", ""),
        "tags": split_words(form.get("tags", "")),
        "spec": read_parameters(kind, form),
        "destinations": [number(text) for text in form.getlist("destinations")],
        "selection": {"all": True} if form.get("which", "all") == "all" else _selection(),
        **schedule_form.submitted(form),
    }
    if kind.target == "none":
        values["destinations"] = []
    return values


def _selection() -> dict[str, Any]:
    form = request.form
    pairs = (text.partition("=") for text in form.getlist("labels"))
    return {
        "workers": form.getlist("workers"),
        "sites": form.getlist("sites"),
        "groups": form.getlist("groups"),
        "labels": {key: value for key, _, value in pairs},
    }


def _stored(found: TestRecord) -> dict[str, Any]:
    return {
        "name": found.name,
        "description": found.description,
        "tags": ", ".join(found.tags),
        "kind": found.kind,
        **schedule_form.stored(found),
        "destinations": tuple(str(item.id) for item in found.destinations),
        "all": bool(found.selection.get("all")),
        "workers": tuple(found.selection.get("workers", ())),
        "sites": tuple(found.selection.get("sites", ())),
        "groups": tuple(found.selection.get("groups", ())),
        "labels": tuple(f"{key}={value}" for key, value in found.selection.get("labels", {}).items()),
    }
