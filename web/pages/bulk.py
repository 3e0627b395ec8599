"""What is done to all ticked rows of a list: each by itself, and what could not be done is told."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from flask import abort, flash, redirect, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from controller.errors import ConflictError, NotFoundError
from controller.store.commands import destinations as destination_commands
from controller.store.commands import tests as test_commands
from web.auth import requires
from web.database import transaction
from web.pages.blueprint import blueprint
from web.pages.context import actor
from web.pages.formatting import plural

#: So many rows are ticked at the most: somebody waits for the answer.
MOST_TICKED = 500
#: Refusals that are told one by one.
_MOST_TOLD = 5


@blueprint.post("/tests/bulk")
@requires("operator")
def tests_bulk() -> Response:
    """Pause, resume, run, stop or delete the ticked tests."""
    who, with_data = actor(), request.form.get("with_data") == "yes"
    acts: dict[str, tuple[str, Callable[[Session, int], object]]] = {
        "pause": ("paused", lambda session, key: test_commands.pause(session, key, actor=who)),
        "resume": ("resumed", lambda session, key: test_commands.resume(session, key, actor=who)),
        "run": ("asked to run now", lambda session, key: test_commands.run_now(session, key, actor=who)),
        "stop": ("stopped", lambda session, key: test_commands.stop(session, key, actor=who)),
        "delete": (
            "deleted",
            lambda session, key: test_commands.delete(session, key, actor=who, with_data=with_data),
        ),
    }
    return _each("test", acts, back="pages.tests")


@blueprint.post("/destinations/bulk")
@requires("operator")
def destinations_bulk() -> Response:
    """Delete the ticked destinations that no test aims at."""
    who = actor()
    acts: dict[str, tuple[str, Callable[[Session, int], object]]] = {
        "delete": ("deleted", lambda session, key: destination_commands.delete(session, key, actor=who))
    }
    return _each("destination", acts, back="pages.destinations")


def _each(word: str, acts: dict[str, tuple[str, Callable[[Session, int], object]]], *, back: str) -> Response:
    done, act = acts.get(request.form.get("act", ""), ("", None))
    if act is None:
        abort(400, "The form does not say what is to be done; load the page again.")
    ids = [
        int(text)
        for text in request.form.getlist("ids")
        if text.isascii() and text.isdigit() and len(text) < 19
    ]
    refused: list[str] = []
    for key in ids[:MOST_TICKED]:
        try:
            with transaction() as session:
                act(session, key)
        except (ConflictError, NotFoundError) as error:
            refused.append(f"{error.message}: {error.mend}.")
    count = len(ids[:MOST_TICKED]) - len(refused)
    if count:
        flash(f"{plural(count, word)} {'is' if count == 1 else 'are'} {done}.", "success")
    for text in refused[:_MOST_TOLD]:
        flash(text, "failed")
    if len(refused) > _MOST_TOLD:
        flash(f"And {plural(len(refused) - _MOST_TOLD, 'other')} could not be {done}.", "failed")
    # Back to the list as it was searched; of the address only the query is believed.
    query = urlsplit(request.referrer or "").query
    return redirect(url_for(back) + (f"?{query}" if query else ""))
