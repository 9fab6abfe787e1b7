"""A worker of the bare executor: ``python -m tests.bench.compare.limit_worker URL NAME BATCH``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import redis

from tests.bench.compare.graph import call
from tests.bench.compare.peer import say_ready

QUEUE = "ready"
SCRIPT = Path(__file__).with_name("limit.lua")


def main(url: str, name: str, batch: str) -> None:
    """Compute nodes until killed: one round trip for each, or for as many as ``batch`` says."""
    # An answer may take as long as it takes: redis-py would give up the wait for work after five seconds.
    client = redis.Redis.from_url(url, socket_timeout=None)
    digest = client.script_load(SCRIPT.read_text())
    say_ready(url, name)
    taken, computed = b"", list[Any]()
    while True:
        reply: bytes = client.execute_command("EVALSHA", digest, 1, QUEUE, batch, taken, *computed)
        taken, computed = b"", []
        if not reply:
            _, taken = client.execute_command("BLPOP", QUEUE, 0)
            continue
        lines = reply.split(b"\n")
        for i in range(0, len(lines), 3):
            body, constants = json.loads(lines[i + 1])
            computed += (lines[i], json.dumps(call(body, json.loads(lines[i + 2]), constants)))


if __name__ == "__main__":
    main(*sys.argv[1:])
