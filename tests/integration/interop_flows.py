"""Celery tasks of a user's own, and flows that stand between them."""

from __future__ import annotations

from pathlib import Path

from celery import shared_task
from pydantic import BaseModel

from flowq import Flow, FlowConfig, flow, task
from flowq.testing import wait_until
from tests.conformance.engines.effects import note


@shared_task
def tenfold(x):
    return 10 * x


@shared_task
def ended(x):
    return ["ended", x]


@shared_task
def collected(values):
    return ["collected", values]


@shared_task
def rows_of(count):
    return {"rows": list(range(count)), "factor": 100}


@shared_task
def write_down(value, path):
    Path(path).write_text(str(value))


@shared_task
def write_error_down(request, error, traceback, *, path):
    Path(path).write_text(f"{type(error).__name__}: {error}")


@task
def inc(x: int) -> int:
    return x + 1


@task
def twice(x: int) -> int:
    return 2 * x


@task
def both(a: int, b: int) -> int:
    return a + b


@task
def broken(x: int) -> int:
    raise ValueError("the model is down")


@task
def noted(x: int, log: str) -> int:
    note(log, "start")
    return x


@task
def gate(x: int, path: str, log: str) -> int:
    """Go on when the test says so."""
    note(log, "start")
    wait_until(Path(path).exists, 60)
    return x


@task
def perhaps(a: int, b: int | None = None) -> list[int | None]:
    return [a, b]


@flow
def etl(x: int, add: int = 0) -> int:
    """Give 3 * (x + 1) + 1, and ``add``."""
    first = inc(x)
    return both(both(twice(first), inc(first)), add)


@flow
def bad(x: int) -> int:
    return inc(broken(inc(x)))


@flow
def tolerant(x: int) -> list[int | None]:
    first = inc(x)
    return perhaps(first, broken(first))


@flow
def counted(x: int, log: str) -> int:
    first = noted(x, log)
    return both(noted(first, log), noted(first, log))


@flow
def gated(x: int, path: str, log: str) -> int:
    return noted(gate(x, path, log), log)


class Scale(BaseModel):
    """Multiplies what is in the input."""

    class Input(BaseModel):
        rows: list[float]
        factor: float = 1
        offset: float = 0

    class Output(BaseModel):
        rows: list[float]

    def process(self, input_data: Input) -> Output:
        return self.Output(rows=[row * input_data.factor + input_data.offset for row in input_data.rows])


scaled = Flow(Scale(), FlowConfig(name="scaled"), process_id="interop-scaled")
