"""`hacore maintenance`: the flag is on the disk before the node is told, so that a power cut between loses nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hacore.cli.options import settings_option

if TYPE_CHECKING:
    from hacore.node.settings import Directories


@click.group
def maintenance() -> None:
    """Hand the addresses over, until told otherwise.

    A node in maintenance bows out of every VIP that another node can take, and takes none back: also after a reboot,
    until `hacore maintenance leave`.
    """


@maintenance.command
@settings_option
def enter(settings_path: str) -> None:
    """Hand every address over and stay out, also after a reboot."""
    from hacore.cli.target import directories
    from hacore.node.maintenance import enter as set_flag

    places = directories(settings_path)
    news = set_flag(places.state_dir)
    if _told(places, enter=True):
        click.echo("maintenance entered" if news else "in maintenance already; the node was told again")
    else:
        _at_start("maintenance is set" if news else "maintenance was set already")


@maintenance.command
@settings_option
def leave(settings_path: str) -> None:
    """Take part again."""
    from hacore.cli.target import directories
    from hacore.node.maintenance import leave as remove_flag

    places = directories(settings_path)
    news = remove_flag(places.state_dir)
    if _told(places, enter=False):
        click.echo("maintenance left" if news else "not in maintenance; the node was told again")
    else:
        _at_start("maintenance is no longer set" if news else "maintenance was not set")


def _told(places: Directories, *, enter: bool) -> bool:
    """Whether the node took notice; False if none runs. A node that runs and does not answer is an error."""
    from hacore.cli.target import listens
    from hacore.errors import NotRunning
    from hacore.node.bus import Client

    if not listens(places):
        return False
    try:
        Client(places.runtime_dir).request("maintenance", enter=enter)
    except NotRunning as error:
        if not listens(places):
            return False
        done = "set" if enter else "removed"
        raise NotRunning(f"the flag is {done} and holds from the next start, but: {error}") from None
    return True


def _at_start(text: str) -> None:
    click.echo(f"{text}; no node is running, so it takes effect when one starts")
