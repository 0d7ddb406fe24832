"""`hacore events`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from hacore.cli.options import json_option, settings_option

#: Kinds of event that somebody should look at.
ALARMING = {"check-failing", "hook-failed", "hook-skipped", "reload-refused", "worker", "fault", "warning", "device"}


@click.command
@settings_option
@click.option("-f", "--follow", is_flag=True, help="Wait for new events, until Ctrl-C.")
@click.option("-n", "--limit", type=click.IntRange(min=0), default=20, show_default=True, help="The latest N.")
@json_option
def events(settings_path: str, follow: bool, limit: int, as_json: bool) -> None:
    """Show what happened on this node.

    Transitions with their reasons, demotions, health checks, hooks. The history outlives the node: when none runs, it
    is read from the disk. With --json, each event is one line.
    """
    from hacore.cli.target import directories
    from hacore.errors import NotRunning
    from hacore.node.bus import Client

    places = directories(settings_path)
    client = Client(places.runtime_dir)
    found: Iterable[dict[str, Any]]
    try:
        found = client.follow(limit=limit) if follow else client.request("events", limit=limit)["events"]
        _print(found, as_json)
    except KeyboardInterrupt:
        return
    except NotRunning as error:
        if follow:
            raise
        _print(_from_disk(places.state_dir, limit, error), as_json)


def _from_disk(state_dir: Any, limit: int, error: Exception) -> list[dict[str, Any]]:
    from msgspec import to_builtins

    from hacore.errors import PrivilegeError
    from hacore.node.history_file import read_events

    try:
        found = [{"fields": {}, **to_builtins(event)} for event in read_events(state_dir, limit)]
    except PermissionError:
        raise PrivilegeError(f"{error}; and the history in {state_dir} is for root alone: use sudo") from None
    click.echo(f"{error}. From the history in {state_dir}:", err=True)
    return found


def _print(found: Iterable[dict[str, Any]], as_json: bool) -> None:
    import json

    from hacore.cli.terminal import console, folded, moment

    if as_json:
        for event in found:
            click.echo(json.dumps(event, ensure_ascii=False))
        return
    from rich.text import Text

    out = console()
    for event in found:
        when = Text(f"{moment(event['time'], fraction=True)}  ", style="dim")
        line = Text(event.get("text") or event["kind"], style=_style(event))
        if event.get("vip") and not line.plain.startswith(event["vip"]):
            line = Text(f"{event['vip']}: ").append_text(line)
        out.print(folded(line, out.width, when))


def _style(event: dict[str, Any]) -> str:
    from hacore.cli.terminal import STYLES

    if event["kind"] == "transition":
        return STYLES.get(str(event.get("fields", {}).get("after")), "")
    return "yellow" if event["kind"] in ALARMING else ""
