"""Every script, with its reply lost: what is stored is as if none had been, and the caller is told the same.

FLOWQ_THOROUGH=1 walks a hundred times as far.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flowq.results.connection import Redis
from flowq.runtime.library import Installed
from flowq.runtime.scripts import Scripts
from tests.chaos.replies.faults import Armed, Fault
from tests.chaos.replies.pair import Differs, Pair
from tests.chaos.replies.proxy import FaultProxy
from tests.chaos.replies.walk import Walk
from tests.property.choices import THOROUGH, TIMEOUT_S, seeded

SEEDS = range(200) if THOROUGH else range(4)
STEPS = 150 if THOROUGH else 60

_numbers = itertools.count()


@pytest.fixture(scope="module")
def lossy(server) -> Iterator[tuple[FaultProxy, Armed]]:
    armed = Armed()
    with FaultProxy(server.redis_url, armed) as proxy:
        yield proxy, armed


@pytest.fixture
def pair(server, lossy) -> Iterator[Pair]:
    proxy, armed = lossy
    # As flowq connects, but for the waits: the time that passes before a repetition is the clock's.
    at_once: Any = {"retry": Retry(NoBackoff(), 12), "retry_on_error": [redis.ConnectionError]}
    proxied = Redis.from_url(proxy.redis_url, protocol=2, **at_once)
    with closing(Redis.from_url(server.redis_url, protocol=2)) as direct, closing(proxied):
        made = Pair(direct, proxied, armed, f"p{next(_numbers)}")
        yield made
        made.clear()


walked: Counter[str] = Counter()
"""How often each script was called."""


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("seed", SEEDS)
def test_lost_replies_change_nothing(pair, seed):
    walk = Walk(pair, seeded(seed))
    walk.run(STEPS)
    walked.update(call.name for call in pair.calls)
    assert len(pair.calls) > STEPS


def test_every_script_is_walked(pair):
    scripts = {name for name, member in vars(Scripts).items() if not name.startswith("_") and callable(member)}
    assert set(Walk(pair, seeded(0)).steps) == scripts


class Planted(Installed):
    """Another script in the place of one."""

    def __init__(self, installed: Installed, name: str, text: str) -> None:
        super().__init__(installed.client, installed.library)
        self._name, self._text = name, text

    def call(self, name: str, keys: Sequence[str], args: Sequence[bytes | str]) -> Any:
        if name != self._name:
            return super().call(name, keys, args)
        return self.client.eval(self._text, len(keys), *keys, *args)


def plant(pair: Pair, name: str, text: str) -> None:
    """Put another script in the place of one."""
    for scripts in pair._scripts:
        scripts._installed = Planted(scripts._installed, name, text)


def test_a_script_that_counts_twice_is_found(pair):
    """A script that may not be repeated, planted: it counts the runs that it was asked for."""
    plant(pair, "told", "redis.call('HINCRBY', KEYS[1] .. ':counted', cjson.decode(ARGV[1]).run, 1); return false")
    pair.call("told", None, run="r")
    with pytest.raises(Differs, match=":counted"):
        pair.call("told", Fault.DROP, run="r")


def test_a_reply_that_says_less_when_it_comes_again_is_found(pair):
    once = "redis.call('SET', KEYS[1] .. ':asked', 1, 'NX')"
    plant(pair, "register", f"return {once} and {{{{'main', 'token'}}}} or {{}}")
    with pytest.raises(Differs, match="was told"):
        pair.call("register", Fault.TORN, worker="w", queues=["main"], slots=1)
