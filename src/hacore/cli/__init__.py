"""The command line: one module a command, loaded when its command is called."""

from hacore.cli.group import main

__all__ = ["main"]
