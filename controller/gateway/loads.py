"""What one ingest transaction stores: results of several sessions, packed, and where each came from."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from controller.gateway.alike import Block, Flags, Integers
from controller.gateway.packing import PackedResult


@dataclass(frozen=True, kw_only=True)
class Portion:
    """What one session has to store, in spool order."""

    worker_id: uuid.UUID
    epoch: int
    spool_id: str
    seqs: Sequence[int]
    #: Result messages as they came, one for each sequence number.
    wire: Sequence[bytes]

    @property
    def last_seq(self) -> int:
        """The sequence number that the watermark is advanced to."""
        return self.seqs[-1]


@dataclass(frozen=True, kw_only=True)
class Single:
    """A result that was looked at by itself."""

    #: The rows; None when the result is not stored.
    packed: PackedResult | None
    #: Why it can never be stored; empty for one that nobody wants any more.
    fault: str = ""
    #: Whether nobody wants it because its time is over.
    expired: bool = False


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One spooled record on its way into the database."""

    seq: int
    #: The rows; None when the result is not stored.
    packed: PackedResult | None
    #: Why it can never be stored; empty for one that nobody wants any more.
    fault: str
    #: The Result message as it came, for the quarantine.
    payload: bytes


@dataclass(frozen=True)
class Load:
    """Portions and their packed results. A place counts the results through all portions, from 0."""

    portions: Sequence[Portion]
    blocks: Sequence[Block]
    #: By place: what is in no block.
    singles: Mapping[int, Single]

    @cached_property
    def seqs(self) -> Integers:
        """Sequence numbers by place."""
        return np.concatenate([np.asarray(portion.seqs, dtype=np.int64) for portion in self.portions])

    @cached_property
    def owners(self) -> Integers:
        """Positions of the portions by place."""
        return owners(self.portions)

    def belong_to(self, positions: Collection[int]) -> Flags:
        """Return by place whether it is one of these portions'."""
        portions = np.zeros(len(self.portions), dtype=np.bool_)
        portions[list(positions)] = True
        flags: Flags = portions[self.owners]
        return flags

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *np.cumsum([len(portion.seqs) for portion in self.portions]).tolist()]

    @cached_property
    def earliest_us(self) -> int:
        """The earliest due instant of everything that has rows, in microseconds; the largest number when nothing has."""
        instants = [int(block.scheduled_at_us.min()) for block in self.blocks if len(block)]
        instants += [
            single.packed.scheduled_at_us for single in self.singles.values() if single.packed is not None
        ]
        return min(instants, default=int(np.iinfo(np.int64).max))

    def due(self) -> set[tuple[str, int]]:
        """Return kind and due instant, in microseconds, of everything that has rows."""
        return {
            (block.kind, due_us) for block in self.blocks for due_us in block.scheduled_at_us.tolist()
        } | {
            (single.packed.kind, single.packed.scheduled_at_us)
            for single in self.singles.values()
            if single.packed is not None
        }

    def worker_id(self, place: int) -> uuid.UUID:
        """Return whose result lies at a place."""
        return self.portions[int(self.owners[place])].worker_id

    def places(self, position: int) -> range:
        """Return the places of a portion's results."""
        return range(self._starts[position], self._starts[position + 1])

    def entry(self, place: int) -> tuple[Portion, Entry]:
        """Return one record and the portion that it belongs to."""
        position = int(self.owners[place])
        portion = self.portions[position]
        index = place - self._starts[position]
        single = self.singles.get(place)
        if single is None:
            single = Single(packed=self._in_block[place])
        return portion, Entry(
            seq=portion.seqs[index], packed=single.packed, fault=single.fault, payload=portion.wire[index]
        )

    def piece(self, places: range) -> Load:
        """Return some successive results of one portion as a load of their own."""
        position = int(self.owners[places.start])
        portion = self.portions[position]
        first = places.start - self._starts[position]
        own = slice(first, first + len(places))
        blocks = [
            replace(some, places=some.places - places.start)
            for some in (
                block.chosen((block.places >= places.start) & (block.places < places.stop))
                for block in self.blocks
            )
            if len(some)
        ]
        return Load(
            portions=[replace(portion, seqs=portion.seqs[own], wire=portion.wire[own])],
            blocks=blocks,
            singles={
                place - places.start: single for place, single in self.singles.items() if place in places
            },
        )

    @cached_property
    def _in_block(self) -> dict[int, PackedResult]:
        """What blocks hold, row by row: for the slowest way into the database, which is rare."""
        return {
            place: PackedResult(
                kind=block.kind,
                job_id=job_id,
                scheduled_at_us=due_us,
                missed=False,
                row=row.tobytes(),
                children=(),
            )
            for block in self.blocks
            for place, job_id, due_us, row in zip(
                block.places.tolist(),
                block.job_ids.tolist(),
                block.scheduled_at_us.tolist(),
                block.rows,
                strict=True,
            )
        }


def owners(portions: Sequence[Portion]) -> Integers:
    """Return the positions of the portions that results belong to, by place."""
    return np.repeat(np.arange(len(portions)), [len(portion.seqs) for portion in portions])


def joined(portions: Sequence[Portion], loads: Sequence[Load]) -> Load:
    """Return what was prepared piece by piece, in the order of places, as one load."""
    blocks: list[Block] = []
    singles: dict[int, Single] = {}
    first = 0
    for load in loads:
        blocks += [replace(block, places=block.places + first) for block in load.blocks]
        singles |= {first + place: single for place, single in load.singles.items()}
        first += sum(len(portion.seqs) for portion in load.portions)
    return Load(portions=portions, blocks=blocks, singles=singles)
