"""What holds for every file of the repository: its size, its name, and what it must not mention."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 400

# In pieces, so that this file does not mention them either.
REGISTRIES = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "crates" + ".io",
    "docker" + ".io",
    "gh" + "cr.io",
    "quay" + ".io",
    "proxy.golang" + ".org",
]
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:hom[e]|Users|roo[t]|wor[k])/\w*|(?<![\w.~-])/op[t]/pyp[i]")


def committed() -> list[Path]:
    """Every file that git holds or would take with the next `git add --all`."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in sorted(set(names.split("\0")) - {""}) if (path := ROOT / name).is_file()]


def texts() -> list[tuple[str, str]]:
    found = []
    for path in committed():
        content = path.read_bytes()
        if b"\0" not in content[:8000]:
            found.append((str(path.relative_to(ROOT)), content.decode()))
    assert found
    return found


def test_no_file_of_the_package_is_longer_than_the_limit():
    lines = {name: text.count("\n") for name, text in texts() if name.startswith("flowq/")}
    assert lines
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


@pytest.mark.parametrize("registry", REGISTRIES)
def test_no_file_names_a_registry(registry: str):
    assert [name for name, text in texts() if registry in text.lower()] == []


def test_no_file_names_a_path_of_one_machine():
    assert [(name, hit.group()) for name, text in texts() for hit in MACHINE_PATH.finditer(text)] == []


def test_no_module_is_a_drawer_for_leftovers():
    drawers = {"utils", "util", "common", "helpers", "helper", "misc"}
    parts = {path: {part.removesuffix(".py") for part in path.relative_to(ROOT).parts} for path in committed()}
    assert [str(path.relative_to(ROOT)) for path, names in parts.items() if names & drawers] == []
