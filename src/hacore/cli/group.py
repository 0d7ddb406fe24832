"""The group `hacore`: knows every command by its line of help, loads the one called, turns errors into exits."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import click

from hacore.errors import HacoreError, SettingsError


class Place(NamedTuple):
    """Where a command is: `target` is MODULE:ATTRIBUTE, `help` its line in the list."""

    target: str
    help: str


COMMANDS: dict[str, dict[str, Place]] = {
    "The node": {
        "run": Place("hacore.cli.run:run", "Run the node in the foreground."),
        "check": Place("hacore.cli.check:check", "Check the settings and name every problem."),
        "doctor": Place("hacore.cli.doctor:doctor", "Examine what this machine gives a node, and the node."),
    },
    "What it does": {
        "status": Place("hacore.cli.status:status", "Show who holds the addresses, and how the node is."),
        "events": Place("hacore.cli.events:events", "Show what happened on this node."),
        "states": Place("hacore.cli.states:states", "Show and compare the connections that the nodes share."),
        "capture": Place("hacore.cli.capture:capture", "Explain the adverts in a capture or on an interface."),
    },
    "What it should do": {
        "maintenance": Place("hacore.cli.maintenance:maintenance", "Hand the addresses over, until told otherwise."),
        "carp": Place("hacore.cli.carp:carp", "Switch the election off and on, until the next start."),
        "config": Place("hacore.cli.config:config", "Compare the configuration with the backup's, push it there."),
        "services": Place("hacore.cli.services:services", "Show, start, stop and restart services."),
        "demotion": Place("hacore.cli.demotion:demotion", "Make this node worth less, by named reasons."),
    },
    "The other nodes": {
        "pair": Place("hacore.cli.pair:pair", "Make two nodes trust each other, and only each other."),
    },
    "The status page": {
        "web": Place("hacore.cli.web:web", "Say who may use the status page."),
    },
    "More": {
        "lab": Place("hacore.lab.cli:lab", "Break two real nodes in network namespaces, and measure."),
        "bench": Place("hacore.cli.bench:bench", "Measure replication and failover beside what else does it."),
        "version": Place("hacore.cli.version:version", "Show versions."),
    },
}


class Failure(click.ClickException):
    """What the user sees of a HacoreError, with its exit code."""

    def __init__(self, error: HacoreError) -> None:
        super().__init__(_message(error))
        self.exit_code = error.exit_code  # type: ignore[misc] # click looks at the instance

    def show(self, file: Any = None) -> None:
        """Writes the message to stderr, its first line marked as the error; the exit code stands also where nobody
        can read it.
        """
        with contextlib.suppress(OSError):
            click.secho("Error: ", fg="red", nl=False, err=True, file=file)
            click.echo(self.message, err=True, file=file)


def _message(error: HacoreError) -> str:
    if not isinstance(error, SettingsError):
        return str(error)
    count = len(error.problems)
    lines = [f"{count} problem{'s' * (count != 1)} in the settings:", *(f"  {problem}" for problem in error.problems)]
    return "\n".join(lines)


_WHOLE = 1000
"""Longer than any sentence."""


class Formatter(click.HelpFormatter):
    """Also for terminals of less than 52 columns, for which click writes wider lines than they have."""

    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        super().__init__(indent_increment, width, max_width)
        columns = 0
        with contextlib.suppress(ValueError, OSError):
            columns = int(os.environ.get("COLUMNS", 0)) or os.get_terminal_size(sys.stdout.fileno()).columns
        if columns and width is None:
            self.width = min(self.width, max(20, columns - 2))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """As click does it, and with most of the width for what is on the right."""
        super().write_dl(list(rows), min(col_max, self.width * 2 // 5), col_spacing)


class Context(click.Context):
    """Writes its help so."""

    formatter_class = Formatter


def _dress(command: click.Command) -> None:
    """Help in the same form for all commands; a list of them shows the whole first sentence of each."""
    command.context_class = Context
    if isinstance(command, click.Group):
        for each in command.commands.values():
            each.short_help = each.get_short_help_str(_WHOLE)
            _dress(each)


class LazyGroup(click.Group):
    """Lists the commands by topic without importing them."""

    context_class = Context

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Every name, in the order of the help."""
        return [name for commands in COMMANDS.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Imports the command; None for a name that is none."""
        place = next((commands[cmd_name] for commands in COMMANDS.values() if cmd_name in commands), None)
        if place is None:
            return None
        module, _, attribute = place.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        _dress(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Writes one list for each topic."""
        widest = max(len(name) for commands in COMMANDS.values() for name in commands)
        for topic, commands in COMMANDS.items():
            with formatter.section(topic):
                formatter.write_dl([(name.ljust(widest), place.help) for name, place in commands.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command; a name that is nearly one is asked about."""
        if args and args[0] not in self.list_commands(ctx) and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.list_commands(ctx), 1)
            if near:
                ctx.fail(f"there is no command {args[0]!r}; did you mean {near[0]}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; what it raises of hacore's own errors becomes a message and an exit code."""
        try:
            return super().invoke(ctx)
        except HacoreError as error:
            raise Failure(error) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "-c",
    "--settings",
    "settings_path",
    metavar="FILE",
    envvar="HACORE_SETTINGS",
    help="The settings file; before or after the command.  [default: /etc/hacore/hacore.toml; env: HACORE_SETTINGS]",
)
@click.version_option(package_name="hacore", message="hacore %(version)s")
def main(settings_path: str | None) -> None:  # read by options
    """CARP-based high availability for Linux firewalls."""
