"""The README quotes from the page with the figures, and nothing else."""

from __future__ import annotations

from pathlib import Path

TOP = Path(__file__).parents[2]


def rows_under(page: Path, heading: str) -> dict[str, str]:
    """Give a column of the first table of a page that has it: by the name of the row."""
    lines = iter(page.read_text("utf-8").splitlines())
    header = next(line for line in lines if line.startswith("|") and f" {heading} |" in line)
    place = [cell.strip() for cell in header.split("|")].index(heading)
    next(lines)
    found: dict[str, str] = {}
    for line in lines:
        if not line.startswith("|"):
            return found
        cells = [cell.strip() for cell in line.split("|")]
        found[cells[1].removesuffix(r" \*")] = cells[place]
    raise AssertionError("the table has no end")


def test_the_readme_quotes_what_was_measured() -> None:
    quoted = rows_under(TOP / "README.md", "times as fast")
    assert len(quoted) == 6
    assert quoted.items() <= rows_under(TOP / "docs" / "performance.md", "times as fast").items()
