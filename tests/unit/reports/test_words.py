"""The report in words, and the document: what is said of which figures, and that names stay text."""

from __future__ import annotations

import datetime as dt
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, strategies

from controller.planning.accounts import Account
from controller.quantities import number, share
from controller.reports.accounting import Stretch
from controller.reports.document import compose
from controller.reports.records import ARROW, LineReport, Report, TestReport
from controller.reports.summary import overview, stretch, summary
from controller.store.queries.report_figures import Period, Statistics, Trouble
from controller.store.queries.report_rows import Digest
from controller.store.queries.schedules import ScheduledTest
from streamswarm import contract

START = dt.datetime(2026, 5, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
NONE = Statistics(count=0, min=None, mean=None, median=None, p95=None, max=None)
SPACE = "\N{NO-BREAK SPACE}"


def figures(median: float, count: int = 100) -> Statistics:
    """Statistics around a median."""
    return Statistics(count=count, min=median / 2, mean=median, median=median, p95=median * 2, max=median * 3)


def line(worker: str = "w", destination: str = "d", **more: Any) -> LineReport:
    """A line of 100 runs that were ok."""
    values: dict[str, Any] = {
        "worker": worker, "destination": destination, "target": "192.0.2.1",
        "account": Account(expected=100, ok=100), "statistics": figures(10), "previous": figures(10),
        "periods": (), "gaps": (),
    }  # fmt: skip
    return LineReport(**(values | more))


def report_on(kind: str = "ping", *lines: LineReport, name: str = "T", **more: Any) -> TestReport:
    """What is known of a test."""
    known = contract.kind(kind)
    test = ScheduledTest(
        id=1, name=name, description="", kind=kind, interval_s=30.0, starts_at=None, ends_at=None,
        paused=False, created_at=START, deleted_at=None,
    )  # fmt: skip
    values: dict[str, Any] = {
        "test": test,
        "kind": known,
        "loss": next((metric for metric in known.metrics if metric.role == "loss"), None),
        "lines": lines,
        "statistics": {known.headline.name: figures(10) if lines else NONE},
        "previous": figures(10),
        "width": HOUR / 6,
        "periods": (),
        "period": HOUR,
        "troubles": (),
        "stretches": (),
        "digest": Digest(rows=0, sha256="0" * 64, query="SELECT 1"),
    }
    return TestReport(**(values | more))


def whole(*tests: TestReport) -> Report:
    """A report of a day."""
    return Report(
        number=1, start=START, end=START + 24 * HOUR, asked_end=START + 24 * HOUR, read_at=START + 25 * HOUR,
        made_by="user:ada", version="0", tests=tests,
    )  # fmt: skip


def said(test: TestReport) -> str:
    """Return its sentences with plain spaces."""
    return " ".join(summary(test)).replace(SPACE, " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


@given(strategies.integers(0, 10**7), strategies.integers(0, 10**7))
def test_a_share_says_all_or_nothing_only_when_it_is(part: int, rest: int) -> None:
    """999,999 of a million is not 100 %, and one of a million is not 0 %."""
    text = share(part, part + rest).replace(SPACE, " ")
    assert (text == "100 %") == (part > 0 and rest == 0)
    assert (text == "0 %") == (part == 0 and rest > 0)


def test_a_good_day_in_words() -> None:
    """All ok, everything measured, no change."""
    assert said(report_on("ping", line(), line("w", "e"))) == (
        "Ping, every 30 s, from 1 worker to 2 destinations. All 200 measured runs were ok. "
        "Every expected run was measured. "
        "RTT average: half of the runs had at most 10 ms, 95 of 100 at most 20 ms. "
        "Against the time of equal length before, no line's median changed by 2 % or more."
    )


def test_a_bad_day_in_words() -> None:
    """Failures with their reason, the worst time, what is lacking, and the biggest change."""
    bad = line(
        "a", "x", account=Account(expected=100, ok=60, failed=20, error=5, missed=5), statistics=figures(15)
    )
    periods = tuple(
        Period(
            start=START + index * HOUR, ok=20, failed=10 if index == 3 else 0, error=0, missed=0, mean=1.0,
            min=1.0, max=1.0, median=1.0, loss=None,
        )
        for index in range(6)
    )  # fmt: skip
    trouble = Trouble(status="failed", source="network", count=20, message="no reply")
    text = said(report_on("ping", bad, line(), periods=periods, troubles=(trouble,)))
    assert "88.9 % of 180 measured runs were ok; 20 runs failed." in text
    assert (
        "90 % of 200 expected runs were measured: 10 runs not delivered, 5 runs missed and 5 runs could not be"
        in text
    )
    assert "The worst time was 2026-05-12, 03:00 to 04:00 UTC: 33.3 % of the runs failed." in text
    assert f"the median of a {ARROW} x rose from 10 ms to 15 ms, which is worse." in text
    assert "Why runs failed: 20 runs: no answer, or an error from the way." in text


def test_nothing_measured_says_nothing_of_the_network() -> None:
    """Neither good nor bad is said where nothing was measured."""
    silent = line(account=Account(expected=100), statistics=NONE)
    text = said(report_on("ping", silent, statistics={"rtt_avg_ms": NONE}))
    assert "Nothing was measured in this time, so nothing is said about the network." in text
    assert "0 % of 100 expected runs were measured: 100 runs not delivered." in text
    assert "were ok" not in text
    assert "nothing came" in said(report_on("ping"))


def test_nothing_is_compared_with_nothing() -> None:
    """Without results before, or with too few, no change is claimed."""
    assert "has no results, so nothing is compared" in said(report_on("ping", line(), previous=NONE))
    few = line(previous=figures(1, count=19))
    assert "fewer than 20 runs" in said(report_on("ping", few, previous=figures(1, count=19)))
    gone = said(report_on("ping", line(previous=None), previous=None))
    assert "before have expired, so nothing is compared" in gone


def test_stretches_of_time_are_named() -> None:
    """Hours within a day, up to midnight, and whole days."""
    assert stretch(START + 3 * HOUR, HOUR) == "2026-05-12, 03:00 to 04:00"
    assert stretch(START + 18 * HOUR, 6 * HOUR) == "2026-05-12, 18:00 to 24:00"
    assert stretch(START, 24 * HOUR) == "2026-05-12"
    assert stretch(START, 7 * 24 * HOUR) == "2026-05-12 to 2026-05-18"


def test_several_tests_have_an_overview() -> None:
    """It names the test with the largest share of failures."""
    bad = report_on("ping", line(account=Account(expected=10, ok=5, failed=5)), name="Bad one")
    text = " ".join(overview(whole(report_on("ping", line()), bad))).replace(SPACE, " ")
    assert text == (
        "2 tests with 2 lines measured 110 runs; 95.5 % of them were ok. "
        "1 test had failed runs, Bad one the largest share (50 %)."
    )
    assert overview(whole(bad)) == []


@pytest.mark.parametrize("kind", contract.kinds())
def test_every_kind_has_its_report(kind: str) -> None:
    """The template draws what the contract says of a kind, with data and without."""
    assert contract.kind(kind).headline.label in compose(whole(report_on(kind, line()), report_on(kind)))


class Markup(HTMLParser):
    """Collects what a browser would make of a document."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.references += [
            f"{name}={value}" for name, value in attrs if name in ("href", "src", "data", "rel", "style")
        ]


def test_names_are_never_markup() -> None:
    """Whatever people call things, the document has the tags that it has with plain names, and refers to nothing."""
    evil = '"><img src=http://127.0.0.1/x><link rel=attachment href=file:///etc/passwd></style><style>@import "x";'
    stretches = (
        Stretch(start=START, end=START + HOUR, interval_us=1, paused=False),
    )  # fmt: skip

    def markup(name: str) -> Markup:
        tested = report_on(
            "ping",
            line(name, name, target=name),
            name=name,
            stretches=stretches,
            troubles=(Trouble(status="failed", source="network", count=1, message=name),),
        )
        parser = Markup()
        parser.feed(compose(whole(tested, tested)))
        return parser

    assert markup(evil).tags == markup("plain").tags
    assert markup(evil).references == []


def test_numbers_that_nobody_reads_have_their_power_of_ten() -> None:
    """Whole ones too that no double holds: workers tell what they like."""
    assert number(10**310) == "1.00e+310"
    assert number(-(10**4200)) == "-1.00e+4200"
    assert number(2e200) == "2.00e+200"
    assert number(10**15) == "1\u202f000\u202f000\u202f000\u202f000\u202f000"
