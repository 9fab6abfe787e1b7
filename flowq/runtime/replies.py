"""What the scripts reply, and how it is read."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias


class WakeUp(NamedTuple):
    """Somebody should drain this queue; ``token`` names the drain that is expected to."""

    queue: str
    token: str


class Delivery(NamedTuple):
    """Something of a canvas is to be sent: a node's own message, a segment, or what waits for the run's end."""

    run: str
    plan: str
    key: str
    """The node's; ``s`` and a number for a segment; ``then``."""
    document: str
    """The segment's or the waiting message's JSON; empty for a node."""


Message: TypeAlias = WakeUp | Delivery
"""What a script asks its caller to send."""


class Claimed(NamedTuple):
    """The right to run one attempt, with its inputs if they are few. Values are packed."""

    run: str
    key: str
    attempt: int
    crashes: int
    fence: int
    plan: str
    run_input: bytes | None
    """None: the node does not read it."""
    item: bytes | None
    opened: int
    """For a map: the items that an earlier attempt has opened already."""
    records: list[bytes | None] | None
    """Of the upstreams that the plan's row names, if the node may have to do without one; None: ask for them."""
    values: list[bytes | None] | None
    """Of these upstreams."""

    @property
    def lease(self) -> str:
        return f"{self.run} {self.key} {self.fence}"


class Next(NamedTuple):
    """What a drain does next."""

    claims: list[Claimed]
    messages: list[Message]
    stale: list[int] = []  # noqa: RUF012 - positions of outcomes that no longer counted
    unfinished: list[str] = []  # noqa: RUF012 - runs with consequences left: call ``advance``


class Submitted(NamedTuple):
    """What came of a submit."""

    said: list[str]
    """For each run ``ok``, ``plan_unknown``, ``full``, or ``other``: it exists, and is not what was asked for."""
    messages: list[Message]
    epoch: str
    unfinished: list[str]
    """Runs with consequences left: call ``advance``."""


class Changed(NamedTuple):
    """What came of a change of a run as a whole."""

    said: str
    messages: list[Message]
    unfinished: bool
    """Call ``advance``."""


class Swept(NamedTuple):
    swept: bool
    messages: list[Message]
    next_due_ms: int
    """Until the next timer; -1: there is none."""


class Picked(NamedTuple):
    """What a node's own message brought."""

    claims: list[Claimed]
    """One, or none."""
    messages: list[Message]
    status: str
    """Without a claim: the node's status, or ``gone``."""
    wait_s: float
    """It may be claimed so many seconds from now."""
    is_held: bool
    """The run was held until its canvas was applied."""
    starts: bool
    """This message has started it."""


def claims_of(reply: list[Any]) -> list[Claimed]:
    inputs: dict[str, bytes] = {}  # a run's stands in its first claim only
    claims = []
    run = plan = ""
    fields = [iter(reply)] * len(Claimed._fields)
    for of_run, key, attempt, crashes, fence, of_plan, run_input, *others in zip(*fields, strict=True):
        if of_run != 1:  # else they are those of the claim before
            run, plan = of_run.decode(), of_plan.decode()
        if run_input == 1:
            run_input = inputs[run]
        elif run_input is not None:
            inputs[run] = run_input
        claims.append(Claimed(run, key.decode(), attempt, crashes, fence, plan, run_input, *others))
    return claims


def claimed(reply: Any) -> Next:
    claims, messages = reply
    return Next(claims_of(claims), messages_of(messages))


def next_of(reply: Any) -> Next:
    claims, messages, stale, unfinished = reply
    return Next(claims_of(claims), messages_of(messages), stale, [run.decode() for run in unfinished])


def messages_of(reply: list[list[bytes]]) -> list[Message]:
    decoded = ([part.decode() for part in message] for message in reply)
    return [WakeUp(*message) if len(message) == 2 else Delivery(*message) for message in decoded]


def submitted_of(reply: Any) -> Submitted:
    said, messages, epoch, unfinished = reply
    said, unfinished = ([text.decode() for text in texts] for texts in (said, unfinished))
    return Submitted(said, messages_of(messages), epoch.decode(), unfinished)


def changed_of(reply: Any) -> Changed | None:
    return Changed(reply[0].decode(), messages_of(reply[1]), bool(reply[2])) if reply else None


def text_or_none(reply: bytes | None) -> str | None:
    return None if reply is None else reply.decode()
