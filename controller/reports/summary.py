"""What happened, in plain words: a few sentences for each test, from figures alone. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from controller.planning.schedule_words import pace_words
from controller.quantities import plural, quantity, share
from controller.reports.records import LineReport, Report, TestReport
from controller.store.queries.report_figures import Period

#: What is blamed for a run that did not end well, as it stands in a sentence.
SOURCES = {
    "none": "no reason given",
    "target": "the destination answered wrongly or refused",
    "network": "no answer, or an error from the way",
    "resolver": "the name could not be resolved",
    "policy": "the worker's own policy forbids it",
    "vantage": "the worker's host could not measure",
    "schedule": "the run was due and could not start",
    "internal": "a fault of the worker itself",
}
ENDINGS = {"ok": "ok", "failed": "failed", "error": "not measured", "missed": "missed"}
#: Medians of fewer runs than this are not compared.
_FEWEST = 20
#: A change that is smaller is none worth a sentence.
_LEAST_CHANGE = 0.02


def overview(report: Report) -> list[str]:
    """Return what a reader in a hurry should know of the whole report."""
    if len(report.tests) == 1:
        return []
    sentences = []
    measured = sum(test.account.measured for test in report.tests)
    well = sum(test.account.ok for test in report.tests)
    lines = sum(len(test.lines) for test in report.tests)
    if measured:
        sentences.append(
            f"{plural(len(report.tests), 'test')} with {plural(lines, 'line')} measured {plural(measured, 'run')}; "
            f"{share(well, measured)} of them were ok."
        )
    else:
        sentences.append(f"{plural(len(report.tests), 'test')}; none of them measured anything in this time.")
    troubled = [test for test in report.tests if test.account.failed]
    if troubled:
        worst = max(troubled, key=lambda test: test.account.failed / test.account.measured)
        sentences.append(
            f"{plural(len(troubled), 'test')} had failed runs, {worst.test.name} the largest share "
            f"({share(worst.account.failed, worst.account.measured)})."
        )
    elif measured:
        sentences.append("No run failed.")
    return sentences


def summary(test: TestReport) -> list[str]:
    """Return the sentences of one test."""
    sentences = [_what(test), *_how(test)]
    if test.account.measured:
        sentences += [*_figures(test), *_worst(test), *_change(test)]
    sentences += _failures(test)
    return sentences


def moment(instant: dt.datetime) -> str:
    """Return an instant in UTC to the minute."""
    return f"{instant.astimezone(dt.UTC):%Y-%m-%d %H:%M}"


def stretch(start: dt.datetime, length: dt.timedelta) -> str:
    """Return a stretch of time in UTC: `2026-05-12, 03:00 to 04:00`, or days."""
    end = start + length
    if length >= dt.timedelta(days=1):
        last = end - dt.timedelta(days=1)
        return f"{start:%Y-%m-%d}" if last == start else f"{start:%Y-%m-%d} to {last:%Y-%m-%d}"
    closing = (
        f"{end:%H:%M}"
        if end.date() == start.date()
        else "24:00"
        if f"{end:%H:%M}" == "00:00"
        else f"{end:%H:%M}"
    )
    return f"{start:%Y-%m-%d}, {start:%H:%M} to {closing}"


def _what(test: TestReport) -> str:
    workers = {line.worker for line in test.lines}
    destinations = {line.destination for line in test.lines if line.destination}
    how = pace_words(test.test)
    if not test.lines:
        return f"{test.kind.label}, {how}. No worker was to run it in this time, and nothing came."
    if not destinations:
        return f"{test.kind.label}, {how}, on the {'host' if len(workers) == 1 else 'hosts'} of {plural(len(workers), 'worker')}."
    aim = plural(len(destinations), "destination")
    return f"{test.kind.label}, {how}, from {plural(len(workers), 'worker')} to {aim}."


def _how(test: TestReport) -> Iterable[str]:
    account = test.account
    if not test.lines:
        return
    if not account.measured:
        yield "Nothing was measured in this time, so nothing is said about the network."
    elif account.failed:
        yield (
            f"{share(account.ok, account.measured)} of {plural(account.measured, 'measured run')} were ok; "
            f"{plural(account.failed, 'run')} failed."
        )
    else:
        yield f"All {plural(account.measured, 'measured run')} were ok."
    if account.expected:
        lacking = account.expected - account.covered
        if lacking:
            parts = [
                text
                for count, text in (
                    (account.undelivered, "not delivered"),
                    (account.missed, "missed"),
                    (account.error, "could not be measured"),
                )
                if count
                for text in (f"{plural(count, 'run')} {text}",)
            ]
            yield (
                f"{share(account.covered, account.expected)} of "
                f"{plural(account.expected, 'expected run')} were measured"
                + (f": {_listed(parts)}." if parts else ".")
            )
        else:
            yield "Every expected run was measured."


def _figures(test: TestReport) -> Iterable[str]:
    figures, metric = test.headline, test.kind.headline
    if figures.count:
        yield (
            f"{metric.label}: half of the runs had at most {quantity(figures.median, metric.unit)}, 95 of 100 "
            f"at most {quantity(figures.p95, metric.unit)}."
        )


def _worst(test: TestReport) -> Iterable[str]:
    busy = [period for period in test.periods if period.ok + period.failed]
    if len(busy) < 2:
        return
    usual = sorted(period.ok + period.failed for period in busy)[len(busy) // 2]
    # A sliver at an edge of the range, with a run or two in it, is no period to judge.
    whole = [period for period in busy if period.ok + period.failed >= max(3, usual / 4)]
    failing = [period for period in whole if period.failed]
    if failing:
        worst = max(failing, key=_failing)
        yield (
            f"The worst time was {stretch(worst.start, test.period)} UTC: "
            f"{share(worst.failed, worst.ok + worst.failed)} of the runs failed."
        )
        return
    metric = test.kind.headline
    if metric.better == "neither":
        return
    known = [(period.median, period) for period in whole if period.median is not None]
    if len(known) < 2:
        return
    pick = max if metric.better == "lower" else min
    median, period = pick(known, key=lambda pair: pair[0])
    usual_median = test.headline.median
    if usual_median and abs(median - usual_median) / abs(usual_median) >= _LEAST_CHANGE:
        yield (
            f"The {'highest' if metric.better == 'lower' else 'lowest'} {_lower(metric.label)} was in the time "
            f"{stretch(period.start, test.period)} UTC, with a median of {quantity(median, metric.unit)}."
        )


def _failing(period: Period) -> float:
    return period.failed / (period.ok + period.failed)


def _change(test: TestReport) -> Iterable[str]:
    if test.previous is None:
        yield "Results of the time of equal length before have expired, so nothing is compared with it."
        return
    if not test.previous.count:
        yield "The time of equal length before has no results, so nothing is compared with it."
        return
    compared = [compared for line in test.lines if (compared := _compared(line)) is not None]
    if not compared:
        yield f"There are fewer than {_FEWEST} runs here or before, so nothing is compared."
        return
    change, before, line = max(compared, key=lambda triple: abs(triple[0]))
    if abs(change) < _LEAST_CHANGE:
        least = quantity(_LEAST_CHANGE * 100, "%")
        yield f"Against the time of equal length before, no line's median changed by {least} or more."
        return
    metric = test.kind.headline
    word = "rose" if change > 0 else "fell"
    judged = {("lower", True): "worse", ("higher", False): "worse"}.get((metric.better, change > 0), "better")
    verdict = "" if metric.better == "neither" else f", which is {judged}"
    where = f" of {line.name}" if len(test.lines) > 1 else ""
    biggest = "The biggest change against" if len(test.lines) > 1 else "Against"
    yield (
        f"{biggest} the time of equal length before: the median{where} {word} from "
        f"{quantity(before, metric.unit)} to {quantity(line.statistics.median, metric.unit)}{verdict}."
    )


def _compared(line: LineReport) -> tuple[float, float, LineReport] | None:
    """Return the relative change of a line's median and the median before; None where too little is known."""
    if line.previous is None or min(line.previous.count, line.statistics.count) < _FEWEST:
        return None
    before, now = line.previous.median, line.statistics.median
    if before is None or now is None or not before:
        return None
    return (now - before) / abs(before), before, line


def _failures(test: TestReport) -> Iterable[str]:
    failed = [trouble for trouble in test.troubles if trouble.status == "failed"]
    if failed:
        parts = [f"{plural(trouble.count, 'run')}: {SOURCES[trouble.source]}" for trouble in failed]
        yield f"Why runs failed: {'; '.join(parts)}."


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _lower(label: str) -> str:
    """Return a label as it stands within a sentence: abbreviations keep their capitals."""
    return label if len(label) > 1 and label[1].isupper() else label[0].lower() + label[1:]
