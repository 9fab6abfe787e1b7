"""What a change of a run brings with it: messages to be sent, and consequences that were too many for one call."""

from __future__ import annotations

from collections.abc import Sequence

from flowq.core.context import FlowContext
from flowq.runtime.messages import send
from flowq.runtime.replies import Message
from flowq.runtime.state import State


def go_on(context: FlowContext, state: State, run: str, messages: Sequence[Message], unfinished: bool) -> None:
    """Do what a change of a run asks for. Should this process die meanwhile, the sweep goes on with it."""
    send(context, messages)
    while unfinished:
        unfinished, messages = state.scripts.advance(run=run)
        send(context, messages)
