"""What the documentation shows is typed as it stands, in an empty folder, and prints what it says.

A Python block begins with a comment that names its file. In a console block, lines after ``$`` are commands and the
lines up to the next one their output; commands that install things or start what does not end are not for a test.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]
RUNS = ("python ", "flowq validate ", "flowq run ", "flowq graph ", "flowq explain ")


def blocks(page: Path, language: str) -> Iterator[str]:
    yield from re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[tuple[str, str]]:
    for block in blocks(page, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            if command.startswith(RUNS):
                yield command, output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_program_prints_what_the_page_says(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "python"):
        name = re.match(r"# (\w+\.py)\n", block)
        assert name, f"a Python block of {page.name} does not name its file: {block[:60]!r}"
        (tmp_path / name[1]).write_text(block, "utf-8")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    shown = list(commands(page))
    assert shown or not list(blocks(page, "python")), f"{page.name} shows programs and never runs them"
    for command, output in shown:
        done = subprocess.run(
            shlex.split(command),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        printed = done.stdout or done.stderr
        assert printed.strip() == output.strip(), f"{command}\n{done.stderr}"


def test_no_page_is_forgotten() -> None:
    assert {page.name for page in PAGES} >= {"README.md", "quickstart.md"}


def test_every_test_that_the_guarantees_name_is_there() -> None:
    page = (TOP / "docs" / "guarantees.md").read_text("utf-8")
    named = set(re.findall(r"tests/[\w/]+\.py", page))
    assert len(named) > 10
    assert {name for name in named if not (TOP / name).is_file()} == set()
