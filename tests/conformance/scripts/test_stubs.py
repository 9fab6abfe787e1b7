"""Scripts and stubs belong together, and importing them says so if they do not."""

from __future__ import annotations

import inspect
import re

import pytest

from flowq.runtime import scripts
from flowq.runtime.scripts import Scripts
from tests.conformance.scripts.desk import Desk

NEEDS = {
    "wake_ups()": {"call", "wake_ms"},
    "next_claims()": {"call", "lease_ms", "worker", "token", "queue", "process", "thread", "busy"},
}
"""What the shared functions read of the header."""


def test_they_do() -> None:
    scripts._check(Scripts)


def test_a_script_without_a_stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(scripts._SOURCES, "pause", "-- pause: run\n")
    with pytest.raises(ImportError, match="pause"):
        scripts._check(Scripts)


def test_a_stub_without_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(scripts._SOURCES, "renew")
    with pytest.raises(ImportError, match="renew"):
        scripts._check(Scripts)


@pytest.mark.parametrize("fields", [("run", "why"), ()])
def test_a_header_that_differs(monkeypatch: pytest.MonkeyPatch, fields: tuple[str, ...]) -> None:
    monkeypatch.setitem(scripts._HEADERS, "cancel", fields)
    with pytest.raises(ImportError, match="cancel: the stub's parameters and the script's header differ"):
        scripts._check(Scripts)


def test_a_script_that_does_not_declare_its_header() -> None:
    assert scripts._header_of("cancel", "-- cancel: run why\n-- Ends it.\n") == ("run", "why")
    with pytest.raises(ImportError, match=r"cancel\.lua does not begin with"):
        scripts._header_of("cancel", "-- Ends it.\n-- cancel: run\n")


@pytest.mark.parametrize("name", scripts._SOURCES)
def test_a_script_reads_what_it_declares_and_no_more(name: str) -> None:
    source, declared = scripts._SOURCES[name], set(scripts._HEADERS[name])
    code = re.sub("--.*", "", source)
    needed = set(re.findall(r"\bheader\.(\w+)", code))
    for function, fields in NEEDS.items():
        if function in code:
            needed |= fields
    assert needed <= declared
    assert declared - needed <= {"worker"} or name == "sweep"


def test_a_stub_takes_what_its_script_declares_and_no_more(desk: Desk) -> None:
    stubs = desk.calls._scripts
    for name, fields in scripts._HEADERS.items():
        parameters = inspect.signature(getattr(stubs, name)).parameters
        given = {field: "" for field in fields if field in parameters}
        with pytest.raises(TypeError, match="unexpected keyword argument 'another'"):
            getattr(stubs, name)(**given, another=1)
    with pytest.raises(TypeError, match="missing"):
        stubs.cancel()  # type: ignore[call-arg]
