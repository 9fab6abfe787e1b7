"""Who there is to compare: the usual ones, and those of ``others``, a file each, where their packages are installed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.bench.compare.celery_peer import CeleryPeer, TunedCeleryPeer
from tests.bench.compare.flowq_peer import FlowqPeer
from tests.bench.compare.limit_peer import LimitPeer
from tests.bench.compare.peer import Peer

USUAL: tuple[Peer, ...] = (
    CeleryPeer(),
    TunedCeleryPeer(),
    FlowqPeer("canvas"),
    FlowqPeer("pull"),
    LimitPeer(),
    LimitPeer(32),
)

OWN: dict[str, Peer] = {peer.name: peer for peer in (*USUAL, FlowqPeer("canvas", "solo"), FlowqPeer("pull", "solo"))}


def others() -> dict[str, Peer]:
    """Give the peers of ``others`` by name, installed or not: each file there has one, as ``PEER``.

    Such a file imports its package only when the peer is started or a worker runs: it is no requirement of this
    project, and ``Peer.missing`` tells whoever lacks it.
    """
    names = sorted(path.stem for path in Path(__file__).with_name("others").glob("*.py"))
    peers: list[Peer] = [import_module(f"tests.bench.compare.others.{name}").PEER for name in names]
    return {peer.name: peer for peer in peers}
