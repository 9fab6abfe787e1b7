"""Calls are numbered by thread: so that one reply for each thread need be remembered."""

from __future__ import annotations

import threading

from flowq.runtime.callers import Callers


def in_thread(callers: Callers) -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(callers.next()))
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_keeps_its_number_and_its_calls_go_up():
    callers = Callers()
    assert [callers.next() for _ in range(3)] == ["0.1", "0.2", "0.3"]


def test_a_call_whose_reply_is_read_later_counts_as_another_threads():
    callers = Callers()
    assert [callers.next(), callers.next_posted(), callers.next(), callers.next_posted()] == [
        "0.1",
        "1.2",
        "0.3",
        "1.4",
    ]
    assert in_thread(callers) == "2.5"


def test_threads_at_the_same_time_have_different_numbers():
    callers = Callers()
    meet, found = threading.Barrier(5), []

    def call() -> None:
        found.append(callers.next())
        meet.wait()

    threads = [threading.Thread(target=call) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number.split(".")[0] for number in found} == set("01234")
    assert len({number.split(".")[1] for number in found}) == 5


def test_a_number_is_used_again_when_its_thread_has_ended_and_its_calls_still_go_up():
    callers = Callers()
    callers.next()
    assert [in_thread(callers) for _ in range(3)] == ["1.2", "1.3", "1.4"]
