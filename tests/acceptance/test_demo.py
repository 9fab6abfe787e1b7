"""``flowq demo``: what a new user runs first."""

import json
import re
import shutil
import signal
import subprocess
import sysconfig
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

STDLIB = Path(sysconfig.get_paths()["stdlib"])
NOT_LISTED = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"}
WORKER = re.compile(r"^(\S+@\S+/\d+) +([\d,]+) ", re.MULTILINE)
PROGRESS = re.compile(r" (\d+)/(\d+) nodes")
VOID = {"meta", "br", "hr", "img", "input", "link"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes through /proc")


def stdlib_modules() -> list[Path]:
    return [path for path in STDLIB.rglob("*.py") if not NOT_LISTED & set(path.relative_to(STDLIB).parts[:-1])]


@pytest.fixture(scope="module")
def demo(shared_terminal):
    """The demo, run once as a user runs it."""
    return shared_terminal.run("demo")


@pytest.fixture(scope="module")
def page(demo, shared_terminal) -> str:
    path: Path = shared_terminal.folder / "flowq-demo-report.html"
    assert path.is_file(), demo.stderr
    return path.read_text()


@pytest.mark.xdist_group("demo")
class TestDemo:
    """One run for the class."""

    def test_it_completes(self, demo):
        assert demo.code == 0, demo.stderr

    def test_its_figures_are_those_of_the_standard_library(self, demo):
        modules = stdlib_modules()
        assert f"{len(modules):,} modules" in demo.stdout
        assert f"{sum(len(path.read_bytes().splitlines()) for path in modules):,} lines" in demo.stdout

    def test_every_module_is_a_node_and_two_processes_or_more_share_them(self, demo):
        shares = {name: int(count.replace(",", "")) for name, count in WORKER.findall(demo.stdout)}
        assert len(shares) >= 2, demo.stdout
        assert min(shares.values()) > 0
        assert sum(shares.values()) == len(stdlib_modules()) + 5

    def test_it_says_what_was_bypassed_and_why(self, demo):
        assert "Bypassed: project_metadata (failed)" in demo.stdout
        assert f"FileNotFoundError: {STDLIB} has no pyproject.toml" in demo.stdout

    def test_progress_goes_to_stderr_as_lines_where_there_is_no_terminal(self, demo):
        assert PROGRESS.search(demo.stderr)
        assert "\x1b" not in demo.stdout + demo.stderr
        assert not PROGRESS.search(demo.stdout)

    @needs_proc
    def test_nothing_is_left_running_or_lying_about(self, demo):
        demo.assert_nothing_left(timeout_s=0)

    def test_nothing_but_the_report_is_left_in_the_folder(self, demo, page, shared_terminal):
        visible = [path.name for path in shared_terminal.folder.iterdir() if not path.name.startswith(".")]
        assert visible == ["flowq-demo-report.html"]

    def test_the_report_is_well_formed_and_needs_nothing_from_outside(self, page):
        checker = Checker()
        checker.feed(page)
        checker.close()
        assert checker.problems == []
        assert checker.open == []

    def test_the_report_shows_the_workers_the_bypass_and_every_node(self, demo, page):
        for name, _ in WORKER.findall(demo.stdout):
            assert name in page
        assert "has no pyproject.toml" in page
        assert page.count("<title>measure[") == len(stdlib_modules())

    @pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
    @pytest.mark.parametrize("width", [1200, 800, 400])
    def test_a_browser_shows_it_without_a_word_cut_off(self, page, tmp_path: Path, width: int):
        found = looked_at(page, tmp_path, width)
        assert found["page_overflows"] is False
        assert found["outside_of_their_box"] == []
        assert found["bars"] >= len(stdlib_modules())
        assert found["widest_bar"] > 1


class Checker(HTMLParser):
    """Notes tags that do not match, and everything that would be loaded or run."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag in {"script", "link", "iframe", "img", "object", "embed", "base"}:
            self.problems.append(f"<{tag}>")
        for name, value in attrs:
            local = (value or "").startswith("#") or (value or "").startswith("url(#")
            if name in {"src", "href", "xlink:href"} and not local:
                self.problems.append(f"{name}={value}")
            if name.startswith("on"):
                self.problems.append(f"{name}=")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style" and re.search(r"@import|url\(|https?:", data):
            self.problems.append("the style loads something")


def looked_at(page: str, folder: Path, width: int) -> dict[str, Any]:
    """Open a page in a browser and give what can be measured there."""
    script = """<script>
    const graph = [...document.querySelectorAll('.graph .name, .graph .facts')];
    const boxes = [...document.querySelectorAll('.graph .box')].map(box => box.getBoundingClientRect());
    const fits = text => boxes.some(box => {
      const own = text.getBoundingClientRect();
      return own.left >= box.left && own.right <= box.right && own.top >= box.top && own.bottom <= box.bottom;
    });
    const bars = [...document.querySelectorAll('.timeline rect:not(.bed)')].map(bar => bar.getBoundingClientRect());
    document.body.dataset.found = JSON.stringify({
      page_overflows: document.documentElement.scrollWidth > innerWidth,
      outside_of_their_box: graph.filter(text => !fits(text)).map(text => text.textContent),
      bars: bars.filter(bar => bar.width > 0 && bar.height > 0).length,
      widest_bar: Math.max(...bars.map(bar => bar.width)),
    });
    </script>"""
    path = folder / "page.html"
    path.write_text(page.replace("</body>", script + "</body>"))
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command = [str(CHROMIUM), *quiet, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900"]
    run = subprocess.run(
        [*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    found = re.search(r'data-found="([^"]*)"', run.stdout)
    assert found, run.stderr
    decoded: dict[str, Any] = json.loads(found[1].replace("&quot;", '"'))
    return decoded


@needs_proc
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_stopped_in_the_middle_it_leaves_no_process_behind(terminal, number: signal.Signals, code: int):
    demo = terminal.start("demo")
    demo.until(lambda: PROGRESS.search(demo.stderr), "the run has begun")
    settled, total = map(int, PROGRESS.findall(demo.stderr)[-1])
    assert settled < total
    started = demo.processes()
    assert len(started) > 4  # itself, the server, two workers, and those that guard them
    demo.process.send_signal(number)
    assert demo.wait(30).code == code, demo.stderr
    demo.assert_nothing_left()
    assert "Traceback" not in demo.stderr
    assert not (terminal.folder / "flowq-demo-report.html").exists()


@needs_proc
def test_stopped_while_it_starts_it_leaves_no_process_behind(terminal):
    demo = terminal.start("demo")
    demo.until(lambda: len(demo.processes()) >= 4, "the workers are being started")
    demo.process.send_signal(signal.SIGINT)
    assert demo.wait(30).code == 130, demo.stderr
    demo.assert_nothing_left()


def test_it_runs_in_this_process_too_and_the_report_goes_where_it_is_wanted(terminal):
    demo = terminal.run("demo", "--local", "--output", "here.html")
    assert demo.code == 0, demo.stderr
    assert "1 process" in demo.stdout
    assert "Bypassed: project_metadata (failed)" in demo.stdout
    assert "<title>A survey of Python" in (terminal.folder / "here.html").read_text()


def test_where_the_report_cannot_be_written_it_says_so_before_it_starts(terminal):
    demo = terminal.run("demo", "--output", "no/such/folder/report.html")
    assert demo.code == 2
    assert "'no/such/folder/report.html'" in demo.stderr
    assert "Starting" not in demo.stderr


def test_its_flow_measures_what_a_person_would_count(terminal):
    """A tree small enough to be counted by hand, with a ring, a late import, and metadata: nothing is bypassed."""
    tree = terminal.folder / "tree"
    (tree / "pack" / "tests").mkdir(parents=True)
    files = {
        "pyproject.toml": '[project]\nname = "tree"\nversion = "1.2"\n',
        "pack/__init__.py": '"""Two\nlines."""\nfrom . import b\n',
        "pack/tests/test_a.py": "this is no Python\n",
        "b.py": "import c\nimport json\n",
        "c.py": "import b, pack\n\n\ndef late():\n    import d\n    return d\n",
        "d.py": (
            "# a comment\n"
            "def tangled(a, b):\n"
            "    'Documented.'\n"
            "    if a and b:\n"  # an if and an and
            "        for x in a:\n"  # a loop
            "            if x: return [y for y in b if y]\n"  # an if, a comprehension and its if
            "    elif b:\n"  # an elif
            "        pass\n"
            "    return lambda: a or b\n"  # an or
            "class K:\n"
            "    def plain(self): pass\n"
            "if __name__ == '__main__':\n"
            "    import pack\n"
        ),
        "pack/b.py": "",
    }
    for name, text in files.items():
        (tree / name).write_text(text)
    run = terminal.run("run", "flowq.cli.demo.flows:survey", "--local", "-i", json.dumps({"root": str(tree)}))
    assert run.code == 0, run.stderr
    found = json.loads(run.stdout)
    totals, imports = found["totals"], found["imports"]
    assert sorted(found["modules"]) == ["b.py", "c.py", "d.py", "pack/__init__.py", "pack/b.py"]
    assert found["project"] == {"name": "tree", "version": "1.2", "license": None}
    assert (totals["lines"], totals["comment_lines"], totals["doc_lines"]) == (24, 1, 3)
    assert totals["code_lines"] == 1 + 2 + 4 + 11
    assert (totals["functions"], totals["documented"], totals["classes"]) == (3, 1, 1)
    worst = totals["most_complex"][0]
    assert (worst["name"], worst["complexity"], worst["nesting"], worst["lines"]) == ("tangled", 9, 3, 8)
    assert totals["bands"] == [2, 1, 0, 0, 0]
    assert imports["cycles"] == [["b", "c"]]
    assert imports["most_imported"][0] == {"module": "b", "count": 1}
    assert (imports["edges"], imports["late_edges"]) == (4, 2)
    assert imports["chain"] == ["c", "pack", "pack.b"]
    assert imports["depth"] == 3
    assert "bypassed" not in run.stderr
