"""Every command explains itself."""

import re

import pytest

COMMANDS = {
    "demo": ["--workers", "--connect", "--local", "--output"],
    "run": ["MODULE:FLOW", "--input", "--local", "--connect", "--workers", "--timeout"],
    "graph": ["MODULE:FLOW"],
    "explain": ["MODULE:FLOW", "--dispatch", "--json"],
    "validate": ["MODULE:FLOW"],
    "deadletter": ["list", "retry", "drop"],
    "worker": ["--queues", "--concurrency", "--pool"],
}


def test_the_help_lists_every_command(terminal):
    run = terminal.run("--help")
    assert run.code == 0
    listed = re.findall(r"^│ (\w+) +\S", run.stdout, re.MULTILINE)
    assert set(COMMANDS) <= set(listed)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_names_its_options(terminal, command: str):
    run = terminal.run(command, "--help", COLUMNS="120")
    assert run.code == 0
    for option in COMMANDS[command]:
        assert option in run.stdout


def test_without_a_command_the_help_is_shown(terminal):
    assert "Usage: flowq" in terminal.run().stdout


def test_an_unknown_command_is_a_usage_error(terminal):
    run = terminal.run("frobnicate")
    assert run.code == 2
    assert "frobnicate" in run.stderr
