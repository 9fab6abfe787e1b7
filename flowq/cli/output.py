"""Keeps stdout for a command's one result, whatever the user's code prints when it is imported or run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from pydantic_core import to_json


@contextmanager
def stdout_for_result() -> Iterator[BinaryIO]:
    """Give the real stdout; all else that is written to file descriptor 1 inside the block goes to stderr.

    Also what child processes and C code write: they have the descriptor, not ``sys.stdout``.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(kept), "wb") as real:
            yield real
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def json_text(value: Any) -> bytes:
    """Give a flow's output as JSON: models as objects, bytes as base64, and NaN, which JSON has not, as a string."""
    return to_json(value, indent=2, bytes_mode="base64", inf_nan_mode="strings") + b"\n"
