"""`hacore web`: the users of the status page, and the tokens of programs. The file is the node's; it need not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hacore.cli.options import json_option, settings_option

if TYPE_CHECKING:
    from hacore.web.access import AccessFile

ROLES = click.Choice(["viewer", "administrator"])


@click.group
def web() -> None:
    """Say who may use the status page.

    A viewer sees everything and changes nothing. What is changed here counts at once, without a reload.
    """


@web.group
def user() -> None:
    """Add, remove and list people."""


@web.group
def token() -> None:
    """Add, remove and list the tokens of programs, for /api and /metrics."""


def _file(settings_path: str) -> AccessFile:
    from hacore.cli.target import directories
    from hacore.web.access import AccessFile

    return AccessFile(directories(settings_path).state_dir)


@user.command("add")
@click.argument("name")
@click.option(
    "--role",
    type=ROLES,
    default=None,
    metavar="ROLE",
    help="What they may do: viewer or administrator.  [default: viewer, or as before]",
)
@settings_option
def add_user(name: str, role: str | None, settings_path: str) -> None:
    """Add a user, or give one another password.

    The password is asked for; where standard input is no terminal, its first line is the password.
    """
    file = _file(settings_path)
    new = file.set_user(name, role, _password(name))  # type: ignore[arg-type] # click has checked the role
    found = file.read().users[name]
    click.echo(f"{name} was added ({found.role})" if new else f"{name} has a new password ({found.role})")


def _password(name: str) -> str:
    import sys

    if sys.stdin.isatty():
        asked: str = click.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True)
        return asked
    return sys.stdin.readline().rstrip("\r\n")


@user.command("remove")
@click.argument("name")
@settings_option
def remove_user(name: str, settings_path: str) -> None:
    """Remove a user, and end their sessions."""
    _file(settings_path).remove_user(name)
    click.echo(f"{name} was removed")


@user.command("list")
@json_option
@settings_option
def list_users(as_json: bool, settings_path: str) -> None:
    """Show the users."""
    users = _file(settings_path).read().users
    _show([(one.name, one.role, one.changed) for one in users.values()], "password set", as_json)


@token.command("add")
@click.argument("name")
@click.option(
    "--role",
    type=ROLES,
    default="viewer",
    show_default=True,
    metavar="ROLE",
    help="What it may do: viewer or administrator.",
)
@settings_option
def add_token(name: str, role: str, settings_path: str) -> None:
    """Make a token and show it, this once.

    Only its SHA-256 is kept. A program sends it as `Authorization: Bearer TOKEN`.
    """
    click.echo(_file(settings_path).add_token(name, role))  # type: ignore[arg-type] # click has checked it


@token.command("remove")
@click.argument("name")
@settings_option
def remove_token(name: str, settings_path: str) -> None:
    """Remove a token: it counts no more, at once."""
    _file(settings_path).remove_token(name)
    click.echo(f"{name} was removed")


@token.command("list")
@json_option
@settings_option
def list_tokens(as_json: bool, settings_path: str) -> None:
    """Show the tokens' names."""
    tokens = _file(settings_path).read().tokens
    _show([(one.name, one.role, one.made) for one in tokens.values()], "made", as_json)


def _show(rows: list[tuple[str, str, float]], what: str, as_json: bool) -> None:
    import json

    from hacore.cli.terminal import moment

    if as_json:
        click.echo(json.dumps([{"name": name, "role": role, "since": at} for name, role, at in rows], indent=2))
        return
    if not rows:
        click.echo("none")
    for name, role, at in rows:
        click.echo(f"{name:20} {role:15} {what} {moment(at)}")
