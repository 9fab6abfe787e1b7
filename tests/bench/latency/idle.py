"""What flowq costs with nothing to do."""

from __future__ import annotations

import sys
import threading
import time

from tests.bench.compare.flowq_peer import FlowqPeer
from tests.bench.latency.hops import IDLE_S


def idle_cores(seconds: float) -> dict[str, float]:
    """Give which part of a core the server and each worker use with nothing to do; on Linux only."""
    peer = FlowqPeer("pull")
    peer.start()
    try:
        peer.warm_up()
        threading.Event().wait(IDLE_S)
        peer.resume()
        before, began = peer.cpu_s_each(), time.monotonic()
        threading.Event().wait(seconds)
        took = time.monotonic() - began
        used = [(after - then) / took for after, then in zip(peer.cpu_s_each(), before, strict=True)]
        return {"the server": used[0], "each worker": sum(used[1:]) / 2} if sys.platform == "linux" else {}
    finally:
        peer.stop()
