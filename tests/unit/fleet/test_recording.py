"""Writing down a run while it goes on: in batches, with patience, and with an ear for those who want it to end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest

from controller.errors import StreamSwarmError
from controller.fleet import recording as recordings
from controller.fleet.events import HostRecap, TaskEvent, TaskState
from controller.fleet.operations import OperationError, Recap
from controller.fleet.recording import Recording
from controller.store.operation_notes import Figure, HostNote, Standing, TaskNote, shortened

WELL = HostRecap(host="a", ok=3, changed=2, failed=0, unreachable=False, notes=("3 results wait",))
GONE = HostRecap(host="b", ok=0, changed=0, failed=0, unreachable=True, message="no route")


class Book:
    """A ledger that keeps what it is told, and fails or answers as it is set."""

    def __init__(self) -> None:
        self.batches: list[list[TaskNote]] = []
        self.outcomes: list[HostNote] = []
        self.ends: list[tuple[str, str]] = []
        self.standing = Standing.GOES_ON
        self.failures = 0

    def record(self, notes: Sequence[TaskNote], outcomes: Sequence[HostNote]) -> Standing:
        """Keep it."""
        if self.failures:
            self.failures -= 1
            raise StreamSwarmError("away")
        self.batches.append(list(notes))
        self.outcomes += outcomes
        return self.standing

    def finish(self, state: str, *, error: str, mend: str, figures: Sequence[Figure] = ()) -> None:
        """Keep it."""
        self.ends.append((state, error))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits."""
    monkeypatch.setattr(recordings, "EVERY_S", 0.01)
    monkeypatch.setattr(recordings, "BEAT_S", 0.02)
    monkeypatch.setattr(recordings, "PATIENCE_S", 0.2)


def event(task: str) -> TaskEvent:
    """Make an event."""
    return TaskEvent(host="a", task=task, state=TaskState.CHANGED)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def told(book: Book) -> list[str]:
    """Return the tasks that were told, in order."""
    return [note.task for batch in book.batches for note in batch]


def test_everything_is_told_once_in_its_order_and_in_small_batches() -> None:
    """However many events there are, and although the ledger is away now and then."""
    book = Book()
    book.failures = 2

    def operation(on_event: Callable[[TaskEvent], None], cancelled: Callable[[], bool]) -> Recap:
        for number in range(1200):
            on_event(event(f"task {number}"))
        assert not cancelled()
        return Recap(hosts=(WELL, GONE))

    recording = Recording(book)
    seen: list[TaskEvent] = []
    recap = recording.follow(operation, on_event=seen.append, cancelled=lambda: False)
    assert len(seen) == 1200
    assert told(book) == [f"task {number}" for number in range(1200)]
    assert max(map(len, book.batches)) <= recordings.BATCH
    assert book.outcomes == [
        HostNote(host="a", state="ok", changed=2, message="3 results wait"),
        HostNote(host="b", state="unreachable", changed=0, message="no route"),
    ]
    assert (recap.succeeded, book.ends, recording.trouble) == (False, [("failed", "")], "")


def test_long_messages_make_small_batches() -> None:
    """What a call of the API may carry is never exceeded, and one that is too long by itself still goes."""
    book = Book()
    lengths = [1500] * 100 + [2000] * 3

    def operation(on_event: Callable[[TaskEvent], None], cancelled: Callable[[], bool]) -> Recap:
        for length in lengths:
            on_event(TaskEvent(host="a", task="t", state=TaskState.FAILED, message="x" * length))
            on_event(TaskEvent(host="a", task="t", state=TaskState.SKIPPED))
        return Recap(hosts=())

    Recording(book).follow(operation, cancelled=lambda: False)
    assert [len(note.message) for batch in book.batches for note in batch] == lengths
    assert (
        max(sum(len(note.message) for note in batch) for batch in book.batches) <= recordings.BATCH_CHARACTERS
    )


def test_hosts_that_are_settled_are_told_between_what_happens() -> None:
    """So that progress is seen while others are still to come; in the ledger's order, whatever a batch takes."""
    book = Book()

    def operation(on_event: Callable[[TaskEvent], None], cancelled: Callable[[], bool]) -> Recap:
        on_event(event("first"))
        recording.settle([WELL])
        on_event(event("second"))
        return Recap(hosts=(WELL, GONE), error="the second step went wrong", mend="look at it")

    recording = Recording(book)
    recording.follow(operation, cancelled=lambda: False)
    assert [[note.task for note in batch] for batch in book.batches if batch] == [["first"], ["second"]]
    assert [note.host for note in book.outcomes] == ["a", "a", "b"]
    assert book.ends == [("failed", "the second step went wrong")]


def test_signs_of_life_come_while_nothing_happens() -> None:
    """So that it is not taken for dead."""
    book = Book()
    with Recording(book):
        wait_for(lambda: len(book.batches) > 3)
    assert told(book) == []


@pytest.mark.parametrize(
    ("standing", "ends"), [(Standing.CANCELLED, [("cancelled", "")]), (Standing.LOST, [])]
)
def test_somebody_else_ends_it(standing: Standing, ends: list[tuple[str, str]]) -> None:
    """Cancelled, it is ended and told; taken for dead, it is ended, and what others wrote stays."""
    book = Book()
    book.standing = standing

    def operation(on_event: Callable[[TaskEvent], None], cancelled: Callable[[], bool]) -> Recap:
        wait_for(cancelled)
        return Recap(hosts=(), cancelled=True)

    keeper = Recording(book, ends_when_lost=True)
    keeper.follow(operation, cancelled=lambda: False, interrupted="the keeper was stopped")
    assert book.ends == ends


def test_a_command_whose_record_is_lost_goes_on_and_says_so() -> None:
    """A controller that was away ends the record, not the work; whoever cancels it ends it still."""
    book = Book()
    book.standing = Standing.LOST

    def operation(on_event: Callable[[TaskEvent], None], cancelled: Callable[[], bool]) -> Recap:
        wait_for(lambda: recording.standing is Standing.LOST)
        on_event(event("after"))
        assert not cancelled()
        return Recap(hosts=(WELL,))

    recording = Recording(book)
    assert recording.follow(operation, cancelled=lambda: False).succeeded
    assert (book.ends, told(book)) == ([], [])
    assert "the controller has ended the record" in recording.trouble
    book.standing = Standing.CANCELLED
    cancelled = Recording(book)
    with cancelled:
        wait_for(lambda: cancelled.stopped)


@pytest.mark.parametrize(
    ("interrupted", "end"), [("", ("cancelled", "")), ("stopped here", ("interrupted", "stopped here"))]
)
def test_it_is_ended_from_here(interrupted: str, end: tuple[str, str]) -> None:
    """A person who stops it cancels it; a keeper that is told to stop interrupts it."""
    book = Book()
    recap = Recap(hosts=(), cancelled=True)
    Recording(book).follow(lambda **_: recap, cancelled=lambda: True, interrupted=interrupted)
    assert book.ends == [end]


@pytest.mark.parametrize(
    ("error", "said"),
    [(OperationError("reached no host"), "reached no host"), (ValueError("x"), "broke it off")],
)
def test_what_could_not_run_is_told_with_its_reason(error: Exception, said: str) -> None:
    """Faults of the program are told too, without their inside."""
    book = Book()

    def operation(**_: object) -> Recap:
        raise error

    with pytest.raises(type(error)):
        Recording(book).follow(operation, cancelled=lambda: False)
    [(state, why)] = book.ends
    assert state == "failed"
    assert said in why


def test_a_ledger_that_stays_away_is_given_up_and_said() -> None:
    """The run itself does not suffer."""
    book = Book()
    book.failures = 10_000
    recording = Recording(book)
    assert recording.follow(lambda **_: Recap(hosts=(WELL,)), cancelled=lambda: False).succeeded
    assert (book.ends, recording.trouble) == ([], "away")


def test_texts_are_made_fit_to_keep() -> None:
    """Control characters go, and of a long text its middle."""
    assert shortened("a\x1b[31mb\nc\0") == "a�[31mb\nc�"
    long = shortened("begin" + "x" * 5000 + "end", 100)
    assert (len(long), long[:6], long[-4:]) == (100, "beginx", "xend")
