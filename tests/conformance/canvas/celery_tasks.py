"""Celery tasks as a team has them: they know nothing of flowq."""

from __future__ import annotations

import time

from celery import shared_task
from celery.exceptions import Ignore, Reject


@shared_task
def add(x, y=0):
    return x + y


@shared_task
def xsum(numbers):
    return sum(numbers)


@shared_task
def identity(value):
    return value


@shared_task
def noop(*_):
    pass


@shared_task
def fails(*_):
    raise ValueError("this task fails")


@shared_task
def ignores(*_):
    raise Ignore("there is nothing to do")


@shared_task
def rejects(*_):
    raise Reject("not for me", requeue=False)


@shared_task(soft_time_limit=0.3, time_limit=60)
def sleeps(seconds):
    time.sleep(seconds)


@shared_task(bind=True, max_retries=3, default_retry_delay=0.05)
def succeeds_after(self, value, retries):
    """Give the value back when it has been retried so often."""
    if self.request.retries < retries:
        raise self.retry(countdown=0.05)
    return value
