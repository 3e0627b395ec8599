"""The engine: all runs of echo requests of one event loop, over few sockets, with one timer.

Runs hand their requests to lanes when they are due; what is due at once leaves with one system call. The timer fires
for whatever comes first: a request, a time-out, the end of the wait for a last transmit stamp.
"""

from __future__ import annotations

import asyncio
import errno
import heapq
import itertools
import time

from worker.probing import ProbeFailure
from worker.wire import readiness
from worker.wire.echo import EchoPlan, EchoRecord, EchoSendError, EchoUnavailableError
from worker.wire.icmp.lane import Block, Lane
from worker.wire.icmp.run import Run
from worker.wire.icmp.sockets import Sort
from worker.wire.icmp.tables import WORTHWHILE, Tables

#: A socket that was not used for so long is closed.
IDLE_S = 30.0
_LOOK_S = 5.0
#: How long to wait for transmit stamps when every request has been answered.
_STAMP_GRACE_S = 0.05
#: The kernel switches receive stamps on from a work queue; the first packets must not outrun it.
_STAMP_WARM_UP_S = 0.002
#: How soon to try again where this host had no room for a packet.
_FULL_RETRY_S = 0.001
#: Requests that are handed over before the event loop gets its turn, and of one run at a time.
_MOST_AT_ONCE = 512
_BLOCK = 256


_GONE = {EchoUnavailableError: errno.EPERM, ProbeFailure: errno.ENODEV}


class Engine:
    """See the module. Belongs to one event loop, and to one thread with it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tables = Tables()
        self._lanes: dict[Sort, list[Lane]] = {}
        self._runs: set[Run] = set()
        #: Instant by the loop's clock, a number that keeps their order, run.
        self._due: list[tuple[float, int, Run]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._ticking = False
        #: Set while a packet waits for room in this host's queues.
        self._retry: asyncio.TimerHandle | None = None
        self._ready_s = 0.0
        self._keeper: asyncio.Task[None] | None = None
        #: Messages that answer nothing, of lanes that are closed.
        self._strays_closed = 0

    async def echo(self, plan: EchoPlan) -> EchoRecord:
        """See `worker.wire.icmp.echo`."""
        try:
            run = Run(plan, self._loop.create_future())
            self._lane(run, 1)
        except OSError as error:
            raise EchoSendError(error.errno or 0, error.strerror or str(error)) from error
        self._runs.add(run)
        try:
            warm_up_s = self._ready_s - self._loop.time()
            if warm_up_s > 0:
                await asyncio.sleep(warm_up_s)
            self._wake(run, self._loop.time())
            await run.done
            return run.record()
        finally:
            # What it has sent keeps its sequence numbers for their time; nobody waits for the replies any more.
            run.over = True
            self._runs.discard(run)

    @property
    def sockets(self) -> int:
        """How many sockets are open."""
        return sum(map(len, self._lanes.values()))

    @property
    def strays(self) -> int:
        """How many messages came to its sockets that answer nothing they sent, or not as it was sent."""
        open_lanes = itertools.chain.from_iterable(self._lanes.values())
        return self._strays_closed + sum(lane.strays for lane in open_lanes)

    def close_unused(self) -> None:
        """Close all sockets unless a run is under way."""
        if not self._runs:
            self._close(0.0, held=True)

    def _lane(self, run: Run, count: int) -> Lane:
        """Return a lane with room for requests of a run, opened if need be; raises as `Lane` does."""
        if run.lanes is None:
            run.lanes = self._lanes.setdefault(run.sort, [])
        for lane in run.lanes:
            if lane.has_room(count):
                return lane
        lane = Lane(run.sort, self._tables, gone=self._gone, completed=self._completed)
        if not self.sockets:
            self._ready_s = self._loop.time() + _STAMP_WARM_UP_S
        run.lanes.append(lane)
        for sock, read in lane.readers:
            readiness.add_reader(self._loop, sock, read)
        if self._keeper is None:
            self._keeper = self._loop.create_task(self._keep())
        return lane

    def _wake(self, run: Run, at_s: float) -> None:
        """Have the engine look at a run at an instant, and not before."""
        run.wake_s = at_s
        heapq.heappush(self._due, (at_s, next(self._order), run))
        if self._due[0][2] is run and not self._ticking:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._due[0][0], self._tick) if self._due else None

    def _tick(self) -> None:
        """Do what is due."""
        self._timer = None
        self._ticking = True
        try:
            self._do_due()
        finally:
            # Whatever one run trips over: the others are waiting for the next tick.
            self._ticking = False
            self._arm()

    def _do_due(self) -> None:
        now_s = self._loop.time()
        handed = 0
        while self._due and self._due[0][0] <= now_s and handed < _MOST_AT_ONCE:
            due_s, _, run = heapq.heappop(self._due)
            if run.over or run.wake_s != due_s:
                continue
            if run.next < run.total:
                handed += self._hand_over(run, due_s, now_s)
            else:
                self._give_up(run)
        if handed:
            self._flush()

    def _hand_over(self, run: Run, due_s: float, now_s: float) -> int:
        """Give requests that are due to a lane, and set the instant of the next; returns how many."""
        plan = run.plan
        if plan.burst:
            count, next_s = _BLOCK, now_s
        else:
            step_s = plan.interval_s / run.hosts
            if not run.next:
                due_s = now_s  # the grid begins with the first request, whenever that leaves
            late_s = now_s - due_s
            if late_s < plan.interval_s / 2:
                # The times of the requests stay on their grid; those to several addresses may have been due together.
                count = min(_BLOCK, 1 + int(late_s / step_s))
                next_s = due_s + count * step_s
            else:
                # The host was busy for so long that requests to an address would come too close after another.
                count, next_s = 1, now_s + step_s
        count = min(count, run.total - run.next)
        first = run.next
        run.next += count
        try:
            self._lane(run, count).add(Block(run, first, count, time.monotonic()))
        except (OSError, EchoUnavailableError, ProbeFailure) as error:
            # Another socket had to be opened: the right to, or the interface, is gone since the run began.
            number = error.errno if isinstance(error, OSError) else _GONE[type(error)]
            for index in range(first, first + count):
                run.refuse(index, number or 0)
            if not run.open:
                self._completed(run)
            elif not run.unsent:
                self._gone(run)
        if run.next < run.total and not run.over:
            self._wake(run, next_s)
        return count

    def _flush(self) -> None:
        """Have the lanes send what they were given."""
        waits = False
        for lanes in self._lanes.values():
            for lane in lanes:
                if lane.waiting >= WORTHWHILE:
                    # What comes meanwhile is read by the lane itself; each packet would wake the event loop for nothing.
                    readiness.remove_reader(self._loop, lane.sock)
                    waits = not lane.flush() or waits
                    readiness.add_reader(self._loop, lane.sock, lane.answers.drain)
                elif lane.backlog:
                    waits = not lane.flush() or waits
        if waits and self._retry is None:
            self._retry = self._loop.call_later(_FULL_RETRY_S, self._flush_again)

    def _flush_again(self) -> None:
        self._retry = None
        self._flush()

    def _gone(self, run: Run) -> None:
        """The last request has left: listen for the time-out."""
        if not run.over and run.open:
            self._wake(run, self._loop.time() + run.plan.timeout_s)

    def _completed(self, run: Run) -> None:
        """Everything is answered: end the run, or wait a little for its last transmit stamps."""
        if run.unstamped and not run.stamps_only and run.stamps_expected:
            run.stamps_only = True
            self._wake(run, self._loop.time() + _STAMP_GRACE_S)
        else:
            run.finish()

    def _give_up(self, run: Run) -> None:
        """Its time is over: read what has come until now, and end the run."""
        waited = run.stamps_only
        if run.open or run.unstamped:
            for lane in run.lanes or ():
                lane.read()
            if run.over or run.stamps_only > waited:
                return  # it was completed just now
        run.finish()

    async def _keep(self) -> None:
        """Close sockets that are not used any more; ends with the last, and closes all when it is cancelled."""
        try:
            while self.sockets:
                await asyncio.sleep(_LOOK_S)
                now_s = time.monotonic()
                for lane in itertools.chain.from_iterable(self._lanes.values()):
                    lane.release(now_s)
                self._close(now_s - IDLE_S, held=False)
        finally:
            self._keeper = None
            self._close(float("inf"), held=True)

    def _close(self, unused_since_s: float, *, held: bool) -> None:
        """Close lanes that did not send since an instant; with `held` also those that still hold numbers."""
        for lanes in self._lanes.values():
            for lane in list(lanes):
                if held or (lane.idle and lane.used_s <= unused_since_s):
                    for sock, _ in lane.readers:
                        readiness.remove_reader(self._loop, sock)
                    lane.close()
                    lanes.remove(lane)
                    self._strays_closed += lane.strays
