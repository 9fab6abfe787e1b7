"""The one step that flowq adds by itself: it gathers what others returned. It runs no user code."""

from __future__ import annotations

from typing import Any

from flowq.core.processor import Parameter, Processor, Signature
from flowq.core.registry import REGISTRY


def collect(value: Any) -> Any:
    """Give what was gathered; the gathering itself is in the argument's expression."""
    return value


COLLECT = REGISTRY.add(
    Processor(
        key="flowq.core.structural:collect",
        config="",
        call=collect,
        signature=Signature(
            takes_input=False,
            parameters=(Parameter("value", Any),),
            dependencies=None,
            returns=Any,
            input_model=None,
            is_async=False,
        ),
    )
)
