"""Pages to read about the kinds: the same words as below docs/reference/kinds, from the contract."""

from __future__ import annotations

from flask import render_template

from streamswarm import contract, manual
from web.auth import requires
from web.pages.blueprint import blueprint


@blueprint.get("/help/kinds")
@requires("viewer")
def help_kinds() -> str:
    """List the kinds."""
    return render_template("help/kinds.html", kinds=contract.kinds().values())


@blueprint.get("/help/kinds/<name>")
@requires("viewer")
def help_kind(name: str) -> str:
    """Show what there is to read about one kind; raises UnknownKindError."""
    return render_template("help/kind.html", manual=manual.page(contract.kind(name)))
