"""The ``flowq`` command."""

from flowq.cli.main import main

__all__ = ["main"]
