"""A stream collects what is new, says it at most once a second, and ends."""

from __future__ import annotations

import threading
import time

import pytest

from web.live import Stream, Update, events, parse_payloads


def test_a_stream_that_is_heard_begins_with_everything() -> None:
    """Whoever opens a stream is told to fetch: what came before is not known."""
    assert Stream(listening=True).wait(0.01) == Update(tests=None, listening=True)


def test_results_are_collected_until_asked() -> None:
    """Several notices become one update, sorted and without repetitions; then there is nothing new."""
    stream = Stream(listening=True)
    stream.wait(0)
    stream.add(frozenset({5, 2}))
    stream.add(frozenset({5, 9}))
    assert stream.wait(0) == Update(tests=(2, 5, 9), listening=True)
    assert stream.wait(0) is None


def test_too_many_tests_become_everything() -> None:
    """An event stays small however many tests have results."""
    stream = Stream(listening=True)
    stream.wait(0)
    stream.add(frozenset(range(600)))
    assert stream.wait(0) == Update(tests=None, listening=True)


def test_operations_are_told_beside_results() -> None:
    """They are collected like tests, and one does not wait for the other."""
    stream = Stream(listening=True)
    stream.wait(0)
    stream.add_operations(frozenset({4, 3}))
    stream.add_operations(frozenset({4}))
    assert stream.wait(0) == Update(tests=(), listening=True, operations=(3, 4))
    assert stream.wait(0) is None
    stream.add(frozenset({1}))
    stream.add_operations(frozenset({7}))
    said: list[str] = []
    for text in events(stream, heartbeat_s=0.01, coalesce_s=0, life_s=60):
        said.append(text)
        if text.startswith("event: operations"):
            stream.end()
    assert said[1:] == ["event: results\ndata: [1]\n\n", "event: operations\ndata: [7]\n\n"]


def test_losing_the_database_is_told_once() -> None:
    """The page learns that events stopped, and that they are back."""
    stream = Stream(listening=True)
    stream.wait(0)
    stream.set_listening(False)
    assert stream.wait(0) == Update(tests=(), listening=False)
    assert stream.wait(0) is None
    stream.set_listening(True)
    stream.add(None)
    assert stream.wait(0) == Update(tests=None, listening=True)


def test_a_waiting_stream_wakes_at_once() -> None:
    """What arrives while a stream waits is handed on without delay."""
    stream = Stream(listening=True)
    stream.wait(0)
    threading.Timer(0.05, stream.add, [frozenset({1})]).start()
    begun = time.monotonic()
    assert stream.wait(5) == Update(tests=(1,), listening=True)
    assert time.monotonic() - begun < 2


def test_the_text_of_a_stream() -> None:
    """Ready, results, a heartbeat when nothing comes, and the end of its life."""
    stream = Stream(listening=True)
    slept: list[float] = []
    ticks = iter([0.0, 0.0, 1.0, 2.0, 99.0])
    text = events(stream, heartbeat_s=0.01, life_s=10, clock=lambda: next(ticks), sleep=slept.append)
    assert next(text) == "retry: 2000\n\n"
    assert next(text) == "event: ready\ndata: {}\n\n"
    stream.add(frozenset({3}))
    assert next(text) == "event: results\ndata: [3]\n\n"
    assert next(text) == "event: alive\ndata: {}\n\n"
    assert list(text) == []
    assert slept == [1.0, 1.0]


def test_an_ended_stream_stops() -> None:
    """When the process ends, streams end at once instead of at their next heartbeat."""
    stream = Stream(listening=False)
    stream.end()
    assert list(events(stream, heartbeat_s=60)) == ["retry: 2000\n\n"]


@pytest.mark.parametrize(
    ("payloads", "tests"),
    [(["1,2", "2"], {1, 2}), ([""], None), (["1,x"], None), (["1", "all"], None), (["٣"], None)],
)
def test_payloads_that_are_not_understood_mean_anything(payloads: list[str], tests: set[int] | None) -> None:
    """A notice in a form that is not known makes pages fetch, instead of being lost."""
    assert parse_payloads(payloads) == (None if tests is None else frozenset(tests))
