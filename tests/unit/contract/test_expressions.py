"""Expressions over metrics: what they mean, and what is said of those that are wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamswarm import contract
from streamswarm.expression_parser import parse
from streamswarm.expressions import ExpressionError, Measured

PING = contract.kind("ping")
HTTP = contract.kind("http")
DNS = contract.kind("dns")
SYSTEM = contract.kind("system")


def truth(text: str, kind: Any = PING, /, **metrics: Any) -> bool | None:
    """Whether an expression holds for these metrics."""
    return parse(text, kind).truth(Measured(metrics=metrics))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("rtt_avg_ms < 20", True),
        ("rtt_avg_ms<20", True),
        ("rtt_avg_ms < 10", False),
        ("rtt_avg_ms <= 10", True),
        ("rtt_avg_ms >= 10 and loss_pct == 0", True),
        ("rtt_avg_ms > 10 or loss_pct == 0", True),
        ("not rtt_avg_ms > 10", True),
        ("not (rtt_avg_ms > 5 and loss_pct == 0)", False),
        ("rtt_avg_ms > 5 and rtt_avg_ms < 9 or loss_pct == 0", True),
        ("rtt_avg_ms > 5 and (rtt_avg_ms < 9 or loss_pct != 0)", False),
        ("rtt_avg_ms in (9, 10, 11)", True),
        ("rtt_avg_ms in (9, 11)", False),
        ("rtt_avg_ms == 1e1", True),
        ("rtt_avg_ms > -5", True),
        ("rtt_avg_ms == .01 s", True),
        ("rtt_avg_ms < 10000 us", False),
        ("rtt_avg_ms <= 10000us", True),
        ("loss_pct < 5 %", True),
        ("kernel_timestamps", True),
        ("kernel_timestamps == true", True),
        ("not kernel_timestamps", False),
        ("kernel_timestamps != true", False),
    ],
)
def test_an_expression_means_what_it_says(text: str, holds: bool) -> None:
    """Operators, precedence, units and truth values, for an average of 10 ms without loss."""
    assert truth(text, rtt_avg_ms=10.0, loss_pct=0.0, kernel_timestamps=True) is holds


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("rtt_avg_ms < 20", None),
        ("not rtt_avg_ms < 20", None),
        ("rtt_avg_ms < 20 and loss_pct == 100", None),
        ("rtt_avg_ms < 20 and loss_pct == 0", False),
        ("rtt_avg_ms < 20 or loss_pct == 100", True),
        ("rtt_avg_ms < 20 or loss_pct == 0", None),
    ],
)
def test_what_was_not_measured_is_neither_true_nor_false(text: str, holds: bool | None) -> None:
    """With all packets lost there is no RTT: only what holds or fails without it is known."""
    assert truth(text, rtt_avg_ms=None, loss_pct=100.0) is holds


def test_bytes_and_rates_are_converted() -> None:
    """Decimal and binary multiples, and bits, become the metric's own unit."""
    assert truth("body_bytes == 1 KiB", HTTP, body_bytes=1024)
    assert truth("body_bytes <= 1 kB", HTTP, body_bytes=1000)
    rate = next(metric for child in SYSTEM.children for metric in child.metrics if metric.unit == "By/s")
    group = next(child.name for child in SYSTEM.children if rate in child.metrics)
    expression = parse(f"{group}[*].{rate.name} < 8 Mbit/s", SYSTEM)
    assert expression.truth(Measured(metrics={}, children={group: {"a": {rate.name: 999_999.0}}})) is True
    assert expression.truth(Measured(metrics={}, children={group: {"a": {rate.name: 1e6}}})) is False


def test_rows_of_a_group() -> None:
    """One row by its key, every row by a star; no row at all is not measured."""
    rows = {"disks": {"/": {"used_pct": 50.0}, "/var": {"used_pct": 95.0}}}
    measured = Measured(metrics={}, children=rows)
    assert parse('disks["/"].used_pct < 90', SYSTEM).truth(measured) is True
    assert parse("disks['/var'].used_pct < 90", SYSTEM).truth(measured) is False
    assert parse("disks[*].used_pct < 90", SYSTEM).truth(measured) is False
    assert parse("disks[*].used_pct < 99", SYSTEM).truth(measured) is True
    assert parse('disks["/home"].used_pct < 90', SYSTEM).truth(measured) is None
    assert parse("disks[*].used_pct < 90", SYSTEM).truth(Measured(metrics={})) is None
    said = [str(reading) for reading in parse("disks[*].used_pct < 90", SYSTEM).readings(measured)]
    assert said == ['disks["/"].used_pct was 50 %', 'disks["/var"].used_pct was 95 %']


def test_readings_are_for_people() -> None:
    """Values come rounded, with their unit, and what is missing says so."""
    readings = parse("rtt_avg_ms < 1 or loss_pct > 1 or duplicates > 3 or kernel_timestamps", PING).readings(
        Measured(metrics={"rtt_avg_ms": 12.345678, "loss_pct": 0.0123456, "duplicates": 1234567})
    )
    assert [str(reading) for reading in readings] == [
        "rtt_avg_ms was 12.346 ms",
        "loss_pct was 0.0123 %",
        "duplicates was 1234567",
        "kernel_timestamps was not measured",
    ]


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("", "is empty", 1),
        ("rtt_avg < 20", "did you mean `rtt_avg_ms`?", 1),
        ("xyz < 20", "there are packets_sent", 1),
        ("rtt_avg_ms < 20 %", "the unit `%` is wrong: `rtt_avg_ms` is in ms", 17),
        ("rtt_avg_ms < 20 Mbit/s", "the unit `Mbit/s` is wrong", 17),
        ("packets_sent > 3 ms", "`packets_sent` has no unit", 18),
        ("rtt_avg_ms", "is a number; compare it", 11),
        ("rtt_avg_ms = 3", "write `==`", 12),
        ("kernel_timestamps = true", "write `==`", 19),
        ("rtt_avg_ms < 3 && loss_pct == 0", "write `and`", 16),
        ("!kernel_timestamps", "write `not`", 1),
        ("rtt_avg_ms < true", "is a number, not true or false", 14),
        ("kernel_timestamps == 1", "is true or false, not a number", 22),
        ("kernel_timestamps < true", "compare it with `==`", 19),
        ("rtt_avg_ms < ", "nothing stands where a number must", 14),
        ("rtt_avg_ms < loss_pct", "`loss_pct` stands where a number must", 14),
        ("20 > rtt_avg_ms", "`20` stands where a metric", 1),
        ("(rtt_avg_ms < 20", "`)` is missing", 17),
        ("rtt_avg_ms < 20)", "`)` is not expected here", 16),
        ("rtt_avg_ms < 20 loss_pct == 0", "`loss_pct` is not expected here; join comparisons", 17),
        ("1 < rtt_avg_ms < 20", "`1` stands where a metric", 1),
        ("rtt_avg_ms < 20 < 30", "join comparisons with `and`", 17),
        ("rtt_avg_ms in 20", "`(` is missing", 15),
        ("rtt_avg_ms in ()", "`)` stands where a number must", 16),
        ("__import__('os')", "is not a metric", 1),
        ("rtt_avg_ms; 1", "is not understood", 11),
        ("rtt_avg_ms < 1e999", "`1e999` is too large", 14),
        ("rtt_avg_ms < 20 # ok", "`# ok` is not understood", 17),
        ('disks["/"].used_pct < 90', "is no group of rows of `ping`; there are by_address", 1),
        ("(" * 21 + "loss_pct == 0" + ")" * 21, "nested more than 20 deep", 21),
        ("not " * 21 + "loss_pct == 0", "nested more than 20 deep", 81),
        ("loss_pct == 0 or " * 58, "has more than", None),
        ("x" * 1001, "has 1001 characters", 1000),
    ],
)
def test_a_wrong_expression_is_told_with_its_column(text: str, message: str, column: int | None) -> None:
    """Each fault is one message that says what, where and what would be right."""
    with pytest.raises(ExpressionError) as caught:
        parse(text, PING)
    assert message in str(caught.value)
    if column is not None:
        assert caught.value.column == column


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("disks[/].used_pct < 90", "named in quotes"),
        ('disks["/"] < 90', "`.` is missing"),
        ('disks["/"].used < 90', "did you mean `used_pct`?"),
        ('disk["/"].used_pct < 90', "there are"),
        ("disks < 90", "is not a metric of `system`"),
    ],
)
def test_a_wrong_row_is_told(text: str, message: str) -> None:
    """Faults about rows of a group."""
    with pytest.raises(ExpressionError, match=re.escape(message)):
        parse(text, SYSTEM)


@given(st.text(max_size=60))
def test_no_text_does_anything_but_parse_or_say_why_not(text: str) -> None:
    """Whatever is handed in, the answer is an expression or an ExpressionError."""
    try:
        parse(text, PING)
    except ExpressionError as error:
        assert 1 <= error.column <= len(text) + 1


_WORDS = st.sampled_from(
    ["rtt_avg_ms", "loss_pct", "kernel_timestamps", "disks", "<", "==", "in", "(", ")", "and", "or", "not", "20",
     "true", "%", "ms", "/", ",", "[", "]", "*", ".", '"x"', "="]
)  # fmt: skip


@given(st.lists(_WORDS, max_size=30).map(" ".join), st.sampled_from([PING, HTTP, DNS, SYSTEM]))
def test_no_sentence_of_its_own_words_breaks_the_parser(text: str, kind: Any) -> None:
    """Sentences of the grammar's words parse, and then have a truth, or say why not."""
    try:
        expression = parse(text, kind)
    except ExpressionError:
        return
    assert expression.truth(Measured(metrics={})) in (True, False, None)
