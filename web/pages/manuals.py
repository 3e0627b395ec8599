"""Pages to read: first steps, the kinds in the words of the contract, and every metric that there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flask import render_template, request

from streamswarm import contract, manual
from streamswarm.contract import Child, Kind, Metric
from web.auth import requires
from web.forms import UNIT_WORDS
from web.pages.blueprint import blueprint
from web.pages.context import is_fragment

_BETTER = {"lower": "lower is better", "higher": "higher is better", "neither": ""}


@dataclass(frozen=True, kw_only=True)
class CatalogueRow:
    """One metric of the catalogue."""

    kind: Kind
    #: The repeated group that it is of, None for one of the run itself.
    child: Child | None
    metric: Metric

    @property
    def unit(self) -> str:
        """Unit as people write it."""
        return UNIT_WORDS.get(self.metric.unit, self.metric.unit)

    @property
    def better(self) -> str:
        """Which way is better, in words; empty for neither."""
        return _BETTER[self.metric.better]

    def has(self, words: list[str]) -> bool:
        """Whether each of the words stands in what there is to read of it."""
        text = f"{self.metric.label} {self.metric.name} {self.metric.description} {self.metric.group} {self.metric.reference}"
        return all(word in text.lower() for word in words)


@blueprint.get("/help", endpoint="help")
@requires("viewer")
def help_page() -> str:
    """Show the first steps, and where the rest is."""
    return render_template("help/page.html")


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


@blueprint.get("/help/metrics")
@requires("viewer")
def help_metrics() -> str:
    """List every metric; a fragment answers a search."""
    search, kind = request.args.get("q", "").strip(), request.args.get("kind", "")
    words = search.lower().split()
    rows = [row for row in catalogue() if (not kind or row.kind.name == kind) and row.has(words)]
    template = "help/metrics_rows.html" if is_fragment() else "help/metrics.html"
    return render_template(template, rows=rows, search=search, chosen=kind, kinds=contract.kinds())


def catalogue() -> Iterator[CatalogueRow]:
    """Yield every metric of the contract, kind by kind."""
    for kind in contract.kinds().values():
        for metric in kind.metrics:
            yield CatalogueRow(kind=kind, child=None, metric=metric)
        for child in kind.children:
            for metric in child.metrics:
                yield CatalogueRow(kind=kind, child=child, metric=metric)
