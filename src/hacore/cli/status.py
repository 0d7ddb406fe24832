"""`hacore status`."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from hacore.cli.options import json_option, settings_option
from hacore.errors import HacoreError

if TYPE_CHECKING:
    from hacore.node.bus import Client

#: Seconds between two looks of --watch, and how long each may wait: a node that is well answers in milliseconds.
WATCH_INTERVAL = 1.0
WATCH_TIMEOUT = 2.0


class Unwell(HacoreError):
    """The node answers, but its election worker does not."""

    exit_code = 1


@click.command
@settings_option
@json_option
@click.option("-w", "--watch", is_flag=True, help="Refresh every second, until Ctrl-C.")
def status(settings_path: str, as_json: bool, watch: bool) -> None:
    """Show who holds the addresses, and how the node is.

    \b
    Exit codes: 0 the election is running, 1 it is not, 69 no node answers
    """
    from hacore.cli.target import directories
    from hacore.node.bus import Client

    runtime_dir = directories(settings_path).runtime_dir
    if watch and as_json:
        raise click.UsageError("--watch is for people and --json for programs; use `hacore events --follow --json`")
    if watch:
        _watch(Client(runtime_dir, WATCH_TIMEOUT))
        return
    answer = Client(runtime_dir).request("status")
    if as_json:
        import json

        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    import time

    from hacore.cli.status_view import Seen, view
    from hacore.cli.terminal import console

    seen = Seen(_snapshot(answer), time.time())
    out = console()
    out.print(view(seen, seen.at, out.width))
    if seen.fault:
        raise Unwell(seen.fault)


def _snapshot(answer: dict[str, Any]) -> Any:
    import msgspec

    from hacore.errors import PlatformError
    from hacore.node.snapshot import Snapshot

    try:
        return msgspec.convert(answer, Snapshot)
    except msgspec.ValidationError as error:
        raise PlatformError(f"the node's answer is of another version of hacore: {error}") from None


def _watch(client: Client) -> None:
    import time

    from rich.live import Live

    from hacore.cli.status_view import Seen, view
    from hacore.cli.terminal import console

    out = console()
    seen: Seen | None = None
    with Live(console=out, auto_refresh=False, screen=True) if out.is_terminal else nullcontext() as live:
        try:
            while True:
                now = time.time()
                try:
                    seen = Seen(_snapshot(client.request("status")), time.time())
                except HacoreError as error:
                    if seen is None:
                        raise
                    seen = seen._replace(unreachable=str(error))
                now_shown = view(seen, time.time(), out.width)
                if live is None:
                    out.print(now_shown, "")
                else:
                    live.update(now_shown, refresh=True)
                time.sleep(max(0.0, WATCH_INTERVAL - (time.time() - now)))
        except KeyboardInterrupt:
            return
