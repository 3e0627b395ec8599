"""What `streamswarm up` tells while it starts: steps, then where everything is, or what stood in the way.

A detached supervisor sends these as JSON lines through a pipe to the command that a person sees. Secrets
travel only there: they are written to no file and no log.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import BinaryIO, Protocol, TextIO

from controller import assets


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something begins."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Everything runs and is healthy."""

    #: Address of the dashboard.
    web_url: str
    #: Logs in once, for a few minutes.
    login_url: str
    #: Name of the administrator.
    administrator: str
    #: Generated at the first start; None later, when nobody knows it but its owner.
    password: str | None
    #: Names of the example tests made at the first start.
    examples: tuple[str, ...]
    #: Kinds that this machine cannot run: kind, reason, mending command.
    unavailable: tuple[tuple[str, str, str], ...]
    data_dir: str
    elapsed_s: float


@dataclass(frozen=True, kw_only=True)
class Failed:
    """Nothing runs; everything that was started has been stopped."""

    text: str
    exit_code: int


Event = Step | Ready | Failed
_KINDS = {"Step": Step, "Ready": Ready, "Failed": Failed}


class Listener(Protocol):
    """Takes events as they happen."""

    def __call__(self, event: Event) -> None:
        """Take one event."""


def to_pipe(descriptor: int) -> Listener:
    """Return a listener that writes to a pipe, and closes it after the last event."""
    pipe = os.fdopen(descriptor, "w", encoding="utf-8")

    def listen(event: Event) -> None:
        if pipe.closed:
            return
        try:
            print(json.dumps([type(event).__name__, asdict(event)]), file=pipe, flush=True)
        except BrokenPipeError:  # the command was interrupted; the supervisor goes on
            return
        if not isinstance(event, Step):
            pipe.close()

    return listen


def from_pipe(pipe: BinaryIO) -> Iterator[Event]:
    """Yield the events that come through a pipe, until its end."""
    for line in pipe:
        name, values = json.loads(line)
        if name == "Ready":
            values["unavailable"] = tuple(tuple(entry) for entry in values["unavailable"])
            values["examples"] = tuple(values["examples"])
        yield _KINDS[name](**values)


def to_terminal(stream: TextIO = sys.stdout, *, detached: bool = False) -> Listener:
    """Return a listener that writes for people."""

    def listen(event: Event) -> None:
        if isinstance(event, Step):
            print(f"  {event.text}", file=stream, flush=True)
        elif isinstance(event, Ready):
            print(_welcome(event, detached=detached), file=stream, flush=True)

    return listen


def _welcome(ready: Ready, *, detached: bool) -> str:
    lines = [
        "",
        f"StreamSwarm is up and healthy after {ready.elapsed_s:.1f} s.",
        "",
        f"  Dashboard    {ready.web_url}",
        f"  Log in once  {ready.login_url}",
    ]
    if ready.password is None:
        lines.append(
            f"  Account      {ready.administrator} (password as set; a new one: streamswarm user reset {ready.administrator})"
        )
    else:
        lines.append(f"  Account      {ready.administrator}, password {ready.password} (shown only now)")
    if ready.examples:
        lines.append(f"  Measuring    {', '.join(ready.examples)}, every 2 s")
    for kind, reason, mend in ready.unavailable:
        lines += [f"  Not here     {kind}: {reason}", f"               mend it with: {mend}"]
    stop = "make down, or streamswarm down" if assets.checkout() is not None else "streamswarm down"
    lines += [
        f"  Data         {ready.data_dir}",
        f"  Stop         {stop if detached else 'press Ctrl-C'}; the data stay",
        "",
    ]
    return "\n".join(lines)
