"""`hacore demotion`."""

from __future__ import annotations

from typing import Any

import click

from hacore.cli.options import json_option, settings_option


@click.group
def demotion() -> None:
    """Make this node worth less, by named reasons.

    The values of all reasons are added to the advskew of every VIP; a MASTER with 240 gives way to any node that is
    well. Reasons added here last until they are removed or the node starts anew.
    """


@demotion.command
@settings_option
@json_option
def show(settings_path: str, as_json: bool) -> None:
    """Show the reasons and their sum."""
    answer = _demotion(settings_path)
    if as_json:
        import json

        click.echo(json.dumps(answer))
    else:
        _print(answer)


@demotion.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("value", type=click.IntRange(-240, 240))
@settings_option
def add(settings_path: str, name: str, value: int) -> None:
    """Add the reason NAME, worth VALUE: 1 to 240, or below 0 to make the node worth more."""
    _check_name(name)
    if value == 0:
        raise click.BadParameter("0 changes nothing (hacore demotion remove NAME removes one)", param_hint="VALUE")
    _ask(settings_path, "add", name=name, value=value)
    _print(_demotion(settings_path))


@demotion.command
@click.argument("name")
@settings_option
def remove(settings_path: str, name: str) -> None:
    """Remove the reason NAME."""
    _check_name(name)
    _ask(settings_path, "remove", name=name)
    _print(_demotion(settings_path))


@demotion.command
@settings_option
def reset(settings_path: str) -> None:
    """Remove every reason that an administrator added."""
    _ask(settings_path, "reset")
    _print(_demotion(settings_path))


def _ask(settings_path: str, action: str, **arguments: Any) -> dict[str, Any]:
    from hacore.cli.target import client

    return client(settings_path).request("demotion", action=action, **arguments)


def _demotion(settings_path: str) -> dict[str, Any]:
    """`total`, and `reasons` with what each adds."""
    demotion: dict[str, Any] = _ask(settings_path, "show")["node"]["demotion"]
    return demotion


def _check_name(name: str) -> None:
    if not name or len(name) > 64 or not name.isprintable():
        raise click.BadParameter("is one line of 1 to 64 printable characters", param_hint="NAME")


def _print(answer: dict[str, Any]) -> None:
    width = max((len(name) for name in answer["reasons"]), default=0)
    for name, value in sorted(answer["reasons"].items()):
        click.echo(f"{name.ljust(width)}  {value}")
    total = answer["total"]
    click.echo(f"{'total'.ljust(width)}  {total}" if answer["reasons"] else "not demoted")
