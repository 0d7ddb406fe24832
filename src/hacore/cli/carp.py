"""`hacore carp`."""

from __future__ import annotations

import click

from hacore.cli.options import settings_option


@click.group
def carp() -> None:
    """Switch the election off and on, until the next start.

    For a planned outage use `hacore maintenance`, which outlives a reboot and leaves the addresses with this node where
    no other can take them.
    """


@carp.command
@settings_option
def disable(settings_path: str) -> None:
    """Give every address up and take none, until `enable` or the next start."""
    from hacore.cli.target import client

    client(settings_path).request("carp", enable=False)
    click.echo("carp is disabled until `hacore carp enable` or the next start of the node")


@carp.command
@settings_option
def enable(settings_path: str) -> None:
    """Take part again."""
    from hacore.cli.target import client

    client(settings_path).request("carp", enable=True)
    click.echo("carp is enabled")
