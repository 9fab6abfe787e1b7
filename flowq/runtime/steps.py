"""The steps of whoever runs claims: what it asks for, one thing at a time.

A drain, a thread beside it and a node's own task are generators that yield these requests and are sent what came of
them. They know no clock, connection or thread: a worker drives them with real ones (``driver``), a simulation with
virtual ones. A request that fails raises in the generator.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from flowq.core.errors import StoreFullError, StoreUnavailableError
from flowq.runtime.replies import Claimed, Message
from flowq.runtime.scripts import OutcomeEntry
from flowq.runtime.work import Ended, Outputs

T = TypeVar("T")

AWAY = (StoreUnavailableError, StoreFullError)
"""What is raised while the store cannot be used, after the connection's own retries: a while later it may go."""

BATCH_S = 0.004
"""Short claims are run one after the other for about so long, and what came of them is stored in one call: what follows
from the first of them waits for that."""

MOST = 128
"""Claims of a batch: more of them would hardly cost less, and hold the store up for longer than some milliseconds."""

AGAIN_S = 0.5
"""The pause before a call on a store that is away is made again. The connection's own retries have waited already,
unless the store is full: then it answers at once."""


# ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Claim(NamedTuple):
    """Call ``claim``, which gives Next."""

    process: int
    thread: int
    busy: int
    batch: bool = False
    listens_ms: int = 0
    goes_on: bool = False


class Settle(NamedTuple):
    """Call ``settle``, which gives Next."""

    outcomes: Sequence[OutcomeEntry]
    inline: bool = True
    process: int = 0
    thread: int = 0
    busy: int = 0
    batch: bool = False
    listens_ms: int = 0
    goes_on: bool = False


class Post(NamedTuple):
    """Call ``settle`` without waiting for its reply; gives what ``Receive`` takes."""

    settle: Settle


class Receive(NamedTuple):
    """Wait for the reply of a posted call, which gives Next."""

    call: Any


class Advance(NamedTuple):
    """Call ``advance``, which gives whether something is left, and messages."""

    run: str


class Expect(NamedTuple):
    """Say how many seconds a claim will take, by what its processor took before; long, if that is not known. INLINE
    nodes are meant to be short, and not to leave their worker."""

    claim: Claimed


class Run(NamedTuple):
    """Run a claim, and what follows from it and ``outputs`` at once, which gives Ran; outputs are added."""

    claim: Claimed
    outputs: Outputs
    alone: bool = False
    returns: bool = False


class Ran(NamedTuple):
    """What a run claim came to, and when, by this process's clock."""

    ended: Ended
    now: float


class Send(NamedTuple):
    """Send messages."""

    messages: Sequence[Message]


class Hold(NamedTuple):
    """Keep these claims' leases from now on."""

    claims: Sequence[Claimed]


class Drop(NamedTuple):
    """Keep these claims' leases no longer."""

    claims: Sequence[Claimed]


class Remind(NamedTuple):
    """Sweep after so many seconds: a retry is due then."""

    seconds: float


class Listen(NamedTuple):
    """Wait until the drain's bell rings, at most so long, and make this call in that very moment, which gives Next."""

    seconds: float
    claim: Claim


class Now(NamedTuple):
    """Read this process's clock: seconds, from any moment on."""


class Pause(NamedTuple):
    """Wait so long."""

    seconds: float


class FindThreads(NamedTuple):
    """Find those claims whose nodes are placed in a thread."""

    claims: Sequence[Claimed]


class StartThread(NamedTuple):
    """Start a thread beside the drain that begins with this claim."""

    claim: Claimed


class AwaitThread(NamedTuple):
    """Wait until one of the drain's threads has ended, at most so long."""

    seconds: float


Request: TypeAlias = (
    Claim
    | Settle
    | Post
    | Receive
    | Advance
    | Expect
    | Run
    | Send
    | Hold
    | Drop
    | Remind
    | Listen
    | Now
    | Pause
    | FindThreads
    | StartThread
    | AwaitThread
)

Steps: TypeAlias = Generator[Request, Any, T]
