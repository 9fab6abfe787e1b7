"""What the processes of one worker tell each other: memory that a pool's parent shares with the children it forks.

A child writes who it is and what it is at, and the parent reads that whenever it likes, also while the child computes
without ever giving a thread of its own a turn. Writing takes a microsecond or two and waits for nobody.

::

    header │ pids: one per seat, 0 is free │ seats: identity, what it is at, its drain, its main thread's attempt, …

There are several seats for each of the pool's places: a child that has died keeps its seat until the parent has dealt
with what it held, while its successor in the same place takes the next one.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

PLACES = 512
"""The most processes of one pool that are looked after; memory that is never touched costs nothing."""

SEATS_PER_PLACE = 4
"""So many processes may die in one place before the parent deals with the first; of others, the leases expire."""

_TRIES = 8
"""A record that is being written is read again at once, so often; then at the parent's next look."""

_HEADER = 64
_PHASE, _EVENTS, _CLOSED, _PARENT = 0, 1, 8, 16
_PID = struct.Struct("<I")
_TIME = struct.Struct("<d")

_HOLDER, _BUSY, _ASKED, _LISTENS, _LEAVING, _MAIN, _THREAD, _DRAIN = 0, 16, 17, 18, 24, 32, 320, 608
_SEAT = 1024
_SEQUENCE = struct.Struct("<I")
_ATTEMPT = struct.Struct("<IHxxdd256s")  # sequence, the text's length, deadline, stopped, text
_LENGTH = struct.Struct("<H")
_LENGTH_AT, _DEADLINE, _STOPPED = 4, 8, 16  # in the record
_TEXT = struct.Struct("<IHxx400s")


class Phase(IntEnum):
    """How far a worker has come with its end."""

    WORK = 0
    CLOSING = 1
    """It claims nothing more; what runs may end within the grace."""
    OVER = 2
    """The grace is over: what runs is handed back."""


class Attempt(NamedTuple):
    """What runs in a process."""

    lease: str
    """``run key fence`` of the claim that it runs under."""
    deadline: float
    """On the monotonic clock, which all processes share; 0: none."""
    stopped: float
    """When it was interrupted, as its claim is lost; 0: it was not."""
    sequence: int
    """Another attempt has another one, even under the same lease."""
    fused: str = ""
    """The node that runs, if it is not the claim's own but one that follows from it."""


class Board:
    """The shared memory. Make it before the fork, in the process that is to be the parent."""

    def __init__(self, places: int = PLACES) -> None:
        self.places = places
        seats = places * SEATS_PER_PLACE
        self._pids = _HEADER
        self._seats = _HEADER + 8 * ((seats * _PID.size + 7) // 8)
        self._memory = mmap.mmap(-1, self._seats + seats * _SEAT)
        _PID.pack_into(self._memory, _PARENT, os.getpid())

    @property
    def parent(self) -> int:
        """The process that made it; a process that was not forked from that one has a board of its own."""
        return int(_PID.unpack_from(self._memory, _PARENT)[0])

    @property
    def phase(self) -> Phase:
        return Phase(self._memory[_PHASE])

    @property
    def is_closing(self) -> bool:
        """Nothing more is to be claimed."""
        return self._memory[_PHASE] != 0

    @property
    def closed(self) -> float:
        """When the worker was asked to end, on the monotonic clock."""
        return float(_TIME.unpack_from(self._memory, _CLOSED)[0])

    def close(self, now: float) -> None:
        """Claim nothing more. May be called by a signal handler, and again."""
        if not self.is_closing:
            _TIME.pack_into(self._memory, _CLOSED, now)
            self._memory[_PHASE] = Phase.CLOSING

    def end(self) -> None:
        """Hand back what still runs."""
        self._memory[_PHASE] = Phase.OVER

    @property
    def events_on(self) -> bool:
        """Whether anybody listens to events."""
        return bool(self._memory[_EVENTS])

    @events_on.setter
    def events_on(self, is_on: bool) -> None:
        self._memory[_EVENTS] = is_on

    def take(self, place: int, holder: str) -> Seat | None:
        """Take a seat for this process; None: none is free."""
        first = place * SEATS_PER_PLACE
        for number in range(first, first + SEATS_PER_PLACE if place < self.places else first):
            if not self._pid(number):
                start = self._seats + number * _SEAT
                self._memory[start : start + _SEAT] = holder.encode()[:16].ljust(_SEAT, b"\0")
                _PID.pack_into(self._memory, self._pids + number * _PID.size, os.getpid())  # last: now it counts
                return Seat(self, number)
        return None

    def taken(self, places: int) -> Iterator[Seat]:
        """Give the seats that are taken in the first so many places."""
        seats = min(places, self.places) * SEATS_PER_PLACE
        pids = self._memory[self._pids : self._pids + seats * _PID.size]
        if pids.count(0) < len(pids):
            for number, (pid,) in enumerate(_PID.iter_unpack(pids)):
                if pid:
                    yield Seat(self, number)

    def free(self, seat: Seat) -> None:
        """Give the seat of a dead process to whoever comes next."""
        _PID.pack_into(self._memory, self._pids + seat.number * _PID.size, 0)

    def _pid(self, number: int) -> int:
        return int(_PID.unpack_from(self._memory, self._pids + number * _PID.size)[0])


class Seat:
    """One process's part of the board. Who sits in it writes, but for ``ask``."""

    def __init__(self, board: Board, number: int) -> None:
        self.board, self.number = board, number
        self._memory = board._memory
        self._start = board._seats + number * _SEAT
        self.pid = board._pid(number)
        self.holder = self._memory[self._start : self._start + 16].decode()

    # ── What the process is at ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_busy(self) -> bool:
        """It answers a message of flowq's, and may hold claims."""
        return self._memory[self._start + _BUSY] != 0

    @is_busy.setter
    def is_busy(self, busy: bool) -> None:
        self._memory[self._start + _BUSY] = busy

    @property
    def is_listening(self) -> bool:
        """It runs nothing at all, and waits to be given something."""
        return self._memory[self._start + _LISTENS] != 0

    @is_listening.setter
    def is_listening(self, listens: bool) -> None:
        self._memory[self._start + _LISTENS] = listens

    def begin(self, lease: str, deadline: float = 0.0) -> None:
        """Say what the main thread runs from now on. Behind the lease may stand the key of another node than its own,
        one that is fused to it."""
        self._write_attempt(_MAIN, lease, deadline)

    def time(self, deadline: float) -> None:
        """Say when its time is up; 0: it is not running any more."""
        _TIME.pack_into(self._memory, self._start + _MAIN + _DEADLINE, deadline)

    def stop(self, now: float) -> None:
        """Say that it was interrupted, as its claim is lost."""
        _TIME.pack_into(self._memory, self._start + _MAIN + _STOPPED, now)

    def finish(self) -> None:
        """The main thread runs nothing any more. An empty text is one number to write: every attempt ends so."""
        _LENGTH.pack_into(self._memory, self._start + _MAIN + _LENGTH_AT, 0)

    def begin_thread(self, lease: str, deadline: float) -> None:
        """Say which attempt of the other threads has the least time left; an empty lease: none has a limit."""
        self._write_attempt(_THREAD, lease, deadline)

    def drain(self, queue: str = "", token: str = "") -> None:
        """Say which drain is at work here; nothing: none is."""
        start, text = self._start + _DRAIN, f"{queue} {token}".strip().encode()
        sequence = _SEQUENCE.unpack_from(self._memory, start)[0] | 1
        _SEQUENCE.pack_into(self._memory, start, sequence)
        if len(text) > 400:
            text = b""  # then it is taken for lost when its lease expires
        _TEXT.pack_into(self._memory, start, sequence, len(text), text)
        _SEQUENCE.pack_into(self._memory, start, (sequence + 1) & 0xFFFFFFFF)

    def leave(self, now: float) -> None:
        """Say that the process was told to end. May be called by a signal handler."""
        if not self.leaving:
            _TIME.pack_into(self._memory, self._start + _LEAVING, now)

    # ── What the parent reads ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def attempt(self) -> Attempt | None:
        """What runs in the main thread; None also if it is just being written."""
        return self._attempt(_MAIN)

    @property
    def thread_attempt(self) -> Attempt | None:
        """Of what runs in other threads with a time limit, the one with the least time left."""
        return self._attempt(_THREAD)

    @property
    def token(self) -> str:
        """Queue and token of the drain that is at work; empty: none is."""
        read = self._read(_DRAIN, _TEXT.size)
        if read is None:
            return ""
        _, length, text = _TEXT.unpack(read)
        return str(text[:length].decode())

    @property
    def leaving(self) -> float:
        """When it was told to end; 0: it was not."""
        return float(_TIME.unpack_from(self._memory, self._start + _LEAVING)[0])

    # ── What the parent says ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_asked(self) -> bool:
        """The parent asks the process to renew its leases now: one is lost. Who sits here takes the mark off."""
        return self._memory[self._start + _ASKED] != 0

    @is_asked.setter
    def is_asked(self, asked: bool) -> None:
        self._memory[self._start + _ASKED] = asked

    # An odd sequence says that a record is being written; one that has changed meanwhile, that it was.

    def _write_attempt(self, record: int, lease: str, deadline: float) -> None:
        start, text = self._start + record, lease.encode()
        sequence = _SEQUENCE.unpack_from(self._memory, start)[0] | 1
        length = len(text) if len(text) <= 256 else 0
        _ATTEMPT.pack_into(self._memory, start, sequence, length, deadline, 0.0, text)  # first of all the sequence
        _SEQUENCE.pack_into(self._memory, start, (sequence + 1) & 0xFFFFFFFF)

    def _attempt(self, record: int) -> Attempt | None:
        read = self._read(record, _ATTEMPT.size)
        if read is None:
            return None
        sequence, length, deadline, stopped, text = _ATTEMPT.unpack(read)
        if not length:
            return None
        run, key, fence, *fused = text[:length].decode().split(" ")
        return Attempt(f"{run} {key} {fence}", deadline, stopped, sequence, *fused)

    def _read(self, record: int, size: int) -> bytes | None:
        start = self._start + record
        for _ in range(_TRIES):
            (before,) = _SEQUENCE.unpack_from(self._memory, start)
            read = self._memory[start : start + size]
            (after,) = _SEQUENCE.unpack_from(self._memory, start)
            if before == after and not before & 1:
                return read
        return None
