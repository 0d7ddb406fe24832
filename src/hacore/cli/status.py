"""`hacore status`."""

from __future__ import annotations

import click

from hacore.cli.options import json_option, settings_option
from hacore.errors import HacoreError


class Unwell(HacoreError):
    """The node answers, but its election worker does not."""

    exit_code = 1


@click.command
@settings_option
@json_option
@click.option("-w", "--watch", is_flag=True, help="This node and its peers, until Ctrl-C.")
def status(settings_path: str, as_json: bool, watch: bool) -> None:
    """Show who holds the addresses, and how the node is.

    Exit codes: 0 the election is running, 1 it is not, 69 no node answers
    """
    from hacore.cli.target import directories
    from hacore.node.bus import Client

    runtime_dir = directories(settings_path).runtime_dir
    if watch and as_json:
        raise click.UsageError("--watch is for people and --json for programs; use `hacore events --follow --json`")
    if watch:
        from hacore.cli.status_watch import follow

        follow(runtime_dir)
        return
    answer = Client(runtime_dir).request("status")
    if as_json:
        import json

        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    import time

    from hacore.cli.snapshot_answer import as_snapshot
    from hacore.cli.status_view import Seen, view
    from hacore.cli.terminal import console

    seen = Seen(as_snapshot(answer), time.time())
    out = console()
    out.print(view(seen, seen.at, out.width))
    if seen.fault:
        raise Unwell(seen.fault)
