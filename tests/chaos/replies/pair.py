"""Two fleets' states side by side: on one every reply is lost, on the other none; both must stay equal.

The one whose replies are lost is behind the proxy, under a prefix of its own on the same server; redis-py repeats each
call, some time later. After every call both prefixes hold the same, and both callers were told the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flowq import FlowContext, RunNotFound, Settings
from flowq.client.retrying import retry
from flowq.core.errors import RunStatusError
from flowq.runtime.keys import Keys
from flowq.runtime.library import Installed
from flowq.runtime.scripts import Scripts
from flowq.runtime.state import State
from tests.chaos.replies.clocked import Clock, clocked
from tests.chaos.replies.faults import Armed, Fault
from tests.property.calls import Changes, merged, put_ready, sized

LATER_S = 0.04
"""How much later a call comes again: what redis-py waits."""

_TAKING = ("for _ = 1, math.ceil(BUDGET / most) do", "for _ = 1, 500 do")

SMALL: Changes = merged(sized(budget=6, inline=4, batch=8), {"lib": [_TAKING]})
"""Small runs reach these limits, so that there is something to ``advance``; but a claim finds what there is."""

LEASE_S = 60.0


class Differs(AssertionError):
    """What was lost made a difference."""


class Refused(str):
    """What a caller said before it called the script."""


class Called(NamedTuple):
    """A call that was made on both."""

    name: str
    given: dict[str, Any]


class Pair:
    """Both states.

    Args:
        direct: a connection to the server.
        proxied: one through the proxy.
        armed: what the proxy does.
        prefix: of this pair alone.
    """

    def __init__(self, direct: Any, proxied: Any, armed: Armed, prefix: str) -> None:
        self._direct, self._armed = direct, armed
        self._prefixes = f"{prefix}x", f"{prefix}o"
        self.keys = Keys(self._prefixes[1])
        self._scripts: list[Scripts] = []
        self._states: list[State] = []
        self._clocks: list[Clock] = []
        for client, own in zip((proxied, direct), self._prefixes, strict=True):
            scripts = Scripts(client, Settings(prefix=own, lease_s=LEASE_S, queue="main"))
            self._clocks.append(clocked(scripts, direct, own, SMALL))
            library = scripts._installed.library
            put_ready(direct, library)
            scripts._installed = Installed(client, library)
            self._scripts.append(scripts)
            state = State(FlowContext(scripts._settings))
            state.client, state.scripts = client, scripts
            self._states.append(state)
        self.be("0123456789abcdef")
        armed.on_repetition = lambda: self._clocks[0].go(LATER_S)
        self._clocks[1].follow(self._clocks[0])
        self._clocks[0].follow(self._clocks[1])
        self.calls: list[Called] = []

    def call(self, name: str, fault: Fault | None = Fault.DROP, times: int = 1, /, **given: Any) -> Any:
        """Call a script on both, with this fault (so many times) on the one; gives the reply.

        Raises:
            Differs: the replies, or what is stored.
        """
        self.calls.append(Called(name, given))
        self._armed.arm(*[fault] * times if fault else ())
        lossy = self._ask(0, name, given)
        assert self._armed.left == 0 or isinstance(lossy, Refused), f"{name} was not called through the proxy"
        self._armed.arm()
        if fault is Fault.CUT:  # the only time that the server was asked
            self._clocks[1].follow(self._clocks[0])
        calm = self._ask(1, name, given)
        self._clocks[1].follow(self._clocks[0])
        story = f"call {len(self.calls)}, {name}, {fault} x {times}"
        if lossy != calm:
            raise Differs(f"{story}: the caller was told\n  {lossy}\nand not\n  {calm}")
        stored = self.differences()
        if stored:
            raise Differs(f"{story}: what is stored differs\n  " + "\n  ".join(stored))
        return calm

    def _ask(self, side: int, name: str, given: dict[str, Any]) -> Any:
        """Call a script, as its callers do: of ``retry``, a reader works out first what is to be made anew."""
        if name == "stage":  # onto a list of its own
            given = given | {"staged": f"{self._prefixes[side]}:{given['staged']}"}
        if name != "retry":
            return getattr(self._scripts[side], name)(**given)
        try:
            return retry(self._states[side], **given)
        except (RunNotFound, RunStatusError) as error:
            return Refused(str(error))

    def be(self, holder: str) -> None:
        """Be this process from now on."""
        for scripts in self._scripts:
            scripts.holder = holder

    def go(self, seconds: float) -> None:
        """Let time pass for both."""
        for clock in self._clocks:
            clock.go(seconds)

    def differences(self) -> list[str]:
        """Say what both states differ in, but for times that are as much later as the repetition was."""
        lossy, calm = (dump(self._direct, prefix) for prefix in self._prefixes)
        names = sorted(lossy.keys() | calm.keys())
        return [
            f"{name}: {lossy.get(name)} and not {calm.get(name)}"
            for name in names
            if not _alike(lossy.get(name), calm.get(name))
        ]

    def clear(self) -> None:
        """Leave nothing behind."""
        for prefix in self._prefixes:
            for key in self._direct.scan_iter(f"{prefix}:*", count=1000):
                self._direct.unlink(key)


def dump(client: Any, prefix: str) -> dict[str, Any]:
    """Give all that is stored under a prefix, by key without it, and whether it will go; of a stream, what it says."""
    keys = [key for key in client.scan_iter(f"{prefix}:*", count=1000) if not key.endswith(b":clock")]
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.type(key)
        kinds = dict(zip(keys, pipe.execute(), strict=True))
        kinds = {key: kind.decode() for key, kind in kinds.items() if kind != b"none"}  # its time has just passed
        for key, kind in kinds.items():
            READ[kind](pipe, key)
            pipe.pttl(key)
        replies = iter(pipe.execute())
    return {
        key.decode().removeprefix(prefix): (_content(kind, next(replies)), next(replies) >= 0)
        for key, kind in kinds.items()
    }


READ: Mapping[str, Callable[[Any, bytes], Any]] = {
    "string": lambda pipe, key: pipe.get(key),
    "hash": lambda pipe, key: pipe.hgetall(key),
    "list": lambda pipe, key: pipe.lrange(key, 0, -1),
    "set": lambda pipe, key: pipe.smembers(key),
    "zset": lambda pipe, key: pipe.zrange(key, 0, -1, withscores=True),
    "stream": lambda pipe, key: pipe.xrange(key),
}


def _content(kind: str, reply: Any) -> Any:
    if kind == "stream":
        return [fields for _, fields in reply]
    return dict(reply) if kind == "zset" else reply


def _alike(one: Any, other: Any) -> bool:
    """Tell whether both are equal, but for times."""
    if isinstance(one, (tuple, list)):
        return (
            type(one) is type(other)
            and len(one) == len(other)
            and all(_alike(part, others) for part, others in zip(one, other, strict=True))
        )
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_alike(one[k], other[k]) for k in one)
    return bool(one == other) or _is_later(one, other)


def _is_later(one: Any, other: Any) -> bool:
    try:
        later = float(one) - float(other)
    except (TypeError, ValueError):
        return False
    return float(other) > 1e12 and 0 <= later <= 10 * LATER_S * 1000
