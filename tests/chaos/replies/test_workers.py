"""Real Celery workers whose broker and state lie behind the proxy: Celery's own messages are lost with all else."""

from __future__ import annotations

import pytest

from flowq.core.config import Dispatch
from flowq.testing.fleet import fleet
from tests.chaos.replies import flows
from tests.chaos.replies.faults import ByRate, Fault, Rates
from tests.chaos.replies.flows import CASES
from tests.chaos.replies.oracles import check
from tests.chaos.replies.proxy import FaultProxy
from tests.property.choices import THOROUGH, TIMEOUT_S

ROUNDS = 20 if THOROUGH else 2

RATES: Rates = {Fault.DROP: 0.01, Fault.CUT: 0.005, Fault.TWICE: 0.01, Fault.DELAY: 0.01, Fault.TORN: 0.005}
"""Lower than for the scripts alone: of Celery's many requests, each may cost a worker its connection, which takes it a
second to make anew."""

SETTINGS = {"lease_s": 3.0, "renew_s": 0.5, "sweep_s": 0.2, "allow_unsafe_store": True}


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_celery_workers_end_runs_whatever_is_lost(server, tmp_path, dispatch: Dispatch):
    with FaultProxy(server.redis_url, calm := Calm(ByRate(3, RATES))) as proxy:
        urls = {"broker_url": proxy.broker_url, "state_url": proxy.redis_url, "prefix": f"w-{dispatch}"}
        with fleet(2, [flows], server=server, settings={**SETTINGS, **urls}) as workers:
            calm.is_over = True
            executions = expected = 0
            for number in range(ROUNDS):
                log = str(tmp_path / str(number))
                started = [(case, case.submit(log, workers, dispatch)) for case in CASES.values()]
                for case, handle in started:
                    executions += check(handle, case, log, timeout_s=100)
                    expected += case.executions
            calm.is_over = False
    assert executions <= 1.2 * expected + 5, str(proxy.happened)
    assert proxy.happened.lost_replies > 3, str(proxy.happened)


class Calm:
    """Nothing is lost until the workers are up, nor when they are to end."""

    def __init__(self, then: ByRate) -> None:
        self._then = then
        self.is_over = False

    def __call__(self, command: str, *, in_transaction: bool) -> Fault | None:
        return self._then(command, in_transaction=in_transaction) if self.is_over else None
