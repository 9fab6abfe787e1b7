"""Scripts and stubs belong together, and importing them says so if they do not."""

from __future__ import annotations

import re

import pytest

from flowq.runtime import scripts
from flowq.runtime.scripts import Scripts

AUTOMATIC = {"call", "holder", "wake_ms", "lease_ms", "grace_ms", "unknown_ms"}
"""What every header has."""

SHARED = {"worker", "token", "queue", "process", "thread", "busy", "batch", "listens_ms", "goes_on"}
"""What the shared functions read of a header."""


def test_they_do() -> None:
    scripts._check(Scripts)


def test_a_script_without_a_stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(scripts._SOURCES, "hurry", "-- hurry: run\n")
    with pytest.raises(ImportError, match="hurry"):
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
    code = re.sub("--.*", "", scripts._SOURCES[name])
    read = set(re.findall(r"\bheader\.(\w+)", code))
    assert read - AUTOMATIC <= set(scripts._HEADERS[name])
    assert set(scripts._HEADERS[name]) - read <= SHARED
