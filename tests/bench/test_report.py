"""What benchmarks write: files, and their places in the documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.report import NoSuchPlace, Report, placed


def test_a_part_is_put_into_its_place_and_nowhere_else():
    page = "one\n<!-- bench a -->\nold\n\n<!-- end a -->\ntwo\n<!-- bench b -->\nkept\n<!-- end b -->\n"
    written = placed(page, {"a": "new | \\1\n\nlines\n"})
    assert written == page.replace("old\n\n", "new | \\1\n\nlines\n")
    assert placed(written, {"a": "old\n"}) == page.replace("old\n\n", "old\n")


def test_a_part_without_a_place_is_an_error():
    with pytest.raises(NoSuchPlace, match="no place for c, d:"):
        placed("<!-- bench a -->\n<!-- end a -->", {"a": "", "c": "", "d": ""})


def test_a_report_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    page = tmp_path / "page.md"
    page.write_text("<!-- bench a -->\n<!-- end a -->\n<!-- bench x-facts -->\n<!-- end x-facts -->\n")
    monkeypatch.setattr(report, "PAGE", page)
    Report("x", {"cores": "2"}, {"a": "| 1 |"}, {"n": [1]}, {"x.svg": "<svg/>"}).publish(tmp_path / "out", docs=True)
    assert "cores 2\n\n| 1 |" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "x.json").read_text()) == {"facts": {"cores": "2"}, "n": [1]}
    assert (tmp_path / "out" / "x.svg").read_text() == (tmp_path / "x.svg").read_text() == "<svg/>"
    assert "<!-- bench a -->\n| 1 |\n<!-- end a -->" in page.read_text()
    assert "Measured with: cores 2." in page.read_text()


def test_the_page_has_its_places_in_pairs_and_names_every_picture():
    page = report.PAGE.read_text("utf-8")
    opened, closed = re.findall(r"<!-- bench ([\w-]+) -->", page), re.findall(r"<!-- end ([\w-]+) -->", page)
    assert opened == closed
    assert len(set(opened)) == len(opened) > 10
    pictures = re.findall(r"!\[[^]]*\]\(([\w.-]+)\)", page)
    assert pictures
    assert all(report.PAGE.with_name(picture).is_file() for picture in pictures)
