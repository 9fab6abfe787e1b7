"""What a benchmark gives to its readers: text on the screen, files in a folder, and its places in the documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
"""The page with the figures. Between ``<!-- bench NAME -->`` and ``<!-- end NAME -->`` it is written here."""

_PLACE = re.compile(r"(<!-- bench ([\w-]+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


class NoSuchPlace(Exception):
    """The page has no place for a part."""


@dataclass(frozen=True)
class Report:
    """The results of one benchmark."""

    name: str
    facts: Mapping[str, str]
    """What the figures depend on besides the code."""
    parts: Mapping[str, str]
    """Markdown, by the name of its place in the page."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """All figures, for the JSON file."""
    pictures: Mapping[str, str] = field(default_factory=dict)
    """SVG, by the name of its file."""

    @property
    def text(self) -> str:
        return "\n\n".join([self._facts, *self.parts.values()]) + "\n"

    def publish(self, out: Path | None, docs: bool) -> None:
        """Print it; write its files into a folder, if one is given; write its parts into the page, if asked to."""
        print("\n" + self.text)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{self.name}.json").write_text(json.dumps({"facts": self.facts, **self.data}, indent=1) + "\n")
            (out / f"{self.name}.md").write_text(self.text)
            for name, picture in self.pictures.items():
                (out / name).write_text(picture)
        if docs:
            parts = {**self.parts, f"{self.name}-facts": f"Measured with: {self._facts}."}
            PAGE.write_text(placed(PAGE.read_text("utf-8"), parts), "utf-8")
            for name, picture in self.pictures.items():
                PAGE.with_name(name).write_text(picture, "utf-8")

    @property
    def _facts(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.facts.items())


def placed(page: str, parts: Mapping[str, str]) -> str:
    """Give the page with each part in its place, and all else as it was.

    Raises:
        NoSuchPlace: the page has none for a part.
    """
    if missing := parts.keys() - {found[2] for found in _PLACE.finditer(page)}:
        raise NoSuchPlace(
            f"the page has no place for {', '.join(sorted(missing))}: write <!-- bench NAME --> and <!-- end NAME -->"
        )

    def written(place: re.Match[str]) -> str:
        return f"{place[1]}{parts[place[2]].strip()}\n{place[3]}" if place[2] in parts else place[0]

    return _PLACE.sub(written, page)
