"""`hacore check`."""

from __future__ import annotations

import click

from hacore.cli.options import settings_option


@click.command
@settings_option
def check(settings_path: str) -> None:
    """Check the settings and name every problem.

    Reads the file, what lies beside it in FILE.d/, and the key files, and looks whether the interfaces are there and
    carry Ethernet. Nothing is changed. Exit code 0: good, perhaps with warnings; 78: problems, all of them named.
    """
    from hacore.errors import SettingsError
    from hacore.linux.rtnl import dump_links
    from hacore.node.settings import examine

    settings, problems, warnings = examine(settings_path, {link.name: link.ethernet for link in dump_links()})
    for warning in warnings:
        click.secho("Warning: ", fg="yellow", nl=False, err=True)
        click.echo(warning, err=True)
    if settings is None:
        raise SettingsError(problems)
    vips, addresses = len(settings.vips), sum(len(vip.addresses) for vip in settings.vips)
    what = f"node {settings.node.name}, {_count(vips, 'VIP')} with {_count(addresses, 'address', 'es')}"
    click.echo(f"{', '.join(settings.files)}: good ({what})")


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{plural if number != 1 else ''}"
