"""Who waits for runs, and who interferes with them: clients with their handles, and operators."""

from __future__ import annotations

from typing import Any

from flowq.core.types import FlowStatus
from flowq.plan import Plan
from flowq.runtime.events import Ref
from flowq.runtime.machine import RunState
from tests.chaos.simulation import history as word
from tests.chaos.simulation.delivery import US
from tests.chaos.simulation.kept import copied_state
from tests.chaos.simulation.world import Caller, World

LOOK_US = 10 * US
"""Who waits for a run looks at it so often, besides being told of its end."""

AGAIN_US = US // 5
PATIENCE_US = 20 * US
"""An operator leaves a run paused for so long, at most."""

TRIES = 3


class Waiter(Caller):
    """Waits for a run's end, as a handle does: told by a message that may be lost, it looks at the run now and then."""

    def __init__(self, world: World, name: str, run: str, epoch: str = "") -> None:
        super().__init__(name)
        self.world, self.run, self.epoch = world, run, epoch
        self.seen: FlowStatus | None = None
        """The final status that it was told of."""
        self.is_done = False
        self._is_subscribed = self._waits = self._is_told = False
        self._turn = 0

    def look(self) -> None:
        """See how the run stands."""
        self._waits = self._is_told = False
        self.world.call(self, 0, "status", (self.run,), self._seen)

    def tell(self) -> None:
        """It is told that the run may have ended."""
        if self._is_subscribed:
            self._is_told = True
            if self._waits:
                self.look()

    def _seen(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            self.world.after(AGAIN_US, self.look)
        elif reply is None:
            self.world.call(self, 0, "read_epoch", (), self._missed)
        elif reply.is_final:
            self.seen, self.is_done = reply, True
        elif not self._is_subscribed:  # it may have ended before the subscription stood
            self._is_subscribed = True
            self.look()
        elif self._is_told:
            self.look()
        else:
            self._waits = True
            self._turn += 1
            self.world.after(LOOK_US, self._look_again, self._turn)

    def _look_again(self, turn: int) -> None:
        if self._waits and turn == self._turn:
            self.look()

    def _missed(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            self.world.after(AGAIN_US, self.look)
        else:
            self.world.history.append((word.LOST, self.world.now, self.run, reply != self.epoch))
            self.lose()

    def lose(self) -> None:
        """The run is gone."""
        self.is_done = True


class Client(Waiter):
    """Submits one run, and waits for its end; should it be lost, it submits it again."""

    def __init__(self, world: World, run: str, plan: Plan, deadline: int) -> None:
        super().__init__(world, f"client-{run}", run)
        self.plan, self.deadline = plan, deadline
        self.submit()

    def submit(self) -> None:
        """Store the run; the same run again, as long as that is not known to have worked."""
        self.world.call(self, 0, "submit", (self.run, self.plan, self.deadline), self._submitted)

    def _submitted(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            self.submit()
        else:
            self.epoch = reply.epoch
            self.world.send(reply.messages)
            self.look()

    def lose(self) -> None:
        self.submit()


class Canceller(Caller):
    """Cancels a run."""

    is_done = True

    def __init__(self, world: World, name: str, run: str) -> None:
        super().__init__(name)
        world.call(self, 0, "cancel", (run,), lambda reply: None)


class Pauser(Caller):
    """Pauses a run, and resumes it some time later, again and again: the store may forget that it was."""

    def __init__(self, world: World, name: str, run: str) -> None:
        super().__init__(name)
        self.world, self.run, self.is_done = world, run, False
        self._pause()

    def _pause(self) -> None:
        self.world.call(self, 0, "pause", (self.run,), self._paused)

    def _paused(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            self._pause()
        else:
            pause = int(self.world.draw() ** 2 * PATIENCE_US)
            self.world.disturb(pause)
            self.world.after(pause, self._resume)

    def _resume(self) -> None:
        self.world.call(self, 0, "resume", (self.run,), self._resumed)

    def _resumed(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            self._resume()
        else:
            self.is_done = reply is None or reply.said.is_final
            if reply is not None:
                self.world.send(reply.messages)
            self.world.after(LOOK_US, self._resume)


class Retrier(Waiter):
    """Opens a run again when it has ended, and waits for its end then."""

    def __init__(self, world: World, name: str, run: str) -> None:
        super().__init__(world, name, run)
        self._tries = 0
        self._read()

    def _read(self) -> None:
        self.world.call(self, 0, "read_epoch", (), self._begin)

    def _begin(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            self._read()
        else:
            self.epoch = reply
            self._look_at_all()

    def _look_at_all(self) -> None:
        self.world.call(self, 0, "look", (self.run,), self._looked)

    def _looked(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            self._look_at_all()
        elif reply is None:
            self.is_done = True
        elif not self.epoch:  # the run has come since
            self._read()
        elif reply[1].status.is_final:
            self._retry(*reply)
        else:
            self.world.after(US, self._look_at_all)

    def _retry(self, ended: int, state: RunState) -> None:
        reopening, self._tries = self.world.parts.reopening, self._tries + 1
        roots = self._chosen(state)
        if reopening.blockers(state, roots):
            roots = ()
        state = copied_state(state)
        opened = reopening.reopen(state, roots)
        if opened.anew and self._tries <= TRIES:
            self.world.call(self, 0, "retry", (self.run, ended, state, opened, roots), self._retried)
        else:
            self.is_done = True

    def _chosen(self, state: RunState) -> tuple[Ref, ...]:
        """Give what to begin with; nothing: what has failed."""
        if state.status is not FlowStatus.COMPLETED and self.world.draw() < 0.6:
            return ()
        refs = sorted(state.nodes)
        return tuple({refs[int(self.world.draw() * len(refs))]: None for _ in range(1 + int(self.world.draw() * 2))})

    def _retried(self, reply: Any) -> None:
        if isinstance(reply, Exception) or (reply is not None and reply.said != "ok"):
            self._look_at_all()
        elif reply is None:
            self.is_done = True
        else:
            self.world.disturb(0)
            self.world.send(reply.messages)
            self.look()
