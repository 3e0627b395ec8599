"""Turns a report into one HTML document that needs nothing else: styles and drawings are in it, fonts by name."""

from __future__ import annotations

import datetime as dt
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from controller import assets
from controller.planning.schedule_words import schedule_words
from controller.quantities import THIN, number, plural, quantity, share, span
from controller.reports import summary
from controller.reports.drawing import LEFT, RIGHT, WIDTH, Chart, chart
from controller.reports.records import LineReport, Report, TestReport
from controller.store.queries.report_figures import Statistics

#: Lines of a test that get a chart; the table has all of them.
MOST_CHARTS = 12
_TEMPLATES = Path(__file__).parent / "templates"


def compose(report: Report) -> str:
    """Return the document. Everything that people named is text in it, never markup."""
    text = (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            overview=summary.overview(report),
            mark=_mark(),
            drawing={"width": WIDTH, "left": LEFT, "right": WIDTH - RIGHT},
            most_charts=MOST_CHARTS,
        )
    )
    # The embedded fonts have no narrow space; a wider one reads as well.
    return text.replace(THIN, "\N{NO-BREAK SPACE}")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        quantity=quantity,
        number=number,
        span=span,
        plural=plural,
        moment=summary.moment,
        instant=_instant,
    )
    environment.globals.update(
        summary_of=summary.summary,
        share=share,
        sources=summary.SOURCES,
        endings=summary.ENDINGS,
        chart_of=_chart,
        charted=_charted,
        shown_metrics=_metrics,
        schedule_of=_schedule,
    )
    return environment


def _mark() -> Markup:
    """Return our own mark, the only markup that comes from a file."""
    return Markup((assets.static() / "img" / "mark.svg").read_text(encoding="utf-8"))  # noqa: S704  our own file


def _instant(value: dt.datetime) -> str:
    return f"{value.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}"


def _charted(test: TestReport) -> tuple[LineReport, ...]:
    """Return the lines that get a chart: those with most failed runs first when there are too many for all."""
    if len(test.lines) <= MOST_CHARTS:
        return test.lines
    worst = sorted(test.lines, key=lambda line: line.account.failed + line.account.error, reverse=True)
    kept = {id(line) for line in worst[:MOST_CHARTS]}
    return tuple(line for line in test.lines if id(line) in kept)


def _chart(report: Report, test: TestReport, line: LineReport) -> Chart:
    headline = test.kind.headline
    return chart(
        line.periods,
        start=report.start,
        end=report.end,
        width=test.width,
        gaps=line.gaps,
        headline=(headline.label, headline.unit),
        loss=(test.loss.label, test.loss.unit) if test.loss is not None else None,
    )


def _metrics(test: TestReport) -> list[tuple[Any, Statistics]]:
    """Return the metrics that were measured at all."""
    return [(test.kind.metric(name), figures) for name, figures in test.statistics.items() if figures.count]


def _schedule(test: TestReport) -> list[str]:
    """Return how the schedule was over the range, in words."""
    words = []
    for stretch in test.stretches:
        how = "paused" if stretch.paused else schedule_words(stretch)
        words.append(f"{_instant(stretch.start)} to {_instant(stretch.end)}: {how}")
    return words
