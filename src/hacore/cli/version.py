"""`hacore version`."""

from __future__ import annotations

import click

from hacore.cli.options import json_option


@click.command
@json_option
def version(as_json: bool) -> None:
    """Show versions."""
    import json
    import platform

    import hacore

    versions = {"hacore": hacore.__version__, "python": platform.python_version(), "kernel": platform.release()}
    if as_json:
        click.echo(json.dumps(versions))
    else:
        click.echo("\n".join(f"{name} {number}" for name, number in versions.items()))
